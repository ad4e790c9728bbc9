// The wire panel: the newest events as they came, id, name and data, and between them what happened to the connection.

import type { AnswerEvent } from '../../client/lastword.js';

const ROWS = 200;
const NEW = 20; // rows drawn in one frame
const DATA = 300; // characters of one event's data

type Entry = AnswerEvent | { words: string };

export class Wire {
  #list: HTMLElement;
  #new: Entry[] = [];
  #stick = true;

  constructor(list: HTMLElement) {
    this.#list = list;
    // Follow the newest row until the reader scrolls up to look at something.
    list.addEventListener('scroll', () => {
      this.#stick = list.scrollTop + list.clientHeight >= list.scrollHeight - 24;
    }, { passive: true });
  }

  event(event: AnswerEvent): void {
    this.#push(event);
  }

  mark(words: string): void {
    this.#push({ words });
  }

  clear(): void {
    this.#new = [];
    this.#stick = true;
    this.#list.replaceChildren();
  }

  /** Draws some of what came; whether there is more. */
  draw(): boolean {
    if (!this.#new.length) return false;
    this.#list.append(...this.#new.splice(0, NEW).map(row));
    while (this.#list.childElementCount > ROWS) this.#list.firstElementChild?.remove();
    if (this.#stick) this.#list.scrollTop = this.#list.scrollHeight;
    return this.#new.length > 0;
  }

  #push(entry: Entry): void {
    this.#new.push(entry);
    if (this.#new.length > 2 * ROWS) this.#new.splice(0, ROWS); // what would be gone before anyone has seen it
  }
}

function row(entry: Entry): HTMLElement {
  const item = document.createElement('li');
  if ('words' in entry) {
    item.className = 'mark';
    item.textContent = entry.words;
    return item;
  }
  const { id, name } = entry, data = typeof entry.data === 'string' ? entry.data : JSON.stringify(entry.data);
  item.append(cell('id', id ?? '·'), cell('name', name), cell('data', data.length > DATA ? `${data.slice(0, DATA)}…` : data));
  return item;
}

function cell(kind: string, text: string): HTMLElement {
  const span = document.createElement('span');
  span.className = kind;
  span.textContent = text;
  return span;
}
