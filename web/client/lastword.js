// A lastword in JavaScript: ask, and have the whole answer, however often the line is cut, once and in order.
//
//   const answer = ask('Tell me about rivers');
//   for await (const event of answer) element.textContent = answer.text;
//
// One loop an answer makes one connection after the other, each behind the cursor of what was told. It needs `fetch` and nothing else, and
// takes the events as they stream; where they do not (a proxy that holds them back, React Native) it polls.

/** @typedef {{ id?: string, name?: string, index: number, arguments: string }} ToolCall */
/** @typedef {{ code: string, message: string, retryable: boolean, type?: string, upstream_status?: number, request_id?: string, retry_after?: number }} Failure */
/** @typedef {'completed' | 'failed' | 'cancelled' | 'interrupted'} Status */
/** @typedef {{ status: Status, reason?: string, usage?: Record<string, any>, error?: Failure }} End */
/**
 * What is told. The `id` is the cursor behind it; a `reset` has none. Streams that relay somebody else's events have other names too.
 * @typedef {{ id: string | null } & (
 *   | { name: 'message' | 'reasoning', data: { text: string } }
 *   | { name: 'tool_call', data: { index: number, id?: string, name?: string, arguments?: string } }
 *   | { name: 'start', data: { id: string, model: string, created_at: string, events_url: string } }
 *   | { name: 'file', data: { media_type?: string, base64?: string, url?: string, file_id?: string } }
 *   | { name: 'notice', data: { kind: string, message?: string, [more: string]: any } }
 *   | { name: 'snapshot', data: { text: string, reasoning?: string, tool_calls?: ToolCall[] } }
 *   | { name: 'reset', data: { after: number, reason?: string } } // forget what is behind `after`; -1 is everything
 *   | { name: 'end', data: End }
 * )} AnswerEvent
 */
/**
 * `asking` (the answer is not known to have begun), `connecting`, `live`, `waiting` (cut off; see `trouble`), `paused`; for good `ended`
 * (see `end`), `failed` (see `error`), `closed`.
 * @typedef {'idle' | 'asking' | 'connecting' | 'live' | 'waiting' | 'paused' | 'ended' | 'failed' | 'closed'} State
 */
/**
 * @typedef {object} Options
 * @property {string} [url] where lastword is: `https://answers.example.com`; by default `/`, the page's own origin
 * @property {string | ((why?: Problem) => string | undefined | Promise<string | undefined>)} [token] a key or token, or what fetches one;
 *   that is asked again, with the reason, when what it gave is no longer good. For a reader with a ticket: a new ticket, or `events_url`
 * @property {Record<string, string>} [headers] sent with every request
 * @property {(url: string, init: any) => Promise<any>} [fetch] instead of the global one
 * @property {AbortSignal} [signal] closes the reader, as `close()` does
 * @property {string | number} [after] the cursor behind which to read, for who has kept what was before
 * @property {boolean} [snapshot] all that was said so far comes as one event
 * @property {Record<string, string | number>} [params] more of the URL's: `{ chunking: 'word', pace: 5 }`
 * @property {'auto' | 'stream' | 'poll'} [transport] `auto`: polls where nothing streams
 * @property {string} [key] the Idempotency-Key, for an answer that must not be paid twice even over a reload; by default a new one
 * @property {number} [attempts] how often to ask before it fails (5). A stream that is known is never given up
 * @property {[number, number]} [backoff] the first and the longest wait, in ms: [1000, 15000]
 * @property {number} [silence] a line on which nothing came for so long is dead, in ms: 37500, two and a half heartbeats
 * @property {number} [buffered] a line on which nothing has come yet is held back by a proxy, in ms: 5000
 */

const STALE = 5000; // who wakes up trusts a line no longer than this
const WAIT = 20; // seconds, of a poll

/** A refusal, or no answer at all (`status` 0). Branch on `code`. */
export class Problem extends Error {
  name = 'Problem';
  /** @param {{ status?: number, code?: string, title?: string, detail?: string, field?: string, remedy?: string, retryAfter?: number }} problem */
  constructor({ status = 0, code = 'no_answer', title, detail, field, remedy, retryAfter = 0 }) {
    super([detail ?? title ?? code, remedy].filter(Boolean).join('; '));
    /** HTTP's, or 0 */
    this.status = status;
    this.code = code;
    /** which member of the request it is about */
    this.field = field;
    this.remedy = remedy;
    /** in ms, 0 if it was not said */
    this.retryAfter = retryAfter;
  }
}

