// The library's rules, on servers and lines that do what a test says.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { startGateway } from '../page/gateway.mjs';
import { Problem, ask, call, read } from '../../web/client/lastword.js';
import { startRelay } from './relay.mjs';

const QUICK = { backoff: [2, 10] };
const TEXT = Array.from({ length: 60 }, (_, i) => `word${i}`).join(' ');
const asked = (options) => ({ prompt: 'x', model: 'mock/words', backend_options: { text: TEXT, delay: '2ms', ...options } });

let gateway;
before(async () => { gateway = await startGateway({ LASTWORD_SERVER__RETRY_MIN: '1ms', LASTWORD_SERVER__RETRY_MAX: '10ms' }); });
after(() => gateway?.stop());

const frame = (name, data, id) => `${name === 'message' ? '' : `event: ${name}\n`}data: ${JSON.stringify(data)}\n${id === undefined ? '' : `id: ${id}\n`}\n`;
const words = (id, text) => frame('message', { text }, id);
const END = (id) => frame('end', { status: 'completed' }, id);
const sse = (body, init) => new Response(body, { headers: { 'content-type': 'text/event-stream' }, ...init });

/** A body that says this and then nothing more. */
const stalled = (text) => sse(new ReadableStream({ start: (to) => to.enqueue(new TextEncoder().encode(text)) }));

/** Answers each request with the next of these; `urls` and `inits` are what was asked. */
function script(...answers) {
  const urls = [], inits = [];
  const fetch = async (url, init) => {
    urls.push(url);
    inits.push(init);
    const answer = answers[Math.min(urls.length, answers.length) - 1];
    return answer instanceof Function ? answer(url, init) : answer;
  };
  return { fetch, urls, inits };
}

/** Reads stream `s1` from these answers. */
function scripted(answers, options) {
  const server = script(...answers);
  const answer = read('s1', { url: 'http://gateway.test', ...QUICK, fetch: server.fetch, ...options });
  return { answer, ...server };
}

const failed = (answer) => answer.done().then(() => assert.fail('it did not fail'), (problem) => problem);

test('it_asks_behind_the_last_event_that_was_whole', async () => {
  const { answer, urls } = scripted([
    () => sse(frame('start', { id: 's1' }, 0) + words(4, 'a') + words(5, 'b') + 'data: {"text":"c"}\nid: 6\n'),
    () => sse(words(6, 'c') + END(7)),
  ]);
  await answer.done();
  assert.equal(answer.text, 'abc');
  assert.deepEqual(urls, ['http://gateway.test/v1/streams/s1/events', 'http://gateway.test/v1/streams/s1/events?after=5']);
  assert.deepEqual([answer.resumes, answer.repeats, answer.cursor], [1, 0, '7']);
});

test('what_comes_again_is_counted_and_not_told_again', async () => {
  const { answer } = scripted([() => sse(words(4, 'ha') + words(5, 'ha')), () => sse(words(4, 'ha') + words(5, 'ha') + words(6, 'ha') + END(7))]);
  await answer.done();
  assert.deepEqual([answer.text, answer.repeats], ['hahaha', 2]);
});

test('ids_within_a_record_and_long_ids_are_in_order', async () => {
  const { answer, urls } = scripted([
    () => sse(words('0199-ab-17.4', 'a') + words('0199-ab-17.10', 'b')),
    () => sse(words('17.4', 'a') + words('17.10', 'b') + words('18', 'c') + END(19)),
  ]);
  await answer.done();
  assert.deepEqual([answer.text, answer.repeats], ['abc', 2]);
  assert.match(urls[1], /after=17\.10$/);
});

test('frames_of_one_record_wait_for_the_last_one_which_has_the_id', async () => {
  const { answer } = scripted([
    () => sse(words(4, 'a') + frame('tool_call', { index: 0, name: 'f' })),
    () => sse(frame('tool_call', { index: 0, name: 'f' }) + frame('tool_call', { index: 0, arguments: '{}' }, 5) + END(6)),
  ]);
  const told = [];
  for await (const event of answer) told.push([event.id, event.name]);
  assert.deepEqual(told, [['4', 'message'], ['5', 'tool_call'], ['5', 'tool_call'], ['6', 'end']]);
  assert.deepEqual(answer.toolCalls, [{ index: 0, name: 'f', arguments: '{}' }]);
});

