// A stand-in for the gateway while the page is made: the native API over logs in memory, faults included.
// backend_options: {text, delay, fault: {kind: "reset"|"error"|"drop", after}, events: [[name, data], …]}
//   reset, error: the upstream breaks, the answer fails; drop: the readers' connections break once.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';

const WEB = new URL('../../web/', import.meta.url);
const TYPES = { html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', svg: 'image/svg+xml' };
const TEXT = `A river does not remember the stones it has passed, and yet every stone is rounder for it. So it is with words that come one at a time: each is gone as soon as it is said, unless someone wrote it down.\n\nThat is all this gateway does. It writes every word down before it shows it, gives it a number, and when you come back and say the last number you have seen, it goes on with the next.\n\nNothing is said twice, and nothing is left out.`;
const streams = new Map();

const ms = (delay = '40ms') => Number.parseFloat(delay) * (/[^m]s$/.test(delay) ? 1000 : 1);
const wakes = (s) => { for (const wake of s.readers) wake(); };

function append(s, name, data, frames = null) {
  s.cursor += 1;
  s.log.push({ id: s.cursor, frames: frames ?? [[name, data]] });
  if (name === 'message') s.text += data.text;
  wakes(s);
}

function end(s, status, extra = {}) {
  if (s.status !== 'running') return;
  const usage = { input_tokens: s.prompt.split(/\s+/).length, output_tokens: s.log.length - 1 };
  Object.assign(s, { status, ended_at: new Date().toISOString(), usage, ...extra });
  append(s, 'end', { status, ...(status === 'completed' ? { reason: 'stop' } : {}), usage, ...extra });
}

function start(body) {
  const o = body.backend_options ?? {};
  const id = randomUUID();
  const s = { id, prompt: body.prompt, model: body.model ?? 'mock/words', backend: 'mock', created_at: new Date().toISOString(), status: 'running', cursor: 3, text: '', log: [], readers: new Set(), sockets: new Set(), t0: Date.now() };
  streams.set(id, s);
  const said = (o.text ?? TEXT).match(/\s*\S+\s*?(?=\s|$)|\s+$/g) ?? [];
  const plan = [...(o.events ?? []), ...said.map((text) => ['message', { text }])];
  let n = 0;
  const step = () => {
    if (s.status !== 'running') return;
    if (o.fault?.after === n) {
      if (o.fault.kind === 'drop') for (const socket of s.sockets) socket.destroy();
      else return end(s, 'failed', { error: { code: 'upstream_reset', message: `The upstream broke off after ${n} tokens.`, retryable: true } });
    }
    if (n === plan.length) return end(s, 'completed');
    const [name, data, frames] = plan[n++];
    s.first ??= Date.now() - s.t0;
    append(s, name, data, frames);
    if (ms(o.delay) > 0) setTimeout(step, ms(o.delay)); else n % 50 ? step() : setImmediate(step);
  };
  setTimeout(step, ms(o.delay));
  return s;
}

const view = (s) => ({ id: s.id, status: s.status, model: s.model, backend: s.backend, created_at: s.created_at, ended_at: s.ended_at, cursor: s.cursor, text: s.text, usage: s.usage, error: s.error, attempts: [], timings: { first_token_ms: s.first } });
const at = (s) => `/v1/streams/${s.id}/events`;

function send(res, status, body, headers = {}) {
  res.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json', ...headers });
  res.end(JSON.stringify(body));
}
const refuse = (res, status, code, title, detail, more) => send(res, status, { type: 'about:blank', title, status, code, detail, ...more });

function events(req, res, s, url) {
  let cursor = req.headers['last-event-id'] || url.searchParams.get('after') || null;
  const fresh = cursor === null;
  cursor = fresh ? 0 : Number(String(cursor).split('-').at(-1));
  const last = s.log.at(-1);
  if (!fresh && s.status !== 'running' && cursor === last.id) return res.writeHead(204).end();
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store, no-transform' });
  req.socket.setNoDelay(true);
  s.sockets.add(req.socket);
  const frame = (name, data, id, retry) => `${name === 'message' ? '' : `event: ${name}\n`}data: ${JSON.stringify(data)}\n${retry ? `retry: ${retry}\n` : ''}${id === null ? '' : `id: ${id}\n`}\n`;
  if (fresh) res.write(frame('start', { id: s.id, model: s.model, created_at: s.created_at, events_url: at(s) }, 0, 500));
  else if (Number.isNaN(cursor) || cursor > s.cursor) {
    cursor = Number.isNaN(cursor) ? 0 : s.cursor - (s.status === 'running' ? 0 : 1);
    res.write(frame('reset', { reason: 'ahead', after: cursor }, null));
  } else res.write(':\n');
  let i = s.log.findIndex((r) => r.id > cursor);
  if (i < 0) i = s.log.length;
  const wake = () => {
    for (; i < s.log.length; i += 1) {
      const { id, frames } = s.log[i];
      res.write(frames.map(([name, data], n) => frame(name, data, n === frames.length - 1 ? id : null)).join(''));
      if (frames.at(-1)[0] === 'end') { s.readers.delete(wake); return res.end(); }
    }
  };
  s.readers.add(wake);
  res.on('close', () => { s.readers.delete(wake); s.sockets.delete(req.socket); });
  wake();
}

async function answer(req, res) {
  const url = new URL(req.url, 'http://localhost');
  const [, v1, kind, id, verb] = url.pathname.split('/');
  if (v1 !== 'v1') {
    const name = url.pathname === '/' ? 'index.html' : url.pathname.slice(1);
    const file = await readFile(new URL(name, WEB)).catch(() => null);
    if (!file) return refuse(res, 404, 'not_found', 'Not found', `There is no ${name}.`);
    res.writeHead(200, { 'content-type': TYPES[name.split('.').at(-1)], 'content-security-policy': "default-src 'self'" });
    return res.end(file);
  }
  if (kind === 'models') return send(res, 200, { object: 'list', data: [{ id: 'mock/words', object: 'model' }, { id: 'fast' }], default: 'mock/words' });
  if (req.method === 'POST' && !id) {
    let body = '';
    for await (const chunk of req) body += chunk;
    body = JSON.parse(body);
    if (/^refuse/.test(body.prompt)) return refuse(res, 400, 'bad_request', 'The request is not valid', 'There is no fault of the kind "flood".', { field: 'backend_options.fault.kind', remedy: 'Use reset, stall or error.' });
    const s = start(body);
    return send(res, 201, { ...view(s), events_url: at(s) }, { location: `/v1/streams/${s.id}`, 'x-stream-id': s.id });
  }
  const s = streams.get(id);
  if (!s) return refuse(res, 404, 'unknown_stream', 'No such stream', `There is no stream ${id}.`);
  if (verb === 'events') return events(req, res, s, url);
  if (verb === 'cancel') { end(s, 'cancelled'); return send(res, 200, view(s)); }
  return send(res, 200, view(s));
}

const port = Number(process.env.PORT ?? 8091);
createServer((req, res) => answer(req, res).catch((e) => { console.error(e); res.destroy(); })).listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}`));
