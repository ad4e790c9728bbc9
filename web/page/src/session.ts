// One answer at a time: asks for it, follows it, cuts it and comes back. The stream's id is in the address (#id), so that a reload or a second
// tab reads the same answer again from its beginning and then live.

import * as lastword from '../../client/lastword.js';
import type { Answer as Drawing } from './answer';
import { Follow } from './follow';
import { fetchInSips } from './sips';
import { patience } from './six';
import { Store } from './store';
import type { Wire } from './wire';
import { ENDINGS, grouped, line, message, sentence, usage, type Line } from './words';

// Addresses are relative, so that the page also works under a path of a reverse proxy. It shows records, not whole words.
export const OPTIONS: lastword.Options = { url: '.', params: { chunking: 'token' }, fetch: fetchInSips };
export const BACK_AFTER_CUT = 3000;
const FRAME = 4; // ms of each frame in which the answer is drawn
const HIDDEN = 60; // and where there are no frames

/** What is known of the answer on the page. */
interface Shown {
  id: string | null;
  askedAt?: number | undefined;
  status: string;
  model?: string | undefined;
  firstToken?: number | undefined;
  usage?: Record<string, unknown> | undefined;
  shared?: boolean;
}

export interface View {
  line: Line;
  /** of the answer; '' before there is one */
  status: string;
  says: string;
  trouble: string;
  proof: string;
  facts: string; // of JSON, so that one comparison tells whether anything is new
  running: boolean;
  stopping: boolean;
  shared: boolean;
  shareable: boolean;
}

type Fact = 'status' | 'answered-by' | 'first-token' | 'usage' | 'pieces' | 'last-id' | 'resumes' | 'repeats';
export type Facts = Partial<Record<Fact, string | number | null>>;

export class Session {
  readonly view = new Store<View>({ line: 'idle', status: '', says: 'Nothing asked yet', trouble: '', proof: '', facts: '{}', running: false,
    stopping: false, shared: false, shareable: false });

  /** Called when a key is needed. */
  signIn: () => void = () => {};

  #reader: lastword.Answer | null = null;
  #shown: Shown | null = null;
  #answer: Drawing | null = null;
  #wire: Wire | null = null;
  #end: Follow | null = null;
  #due = false;
  #drawn: (() => void)[] = [];

  constructor() {
    // A frame that was asked for does not come to a tab that is hidden meanwhile.
    document.addEventListener('visibilitychange', () => {
      if (document.hidden && this.#due) {
        this.#due = false;
        this.soon();
      }
    });
  }

  /** Where it is drawn. */
  attach(parts: { answer?: Drawing; box?: HTMLElement; wire?: Wire }): void {
    this.#answer = parts.answer ?? this.#answer;
    this.#wire = parts.wire ?? this.#wire;
    if (parts.box) this.#end = new Follow(parts.box);
  }

  get id(): string | null {
    return this.#shown?.id ?? null;
  }

