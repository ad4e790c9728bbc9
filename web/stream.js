// A reader of one stream: an EventSource, a cursor, and the rules that keep the text equal to the log.
// Knows nothing of the page. It tells `sees` what happens:
//
//   event({ id, name, data, raw })   recorded, in order, each once; `id` is null only if the server gave none
//   reset({ after, reason })         what came after `after` is not in the log: forget it
//   state(name, detail)              connecting | live | cut | reconnecting | ended | denied | gone | refused
//
// The browser reconnects by itself and sends `Last-Event-ID`. Where it gives up (any answer but 200, of which an
// EventSource shows nothing), the state of the stream is asked for, and the reader goes on or says why it cannot.

import * as api from './api.js';

const NAMES = ['start', 'message', 'reasoning', 'tool_call', 'file', 'notice', 'reset', 'denied', 'end'];
const BACK_AFTER_CUT = 3000;
const RETRY_FIRST = 1000, RETRY_MOST = 15000;
const SILENCE = 2.5 * 15000; // the server says something every 15 s

export class Reader {
  cursor = null;  // the id of the newest event that was told
  repeats = 0;    // events that came again and were not told twice
  resumes = 0;    // connections after the first

  #id; #url; #sees;
  #source = null; #timer = 0; #quiet = 0; #failures = 0; #opened = false;
  #seenId = '';   // `lastEventId` as the source last reported it
  #held = [];     // frames whose record is not complete
  #last = null;   // the newest event that was told
  #first = true;  // no event yet on this connection

  constructor(id, url, sees) {
    this.#id = id;
    this.#url = url;
    this.#sees = sees;
  }

  /** Connects after the cursor; from the beginning if there is none yet. */
  open() {
    this.close();
    const url = new URL(this.#url, document.baseURI);
    url.searchParams.set('heartbeat', 'event');
    url.searchParams.set('chunking', 'token'); // the page shows records; of words, an id can lie within one
    if (this.cursor !== null) url.searchParams.set('after', this.cursor);
    const source = this.#source = new EventSource(url);
    this.#seenId = '';
    this.#heard();
    this.#sees.state(this.#opened ? 'reconnecting' : 'connecting');
    source.onopen = () => this.#live();
    source.onerror = () => {
      this.#held = [];
      if (source.readyState === EventSource.CLOSED) this.#refused(source);
      else this.#sees.state('reconnecting');
    };
    for (const name of NAMES) source.addEventListener(name, (e) => this.#take(name, e));
    for (const name of ['heartbeat', ...NAMES]) source.addEventListener(name, () => source === this.#source && this.#heard());
  }

  /** A connection on which nothing comes for long is dead, though nobody said so: the network changed, the machine slept. */
  #heard() {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.open(), SILENCE);
  }

  /** Drops the connection as a tunnel would: the server is told nothing. It comes back by itself. */
  cut() {
    this.close();
    this.#sees.state('cut', { seconds: BACK_AFTER_CUT / 1000 });
    this.#timer = setTimeout(() => this.open(), BACK_AFTER_CUT);
  }

  close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#quiet);
    this.#source?.close();
    this.#source = null;
    this.#held = [];
  }

  #live() {
    this.#heard();
    const again = this.#opened;
    if (again) this.resumes += 1;
    this.#opened = this.#first = true;
    this.#held = [];
    this.#failures = 0;
    this.#sees.state('live', { after: again ? this.cursor : null });
  }

  #take(name, e) {
    const raw = e.data, data = parse(raw);
    if (name === 'reset') return this.#reset(data, raw);
    if (name === 'denied') {
      this.close();
      return this.#sees.state('denied', data);
    }

    // An event without an `id` line shows the id of the one before it. The same id as the first thing on a
    // connection may also be that event once more; then its words are the same too.
    const newId = e.lastEventId !== '' && e.lastEventId !== this.#seenId;
    const id = newId ? cursor(e.lastEventId) : null;
    const again = newId ? id !== null && this.cursor !== null && id <= this.cursor
      : this.#first && e.lastEventId !== '' && this.#last?.name === name && this.#last.raw === raw;
    this.#first = false;
    this.#seenId = e.lastEventId;
    if (again) {
      this.repeats += 1 + this.#held.length;
      this.#held = [];
      return this.#sees.state('repeat');
    }

    // Where a record has several frames only the last one has the id. The others wait for it: a cut between
    // them is answered with all of them again.
    this.#held.push({ id, name, data, raw });
    if (id === null && name !== 'end') return;
    if (id !== null) this.cursor = id;
    for (const event of this.#held.splice(0)) {
      this.#last = event;
      this.#sees.event({ ...event, id });
    }
    if (name === 'end') {
      this.close();
      this.#sees.state('ended', data);
    }
  }

  #reset(data, raw) {
    const after = Number.isSafeInteger(data.after) ? data.after : 0;
    this.cursor = this.cursor === null ? null : Math.min(this.cursor, after);
    this.#held = [];
    this.#last = null;
    this.#sees.reset({ after, reason: data.reason, raw });
  }

  /** The EventSource gave up. 404 and 410 are final; so is any refusal but overload; a stream that is there goes on. */
  async #refused(source) {
    clearTimeout(this.#quiet);
    this.#sees.state('reconnecting');
    let problem = null, state = null;
    try { state = await api.state(this.#id); } catch (e) { problem = e; }
    if (source !== this.#source) return; // opened, cut or closed meanwhile
    if (problem?.status === 404 || problem?.status === 410) return this.#sees.state('gone', problem);
    if (problem && problem.status >= 400 && problem.status < 500 && problem.status !== 429 && problem.status !== 408) {
      return this.#sees.state('refused', problem);
    }
    if (state && state.status !== 'running' && this.cursor !== null && state.cursor <= this.cursor) {
      return this.#sees.state('ended', state);
    }
    this.#timer = setTimeout(() => this.open(), Math.min(RETRY_FIRST * 2 ** this.#failures++, RETRY_MOST));
  }
}

/** A cursor is `n` or `{stream id}-{n}`. */
function cursor(id) {
  const digits = id.slice(id.lastIndexOf('-') + 1);
  return /^\d+$/.test(digits) ? Number(digits) : null;
}

/** All our payloads are JSON objects; what a relayed endpoint sends may be plain words. */
function parse(raw) {
  try {
    const data = JSON.parse(raw);
    if (data && typeof data === 'object') return data;
  } catch { /* plain words */ }
  return { text: raw };
}