test('a_reset_drops_what_came_after_and_reads_on_from_there', async () => {
  const { answer } = scripted([
    () => sse(words(4, 'a') + words(5, 'b') + words(6, 'x')),
    () => sse(frame('reset', { reason: 'ahead', after: 5 }) + words(6, 'c') + END(7)),
  ]);
  await answer.done();
  assert.deepEqual([answer.text, answer.repeats], ['abc', 0]);
});

test('a_reset_within_a_snapshot_begins_again', async () => {
  const { answer, urls } = scripted([
    () => sse(frame('snapshot', { text: 'abx' }, 6) + words(7, 'y')),
    () => sse(frame('reset', { reason: 'ahead', after: 5 }) + words(6, 'c') + END(7)),
    () => sse(frame('snapshot', { text: 'ab' }, 5) + words(6, 'c') + END(7)),
  ], { snapshot: true });
  await answer.done();
  assert.equal(answer.text, 'abc');
  assert.deepEqual(urls.map((url) => url.split('?')[1]), ['snapshot=true', 'after=7', 'snapshot=true']);
});

test('bytes_in_any_pieces_and_any_line_ends_are_the_same_events', async () => {
  const bytes = new TextEncoder().encode((`: hello\n\n${words(4, 'naïve 🦀')}${words(5, 'b')}${END(6)}`));
  for (const text of ['\n', '\r\n']) {
    const all = new TextEncoder().encode(new TextDecoder().decode(bytes).replaceAll('\n', text));
    for (let size = 1; size < all.length; size += 1) {
      const body = new ReadableStream({
        start(to) {
          for (let at = 0; at < all.length; at += size) to.enqueue(all.subarray(at, at + size));
          to.close();
        },
      });
      const { answer } = scripted([() => sse(body)]);
      await answer.done();
      assert.equal(answer.text, 'naïve 🦀b', `in pieces of ${size}`);
    }
  }
});

test('load_failed_is_a_cut', async () => {
  const load = () => { throw new TypeError('Load failed'); };
  const body = () => {
    let first = true;
    return sse(new ReadableStream({
      pull(to) {
        if (!first) throw new TypeError('Load failed');
        first = false;
        to.enqueue(new TextEncoder().encode(words(4, 'a')));
      },
    }));
  };
  const states = [];
  const { answer, urls } = scripted([load, body, load, load, () => sse(words(5, 'b') + END(6))]);
  answer.subscribe((event) => event || states.push(answer.state));
  await answer.done();
  assert.equal(answer.text, 'ab');
  assert.match(urls.at(-1), /after=4$/);
  assert.deepEqual(states.filter((state) => state === 'waiting').length, 4);
});

test('a_line_that_stalls_is_dropped_and_resumed', async () => {
  const { answer, inits } = scripted([() => stalled(words(4, 'a')), () => sse(words(5, 'b') + END(6))], { silence: 30 });
  await answer.done();
  assert.equal(answer.text, 'ab');
  assert.ok(inits[0].signal.aborted);
});

test('a_fetch_that_never_comes_back_not_even_when_aborted_is_given_up', async () => {
  const { answer } = scripted([() => new Promise(() => {}), () => sse(words(4, 'a') + END(5))], { silence: 30, transport: 'stream' });
  await answer.done();
  assert.equal(answer.text, 'a');
});

test('waits_grow_are_bounded_and_differ', async (t) => {
  const waits = [];
  const own = setTimeout;
  t.mock.method(globalThis, 'setTimeout', (run, ms, ...more) => {
    if (ms !== 37_500 && ms !== 5000) waits.push(ms);
    return own(run, ms > 100 ? 0 : ms, ...more);
  });
  const { answer } = scripted([() => new Promise((_, no) => own(no, 1, new TypeError('Load failed')))], { transport: 'stream', backoff: [1000, 15_000] });
  while (waits.length < 30) await new Promise((ok) => { own(ok, 1); });
  answer.close();
  waits.forEach((ms, i) => {
    const most = Math.min(15_000, 1000 * 2 ** i);
    assert.ok(ms >= most / 2 && ms <= most, `wait ${i}: ${ms}`);
  });
  assert.ok(new Set(waits.slice(5)).size > 10);
});

