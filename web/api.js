// The gateway's native API, as far as this page needs it. Knows HTTP and problem+json; knows nothing of the page.
// Addresses are relative, so that the page also works under a path of a reverse proxy.

/** A refusal, or no answer at all (`status` 0). `words` is what to tell a person. */
export class Problem extends Error {
  constructor({ status = 0, code, title, detail, field, remedy }) {
    const words = [title, detail, remedy].filter((part, i, all) => part && all.indexOf(part) === i).map(sentence).join(' ');
    super(words);
    Object.assign(this, { status, code, field, words });
  }
}

/** With a capital and a full stop. */
export const sentence = (text) => `${text}`.replace(/^\p{Ll}/u, (c) => c.toUpperCase()).replace(/[^.!?…]$/u, '$&.');

async function call(path, init) {
  let response, body;
  try {
    response = await fetch(path, { cache: 'no-store', ...init });
    body = await response.text();
  } catch {
    throw new Problem({ title: 'The gateway did not answer', remedy: 'Is it running, and are you online?' });
  }
  let json = null;
  try { json = JSON.parse(body); } catch { /* not ours: a proxy's page, or nothing */ }
  if (response.ok && json) return json;
  const title = response.ok ? 'The answer was not JSON' : `The gateway answered ${response.status} ${response.statusText}`.trim();
  throw new Problem({ title, ...(response.ok ? {} : json), status: response.status });
}

const post = (path, body) =>
  call(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

const path = (id) => `v1/streams/${encodeURIComponent(id)}`;

export const create = (request) => post('v1/streams', request);
export const cancel = (id) => post(`${path(id)}/cancel`, {});
export const state = (id) => call(path(id));
export const models = () => call('v1/models');
export const eventsPath = (id) => `${path(id)}/events`;
