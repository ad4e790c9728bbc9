// The answer on the page: what was said, and next to it what was reasoned, called, attached and noted.
// It keeps the events and draws them once a frame, so that ten thousand tokens cost a few text nodes a frame; a reset
// or another way of showing draws them again from the beginning. Whatever comes from a stream goes in as text.

const BLOCK = 4000; // characters, after which a line end starts a new block: the browser lays out only the last one

export class Answer {
  text = '';
  words = 0;         // text events
  #events = []; #drawn = 0; #ids = false;
  #said; #reasoned; #extras; #caret; #block; #node; #size; #calls;

  constructor({ said, reasoned, extras }) {
    this.#said = said;
    this.#reasoned = reasoned;
    this.#extras = extras;
    this.#caret = document.createElement('i');
    this.#caret.className = 'caret';
    this.#caret.setAttribute('aria-hidden', 'true');
    this.#blank();
  }

  add(event) {
    if (event.name === 'message') this.#count(event);
    this.#events.push(event);
  }

  /** Forgets what came after the cursor. */
  reset(after) {
    this.#events = this.#events.filter((event) => event.id !== null && event.id <= after);
    this.text = '';
    this.words = 0;
    for (const event of this.#events) if (event.name === 'message') this.#count(event);
    this.#blank();
  }

  clear() {
    this.reset(-1);
  }

  showIds(on) {
    this.#ids = on;
    this.#blank();
  }

  /** Draws what came since the last frame. */
  paint() {
    let piece = '';
    const flush = () => {
      if (piece) this.#say(piece);
      piece = '';
    };
    for (; this.#drawn < this.#events.length; this.#drawn += 1) {
      const event = this.#events[this.#drawn];
      if (event.name !== 'message') this.#draw(event);
      else if (this.#ids) this.#say(words(event), event.id);
      else {
        piece += words(event);
        if (piece.endsWith('\n')) flush();
      }
    }
    flush();
    const newest = this.#events.at(-1)?.id;
    if (newest !== undefined) this.#caret.dataset.id = newest ?? '';
  }

  #count(event) {
    this.text += words(event);
    this.words += 1;
  }

  #blank() {
    this.#drawn = 0;
    this.#calls = new Map();
    this.#said.replaceChildren();
    this.#reasoned.replaceChildren();
    this.#reasoned.parentElement.hidden = true;
    this.#extras.replaceChildren();
    this.#newBlock();
    delete this.#caret.dataset.id;
  }

  #newBlock() {
    this.#block = document.createElement('div');
    this.#block.append(this.#caret);
    this.#node = null;
    this.#size = 0;
    this.#said.append(this.#block);
  }

  #say(piece, id = null) {
    if (id !== null) {
      const token = document.createElement('span');
      token.dataset.id = id;
      token.textContent = piece;
      this.#caret.before(token);
    } else if (this.#node) this.#node.appendData(piece);
    else this.#caret.before(this.#node = document.createTextNode(piece));
    this.#size += piece.length;
    if (this.#size > BLOCK && piece.endsWith('\n')) this.#newBlock();
  }

  #draw({ name, data }) {
    if (name === 'reasoning') {
      this.#reasoned.parentElement.hidden = false;
      this.#reasoned.append(words({ data }));
    } else if (name === 'tool_call') this.#call(data);
    else if (name === 'file') this.#extra('file', this.#file(data));
    else if (name === 'notice') {
      const { kind, ...rest } = data;
      this.#extra('notice', `${kind ?? 'notice'} ${Object.keys(rest).length ? JSON.stringify(rest) : ''}`);
    }
  }

  #call({ index = 0, name, arguments: piece }) {
    let call = this.#calls.get(index);
    if (!call) {
      call = { name: document.createElement('b'), args: document.createElement('code') };
      this.#calls.set(index, call);
      this.#extra('tool call', call.name, ' ', call.args);
    }
    if (name) call.name.textContent = name;
    if (piece) call.args.append(typeof piece === 'string' ? piece : JSON.stringify(piece));
  }

  #file({ media_type = 'application/octet-stream', base64 = '' }) {
    const link = document.createElement('a');
    link.href = `data:${media_type};base64,${base64}`;
    link.download = `file.${media_type.split(/[/+;]/)[1] ?? 'bin'}`;
    link.textContent = `Save ${media_type} (${Math.ceil((base64.length * 3) / 4 / 1024)} KB)`;
    return link;
  }

  #extra(kind, ...parts) {
    const line = document.createElement('p');
    const label = document.createElement('small');
    label.textContent = kind;
    line.append(label, ' ', ...parts);
    this.#extras.append(line);
  }
}

const words = ({ data }) => (typeof data?.text === 'string' ? data.text : '');