for (const [where, stream] of [['header', 's1'], ['url', 'http://gateway.test/v1/streams/s1/events?token=old']]) {
  test(`an_expired_credential_in_the_${where}_is_renewed_and_nothing_is_lost`, async () => {
    const why = [];
    const token = (problem) => {
      why.push(problem?.code);
      return problem ? 'new' : 'old';
    };
    const seen = [];
    const server = script(
      (url, { headers }) => seen.push([url, headers.authorization]) && sse(words(4, 'a')),
      (url, { headers }) => seen.push([url, headers.authorization]) && sse('event: denied\ndata: {"code":"ticket_expired","message":"over"}\nretry: 2147483647\n\n'),
      (url, { headers }) => seen.push([url, headers.authorization]) && sse(words(5, 'b') + END(6)),
    );
    const answer = read(stream, { url: 'http://gateway.test', ...QUICK, fetch: server.fetch, token });
    await answer.done();
    assert.equal(answer.text, 'ab');
    const shown = seen.map(([url, header]) => (where === 'url' ? /token=(\w+)/.exec(url)[1] : header));
    assert.deepEqual(shown, where === 'url' ? ['old', 'old', 'new'] : ['Bearer old', 'Bearer old', 'Bearer new']);
    assert.deepEqual(why, where === 'url' ? ['ticket_expired'] : [undefined, 'ticket_expired']);
  });
}

test('a_new_events_url_is_a_new_ticket', async () => {
  const { answer, urls } = scripted([() => Response.json({ code: 'unauthenticated' }, { status: 401 }), () => sse(words(4, 'a') + END(5))],
    { token: (why) => (why ? '/v1/streams/s1/events?token=T2' : 'T1') });
  await answer.done();
  assert.match(urls[1], /[?&]token=T2$/);
});

test('who_has_no_new_credential_is_denied_and_does_not_come_back', async () => {
  for (const token of [undefined, 'key', () => 'same', () => undefined]) {
    const { answer, urls } = scripted([() => sse(frame('denied', { code: 'ticket_expired', message: 'over' }))], { token });
    const problem = await failed(answer);
    assert.deepEqual([problem.status, problem.code, answer.state, urls.length], [401, 'ticket_expired', 'failed', 1]);
  }
  let n = 0;
  const { answer, urls } = scripted([() => sse(frame('denied', { code: 'ticket_expired' }))], { token: () => `t${n++}` });
  await failed(answer);
  assert.equal(urls.length, 3); // each new one is refused too: it does not go on for ever
});

for (const status of [403, 404, 410]) {
  test(`a_${status}_is_final_and_says_why`, async () => {
    const { answer, urls } = scripted([() => Response.json({ code: 'some_code', detail: 'no', remedy: 'ask again' }, { status })]);
    const problem = await failed(answer);
    assert.ok(problem instanceof Problem);
    assert.deepEqual([problem.status, problem.code, problem.message, urls.length], [status, 'some_code', 'no; ask again', 1]);
  });
}

test('overload_and_what_is_no_lastword_are_waited_for', async () => {
  const { answer } = scripted([
    () => new Response('busy', { status: 503 }),
    () => new Response('<h1>Sign in to the network</h1>', { headers: { 'content-type': 'text/html' } }),
    () => sse(words(4, 'a') + END(5)),
  ]);
  await answer.done();
  assert.equal(answer.text, 'a');
});

test('what_is_asked_of_nobody_fails_after_some_attempts', async () => {
  const server = script(() => { throw new TypeError('fetch failed'); });
  const answer = ask('x', { url: 'http://gateway.test', ...QUICK, fetch: server.fetch });
  const problem = await failed(answer);
  assert.deepEqual([problem.status, problem.code, server.urls.length], [0, 'no_answer', 5]);
  assert.equal(new Set(server.inits.map(({ headers }) => headers['idempotency-key'])).size, 1);
});

