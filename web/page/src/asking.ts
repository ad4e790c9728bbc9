// What can be asked for, and asking.

import * as lastword from '../../client/lastword.js';
import { recall, remember, type Draft } from './draft';
import { OPTIONS, type Session } from './session';
import { patience } from './six';
import { Store } from './store';
import { message, sentence } from './words';

/** A variable of a template. */
export interface Variable {
  type: string;
  description?: string;
  default?: unknown;
  choices?: unknown[];
}

export interface Template {
  name: string;
  description?: string;
  variables?: Record<string, Variable>;
}

/** What is wrong with the form, and which field it is about. */
interface Problem {
  words: string;
  field: string;
}

export interface Form {
  models: string[];
  /** the model that is asked where none is chosen, if the gateway says so */
  usual: string;
  model: string;
  templates: Template[];
  template: string;
  problem: Problem | null;
  sending: boolean;
}

export class Asking {
  readonly draft: Draft = recall();
  readonly form = new Store<Form>({ models: [], usual: '', model: '', templates: [], template: '', problem: null, sending: false });
  #session: Session;

  constructor(session: Session) {
    this.#session = session;
  }

  /** Says what is wrong, at the field it is about. */
  problem(words: string | null, field = ''): void {
    this.form.set({ problem: words === null ? null : { words, field } });
  }

  /** Fetches what there is to choose from. */
  async offer(): Promise<void> {
    const chosen = this.form.value.model || this.draft.model;
    let list: { data?: { id: string }[]; default?: string };
    try {
      list = await lastword.call('v1/models', OPTIONS);
    } catch (e) {
      if (!(e instanceof lastword.Problem) || e.status !== 401) return this.problem(`The models cannot be listed. ${message(e)}`);
      // Who was sent a link has no key, and needs none.
      if (!location.hash.includes('?token=')) this.#session.signIn();
      return;
    }
    const models = (Array.isArray(list.data) ? list.data : []).map(({ id }) => id).filter(Boolean), usual = list.default ?? '';
    if (usual && !models.includes(usual)) models.unshift(usual);
    this.form.set({ models, usual, model: chosen && models.includes(chosen) ? chosen : usual });
    // An older gateway, or one in front of which something lets only some paths through, has no templates; the rest works.
    const { prompts = [] } = await lastword.call('v1/prompts', OPTIONS).catch(() => ({})) as { prompts?: Template[] };
    const templates = prompts.filter(({ variables }) => variables);
    const kept = templates.some(({ name }) => name === this.draft.template);
    this.form.set({ templates, template: this.form.value.template || (kept && this.draft.template) || '' });
  }

  async ask(draft: Draft): Promise<void> {
    if (this.form.value.sending) return;
    this.problem(null);
    const request = this.#request(draft);
    if (!request) return;
    remember(draft);
    this.form.set({ sending: true });
    const askedAt = performance.now();
    try {
      patience((words) => this.problem(words));
      const asked = lastword.ask(request, OPTIONS);
      asked.subscribe(() => asked.state === 'waiting' && asked.id === null && this.problem('The gateway does not answer. Asking again.'));
      const id = await asked.begun();
      this.problem(null);
      history.pushState(null, '', `#${id}`);
      this.#session.follow(asked, { askedAt });
      document.getElementById('talk')?.scrollIntoView({ block: 'nearest' });
    } catch (e) {
      const refused = e instanceof lastword.Problem ? e : null;
      if (refused?.status === 401) this.#session.signIn();
      this.problem(message(e), refused?.field);
    } finally {
      patience(null);
      this.form.set({ sending: false });
    }
  }

  #request({ prompt = '', model, options = '', template, variables = {} }: Draft): Record<string, unknown> | null {
    const request: Record<string, unknown> = {};
    const found = this.form.value.templates.find(({ name }) => name === template);
    if (found) {
      request.template = found.name;
      const given = Object.entries(variables).filter(([name, value]) => found.variables?.[name] && value.trim() !== '');
      request.variables = Object.fromEntries(given.map(([name, value]) => [name, typed(value, found.variables?.[name]?.type)]));
    } else if (prompt.trim()) request.prompt = prompt;
    else return this.problem('Type a prompt first.', 'prompt') ?? null;
    if (model) request.model = model;
    if (!options.trim()) return request;
    try {
      request.backend_options = JSON.parse(options);
    } catch (e) {
      return this.problem(`The mock options are not JSON: ${e instanceof Error ? sentence(e.message) : ''}`, 'backend_options') ?? null;
    }
    return request;
  }
}

/** What was typed, as the template wants it. What it cannot be is sent as it is, and the gateway says what is wrong with it. */
function typed(value: string, type = 'string'): unknown {
  if (type === 'string') return value;
  if (type === 'list') return value.split('\n').filter(Boolean);
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
