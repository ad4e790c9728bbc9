// Words as they are, in blocks, of which the browser lays out only the last one again.

const BLOCK = 4000; // characters, after which a line end starts a new block

export class Plain {
  #root: HTMLElement;
  #block: HTMLElement | null = null;
  #node: Text | null = null;
  #size = 0;

  constructor(root: HTMLElement) {
    this.#root = root;
  }

  /** @param id of the event, where it shall be seen in the text */
  append(text: string, id: string | null = null): void {
    if (!this.#block || (this.#size > BLOCK && this.#node === null)) this.#begin();
    if (id !== null) {
      const token = document.createElement('span');
      token.dataset.id = id;
      token.textContent = text;
      this.#block?.append(token);
    } else if (this.#node) this.#node.appendData(text);
    else this.#block?.append(this.#node = document.createTextNode(text));
    this.#size += text.length;
    if (this.#size > BLOCK && text.endsWith('\n')) this.#block = this.#node = null;
  }

  /** Where the next word comes. */
  get last(): HTMLElement {
    return this.#block ?? this.#begin();
  }

  #begin(): HTMLElement {
    this.#block = document.createElement('div');
    this.#block.className = 'plain';
    this.#node = null;
    this.#size = 0;
    this.#root.append(this.#block);
    return this.#block;
  }
}
