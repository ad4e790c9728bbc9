// The library where a key is needed: the server asks with it, and a browser reads with a ticket, which expires in mid-answer.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { startGateway } from '../page/gateway.mjs';
import { ask, call, read } from '../../web/client/lastword.js';
import { startRelay } from './relay.mjs';

const KEY = 'lw_a-key-of-this-test-which-is-long-enough';
const TEXT = Array.from({ length: 300 }, (_, i) => `word${i}`).join(' ');

let gateway, options;
before(async () => {
  gateway = await startGateway({
    LASTWORD_AUTH__KEYS__WEB__HASH: `sha256:${createHash('sha256').update(KEY).digest('hex')}`,
    LASTWORD_SERVER__RETRY_MIN: '1ms', LASTWORD_SERVER__RETRY_MAX: '10ms',
  });
  options = { url: gateway.url, token: KEY };
});
after(() => gateway?.stop());

const request = { prompt: 'x', model: 'mock/words', backend_options: { text: TEXT, delay: '20ms' } };

test('a_ticket_that_expires_in_mid_answer_is_exchanged_and_nothing_is_lost', { timeout: 60_000 }, async (t) => {
  const owner = ask(request, options);
  const id = await owner.begun();
  owner.pause();
  const { events_url: short } = await call(`v1/streams/${id}/tickets`, { ...options, body: { scope: 'read', ttl: '2s' }, method: 'POST' });
  const relay = await startRelay(gateway.url);
  t.after(() => relay.stop());
  const why = [];
  const token = async (problem) => {
    why.push(problem.code);
    return (await owner.fetchState()).events_url; // what an application's own server would do
  };
  const reader = read(relay.url + short, { token, backoff: [2, 20] });
  await new Promise((ok) => { reader.subscribe((event) => event?.name === 'message' && ok()); });
  // Until it is over, for whoever comes back with it.
  const denied = async () => {
    const response = await fetch(gateway.url + short, { headers: { accept: 'text/event-stream' } });
    const first = await response.body.getReader().read();
    return /^event: denied/.test(new TextDecoder().decode(first.value));
  };
  while (!await denied());
  assert.deepEqual([why, reader.state], [[], 'live'], 'it cuts no answer off');
  relay.breakAll();
  await reader.done();
  assert.equal(reader.text, TEXT);
  assert.deepEqual([why, reader.resumes, reader.repeats], [['ticket_expired'], 1, 0]);
});

test('who_has_no_key_is_refused_and_asks_once', { timeout: 30_000 }, async () => {
  await assert.rejects(ask(request, { url: gateway.url }).done(), { status: 401, code: 'unauthenticated' });
  const owner = ask(request, options);
  await owner.begun();
  await assert.rejects(read(owner.id, { url: gateway.url }).done(), { status: 401 });
  await owner.cancel();
});
