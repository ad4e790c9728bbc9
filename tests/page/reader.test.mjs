// The rules of the page's reader, on a scripted EventSource: no browser and no gateway. `node --test` runs it.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

/** Does what a browser does with ids: an event without one shows the id before it, also over a reconnect. */
class ScriptedSource extends EventTarget {
  static CLOSED = 2;
  static all = [];
  readyState = 0;
  #lastId = '';

  constructor(url) {
    super();
    this.url = String(url);
    ScriptedSource.all.push(this);
  }

  open() {
    this.readyState = 1;
    this.onopen();
    return this;
  }

  say(name, data, id) {
    if (this.readyState === 2) return this;
    if (id !== undefined) this.#lastId = String(id);
    const event = new Event(name);
    Object.assign(event, { data: JSON.stringify(data), lastEventId: this.#lastId });
    this.dispatchEvent(event);
    return this;
  }

  text(id, text) {
    return this.say('message', { text }, id);
  }

  break() {
    this.readyState = 0;
    this.onerror();
    return this;
  }

  refuse() {
    this.readyState = 2;
    this.onerror();
  }

  close() {
    this.readyState = 2;
  }
}

globalThis.EventSource = ScriptedSource;
globalThis.document = { baseURI: 'http://gateway.test/' };
const { Reader } = await import('../../web/stream.js');

let heard, reader, states;
const text = () => heard.filter((e) => e.name === 'message').map((e) => e.data.text).join('');
const source = () => ScriptedSource.all.at(-1);

beforeEach(() => {
  ScriptedSource.all = [];
  heard = [];
  states = [];
  reader = new Reader('s1', 'v1/streams/s1/events', {
    event: (event) => heard.push(event),
    reset: ({ after }) => { heard = heard.filter((event) => event.id <= after); },
    state: (name, detail) => states.push([name, detail]),
  });
  reader.open();
});
afterEach(() => reader.close());

/** A reader whose timers are the test's. */
function timed(t) {
  reader.close();
  t.mock.timers.enable({ apis: ['setTimeout'] });
  reader.open();
}

test('the_first_connection_has_no_cursor_and_a_cut_one_comes_back_after_the_last_id', () => {
  assert.equal(source().url, 'http://gateway.test/v1/streams/s1/events?heartbeat=event&chunking=token');
  source().open().say('start', { id: 's1' }, 0).text(4, 'a').text(5, 'b');
  reader.cut();
  reader.open();
  assert.equal(source().url, 'http://gateway.test/v1/streams/s1/events?heartbeat=event&chunking=token&after=5');
  source().open().text(6, 'c');
  assert.equal(text(), 'abc');
  assert.deepEqual([reader.resumes, reader.repeats, reader.cursor], [1, 0, 6]);
});

test('an_event_that_comes_again_is_counted_and_not_told_twice', () => {
  source().open().text(4, 'a').text(5, 'b');
  reader.open();
  source().open().text(4, 'a').text(5, 'b').text(6, 'c');
  assert.equal(text(), 'abc');
  assert.equal(reader.repeats, 2);
});

test('an_event_that_comes_again_after_the_browsers_own_reconnect_is_counted_too', () => {
  source().open().text(4, 'a').text(5, 'b').break().open().text(5, 'b').text(6, 'c');
  assert.equal(text(), 'abc');
  assert.equal(reader.repeats, 1);
});

test('the_same_words_twice_in_a_row_are_both_told', () => {
  source().open().text(4, 'ha').text(5, 'ha').break().open().text(6, 'ha');
  assert.equal(text(), 'hahaha');
});

test('frames_of_one_record_wait_for_the_last_one_which_has_the_id', () => {
  source().open().text(4, 'a').say('tool_call', { index: 0, name: 'f' });
  assert.equal(heard.length, 1);
  source().break().open().say('tool_call', { index: 0, name: 'f' }).say('tool_call', { index: 0, arguments: '{}' }, 5);
  assert.deepEqual(heard.slice(1).map((e) => [e.id, e.data.name ?? e.data.arguments]), [[5, 'f'], [5, '{}']]);
});

test('a_long_cursor_counts_as_its_number', () => {
  source().open().text('0199-ab-7', 'a').text('0199-ab-8', 'b');
  assert.equal(reader.cursor, 8);
  assert.equal(text(), 'ab');
});

test('a_reset_drops_what_came_after_and_reads_on_from_there', () => {
  source().open().text(4, 'a').text(5, 'b').text(6, 'x').break();
  source().open().say('reset', { reason: 'ahead', after: 5 }).text(6, 'c').text(7, 'd').say('end', { status: 'completed' }, 8);
  assert.equal(text(), 'abcd');
  assert.equal(reader.repeats, 0);
});

test('a_reset_to_zero_drops_everything', () => {
  source().open().text(4, 'x').break().open().say('reset', { reason: 'unknown', after: 0 }).text(4, 'a').text(5, 'b');
  assert.equal(text(), 'ab');
});

test('the_end_closes_the_source_and_is_told_even_without_an_id', () => {
  source().open().text(4, 'a').say('end', { status: 'failed' });
  assert.equal(source().readyState, 2);
  assert.deepEqual(states.at(-1), ['ended', { status: 'failed' }]);
  assert.equal(heard.at(-1).name, 'end');
});

test('a_denied_reader_stops_and_says_why', () => {
  source().open().say('denied', { code: 'expired', message: 'The ticket is no longer good.' });
  assert.equal(source().readyState, 2);
  assert.deepEqual(states.at(-1), ['denied', { code: 'expired', message: 'The ticket is no longer good.' }]);
});

for (const [status, state] of [[404, 'gone'], [410, 'gone'], [403, 'refused']]) {
  test(`a_source_that_gives_up_on_a_${status}_is_${state}`, async (t) => {
    t.mock.method(globalThis, 'fetch', async () => Response.json({ title: 'No', status }, { status }));
    reader.close();
    const told = new Promise((resolve) => {
      reader = new Reader('s1', 'e', { state: (name, detail) => name === state && resolve(detail) });
    });
    reader.open();
    source().refuse();
    assert.equal((await told).status, status);
  });
}

test('a_source_that_gives_up_on_an_overload_comes_back_from_the_cursor', async (t) => {
  timed(t);
  t.mock.method(globalThis, 'fetch', async () => Response.json({ status: 'running', cursor: 9 }));
  source().open().text(4, 'a').refuse();
  while (ScriptedSource.all.length < 3) {
    await new Promise(setImmediate);
    t.mock.timers.tick(1000);
  }
  assert.match(source().url, /after=4$/);
});

test('a_source_that_gives_up_at_the_very_end_has_ended', async (t) => {
  t.mock.method(globalThis, 'fetch', async () => Response.json({ status: 'completed', cursor: 4 }));
  source().open().text(4, 'a').refuse();
  while (states.at(-1)[0] === 'reconnecting') await new Promise(setImmediate);
  assert.equal(states.at(-1)[0], 'ended');
});

test('a_connection_on_which_nothing_comes_is_given_up_and_resumed_from_the_cursor', (t) => {
  timed(t);
  const dead = source().open().text(4, 'a');
  t.mock.timers.tick(37_499);
  assert.equal(source(), dead);
  t.mock.timers.tick(1);
  assert.notEqual(source(), dead);
  assert.equal(dead.readyState, 2);
  assert.match(source().url, /after=4$/);
  source().open().text(5, 'b');
  assert.equal(text(), 'ab');
});

test('an_attempt_to_connect_that_hangs_is_given_up', (t) => {
  timed(t);
  const hanging = source();
  t.mock.timers.tick(37_500);
  assert.notEqual(source(), hanging);
});

test('heartbeats_keep_a_silent_connection_and_are_told_to_nobody', (t) => {
  timed(t);
  const silent = source().open().text(4, 'a');
  for (let i = 0; i < 10; i += 1) {
    t.mock.timers.tick(18_000);
    silent.say('heartbeat', {});
  }
  silent.text(5, 'b');
  assert.equal(source(), silent);
  assert.deepEqual(heard.map((e) => e.id), [4, 5]);
  assert.equal(reader.repeats, 0);
});

for (const [what, end] of [
  ['ended', () => source().say('end', { status: 'completed' }, 5)],
  ['denied', () => source().say('denied', {})],
]) {
  test(`a_reader_that_was_${what}_does_not_come_back`, (t) => {
    timed(t);
    source().open().text(4, 'a');
    end();
    const last = source();
    t.mock.timers.tick(1_000_000);
    assert.equal(source(), last);
  });
}

test('a_reader_whose_stream_is_gone_does_not_come_back', async (t) => {
  t.mock.method(globalThis, 'fetch', async () => Response.json({ title: 'No', status: 404 }, { status: 404 }));
  timed(t);
  source().open().refuse();
  while (states.at(-1)[0] !== 'gone') await new Promise(setImmediate);
  const last = source();
  t.mock.timers.tick(1_000_000);
  assert.equal(source(), last);
});