test('a_request_that_is_wrong_says_what', async () => {
  const problem = await failed(ask({ prompt: 'x', modle: 'y' }, { url: gateway.url }));
  assert.deepEqual([problem.status, problem.code], [400, 'bad_request']);
  assert.match(problem.message, /modle/);
});

test('without_a_body_to_read_it_polls', { timeout: 30_000 }, async () => {
  const inits = [];
  // As React Native's fetch does it: the whole text, and no body.
  const native = async (url, init) => {
    inits.push(url);
    const response = await fetch(url, init), text = await response.text();
    return { ok: response.ok, status: response.status, statusText: '', headers: response.headers, text: async () => text, json: async () => JSON.parse(text) };
  };
  for (const [transport, streams] of [['poll', 0], ['auto', 1]]) {
    inits.length = 0;
    const answer = ask(asked({ delay: '20ms' }), { url: gateway.url, ...QUICK, fetch: native, transport, buffered: 200 });
    await answer.done();
    assert.equal(answer.text, TEXT);
    const [, ...urls] = inits.filter((url) => /streams/.test(url)), streamed = urls.filter((url) => !/format=json/.test(url));
    assert.equal(streamed.length, streams, `${urls}`);
    assert.ok(urls.length > 5, `${urls}`);
  }
});

test('behind_a_proxy_that_holds_everything_back_it_polls', { timeout: 30_000 }, async (t) => {
  // A proxy that passes on what is whole.
  const proxy = http.createServer((request, response) => {
    const far = http.request(new URL(request.url, gateway.url), { method: request.method, headers: { ...request.headers, host: new URL(gateway.url).host } }, (answer) => {
      const pieces = [];
      answer.on('data', (piece) => pieces.push(piece));
      answer.on('end', () => response.writeHead(answer.statusCode, answer.headers).end(Buffer.concat(pieces)));
      answer.on('error', () => response.destroy());
    });
    response.on('close', () => far.destroy());
    far.on('error', () => response.destroy());
    request.pipe(far);
  });
  await new Promise((ok) => { proxy.listen(0, '127.0.0.1', ok); });
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  const answer = ask(asked({ delay: '30ms' }), { url: `http://127.0.0.1:${proxy.address().port}`, ...QUICK, buffered: 100 });
  const pieces = [];
  for await (const event of answer) if (event.name === 'message') pieces.push(Date.now());
  assert.equal(answer.text, TEXT);
  assert.ok(pieces.at(-1) - pieces[0] > 700, 'the words came while they were said');
});

test('a_line_that_falls_silent_without_a_word_is_noticed', { timeout: 30_000 }, async (t) => {
  const relay = await startRelay(gateway.url);
  t.after(() => relay.stop());
  const answer = ask(asked({ delay: '5ms' }), { url: relay.url, ...QUICK, silence: 100, buffered: 100 });
  let told = 0;
  for await (const { name } of answer) {
    if (name === 'message' && ++told === 10) {
      relay.silence(true);
      setTimeout(() => relay.silence(false) ?? relay.breakAll(), 300);
    }
  }
  assert.equal(answer.text, TEXT);
});

test('a_pause_leaves_and_open_goes_on', async () => {
  const answer = ask(asked(), { url: gateway.url, ...QUICK });
  for await (const { name } of answer) if (name === 'message') break; // nobody listens any more
  while (answer.state !== 'paused') await new Promise(setImmediate);
  const then = answer.text;
  assert.ok(then.length < TEXT.length);
  let told = '';
  for await (const { name, data } of answer) if (name === 'message') told += data.text;
  assert.deepEqual([told, answer.text], [TEXT, TEXT]);
});

test('close_and_an_aborted_signal_end_the_loop', async () => {
  for (const way of ['close', 'signal']) {
    const stop = new AbortController();
    const answer = ask(asked({ delay: '50ms' }), { url: gateway.url, signal: stop.signal });
    for await (const { name } of answer) if (name === 'message') way === 'close' ? answer.close() : stop.abort();
    assert.equal(answer.state, 'closed');
    assert.equal((await failed(answer)).code, 'closed');
    assert.equal((await call(`v1/streams/${answer.id}`, { url: gateway.url })).status, 'running'); // leaving is not stopping
  }
});

