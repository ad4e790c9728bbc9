// The wire panel: the newest events as they came, id, name and data, and between them what happened to the connection.

const ROWS = 200;
const DATA = 300; // characters of one event's data

export class Wire {
  #list; #new = []; #stick = true;

  constructor(list) {
    this.#list = list;
    // Follow the newest row until the reader scrolls up to look at something.
    list.addEventListener('scroll', () => {
      this.#stick = list.scrollTop + list.clientHeight >= list.scrollHeight - 24;
    }, { passive: true });
  }

  event({ id, name, data }) {
    this.#push({ id: id ?? '·', name, data: typeof data === 'string' ? data : JSON.stringify(data) });
  }

  mark(words) {
    this.#push({ words });
  }

  clear() {
    this.#new = [];
    this.#stick = true;
    this.#list.replaceChildren();
  }

  paint() {
    if (!this.#new.length) return;
    this.#list.append(...this.#new.splice(0).map(row));
    while (this.#list.childElementCount > ROWS) this.#list.firstElementChild.remove();
    if (this.#stick) this.#list.scrollTop = this.#list.scrollHeight;
  }

  #push(entry) {
    this.#new.push(entry);
    if (this.#new.length > 2 * ROWS) this.#new.splice(0, ROWS);
  }
}

function row({ id, name, data, words }) {
  const item = document.createElement('li');
  if (words !== undefined) {
    item.className = 'mark';
    item.textContent = words;
    return item;
  }
  item.append(cell('id', id), cell('name', name), cell('data', data.length > DATA ? `${data.slice(0, DATA)}…` : data));
  return item;
}

function cell(kind, text) {
  const span = document.createElement('span');
  span.className = kind;
  span.textContent = text;
  return span;
}
