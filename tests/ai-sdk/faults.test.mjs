// Applications that die, a lastword that is killed, and LangGraph's client: nobody is told less than all with a smile.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Client } from '@langchain/langgraph-sdk';
import { TEXT, full, startApp, startLastword, startRelay, folder } from './way.mjs';

let model;
before(async () => {
  model = await startLastword();
});
after(() => model?.stop());

const post = (url, name, id, model) => fetch(`${url}/api/chat`, {
  method: 'POST', headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ id, model, messages: [{ id: 'u', role: 'user', parts: [{ type: 'text', text: 'Say it.' }] }] }),
});

/** Reads a body as far as it comes: its chunks, how many there were in all, and whether it broke off. */
async function chunks(response, seen = []) {
  const decoder = new TextDecoder();
  let rest = '', broken = false;
  try {
    for await (const bytes of response.body) {
      rest += decoder.decode(bytes, { stream: true });
      let end;
      while ((end = rest.indexOf('\n\n')) >= 0) {
        const data = rest.slice(0, end).split('\n').find((line) => line.startsWith('data: '))?.slice(6);
        rest = rest.slice(end + 2);
        if (data && data !== '[DONE]') seen.push(JSON.parse(data));
      }
    }
  } catch {
    broken = true;
  }
  return { seen, broken };
}
const text = (seen) => seen.filter((chunk) => chunk.type === 'text-delta').map((chunk) => chunk.delta).join('');

describe('an application that dies in mid-answer', () => {
  for (const version of ['5', '6', '7']) {
    it(`of version ${version}, is told as an error, and recorded as a failure`, async () => {
      const app = await startApp(version, model.url);
      const lastword = await startLastword({ relay: app.url });
      const response = await post(lastword.url, 'app', 'c', 'slow/words');
      const id = response.headers.get('x-workflow-run-id');
      const reading = chunks(response);
      const half = async () => /river/.test((await (await fetch(`${lastword.url}/v1/streams/${id}`)).json()).text);
      while (!(await half()));
      await app.kill();
      const { seen, broken } = await reading;
      assert.ok(!broken && text(seen).length < TEXT.length);
      assert.deepEqual(seen.slice(-2).map((chunk) => chunk.type), ['error', 'finish']);
      assert.equal((await (await fetch(`${lastword.url}/v1/streams/${id}`)).json()).status, 'failed');
      await lastword.stop();
    });
  }
});

describe('a lastword that is killed under relayed answers', () => {
  const count = full ? 200 : 40;
  it(`tells each of ${count} readers all of it, or that it was interrupted`, async () => {
    const app = await startApp('7', model.url), home = await folder();
    const lastword = await startLastword({ relay: app.url, LASTWORD_STORE__ENGINE: 'disk', LASTWORD_STORE__PATH: home.path });
    let begun = 0;
    const one = async (n) => {
      const response = await post(lastword.url, 'app', `chat-${n}`, n % 4 === 0 ? 'fast/words' : 'slow/words');
      assert.equal(response.status, 200);
      const run = response.headers.get('x-workflow-run-id');
      begun += 1;
      const { seen } = await chunks(response);
      // As WorkflowChatTransport does: until there is a finish.
      for (let tries = 0; !seen.some((chunk) => chunk.type === 'finish') && tries < 600; tries += 1) {
        const again = await fetch(`${lastword.url}/api/chat/${run}/stream?startIndex=${seen.length}`).catch(() => null);
        if (again?.status === 200) await chunks(again, seen);
        else await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return seen;
    };
    const reading = Promise.all(Array.from({ length: count }, (_, n) => one(n)));
    while (begun < count) await new Promise((resolve) => setImmediate(resolve));
    await lastword.restart();
    const all = await reading;
    const ends = { whole: 0, interrupted: 0 };
    for (const seen of all) {
      assert.equal(seen.filter((chunk) => chunk.type === 'start').length, 1);
      if (seen.some((chunk) => chunk.type === 'error')) {
        ends.interrupted += 1;
        assert.ok(TEXT.startsWith(text(seen)), text(seen));
      } else {
        ends.whole += 1;
        assert.equal(text(seen), TEXT);
      }
    }
    assert.ok(ends.interrupted > 0, JSON.stringify(ends));
    console.log(JSON.stringify(ends));
    await app.kill();
    await lastword.stop();
    await home.gone();
  });
});

describe("LangGraph's client", () => {
  it('gets every event once and in order over a connection that breaks', async () => {
    const app = await startApp('7', model.url);
    const lastword = await startLastword({ relay: app.url });
    for (const limit of [900, 2000, 3000]) {
      const relay = await startRelay(lastword.url, (came, number) => (number === 0 ? limit - came : Infinity));
      const client = new Client({ apiUrl: relay.url });
      const numbers = [];
      for await (const event of client.runs.stream('t', 'assistant', { input: {}, streamMode: 'values' })) {
        if (event.event === 'values') numbers.push(event.data.n);
      }
      assert.ok(relay.connections > 1, 'it was cut');
      assert.deepEqual(numbers, Array.from({ length: 30 }, (_, n) => n + 1), `cut after ${limit}`);
      relay.stop();
    }
    await app.kill();
    await lastword.stop();
  });
});