const passing = (/** @type {unknown} */ e) => !(e instanceof Problem) || e.status < 400 || e.status >= 500 || [408, 425, 429].includes(e.status);

/** Where lastword is, and who asks there. */
class Door {
  /** @type {string | undefined} */ #token;
  #url; #options;
  ticket = '';

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#url = (options.url ?? '/').replace(/\/*$/, '/');
    if (typeof options.token === 'string') this.#token = options.token;
  }

  /** @param {string} path @param {any} [init] @param {Line} [line] */
  async fetch(path, init = {}, line) {
    const { token, headers, fetch: own = fetch } = this.#options;
    const within = (/** @type {any} */ promise) => (line ? line.hold(promise) : promise);
    if (typeof token === 'function' && !this.#token && !this.ticket) this.#token = await within(token());
    const authorization = this.#token && { authorization: `Bearer ${this.#token}` };
    const ticket = this.ticket && `${path.includes('?') ? '&' : '?'}token=${this.ticket}`;
    const response = await within(own(this.#url + path + ticket, {
      cache: 'no-store', ...init, ...(line && { signal: line.signal }), headers: { ...headers, ...init.headers, ...authorization },
    }));
    if (response.ok) return response;
    const text = await within(response.text());
    let body = {};
    try { body = JSON.parse(text); } catch { /* not ours: a proxy's page */ }
    throw new Problem({ title: `The answer was ${response.status} ${response.statusText}`.trim(), ...body, status: response.status,
      retryAfter: 1000 * (parseInt(response.headers.get('retry-after')) || 0) });
  }

  /** A new credential, if there is one. @param {Problem} why */
  async renew(why) {
    const { token } = this.#options;
    if (typeof token !== 'function') return false;
    const fresh = await token(why), was = this.ticket || this.#token;
    const ticket = /[?&]token=([^&]+)/.exec(fresh ?? '')?.[1];
    if (ticket || this.ticket) this.ticket = ticket ?? fresh ?? '';
    else this.#token = fresh;
    return Boolean(fresh) && was !== (this.ticket || this.#token);
  }

  /** A request and its JSON; who is no longer let in asks once more with a new credential. @param {string} path @param {any} [init] */
  async call(path, init) {
    try {
      return await (await this.fetch(path, init)).json();
    } catch (e) {
      if (!(e instanceof Problem) || e.status !== 401 || !await this.renew(e)) throw e;
      return (await this.fetch(path, init)).json();
    }
  }
}

/** One connection. It can be dropped at any time, and then whatever waits on it goes on, even if `fetch` does not. */
class Line {
  why = ''; undo = () => {};
  held = /** @type {any[]} */ ([]); // frames whose record is not complete
  /** @type {any} */ #timer; #abort = new AbortController(); #gone;
  /** @type {(e: unknown) => void} */ #let = () => {};
  signal = this.#abort.signal;

  constructor() {
    this.#gone = new Promise((_, no) => { this.#let = no; });
    this.#gone.catch(() => {});
  }

  /** @param {Promise<any>} promise */
  hold(promise) {
    return Promise.race([promise, this.#gone]);
  }

  /** Drops it if nothing comes for so long. @param {number} ms @param {string} why */
  watch(ms, why) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.drop(why), ms);
  }

  /** @param {string} why */
  drop(why) {
    if (this.why) return;
    this.why = why;
    clearTimeout(this.#timer);
    this.#let(new Error(why));
    this.undo();
    this.#abort.abort();
  }
}

/** One answer, being read. What it says of itself is always what the log has up to `cursor`. */
export class Answer {
  /** @type {string | null} */ id = null;
  /** @type {State} */ state = 'idle';
  text = '';
  reasoning = '';
  /** @type {ToolCall[]} */ toolCalls = [];
  /** Of the newest event. @type {string | null} */ cursor = null;
  /** How it ended. @type {End | null} */ end = null;
  /** Why it failed. @type {Problem | null} */ error = null;
  /** Why it is waiting. @type {unknown} */ trouble = null;
  resumes = 0; // connections after the first
  repeats = 0; // events that came again, and were not told again

  #options; #request; #door; #polls; #probes = false;
  /** @type {AnswerEvent[]} */ #events = [];
  /** @type {Set<(event: AnswerEvent | null) => void>} */ #listeners = new Set();
  /** @type {Line | null} */ #line = null;
  #runs = false; #paused = false; #over = false; #lived = false;
  #failures = 0; #denials = 0; #heard = 0; #retry = 0;
  #rouse = () => {};

