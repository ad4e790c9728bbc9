// Draws /openapi.json: what can be called, what it takes, what it gives, and a command line for each.

const METHODS = ['post', 'get', 'head', 'delete'];

/** An element with attributes and children; a text is text, never HTML. */
function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) element.setAttribute(key, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text with `code` in it. */
function prose(text = '') {
  return text.split(/`([^`]+)`/).map((piece, at) => (at % 2 ? el('code', {}, piece) : piece));
}

/** Looks up what a `$ref` names. */
function follow(all, schema = {}) {
  return schema.$ref ? all.components.schemas[schema.$ref.split('/').pop()] : schema;
}

/** The schema without its null: absent is what null would mean. */
function bare(all, schema = {}) {
  const some = schema.oneOf?.filter((one) => one.type !== 'null');
  return some?.length === 1 ? { ...schema, ...follow(all, some[0]), oneOf: undefined } : follow(all, schema);
}

function typeOf(all, schema) {
  const it = bare(all, schema);
  if (it.enum) return it.enum.map((one) => JSON.stringify(one)).join(' | ');
  if (it.oneOf) return it.oneOf.map((one) => typeOf(all, one)).join(' | ');
  const types = [it.type ?? (it.allOf ? 'object' : 'any')].flat().filter((one) => one !== 'null');
  if (types.includes('array')) return `${typeOf(all, it.items)}[]`;
  const bounds = it.minimum !== undefined && it.maximum !== undefined ? ` ${it.minimum} to ${it.maximum}` : '';
  return types.join(' | ') + bounds;
}

/** The members of an object, also of one that is made of several. */
function members(all, schema) {
  const it = bare(all, schema);
  const parts = (it.allOf ?? []).map((part) => members(all, part));
  const required = [...(it.required ?? []), ...parts.flatMap((part) => part.required)];
  const properties = Object.assign({}, ...parts.map((part) => part.properties), it.properties);
  return { properties, required };
}

function fields(all, schema, depth = 0) {
  const { properties, required } = members(all, schema);
  const rows = Object.entries(properties);
  if (!rows.length) return null;
  return el('dl', { class: 'fields' }, rows.map(([name, of]) => {
    const inner = bare(all, of);
    const deeper = depth < 2 ? fields(all, inner.items ? inner.items : inner, depth + 1) : null;
    return el('div', {},
      field(name, typeOf(all, of), required.includes(name)),
      el('dd', {}, prose(of.description ?? inner.description),
        deeper && el('details', {}, el('summary', {}, 'its members'), deeper)));
  }));
}

function field(name, type, required) {
  return el('dt', {}, el('span', { class: 'name' }, name), el('span', { class: 'type' }, type + (required ? ', required' : '')));
}

function parameters(all, operation) {
  if (!operation.parameters?.length) return null;
  return [el('h4', {}, 'Parameters'), el('dl', { class: 'fields' }, operation.parameters.map((parameter) => el('div', {},
    field(parameter.name, `${parameter.in}, ${typeOf(all, parameter.schema)}`, parameter.required),
    el('dd', {}, prose(parameter.description)))))];
}

function body(all, operation) {
  const asked = operation.requestBody;
  if (!asked) return null;
  const json = asked.content['application/json']?.schema;
  return [el('h4', {}, 'Body'), el('p', {}, prose(asked.description)),
    el('p', { class: 'type' }, Object.keys(asked.content).join(', ')), json && fields(all, json)];
}

function answers(all, operation) {
  return [el('h4', {}, 'Answers'), el('dl', { class: 'fields' }, Object.entries(operation.responses).map(([status, answer]) => {
    const content = Object.entries(answer.content ?? {});
    const shape = content.map(([, { schema }]) => schema && fields(all, schema)).find(Boolean);
    return el('div', {},
      el('dt', {}, el('span', { class: 'name' }, status === 'default' ? 'else' : status),
        el('span', { class: 'type' }, content.map(([kind]) => kind).join(', '))),
      el('dd', {}, prose(answer.description), shape && el('details', {}, el('summary', {}, 'its members'), shape)));
  }))];
}

function example(operation) {
  const line = operation['x-codeSamples']?.[0]?.source.replaceAll('127.0.0.1:8080', location.host);
  if (!line) return null;
  const button = el('button', { type: 'button' }, 'Copy');
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(line);
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
  return el('div', { class: 'example' }, el('pre', {}, el('code', {}, line)), navigator.clipboard ? button : null);
}

function badge(method) {
  return el('span', { class: `method ${method}` }, method.toUpperCase());
}

function draw(all) {
  const found = Object.entries(all.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })));
  const contents = document.getElementById('contents');
  const page = document.getElementById('operations');
  page.append(el('div', { id: 'about', class: 'card' }, all.info.description.split('\n\n').map((text) => el('p', {}, prose(text)))));
  for (const tag of all.tags) {
    const own = found.filter(({ operation }) => operation.tags.includes(tag.name));
    contents.append(el('h2', {}, tag.name), el('ul', {}, own.map(({ path, method, operation }) =>
      el('li', {}, el('a', { href: `#${operation.operationId}` }, badge(method), ` ${path}`)))));
    page.append(el('section', { 'aria-label': tag.name }, el('div', {}, el('h2', {}, tag.name), el('p', {}, prose(tag.description))),
      own.map(({ path, method, operation }) => el('article', { id: operation.operationId, class: 'card' },
        el('h3', {}, badge(method), el('code', {}, path), el('span', {}, operation.summary)),
        el('p', {}, prose(operation.description)), example(operation),
        parameters(all, operation), body(all, operation), answers(all, operation)))));
  }
  page.setAttribute('aria-busy', 'false');
  // What the URL names is here only now.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  const response = await fetch('openapi.json');
  if (!response.ok) throw new Error(`openapi.json: ${response.status}`);
  draw(await response.json());
} catch (error) {
  document.getElementById('operations').append(el('p', { class: 'problem', role: 'alert' }, `The description cannot be read: ${error.message}`));
}
