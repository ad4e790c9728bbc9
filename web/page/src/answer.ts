// The answer on the page: what was said, and next to it what was reasoned, called, attached and noted. It keeps the events and draws them,
// for a few milliseconds of each frame; a reset or another way of showing draws them again from the beginning. What was said is drawn as
// Markdown, or with ids in the text as it is; all else goes in as text.

import type { AnswerEvent } from '../../client/lastword.js';
import { Markdown } from './markdown';
import { Plain } from './plain';

/** What streams that relay somebody else's events, and later versions, may leave out of an event. */
type Loose = Record<string, unknown>;

export class Answer {
  text = '';
  words = 0; // text events
  #events: AnswerEvent[] = [];
  #drawn = 0;
  #ids = false;
  #said: HTMLElement;
  #reasoned: HTMLElement;
  #extras: HTMLElement;
  #caret = document.createElement('i');
  #way!: Markdown | Plain;
  #reasoning!: Plain;
  #calls = new Map<number, { name: HTMLElement; args: HTMLElement }>();

  constructor(said: HTMLElement, reasoned: HTMLElement, extras: HTMLElement) {
    this.#said = said;
    this.#reasoned = reasoned;
    this.#extras = extras;
    this.#caret.className = 'caret';
    this.#caret.setAttribute('aria-hidden', 'true');
    this.#blank();
  }

  add(event: AnswerEvent): void {
    if (event.name === 'message') this.#count(event);
    this.#events.push(event);
  }

  /** Forgets what came after the cursor. */
  reset(after: number): void {
    this.#events = this.#events.filter((event) => event.id !== null && Number(event.id) <= after);
    this.text = '';
    this.words = 0;
    for (const event of this.#events) if (event.name === 'message') this.#count(event);
    this.#blank();
  }

  clear(): void {
    this.reset(-1);
  }

  showIds(on: boolean): void {
    this.#ids = on;
    this.#blank();
  }

  /** Draws what came since the last frame, until then at most; whether there is more. */
  draw(until: number): boolean {
    this.#caret.remove();
    let piece = '';
    for (let n = 1; this.#drawn < this.#events.length; n += 1) {
      const event = this.#events[this.#drawn];
      if (!event) break;
      this.#drawn += 1;
      if (event.name !== 'message') this.#show(event);
      else if (this.#way instanceof Plain) this.#way.append(words(event), event.id);
      else piece += words(event);
      if (n % 100 === 0 && performance.now() > until) break;
    }
    let more = this.#drawn < this.#events.length;
    if (this.#way instanceof Markdown) {
      this.#way.append(piece);
      more = this.#way.draw(until) || more;
    }
    const newest = this.#events[this.#drawn - 1];
    if (newest) this.#caret.dataset.id = newest.id ?? '';
    this.#way.last.append(this.#caret);
    return more;
  }

  #count(event: AnswerEvent): void {
    this.text += words(event);
    this.words += 1;
  }

  #blank(): void {
    this.#drawn = 0;
    this.#calls.clear();
    for (const box of [this.#said, this.#reasoned, this.#extras]) box.replaceChildren();
    this.#details(true);
    this.#way = this.#ids ? new Plain(this.#said) : new Markdown(this.#said);
    this.#reasoning = new Plain(this.#reasoned);
    delete this.#caret.dataset.id;
  }

  #details(hidden: boolean): void {
    if (this.#reasoned.parentElement) this.#reasoned.parentElement.hidden = hidden;
  }

  #show({ name, data }: AnswerEvent): void {
    if (name === 'reasoning') {
      this.#details(false);
      this.#reasoning.append(words({ data }));
    } else if (name === 'tool_call') this.#call(data);
    else if (name === 'file') this.#extra('file', file(data));
    else if (name === 'notice') {
      const { kind, ...rest } = data;
      this.#extra('notice', `${kind ?? 'notice'} ${Object.keys(rest).length ? JSON.stringify(rest) : ''}`);
    }
  }

  #call({ index = 0, name, arguments: piece }: { index?: number; name?: string; arguments?: unknown }): void {
    let call = this.#calls.get(index);
    if (!call) {
      call = { name: document.createElement('b'), args: document.createElement('code') };
      this.#calls.set(index, call);
      this.#extra('tool call', call.name, ' ', call.args);
    }
    if (name) call.name.textContent = name;
    if (piece) call.args.append(typeof piece === 'string' ? piece : JSON.stringify(piece));
  }

  #extra(kind: string, ...parts: (Node | string)[]): void {
    const line = document.createElement('p'), label = document.createElement('small');
    label.textContent = kind;
    line.append(label, ' ', ...parts);
    this.#extras.append(line);
  }
}

interface Media {
  media_type?: string;
  base64?: string;
  url?: string;
}

/** What is in the event is saved; what is elsewhere is not loaded until someone goes there. */
function file({ media_type: type = 'application/octet-stream', base64, url }: Media): HTMLElement | string {
  if (base64 === undefined && !/^https?:/i.test(url ?? '')) return type;
  const link = document.createElement('a');
  if (base64 === undefined) {
    link.href = url ?? '';
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    link.textContent = `Open ${type}`;
    return link;
  }
  link.href = `data:${type};base64,${base64}`;
  link.download = `file.${type.split(/[/+;]/)[1] ?? 'bin'}`;
  link.textContent = `Save ${type} (${Math.ceil((base64.length * 3) / 4 / 1024)} KB)`;
  return link;
}

function words({ data }: { data: unknown }): string {
  const text = (data as Loose | null)?.text;
  return typeof text === 'string' ? text : '';
}