  /**
   * Of a stream that is there (its id, or its `events_url`), or of one that is asked for (a prompt, or a request). It begins with `open()`.
   * @param {{ stream: string } | { request: string | Record<string, any> }} what @param {Options} [options]
   */
  constructor(what, options = {}) {
    const [, place, id, query] = 'stream' in what ? /^(.*?)(?:v1\/streams\/)?([^/?]+)(?:\/events)?(\?.*)?$/.exec(what.stream) ?? [] : [];
    this.#options = { attempts: 5, backoff: [1000, 15_000], silence: 37_500, buffered: 5000, ...options };
    this.#door = new Door({ ...options, url: options.url ?? (place || undefined) });
    this.#door.ticket = /[?&]token=([^&]+)/.exec(query ?? '')?.[1] ?? '';
    this.id = id ?? null;
    this.#request = 'request' in what ? what.request : null;
    if (options.after !== undefined) this.cursor = `${options.after}`;
    const { transport = globalThis.navigator?.product === 'ReactNative' ? 'poll' : 'auto' } = options;
    this.#polls = transport === 'poll';
    this.#options.transport = transport;
    options.signal?.addEventListener('abort', () => this.close());
    if (options.signal?.aborted) this.close();
  }

  /** Begins; comes back at once from a pause or a wait; looks whether the line still is one. For apps that were asleep. */
  open() {
    if (this.#over) return this;
    this.#paused = false;
    if (!this.#runs) {
      this.#runs = true;
      this.#wakes(true);
      this.#run();
    } else if (this.#line && Date.now() - this.#heard > STALE) this.#line.drop('stale');
    this.#rouse();
    return this;
  }

  /** Leaves until `open()`. The answer goes on. */
  pause() {
    if (this.#over) return;
    this.#paused = true;
    this.#line?.drop('paused');
    this.#rouse();
  }

  /** Leaves for good. The answer goes on: `cancel()` stops it. */
  close() {
    this.#finish('closed');
  }

  /** The stream's id, when there is one: for the page's URL, say. */
  async begun() {
    while (this.id === null && !this.#over) {
      await new Promise((ok) => {
        const off = this.subscribe(() => {
          off();
          ok(null);
        });
      });
    }
    if (this.id === null) throw this.error ?? new Problem({ code: 'closed', title: 'The reader was closed' });
    return this.id;
  }

  /** Stops the answer; what was said stands. Gives the stream's state. @returns {Promise<Record<string, any>>} */
  async cancel() {
    return this.#door.call(`v1/streams/${await this.begun()}/cancel`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' });
  }

  /** What the log has: `{ status, text, cursor, usage, timings, … }`. @returns {Promise<Record<string, any>>} */
  async fetchState() {
    return this.#door.call(`v1/streams/${await this.begun()}`);
  }

  /** The end, when it is there; that of an answer that failed, too. @returns {Promise<End>} */
  async done() {
    for await (const _ of this);
    if (!this.end) throw new Problem({ code: 'closed', title: 'The reader was closed' });
    return this.end;
  }

  /** Tells each event, and null when anything else has changed. @param {(event: AnswerEvent | null) => void} listener */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  /** All events from the first. Who leaves the loop leaves the line, if nobody else listens. @returns {AsyncGenerator<AnswerEvent, void, void>} */
  async *[Symbol.asyncIterator]() {
    let queue = [...this.#events], at = 0, go = () => {};
    const off = this.subscribe((event) => {
      if (event?.name === 'reset') {
        queue = queue.slice(at).filter((e) => kept(e, event.data.after));
        at = 0;
      }
      if (event) queue.push(event);
      go();
    });
    this.open();
    try {
      for (;;) {
        while (at < queue.length) yield queue[at++];
        if (this.error) throw this.error;
        if (this.#over) return;
        queue = [];
        at = 0;
        await new Promise((ok) => { go = () => ok(null); });
      }
    } finally {
      off();
      if (!this.#listeners.size) this.pause();
    }
  }

  async #run() {
    while (!this.#over) {
      if (this.#paused) {
        this.#say('paused');
        await this.#nap();
        continue;
      }
      const line = this.#line = new Line();
      /** @type {unknown} */ let trouble = null;
      this.#heard = Date.now();
      this.#say(this.id === null ? 'asking' : 'connecting');
      try {
        await (this.id === null ? this.#ask(line) : this.#polls ? this.#poll(line) : this.#stream(line));
      } catch (e) {
        trouble = e;
      }
      const dropped = line.why;
      line.drop('over');
      this.#line = null;
      if (dropped && dropped !== 'stalled') {
        if (dropped === 'buffered') this.#polls = this.#probes = true;
        continue;
      }
      if (trouble) await this.#wait(trouble);
    }
  }

  /** Fails, or waits, or has a new credential. @param {unknown} trouble */
  async #wait(trouble) {
    const denied = trouble instanceof Problem && trouble.status === 401 ? trouble : null;
    if (!denied && this.#options.transport === 'auto') this.#polls = false;
    this.trouble = trouble;
    try {
      if (denied && this.#denials++ < 2 && await this.#door.renew(denied)) return;
    } catch (e) {
      this.#denials -= 1;
      this.trouble = trouble = e; // who gives credentials cannot be reached either
    }
    if (this.#over) return;
    this.#failures += 1;
    const final = !passing(trouble) || (this.id === null && this.#failures >= this.#options.attempts);
    if (final) return this.#finish('failed', trouble instanceof Problem ? trouble
      : new Problem({ title: 'The gateway did not answer', remedy: 'is it running, and are you online?' }));
    const [first, most] = this.#options.backoff;
    const ms = Math.min(most, (this.#retry || first) * 2 ** (this.#failures - 1)) * (0.5 + Math.random() / 2);
    this.#say('waiting');
    await this.#nap(Math.max(ms, trouble instanceof Problem ? Math.min(trouble.retryAfter, 60_000) : 0));
  }

  /** Until that is over, or somebody calls. @param {number} [ms] */
  async #nap(ms) {
    let timer;
    if (this.#over) return;
    await new Promise((ok) => {
      this.#rouse = () => ok(null);
      if (ms !== undefined) timer = setTimeout(ok, ms);
    });
    clearTimeout(timer);
    this.#rouse = () => {};
  }

  /** Asks under a key, so that who has to ask twice gets one answer. @param {Line} line */
  async #ask(line) {
    const request = this.#request, { key = this.#options.key = unique(), silence } = this.#options;
    const body = JSON.stringify(typeof request === 'string' ? { prompt: request } : request);
    line.watch(silence, 'stalled');
    const response = await this.#door.fetch('v1/streams', {
      method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json', 'idempotency-key': key }, body }, line);
    const { id } = await line.hold(response.json());
    if (!id) throw new Problem({ title: 'What answered is no lastword' });
    this.id = id;
    this.#failures = 0;
  }

  /** @param {Line} line */
  async #stream(line) {
    const { silence, buffered, transport } = this.#options;
    line.watch(transport === 'auto' ? buffered : silence, transport === 'auto' ? 'buffered' : 'stalled');
    const response = await this.#door.fetch(this.#where({}), { headers: { accept: 'text/event-stream' } }, line);
    if (response.status === 204) return this.#seen(line);
    if (!/^text\/event-stream/.test(response.headers.get('content-type') ?? '')) throw new Problem({ title: 'What answered is no lastword' });
    if (!response.body?.getReader) {
      this.#polls = true;
      this.#options.transport = 'poll';
      return;
    }
    const reader = response.body.getReader(), decoder = new TextDecoder();
    line.undo = () => reader.cancel().catch(() => {});
    const parse = parser((name, data, id) => this.#take(line, name, json(data), id), (ms) => { this.#retry = ms; });
    for (;;) {
      const { done, value } = await reader.read();
      if (line.why) return;
      if (done) throw new Problem({ title: 'The connection was closed in mid-answer' });
      this.#hear(line);
      parse(decoder.decode(value, { stream: true }));
      if (this.#over) return;
      this.#live(); // a sign of life alone is one, too
    }
  }

  /** @param {Line} line */
  async #poll(line) {
    const { silence, buffered } = this.#options, wait = this.#probes ? 0 : WAIT, began = Date.now();
    line.watch(wait ? wait * 1000 + silence : 2 * buffered, 'stalled');
    const response = await this.#door.fetch(this.#where({ format: 'json', wait }), {}, line);
    const { events, cursor, ended } = await line.hold(response.json());
    if (line.why) return;
    if (!Array.isArray(events)) throw new Problem({ title: 'What answered is no lastword' });
    this.#hear(line);
    this.#probes = false;
    for (const { id, event, data } of events) {
      this.#take(line, event, data, id === undefined || id === null ? null : `${id}`);
      if (this.#over) return;
    }
    this.#live();
    this.cursor = `${cursor ?? this.cursor}`; // it moves past what is not shown
    if (ended) return this.#seen(line);
    // An answer that was not waited for is no poll's: it must not be asked for in a circle.
    if (!events.length && wait && Date.now() - began < 1000) throw new Problem({ title: 'The poll was answered at once, with nothing' });
  }

  /** Nothing is behind the cursor: how did it end? @param {Line} line */
  async #seen(line) {
    const state = await line.hold((await this.#door.fetch(`v1/streams/${this.id}`, {}, line)).json());
    if (state.status === 'running') throw new Problem({ title: 'The answer is said to have ended, and runs' });
    const { status, reason, usage, error } = state;
    this.#finish('ended', null, { status, ...(reason && { reason }), ...(usage && { usage }), ...(error && { error }) });
  }

  /** @param {Line} line */
  #hear(line) {
    this.#heard = Date.now();
    line.watch(this.#options.silence, 'stalled');
  }

  /** What answers is the answer, and no denial. */
  #live() {
    if (this.state === 'live') return;
    if (this.#lived) this.resumes += 1;
    this.#lived = true;
    this.trouble = null;
    this.#say('live');
  }

  /** @param {Line} line @param {string} name @param {any} data @param {string | null} id */
  #take(line, name, data, id) {
    if (this.#over || line.why) return;
    if (id === null) {
      if (name === 'heartbeat') return;
      if (name === 'denied') throw new Problem({ status: 401, code: data?.code, title: data?.message });
    }
    this.#live();
    if (id === null && name === 'reset') return this.#reset(data);
    if (id !== null && this.cursor !== null && compare(id, this.cursor) <= 0) {
      this.repeats += 1 + line.held.length;
      line.held = [];
      return this.#tell(null);
    }
    // Where a record has several frames only the last one has the id. The others wait for it: a cut between them is answered with all of
    // them again.
    line.held.push({ id, name, data });
    if (id === null && name !== 'end') return;
    if (id !== null) this.cursor = id.slice(id.lastIndexOf('-') + 1);
    this.#failures = this.#denials = 0;
    for (const event of line.held.splice(0)) {
      event.id = id === null ? null : this.cursor;
      this.#events.push(event);
      this.#fold(event);
      this.#tell(event);
    }
    if (name === 'end') this.#finish('ended', null, data);
  }

  /** The log has nothing certain behind `after`: forget it. @param {any} data */
  #reset(data) {
    const after = Number.isSafeInteger(data?.after) ? data.after : 0;
    const events = this.#events.filter((event) => kept(event, after));
    // What was told as one piece cannot be forgotten in part.
    const whole = this.#events.length > events.length && this.#events.some((event) => event.name === 'snapshot' && !kept(event, after));
    this.#events = whole ? [] : events;
    if (this.cursor !== null) this.cursor = whole ? null : compare(this.cursor, `${after}`) > 0 ? `${after}` : this.cursor;
    this.text = this.reasoning = '';
    this.toolCalls = [];
    for (const event of this.#events) this.#fold(event);
    this.#tell({ id: null, name: 'reset', data: { ...data, after: whole ? -1 : after } });
    if (whole) this.#line?.drop('reset');
  }

  /** @param {AnswerEvent} event */
  #fold({ name, data }) {
    if (name === 'message') this.text += data.text ?? '';
    else if (name === 'reasoning') this.reasoning += data.text ?? '';
    else if (name === 'snapshot') {
      this.text = data.text;
      this.reasoning = data.reasoning ?? '';
      this.toolCalls = (data.tool_calls ?? []).map((call) => ({ ...call }));
    } else if (name === 'tool_call') {
      const { index = 0, arguments: piece = '', ...known } = data;
      let call = this.toolCalls.find((one) => one.index === index);
      if (!call) this.toolCalls.push(call = { index, arguments: '' });
      Object.assign(call, known);
      call.arguments += piece;
    }
  }

  /** @param {State} state @param {Problem | null} [error] @param {End} [end] */
  #finish(state, error = null, end) {
    if (this.#over) return;
    this.#over = true;
    this.error = error;
    this.end = end ?? null;
    this.#wakes(false);
    this.#line?.drop('over');
    this.#rouse();
    this.#say(state);
  }

  /** @param {State} state */
  #say(state) {
    // A poll is followed by the next: that is no news.
    if (state === this.state || (this.#over && state !== 'ended' && state !== 'failed' && state !== 'closed')) return;
    if (state === 'connecting' && this.state === 'live' && this.#polls) return;
    this.state = state;
    this.#tell(null);
  }

  /** @param {AnswerEvent | null} event */
  #tell(event) {
    for (const listener of [...this.#listeners]) {
      // A mistake of the listener's is the listener's: it costs no event.
      try { listener(event); } catch (e) { setTimeout(() => { throw e; }); }
    }
  }

  /** The network is back, or the page: a phone that slept has a dead line, and a timer that knows of no time. @param {boolean} on */
  #wakes(on) {
    const how = on ? 'addEventListener' : 'removeEventListener', page = globalThis.document;
    for (const name of ['visibilitychange', 'resume']) page?.[how]?.(name, this.#woken);
    for (const name of ['online', 'pageshow']) globalThis[how]?.(name, this.#woken);
  }

  #woken = (/** @type {Event} */ { type }) => {
    if (this.#paused || globalThis.document?.hidden) return;
    if (type === 'online') this.#heard = 0; // another network: what was open is not
    this.open();
  };

  /** @param {Record<string, string | number>} how */
  #where(how) {
    const place = this.cursor !== null ? { after: this.cursor } : this.#options.snapshot ? { snapshot: 'true' } : {};
    const pairs = Object.entries({ ...this.#options.params, ...how, ...place }).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
    return `v1/streams/${this.id}/events${pairs.length ? `?${pairs.join('&')}` : ''}`;
  }
}

/** Asks, and reads the answer. @param {string | Record<string, any>} request a prompt, or the body of `POST /v1/streams` @param {Options} [options] */
export function ask(request, options) {
  return new Answer({ request }, options).open();
}

/** Reads an answer that was asked for before, from its beginning or behind `after`. @param {string} stream its id, or its `events_url` @param {Options} [options] */
export function read(stream, options) {
  return new Answer({ stream }, options).open();
}

/** Any other call of the API: `call('v1/models')`. Gives its JSON. @param {string} path @param {Options & { method?: string, body?: any }} [options] @returns {Promise<any>} */
export async function call(path, { method, body, ...options } = {}) {
  const init = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
  try {
    return await new Door(options).call(path, { ...init, ...(method && { method }), ...(options.signal && { signal: options.signal }) });
  } catch (e) {
    if (e instanceof Problem || options.signal?.aborted) throw e;
    throw e instanceof SyntaxError ? new Problem({ title: 'The answer was not JSON' })
      : new Problem({ title: 'The gateway did not answer', remedy: 'is it running, and are you online?' });
  }
}

/** @param {{ id: string | null }} event @param {number} after */
const kept = ({ id }, after) => id !== null && after >= 0 && compare(id, `${after}`) <= 0;

/** Cursors are `n`, `n.bytes` within a record, or either behind `{stream id}-`. @param {string} a @param {string} b */
function compare(a, b) {
  const [[m, x = 0], [n, y = 0]] = [a, b].map((id) => id.slice(id.lastIndexOf('-') + 1).split('.').map(Number));
  return m - n || x - y;
}

/** What a relayed endpoint sends may be plain words. @param {string} text */
function json(text) {
  try { return JSON.parse(text); } catch { return text; }
}

function unique() {
  return globalThis.crypto?.randomUUID?.() ?? Array.from({ length: 4 }, () => Math.random().toString(36).slice(2)).join('-');
}

/** Takes text in any pieces, and tells whole events. @param {(name: string, data: string, id: string | null) => void} tell @param {(ms: number) => void} retry */
function parser(tell, retry) {
  let rest = '', name = '', data = '', id = /** @type {string | null} */ (null);
  return (/** @type {string} */ text) => {
    rest += text;
    if (!/[\r\n]/.test(text)) return;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data) tell(name || 'message', data.slice(1), id);
        name = data = '';
        id = null;
        continue;
      }
      const [, field, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line) ?? [];
      if (field === 'data') data += `\n${value}`;
      else if (field === 'event') name = value;
      else if (field === 'id') id = value;
      else if (field === 'retry' && /^\d+$/.test(value) && +value < 60_000) retry(+value);
    }
  };
}
