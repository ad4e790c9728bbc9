// A fenced block of code, which is never read again: its lines go into the page as they come.

import { codeBox } from './safe';

const CHUNK = 2000; // characters, after which a line end starts a new block: the browser lays out only the last one

export class Fence {
  /** The fence that this begins with, if it does, and the line is whole. */
  static opened(text: string): Fence | null {
    const found = /^( {0,3})(`{3,}(?=[^`\n]*\n)|~{3,})[ \t]*(\S*)[^\n]*\n/.exec(text);
    return found && new Fence(found[0], found[1] ?? '', found[2] ?? '', found[3] ?? '');
  }

  readonly box: HTMLElement;
  #code: HTMLElement;
  #indent: RegExp;
  #close: RegExp;
  #chunk: Text | null = null;
  #rest = document.createTextNode('');
  #within = false; // a line

  private constructor(readonly opening: string, indent: string, marks: string, language: string) {
    ({ box: this.box, code: this.#code } = codeBox(language));
    this.#indent = new RegExp(`^ {0,${indent.length}}`);
    this.#close = new RegExp(`^ {0,3}${marks[0]}{${marks.length},}[ \\t]*\\n?$`);
  }

  /** The element that the newest line is in. */
  get last(): HTMLElement {
    return this.#chunk?.parentElement ?? this.#code;
  }

  /** Takes a whole line; whether it ends the code. */
  line(text: string): boolean {
    this.rest('');
    if (!this.#within && this.#close.test(text)) return true;
    this.part(text);
    this.#within = false;
    return false;
  }

  part(text: string): void {
    this.rest('');
    if (!this.#chunk || this.#chunk.length > CHUNK) {
      const block = document.createElement('span');
      block.append(this.#chunk = document.createTextNode(''));
      this.#code.append(block);
    }
    this.#chunk.appendData(this.#within ? text : text.replace(this.#indent, ''));
    this.#within = true;
  }

  /** Shows the line that is not whole. One that may come to end the code is not shown. */
  rest(text: string): void {
    this.#rest.remove();
    if (!text || (!this.#within && /^ {0,3}[`~]+[ \t]*$/.test(text))) return;
    this.#rest.data = this.#within ? text : text.replace(this.#indent, '');
    this.last.append(this.#rest);
  }
}
