// The library against a real lastword: nothing is lost and nothing comes twice, wherever the line is cut.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startGateway } from '../page/gateway.mjs';
import { ask, read } from '../../web/client/lastword.js';
import { startRelay } from './relay.mjs';

const WORDS = Array.from({ length: 40 }, (_, i) => `word${i}${i % 10 === 9 ? '.\n\nNext: naïve 🦀' : ''}`).join(' ');
const QUICK = { backoff: [2, 20], attempts: 1000 };

let gateway;
before(async () => {
  gateway = await startGateway({ LASTWORD_STORE__ENGINE: 'disk', LASTWORD_SERVER__RETRY_MIN: '1ms', LASTWORD_SERVER__RETRY_MAX: '10ms' });
});
after(() => gateway?.stop());

const request = (options) => ({ prompt: 'x', model: 'mock/words', backend_options: { text: WORDS, delay: '1ms', ...options } });

/** Reads it to its end. What was told is what the log has, in order and once. */
async function whole(answer, status = 'completed') {
  const told = [];
  for await (const event of answer) told.push(event);
  const state = await (await fetch(`${gateway.url}/v1/streams/${answer.id}`)).json();
  assert.equal(answer.text, state.text);
  assert.equal(told.filter(({ name }) => name === 'message').map(({ data }) => data.text).join(''), state.text);
  const ids = told.map(({ id }) => Number(id));
  assert.ok(ids.every((id, i) => i === 0 || id > ids[i - 1]), `ids rise: ${ids}`);
  assert.deepEqual([answer.end.status, told.at(-1).name, ids.at(-1)], [status, 'end', state.cursor]);
  assert.equal(state.status, status);
  if (status === 'completed') assert.equal(state.text, WORDS);
  return state;
}

/** In a relay of its own. */
async function through(cut, run) {
  const relay = await startRelay(gateway.url, cut);
  try {
    return await run(relay);
  } finally {
    relay.stop();
  }
}

for (const [transport, delay] of [['stream', '1ms'], ['poll', '0ms']]) {
  test(`cut_at_every_tenth_byte_${transport}`, { timeout: 120_000 }, async () => {
    const options = { ...QUICK, transport };
    const bytes = await through(undefined, async (relay) => {
      await whole(ask(request({ delay }), { ...options, url: relay.url }));
      return relay.all;
    });
    assert.ok(bytes > 1000);
    let at = 0, cuts = 0;
    const worker = async () => {
      for (let mine = (at += 10); mine < bytes; mine = (at += 10)) {
        await through((_came, _number, all) => (all < mine ? mine - all : Infinity), async (relay) => {
          await whole(ask(request({ delay }), { ...options, url: relay.url }));
          cuts += relay.cuts;
        });
      }
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    // How many polls it takes is by chance, and with it how many bytes there are.
    assert.ok(cuts > bytes / 10 * (transport === 'poll' ? 0.5 : 0.9), `${cuts} cuts in ${bytes} bytes`);
  });

  test(`cut_twenty_times_at_random_in_one_answer_${transport}`, { timeout: 60_000 }, async () => {
    const places = Array.from({ length: 40 }, () => 200 + Math.floor(Math.random() * 500));
    await through((came, number) => (number < places.length ? places[number] - came : Infinity), async (relay) => {
      const text = WORDS.repeat(4), answer = ask(request({ text, delay: '2ms' }), { ...QUICK, transport, url: relay.url });
      await answer.done();
      assert.equal(answer.text, text, `cut at ${places}`);
      assert.ok(relay.cuts >= 20, `${relay.cuts} cuts`);
    });
  });
}

test('the_server_is_killed_in_mid_answer_and_started_again', { timeout: 60_000 }, async () => {
  const answer = ask(request({ text: WORDS.repeat(10), delay: '10ms' }), { ...QUICK, url: gateway.url });
  let told = 0;
  answer.subscribe((event) => event?.name === 'message' && ++told === 30 && gateway.restart());
  const { text } = await whole(answer, 'interrupted');
  assert.ok(text.length > 0 && text.length < WORDS.length * 10);
  assert.ok(answer.resumes >= 1);
});

test('a_reader_in_whole_words_resumes_within_a_record', { timeout: 60_000 }, async () => {
  const one = ask(request({ delay: '0ms' }), { ...QUICK, url: gateway.url });
  await one.done();
  let at = 250;
  const cut = (came, number) => (number < 60 ? at + number * 7 - came : Infinity);
  await through(cut, async (relay) => {
    const answer = read(one.id, { ...QUICK, url: relay.url, params: { chunking: 'word' } });
    await answer.done();
    assert.equal(answer.text, WORDS);
    assert.ok(relay.cuts >= 2, `${relay.cuts} cuts`);
  });
});

test('an_answer_is_asked_for_once_however_often_its_post_is_lost', { timeout: 60_000 }, async () => {
  const before = (await (await fetch(`${gateway.url}/v1/streams?limit=100`)).json()).streams.map(({ id }) => id);
  await through((_came, number) => (number < 5 ? 1 : Infinity), async (relay) => {
    const answer = ask(request(), { ...QUICK, url: relay.url });
    await whole(answer);
    const after = (await (await fetch(`${gateway.url}/v1/streams?limit=100`)).json()).streams.map(({ id }) => id);
    assert.deepEqual(after.filter((id) => !before.includes(id)), [answer.id]);
  });
});

test('who_comes_late_reads_all_or_behind_a_cursor_or_a_snapshot', { timeout: 60_000 }, async () => {
  const first = ask(request(), { ...QUICK, url: gateway.url });
  const ids = [];
  for await (const { id, name } of first) if (name === 'message') ids.push(id);
  await whole(read(first.id, { url: gateway.url }));
  await whole(read(`${gateway.url}/v1/streams/${first.id}/events`));
  const rest = read(first.id, { url: gateway.url, after: ids[9] });
  await rest.done();
  assert.ok(rest.text.length > 0 && first.text.endsWith(rest.text) && rest.text.length < first.text.length);
  const told = [], snapshot = read(first.id, { url: gateway.url, snapshot: true });
  for await (const { name } of snapshot) told.push(name);
  assert.equal(snapshot.text, WORDS);
  assert.deepEqual(told, ['start', 'snapshot', 'end']);
  const end = read(first.id, { url: gateway.url, after: first.cursor });
  assert.equal((await end.done()).status, 'completed'); // nothing is behind it, 204
  const ahead = read(first.id, { url: gateway.url, after: 100_000 });
  const names = [];
  for await (const { name } of ahead) names.push(name);
  assert.equal(names[0], 'reset');
});

test('cancel_keeps_what_was_said', { timeout: 60_000 }, async () => {
  const answer = ask(request({ delay: '20ms' }), { url: gateway.url });
  for await (const { name } of answer) if (name === 'message') break;
  assert.equal((await answer.cancel()).status, 'cancelled');
  await whole(answer, 'cancelled');
});

test('reasoning_and_tool_calls_are_put_together', { timeout: 60_000 }, async () => {
  const tool_call = { name: 'weather', arguments: { city: 'Berlin' } };
  const answer = ask(request({ reasoning: 'Let me see.', tool_call }), { url: gateway.url });
  const state = await whole(answer);
  assert.equal(answer.reasoning, 'Let me see.');
  assert.deepEqual(answer.toolCalls, state.tool_calls);
  assert.deepEqual(JSON.parse(answer.toolCalls[0].arguments), tool_call.arguments);
});
