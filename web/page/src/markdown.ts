// The words of an answer, drawn as Markdown while they come. A finished block is drawn once and never touched again; only the last one,
// which may still change its mind, is drawn anew with each frame. What has come is taken in by the piece, and a block that grows too long
// to be drawn again and again is finished part by part, each put into the element of the one before where it can be. So no frame takes
// long, whatever comes.

import { Fence } from './fence';
import { blocks, drawn, linksOf, type Block, type Links } from './safe';

const STEP = 800; // characters taken in at once
const SOFT = 2000; // a list, a table or a paragraph beyond this is cut where one of its parts ends
const PARTS = 100; // of a list or a table. What comes behind them is one of its own: the browser lays out the whole of one, or none of it
const HARD = 6000; // and anything else at the end of a line

/** A block of which a part is finished. */
interface Cut {
  head: string; // what makes a part of it one of its kind: the head of a table
  element: Element | null; // where the next part has its place, if not in an element of its own
}

const long = (all: Block[]): number => all.reduce((sum, { raw }) => sum + raw.length, 0);
const solid = ({ type }: Block): boolean => type !== 'space';

export class Markdown {
  #root: HTMLElement;
  #waiting = ''; // not looked at
  #open = ''; // of the block that is open
  #shown: ChildNode[] = []; // its elements
  #seen = -1; // the line end in it up to which finished blocks were looked for
  #fence: Fence | null = null;
  #cut: Cut | null = null;
  #links: Links = linksOf(); // of what is finished: an address that is still coming is not the one that is meant

  constructor(root: HTMLElement) {
    this.#root = root;
  }

  append(text: string): void {
    this.#waiting += text;
  }