  /** Shows a stream from its beginning: one that was asked for now, or another time. */
  follow(next: lastword.Answer, about: { askedAt?: number; shared?: boolean } = {}): void {
    this.#reader?.close();
    this.#reader = next;
    const mine: Shown = this.#shown = { id: next.id, status: 'running', ...about };
    this.#answer?.clear();
    this.#wire?.clear();
    this.#end?.begin();
    this.view.set({ trouble: '', proof: '', stopping: false, shared: about.shared ?? false });
    this.#status(mine.status);
    let state: lastword.State | null = null;
    next.subscribe((event) => {
      if (mine !== this.#shown) return;
      if (event) this.#take(event, mine);
      else if (state !== next.state) this.#connection(state = next.state);
      this.soon();
    });
    this.#connection(state = next.state);
    // What the events do not say to one who comes later: the time of the first token.
    if (about.askedAt === undefined) next.fetchState().then((known) => this.#learn(known, mine), () => {});
    this.soon();
  }

  /** `#id`, or what was shared: `#id?token=…`. */
  arrive(): void {
    const [id, ticket] = location.hash.slice(1).split('?token=');
    if (!id || id === this.id) return;
    this.follow(lastword.read(ticket ? `v1/streams/${id}/events?token=${ticket}` : id, OPTIONS), { shared: Boolean(ticket) });
  }

  /** Reads again what was not allowed before. */
  retry(): void {
    if (this.view.value.line === 'denied' && this.id) this.follow(lastword.read(this.id, OPTIONS));
  }

  async stop(): Promise<void> {
    const mine = this.#shown;
    this.view.set({ stopping: true });
    try {
      await this.#reader?.cancel();
    } catch (e) {
      if (mine === this.#shown) this.view.set({ trouble: message(e), stopping: false });
    }
  }

  /** As a tunnel would: the server is told nothing. It comes back by itself, or when it is told to. */
  cut(): void {
    const reader = this.#reader;
    if (!connected(this.view.value.line)) return void reader?.open();
    reader?.pause();
    setTimeout(() => reader?.state === 'paused' && reader.open(), BACK_AFTER_CUT);
  }

  showIds(on: boolean): void {
    this.#answer?.showIds(on);
    this.soon();
  }

  trouble(words: string): void {
    this.view.set({ trouble: words });
  }

  #take(event: lastword.AnswerEvent, mine: Shown): void {
    this.#wire?.event(event);
    if (event.name === 'reset') {
      const { after, reason } = event.data;
      this.#answer?.reset(after);
      this.#wire?.mark(`reset (${reason ?? 'no reason given'}): what came after ${after} is dropped`);
      return;
    }
    this.#answer?.add(event);
    if (event.name === 'start') mine.model = event.data.model ?? mine.model;
    if (event.name === 'message' && mine.askedAt !== undefined) mine.firstToken ??= performance.now() - mine.askedAt;
  }

  #learn(state: Awaited<ReturnType<lastword.Answer['fetchState']>>, mine: Shown): void {
    if (mine !== this.#shown) return;
    mine.model ??= state.model;
    mine.firstToken ??= state.timings?.first_token_ms;
    this.soon();
  }

  #status(status: string): void {
    document.body.dataset.status = status;
    this.view.set({ status });
  }

  /** What happens to the connection, in words. */
  #connection(state: lastword.State): void {
    const reader = this.#reader;
    if (!reader) return;
    const at = reader.cursor === null ? '' : ` after id ${reader.cursor}`;
    const was = this.view.value.line, name = line(state, reader.error?.status, reader.cursor !== null);
    if (name !== 'closed') {
      document.body.dataset.state = name;
      this.view.set({ line: name });
    }
    patience(name === 'connecting' || name === 'reconnecting' ? (words) => this.trouble(words) : null);
    const says = (words: string) => this.view.set({ says: words });
    const stuck = (word: string, why: string) => {
      if (this.#shown) this.#shown.status = word.toLowerCase();
      says(word);
      this.trouble(why);
    };
    const why = reader.error ? sentence(reader.error.message) : '';
    switch (name) {
      case 'connecting': return says('Connecting');
      case 'live':
        this.trouble('');
        says(reader.resumes > 0 ? `Live, resumed${at}` : 'Live');
        if (reader.resumes > 0) this.#wire?.mark(`resumed${at}`);
        return;
      case 'cut':
        says(`Cut${at}, back in ${BACK_AFTER_CUT / 1000} s`);
        return this.#wire?.mark(`cut${at}; the server was not told`);
      case 'reconnecting':
        says(`Reconnecting${at}`);
        if (was === 'live') this.#wire?.mark(`connection lost${at}`);
        return;
      case 'ended': return void (reader.end && this.#ended(reader.end, reader));
      case 'denied':
        stuck('Not allowed', why);
        return this.signIn();
      case 'refused': return stuck('Refused', why);
      case 'gone': return stuck('Gone', `This stream is ${reader.error?.status === 410 ? 'expired' : 'not known here'}. ${why}`);
      default:
    }
  }

  #ended({ status, reason, usage: used, error }: lastword.End, reader: lastword.Answer): void {
    const mine = this.#shown;
    if (!mine) return;
    mine.status = status === 'completed' && reason && reason !== 'stop' ? `${status} (${reason})` : status;
    mine.usage = used;
    this.#status(status);
    this.view.set({ says: ENDINGS[status] ?? status });
    if (error) this.trouble(`${sentence(error.message ?? error.code)}${error.retryable ? ' Asking again may help.' : ''}`);
    void this.#compare(reader, mine);
  }

  /** The proof: what was put together here, over any number of connections, is what the gateway recorded. */
  async #compare(reader: lastword.Answer, mine: Shown): Promise<void> {
    const state = await reader.fetchState().catch(() => null);
    if (!state) return;
    this.#learn(state, mine);
    // The proof never comes before the words, however slow the frames of a tab in the background are.
    await new Promise<void>((ok) => {
      this.#drawn.push(ok);
      this.soon();
    });
    if (mine !== this.#shown || typeof state.text !== 'string' || !this.#answer) return;
    const { text } = this.#answer;
    const [here, there] = [grouped(text.length), grouped(state.text.length)];
    if (state.text === text) this.view.set({ proof: `Identical to the log: ${here} characters.` });
    else this.trouble(`${this.view.value.trouble} This is not what the log has: ${here} characters here, ${there} there.`);
  }

  /** Draws once a frame, however much has come; in a hidden tab a few times a second. */
  soon(): void {
    if (this.#due) return;
    this.#due = true;
    const draw = (budget: number) => {
      this.#due = false;
      this.#draw(performance.now() + budget);
    };
    if (document.hidden) setTimeout(() => draw(HIDDEN), 250);
    else requestAnimationFrame(() => draw(FRAME));
  }

  #draw(until: number): void {
    const more = [this.#answer?.draw(until), this.#wire?.draw()].includes(true);
    this.#end?.now();
    const shown = this.#shown, reader = this.#reader, state = this.view.value.line;
    const facts: Facts = {
      status: shown?.status ?? null,
      'answered-by': shown?.model ?? null,
      'first-token': shown?.firstToken === undefined ? null : `${Math.round(shown.firstToken)} ms`,
      usage: shown?.usage ? usage(shown.usage) : null,
      pieces: shown && this.#answer ? this.#answer.words : null,
      'last-id': reader?.cursor ?? null,
      resumes: reader?.resumes ?? null,
      repeats: reader?.repeats ?? null,
    };
    this.view.set({
      facts: JSON.stringify(facts),
      running: shown !== null && !['idle', 'ended', 'gone'].includes(state),
      shareable: shown !== null && shown.id !== null && !shown.shared && !['gone', 'denied', 'refused'].includes(state),
    });
    if (more) return this.soon();
    for (const done of this.#drawn.splice(0)) done();
  }
}

export const connected = (state: Line): boolean => state === 'live' || state === 'connecting';