test('a_listener_that_throws_costs_nothing', async (t) => {
  const thrown = [];
  const late = setTimeout;
  t.mock.method(globalThis, 'setTimeout', (run, ...more) => late(() => { try { run(); } catch (e) { thrown.push(e.message); } }, ...more));
  const { answer } = scripted([() => sse(words(4, 'a') + words(5, 'b') + END(6))]);
  answer.subscribe((event) => { if (event?.name === 'message') throw new Error('mine'); });
  await answer.done();
  assert.equal(answer.text, 'ab');
  await new Promise((ok) => { late(ok, 5); });
  assert.deepEqual(thrown, ['mine', 'mine']);
});

test('call_gives_the_json_of_any_call', async () => {
  assert.ok((await call('v1/models', { url: gateway.url })).data.length > 0);
  await assert.rejects(call('v1/streams/none', { url: gateway.url }), { status: 404 });
});

test('heartbeats_keep_a_silent_line_and_are_told_to_nobody', async () => {
  const beats = (async function* () {
    yield words(4, 'a');
    for (let i = 0; i < 10; i += 1) {
      await new Promise((ok) => { setTimeout(ok, 20); });
      yield i % 2 ? ':\n' : frame('heartbeat', {});
    }
    yield words(5, 'b') + END(6);
  })();
  const { answer, urls } = scripted([() => sse(ReadableStream.from(beats).pipeThrough(new TextEncoderStream()))], { silence: 100 });
  const told = [];
  for await (const { id } of answer) told.push(id);
  assert.deepEqual([told, urls.length, answer.repeats], [['4', '5', '6'], 1, 0]);
});

test('a_network_that_is_back_and_a_page_that_is_shown_again_do_not_wait', async (t) => {
  const page = new EventTarget(), world = new EventTarget();
  const known = ['document', 'addEventListener', 'removeEventListener'].map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  Object.assign(globalThis, { document: page, addEventListener: world.addEventListener.bind(world), removeEventListener: world.removeEventListener.bind(world) });
  t.after(() => known.forEach(([name, was]) => (was ? Object.defineProperty(globalThis, name, was) : delete globalThis[name])));
  const { answer, urls } = scripted([
    () => { throw new TypeError('Load failed'); },
    () => stalled(words(4, 'a')),
    () => stalled(words(5, 'b')),
    () => stalled(words(6, 'c')),
    () => sse(words(7, 'd') + END(8)),
  ], { backoff: [1e6, 1e6] });
  const until = async (what) => { while (!what()) await new Promise(setImmediate); };
  await until(() => answer.state === 'waiting');
  page.hidden = true;
  const settled = async () => { for (let i = 0; i < 20; i += 1) await new Promise(setImmediate); };
  page.dispatchEvent(new Event('visibilitychange'));
  await settled();
  assert.equal(urls.length, 1, 'a page that is hidden waits');
  page.hidden = false;
  page.dispatchEvent(new Event('visibilitychange')); // it is shown: at once
  await until(() => answer.text === 'a');
  page.dispatchEvent(new Event('visibilitychange')); // the line has just said something: it is kept
  await settled();
  assert.equal(urls.length, 2);
  answer.pause();
  world.dispatchEvent(new Event('online'));
  await settled();
  assert.deepEqual([urls.length, answer.state], [2, 'paused'], 'who paused is left alone');
  answer.open();
  await until(() => answer.text === 'ab');
  world.dispatchEvent(new Event('online')); // another network: what is open is not trusted
  await until(() => answer.text === 'abc');
  const now = Date.now;
  t.mock.method(Date, 'now', () => now() + 60_000); // a phone that slept for a minute, and whose timers did not run
  page.dispatchEvent(new Event('resume'));
  await until(() => answer.state === 'ended');
  assert.deepEqual([answer.text, answer.resumes, answer.repeats], ['abcd', 3, 0]);
});
