// LangGraph's client, with its server behind lastword: it comes back by Location and Last-Event-ID.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Client } from '@langchain/langgraph-sdk';
import { full, startExpress, startLastword, startRelay } from './way.mjs';

describe("LangGraph's client", () => {
  let app, lastword;

  before(async () => {
    app = await startExpress('7', 'http://127.0.0.1:9');
    lastword = await startLastword({ relay: app.url, LASTWORD_BACKENDS__APP__PATHS: '["/threads/*"]' });
  });

  after(async () => {
    await app?.kill();
    await lastword?.stop();
  });

  async function run(relay) {
    const client = new Client({ apiUrl: relay.url });
    const events = [];
    for await (const event of client.runs.stream('t', 'assistant', { input: {}, streamMode: 'values' })) events.push([event.event, event.data]);
    return events;
  }
  const numbers = Array.from({ length: 30 }, (_, n) => ['values', { n: n + 1, text: 'word '.repeat(n + 1) }]);

  it('gets every event once and in order, wherever it is cut', async () => {
    const uncut = await startRelay(lastword.url);
    assert.deepEqual(await run(uncut), [['metadata', { run_id: 'r' }], ...numbers]);
    uncut.stop();
    let cuts = 0;
    const left = [];
    for (let at = 800; at < uncut.all; at += full ? 41 : 499) left.push(at);
    await Promise.all(Array.from({ length: 6 }, async () => {
      for (let at; (at = left.shift());) {
        // What it comes back to is cut, too.
        const relay = await startRelay(lastword.url, (came, number) => (number < 2 ? Math.max(0, (number === 0 ? at : 1500) - came) : Infinity));
        const told = await run(relay).finally(relay.stop);
        assert.deepEqual(told, [['metadata', { run_id: 'r' }], ...numbers], `cut at ${at} of ${uncut.all}`);
        cuts += relay.cuts;
      }
    }));
    assert.ok(cuts > 10, `${cuts} were cut`);
    const streams = await (await fetch(`${lastword.url}/v1/streams?limit=3`)).json();
    assert.ok(streams.streams.every((stream) => stream.status === 'completed'));
  });
});