  /** Draws what waits, until then at most; whether there is more. */
  draw(until: number): boolean {
    if (!this.#waiting) return false;
    for (const node of this.#shown) node.remove();
    do {
      const step = /[\uD800-\uDBFF]/.test(this.#waiting.charAt(STEP - 1)) ? STEP + 1 : STEP;
      this.#open = (this.#open + this.#waiting.slice(0, step)).replaceAll('\r\n', '\n');
      this.#waiting = this.#waiting.slice(step);
      while (this.#fence ? this.#fenced(this.#fence) : this.#begun() || this.#finished() || this.#shortened());
    } while (this.#waiting && performance.now() < until);
    this.#shown = this.#fence ? [] : this.#put(this.#open, linksOf(this.#links));
    this.#fence?.rest(this.#open);
    return this.#waiting !== '';
  }

  /** The element that the newest words are in. */
  get last(): HTMLElement {
    if (this.#fence) return this.#fence.last;
    let at = this.#root;
    for (;;) {
      const next = at.lastElementChild;
      if (!(next instanceof HTMLElement) || !/^(?:P|H\d|[OU]L|LI|BLOCKQUOTE)$/.test(next.tagName)) return at;
      at = next;
    }
  }

  /** A fence: what follows are lines of code. Whether one begins here. */
  #begun(): boolean {
    const fence = Fence.opened(this.#open);
    if (!fence) return false;
    this.#root.append(fence.box);
    this.#open = this.#open.slice(fence.opening.length);
    this.#fence = fence;
    this.#cut = null;
    return true;
  }

  /** The lines within a fence. Whether it ended. */
  #fenced(fence: Fence): boolean {
    for (let end; (end = this.#open.indexOf('\n') + 1) > 0;) {
      const ends = fence.line(this.#open.slice(0, end));
      this.#open = this.#open.slice(end);
      if (!ends) continue;
      this.#root.append('\n'); // as between any two blocks
      this.#fence = null;
      this.#seen = -1;
      return true;
    }
    if (this.#open.length > HARD) {
      fence.part(this.#open);
      this.#open = '';
    }
    return false;
  }

  /** Finishes what no later line can change: all blocks but the last, of whole lines. Whether there was one. */
  #finished(): boolean {
    const end = this.#open.lastIndexOf('\n');
    if (end <= this.#seen) return false;
    this.#seen = end;
    const all = this.#blocks(this.#open.slice(0, end + 1));
    return this.#finish(long(all.slice(0, all.findLastIndex(solid))) - (this.#cut?.head.length ?? 0));
  }

  #finish(length: number): boolean {
    if (length <= 0) return false;
    this.#freeze(length);
    this.#cut = null;
    return true;
  }

  /** Cuts a block that is too long. Whether it could. */
  #shortened(): boolean {
    const { length } = this.#open;
    if (length <= SOFT) return false;
    const all = this.#blocks(this.#open), last = all.findLastIndex(solid), block = all[last];
    if (!block) return false;
    const before = long(all.slice(0, last)), lines = this.#open.lastIndexOf('\n') + 1;
    let head = this.#cut?.head ?? '', at = 0;
    if (last > all.findIndex(solid)) return this.#finish(before - head.length);
    if (block.items && block.items.length > 1) at = before + block.raw.length - (block.items.at(-1)?.raw.trimEnd().length ?? 0);
    else if (block.type === 'table') {
      if (!this.#cut) head = `${block.raw.split('\n', 2).join('\n')}\n`;
      if (this.#cut || lines > before + head.length) at = lines;
    } else if (block.type === 'paragraph') at = sentence(this.#open);
    else if (length > HARD) at = lines || sentence(this.#open);
    if (at <= 0) return false;
    const ended = this.#open[at - 1] === '\n';
    const element = this.#freeze(at);
    this.#cut = block.type === 'table' ? { head, element } : element && { head: '', element };
    if (ended && element?.tagName === 'P') element.append('\n');
    return true;
  }

  #blocks(source: string): Block[] {
    return blocks((this.#cut?.head ?? '') + source);
  }

  /** Draws the beginning of what is open for good. Gives the element in which more of its last block has its place. */
  #freeze(length: number): Element | null {
    const element = this.#put(this.#open.slice(0, length), this.#links).findLast((node) => node instanceof HTMLElement);
    this.#open = this.#open.slice(length);
    this.#seen = -1;
    if (element?.parentElement !== this.#root) return roomy(this.#cut?.element ?? null);
    if (element.className === 'wide') return roomy(element.querySelector('tbody'));
    return /^(?:P|[OU]L|BLOCKQUOTE)$/.test(element.tagName) ? roomy(element) : null;
  }

  /** Draws at the end; what continues a block that was cut, into that. */
  #put(source: string, links: Links): ChildNode[] {
    if (!source) return [];
    const fragment = drawn((this.#cut?.head ?? '') + source, links);
    const nodes: ChildNode[] = [];
    const place = this.#cut?.element, first = fragment.firstElementChild;
    const same = this.#cut?.head ? first?.querySelector('tbody') : first;
    if (place && same?.tagName === place.tagName) {
      nodes.push(...same.childNodes);
      place.append(...nodes);
      first?.remove();
    }
    const rest = [...fragment.childNodes];
    this.#root.append(fragment);
    return [...nodes, ...rest];
  }
}

/** The element, if it is not full. */
function roomy(element: Element | null): Element | null {
  return element && /^(?:[OU]L|TBODY)$/.test(element.tagName) && element.childElementCount > PARTS ? null : element;
}

/** Where a paragraph can be cut: behind a sentence, else behind a word, and not within what has a mark at both ends. */
function sentence(text: string): number {
  const count = (part: string, mark: string) => part.split(mark).length - 1;
  const whole = (at: number) => {
    const part = text.slice(0, at);
    return ['`', '*', '_', '~'].every((mark) => count(part, mark) % 2 === 0) && count(part, '[') === count(part, ']');
  };
  const behind = (such: RegExp) => [...text.matchAll(such)].map((end) => end.index + end[0].length)
    .filter((at) => at > text.length / 2 && at < text.length).slice(-20).reverse();
  const words = behind(/\s+/g);
  return [...behind(/[.!?:]\s+/g), ...words].find(whole) ?? words[0] ?? text.length;
}
