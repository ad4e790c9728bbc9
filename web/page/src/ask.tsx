// The form.

import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import type { Asking, Template, Variable } from './asking';
import { useStore } from './store';

const MAC = /Mac|iP(hone|ad)/.test(navigator.platform);
const EXAMPLE = '{"delay":"40ms","fault":{"kind":"reset","after":20}}';

export function Ask({ asking }: { asking: Asking }) {
  const { models, usual, model, templates, template, problem, sending } = useStore(asking.form);
  const form = useRef<HTMLFormElement>(null), mock = useRef<HTMLDetailsElement>(null);
  const { draft } = asking;
  const chosen = templates.find(({ name }) => name === template);

  const field = problem?.field ?? '';
  const wrong = (name: string) => (problem && field.startsWith(name) ? { 'aria-invalid': true } as const : {});
  useLayoutEffect(() => {
    if (!problem) return;
    const input = form.current?.querySelector<HTMLElement>('[aria-invalid]');
    if (input?.id === 'options' && mock.current) mock.current.open = true;
    input?.focus();
  }, [problem]);
  useEffect(() => {
    if (mock.current) mock.current.open = Boolean(draft.options);
  }, []);

  const send = (e: Event) => {
    e.preventDefault();
    if (!form.current) return;
    const { prompt, ...rest } = Object.fromEntries([...new FormData(form.current)].map(([name, value]) => [name, String(value)]));
    const filled = Object.entries(rest).filter(([name]) => name.startsWith('var '));
    const variables = Object.fromEntries(filled.map(([name, value]) => [name.slice(4), value]));
    const kept = prompt ?? asking.draft.prompt ?? ''; // behind a template it is not in the form
    Object.assign(asking.draft, { prompt: kept, model: rest.model ?? '', options: rest.options ?? '', template: rest.template ?? '', variables });
    void asking.ask({ ...asking.draft });
  };

  return (
    <form id="ask" class="card" ref={form} onSubmit={send}
      onKeyDown={(e) => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) send(e); }}>
      {chosen ? <Variables key={chosen.name} template={chosen} given={draft.variables ?? {}} wrong={wrong} /> : (
        <>
          <label for="prompt">Prompt</label>
          <textarea id="prompt" name="prompt" rows={3} placeholder="Ask something" aria-describedby="problem" defaultValue={draft.prompt ?? ''}
            onInput={(e) => { draft.prompt = e.currentTarget.value; }} {...wrong('prompt')} />
        </>
      )}
      <div class="row">
        <label for="model">Model</label>
        <select id="model" name="model" value={model} onChange={(e) => asking.form.set({ model: e.currentTarget.value })} {...wrong('model')}>
          {!usual && <option value="">default</option>}
          {models.map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
        {templates.length > 0 && (
          <span id="pick">
            <label for="template">Template</label>
            <select id="template" name="template" value={template} onChange={(e) => asking.form.set({ template: e.currentTarget.value })}>
              <option value="">none</option>
              {templates.map(({ name }) => <option key={name} value={name}>{name}</option>)}
            </select>
          </span>
        )}
        <span class="grow" />
        <kbd class="hint">{MAC ? '⌘ ⏎' : 'Ctrl ⏎'}</kbd>
        <button type="submit" id="send" class="primary" disabled={sending}>Send</button>
      </div>
      <details id="mock" ref={mock}>
        <summary>Mock options</summary>
        <label for="options">JSON for the mock backend: what it says, how fast, and what goes wrong</label>
        <textarea id="options" name="options" rows={2} spellcheck={false} autocapitalize="off" autocomplete="off" aria-describedby="problem"
          placeholder={EXAMPLE} defaultValue={draft.options ?? ''} {...wrong('backend_options')} />
      </details>
      <p id="problem" class="problem" role="alert">{problem?.words ?? ''}</p>
    </form>
  );
}

type Wrong = (name: string) => { 'aria-invalid'?: true };

/** What a template is filled with: first what it needs. */
function Variables({ template, given, wrong }: { template: Template; given: Record<string, string>; wrong: Wrong }) {
  const must = (about: Variable) => about.default === undefined;
  const all = Object.entries(template.variables ?? {}).sort(([, one], [, other]) => Number(must(other)) - Number(must(one)));
  return (
    <>
      {template.description && <p class="about">{template.description}</p>}
      <div id="variables">
        {all.map(([name, about]) => (
          <div key={name} class={must(about) ? 'must' : ''}>
            <label for={`var-${name}`}>{name}{about.description && `: ${about.description}`}</label>
            <Field name={name} about={about} given={given[name] ?? ''} wrong={wrong(`variables.${name}`)} />
          </div>
        ))}
      </div>
    </>
  );
}

function Field({ name, about, given, wrong }: { name: string; about: Variable; given: string; wrong: ReturnType<Wrong> }) {
  const all = { id: `var-${name}`, name: `var ${name}`, 'aria-describedby': 'problem', ...wrong };
  const usual = about.default === undefined ? '' : String(about.default);
  if (about.choices) {
    return (
      <select {...all}>
        {usual === '' && <option value="" />}
        {about.choices.map(String).map((one) => <option key={one} value={one} selected={one === (given || usual)}>{one}</option>)}
      </select>
    );
  }
  return <textarea {...all} rows={name === 'text' || name === 'code' ? 2 : 1} defaultValue={given} placeholder={usual} />;
}
