// Markdown made into elements that can do nothing. A model's words are a stranger's: raw HTML is shown as the text it is, a picture is a
// link to it, and what is left goes through DOMPurify, which lets only these elements and attributes pass.

import DOMPurify from 'dompurify';
import { Lexer, Parser, Renderer, Tokenizer, type Tokens } from 'marked';

const TAGS = ['p', 'br', 'hr', 'h2', 'h3', 'h4', 'h5', 'h6', 'strong', 'em', 'del', 'code', 'pre', 'a', 'ul', 'ol', 'li', 'blockquote',
  'table', 'thead', 'tbody', 'tr', 'th', 'td'];
const ONLY = { ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ['href', 'title', 'start', 'align', 'class'], ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ADD_URI_SAFE_ATTR: ['start', 'align'], ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false, RETURN_DOM_FRAGMENT: true as const };

const plain = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

class Shown extends Renderer {
  override html({ text, block }: Tokens.HTML | Tokens.Tag): string {
    if (/^<br\s*\/?>$/i.test(text.trim())) return '<br>'; // the one line break that a cell of a table can have
    return block ? `<p>${plain(text)}</p>` : plain(text);
  }

  /** Also within what would be raw HTML, where marked would let it be. */
  override text(token: Tokens.Text | Tokens.Escape): string {
    return 'escaped' in token && token.escaped ? plain(token.text) : super.text(token);
  }

  /** One lower: the page has its own title. */
  override heading({ tokens, depth }: Tokens.Heading): string {
    const level = Math.min(6, depth + 1);
    return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
  }

  override image({ href, text }: Tokens.Image): string {
    return `<a href="${plain(href)}">${plain(text || href)}</a>`;
  }

  /** What is done or not has a box, and no dot beside it. */
  override listitem(item: Tokens.ListItem): string {
    return item.task ? super.listitem(item).replace('<li>', '<li class="task">') : super.listitem(item);
  }

  override checkbox({ checked }: Tokens.Checkbox): string {
    return checked ? '☑ ' : '☐ ';
  }
}

/** Definitions of links, `[name]: address`. Those of one answer are shared by all its blocks. */
export type Links = Lexer['tokens']['links'];

/** The same ones, to add to. It has no name that nobody gave it: `[constructor]` is no link. */
export const linksOf = (links: Links = {}): Links => Object.assign(Object.create(null) as Links, links);

const DEEPEST = 16; // quotes and lists within one another

/** What is deeper is words. Each level is read again by the one within it, and a thousand of them overflow the stack. */
class Shallow extends Tokenizer {
  #depth = 0;

  override blockquote(source: string): Tokens.Blockquote | undefined {
    return this.#within(() => super.blockquote(source));
  }

  override list(source: string): Tokens.List | undefined {
    return this.#within(() => super.list(source));
  }

  #within<Block>(read: () => Block | undefined): Block | undefined {
    if (this.#depth === DEEPEST) return undefined;
    this.#depth += 1;
    try {
      return read();
    } finally {
      this.#depth -= 1;
    }
  }
}

const options = { gfm: true, renderer: new Shown(), tokenizer: new Shallow() };

/** A part of the source with nothing around it: a paragraph, a list, or `space` between two of them. */
export interface Block {
  type: string;
  raw: string;
  items?: { raw: string }[];
}

/** What blocks this is made of; together their `raw` is the source. */
export function blocks(source: string): Block[] {
  const lexer = new Lexer(options);
  lexer.tokens.links = linksOf();
  return lexer.blockTokens(source, lexer.tokens);
}

/**
 * The elements of a piece of Markdown. The line ends between blocks stay, unseen, so that the text of the page is that of the answer.
 * @param links gets those that are defined in it
 */
export function drawn(source: string, links: Links): DocumentFragment {
  const lexer = new Lexer(options);
  lexer.tokens.links = links;
  const html = lexer.lex(source).map((token) => {
    const end = /\n*$/.exec(token.raw)?.[0] ?? '';
    return token.type === 'space' ? token.raw : Parser.parse([token], options).trimEnd() + end;
  });
  const fragment = DOMPurify.sanitize(html.join(''), ONLY);
  for (const link of fragment.querySelectorAll('a')) {
    if (!link.hasAttribute('href')) {
      link.replaceWith(...link.childNodes);
      continue;
    }
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
  }
  for (const pre of fragment.querySelectorAll('pre')) {
    const { box, code } = codeBox(/language-(\S+)/.exec(pre.firstElementChild?.className ?? '')?.[1]);
    code.textContent = pre.textContent;
    pre.replaceWith(box);
  }
  for (const table of fragment.querySelectorAll('table')) {
    const box = document.createElement('div');
    box.className = 'wide';
    box.tabIndex = 0; // it may scroll, and then also by the keyboard
    table.replaceWith(box);
    box.append(table);
  }
  for (const element of fragment.querySelectorAll('[class]')) if (!/^(?:code|copy|wide|task)$/.test(element.className)) element.removeAttribute('class');
  return fragment;
}

/** A block of code with its language and its button. Both are drawn by the style sheet, so that the text of the answer is the answer's. */
export function codeBox(language = ''): { box: HTMLElement; code: HTMLElement } {
  const box = document.createElement('div'), button = document.createElement('button'), pre = document.createElement('pre');
  const code = document.createElement('code');
  box.className = 'code';
  box.dataset.language = language;
  button.className = 'copy';
  button.type = 'button';
  button.setAttribute('aria-label', 'Copy the code');
  pre.tabIndex = 0;
  pre.append(code);
  box.append(button, pre);
  return { box, code };
}
