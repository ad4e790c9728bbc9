// What the tests here share: a lastword whose models do what is wanted, applications, a page in a browser, a way that cuts.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import http from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import puppeteer from 'puppeteer-core';
import { startGateway } from '../page/gateway.mjs';

export { startRelay } from '../library/relay.mjs';

process.setMaxListeners(100); // each process that is started has one

export const full = process.env.LASTWORD_TEST === 'full';
export const versions = ['5', '6', '7'];
export const here = (name) => fileURLToPath(new URL(name, import.meta.url));

/** What is said, with what must be escaped and more than one byte a character; and the part of it before a gate. */
export const HALF = 'The "river"\nruns 🦀 é down to';
export const TEXT = `${HALF} the sea, word by word, and nobody loses one of them.`;

/** The same in few words, for what is done at each of its bytes. */
export const BRIEF = 'The "river"\nruns 🦀 é.';

/** The settings of one backend, as variables. */
const backend = (name, options) =>
  Object.entries(options).map(([key, value]) => [`LASTWORD_BACKENDS__${name}__${key}`.toUpperCase(), String(value)]);

const mocks = Object.fromEntries(Object.entries({
  slow: { text: TEXT, delay: '20ms' },
  fast: { text: TEXT, delay: '0ms' },
  brief: { text: BRIEF, delay: '0ms' },
  thinks: { text: TEXT, delay: '0ms', reasoning: `Let me see. ${TEXT}` },
  tool: { text: 'Looking. ', delay: '0ms', tool_call: '{ name = "look", arguments = { at = "the sea" } }' },
  fails: { text: TEXT, delay: '0ms', fault: '{ kind = "error", after = 5, message = "out of tea" }' },
  breaks: { text: TEXT, delay: '0ms', fault: '{ kind = "reset", after = 5 }' },
  refuses: { text: TEXT, delay: '0ms', fault: '{ kind = "error", after = 0, message = "no tea" }' },
}).flatMap(([name, options]) => backend(name, { kind: 'mock', ...options })));

/**
 * A lastword with these models. `gate` is the origin of a gated model; `relay` the URL of an application, whose paths go through it: all of
 * them where the URL has none of its own, else `/api/chat`.
 */
export function startLastword({ relay, gate, ...variables } = {}) {
  const paths = relay && (new URL(relay).pathname === '/' ? '["/api/chat", "/*"]' : '["/api/chat"]');
  return startGateway({
    ...mocks, LASTWORD_DEFAULT_MODEL: 'slow/words', LASTWORD_SERVER__CORS: '["*"]', LASTWORD_SERVER__DRAIN: '100ms',
    ...Object.fromEntries(relay ? backend('app', { kind: 'relay', url: relay, paths }) : []),
    ...Object.fromEntries(gate ? backend('gate', { kind: 'openai', base_url: `${gate}/v1` }) : []),
    ...variables,
  });
}

/**
 * A model that says half of it, and the rest when it may: so a test is in the middle of an answer for as long as it wants to be. A prompt
 * names its gate: `gate:NAME`. With `gate:NAME!` it says nothing before. `asked` waits for a request of that gate's name.
 */
export async function startModel() {
  const gates = new Map();
  const gate = (name) => {
    if (!gates.has(name)) {
      let open, ask;
      const opened = new Promise((resolve) => { open = resolve; });
      const asked = new Promise((resolve) => { ask = resolve; });
      gates.set(name, { open, opened, ask, asked });
    }
    return gates.get(name);
  };
  const pieces = (text) => text.match(/\s*\S+/g);
  const server = http.createServer(async (request, response) => {
    let body = '';
    for await (const bytes of request) body += bytes;
    const [, name, first] = /gate:([\w.-]+)(!?)/.exec(body) ?? [];
    if (name) gate(name).ask(JSON.parse(body));
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const say = (choice, more) => response.write(`data: ${JSON.stringify({
      id: 'c', object: 'chat.completion.chunk', created: 1, model: 'words', choices: choice ? [{ index: 0, finish_reason: null, ...choice }] : [], ...more,
    })}\n\n`);
    say({ delta: { role: 'assistant', content: '' } });
    if (name && first) await gate(name).opened;
    for (const content of pieces(HALF)) say({ delta: { content } });
    if (name) await gate(name).opened;
    for (const content of pieces(TEXT.slice(HALF.length))) say({ delta: { content } });
    say({ delta: {}, finish_reason: 'stop' });
    say(null, { usage: { prompt_tokens: 2, completion_tokens: 17, total_tokens: 19 } });
    response.end('data: [DONE]\n\n');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    open: (name) => gate(name).open(),
    asked: (name) => gate(name).asked,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** A process that says where it listens; `kill()` ends it as a crash does. */
async function startServer(words, { find, ...options }) {
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const end = () => child.kill('SIGKILL');
  process.once('exit', end);
  const said = [];
  child.stderr.on('data', (bytes) => said.push(bytes));
  const gone = once(child, 'exit');
  const lines = createInterface({ input: child.stdout });
  const listens = new Promise((resolve) => lines.on('line', (line) => {
    said.push(`${line}\n`);
    const port = find.exec(line)?.[1];
    if (port) resolve(port);
  }));
  const port = await Promise.race([listens, gone.then(() => null)]);
  if (!port) throw new Error(`${words.join(' ')} did not start: ${said.join('')}`);
  return {
    url: `http://127.0.0.1:${port}`,
    async kill() {
      process.off('exit', end);
      end();
      await gone;
    },
  };
}

/** An application of this version, in Express. */
export const startExpress = (version, model) => startServer([here('app.mjs'), version, model], { find: /^(\d+)$/ });

const nextEnv = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' };
const nextBin = here('node_modules/next/dist/bin/next');

/** Builds the application in Next.js for production, where it was not since it was changed. By one at a time. */
export async function buildNext() {
  const cwd = here('next');
  if (await isBuilt(cwd)) return;
  const child = spawn(process.execPath, [nextBin, 'build'], { cwd, env: nextEnv, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = [];
  for (const out of [child.stdout, child.stderr]) out.on('data', (bytes) => said.push(bytes));
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`next build: ${Buffer.concat(said)}`);
}

/** It, of all versions. `next start` is one process here: no child of it outlives it. */
export const startNext = (model) => startServer([nextBin, 'start', '--hostname', '127.0.0.1', '--port', '0'], {
  cwd: here('next'), env: { ...nextEnv, MODEL_URL: model }, find: /Local:\s+http:\/\/[^:]+:(\d+)/,
});

async function isBuilt(folder) {
  const built = (await stat(join(folder, '.next/BUILD_ID')).catch(() => null))?.mtimeMs;
  if (!built) return false;
  const names = (await readdir(folder, { recursive: true })).filter((name) => !name.startsWith('.next'));
  const times = await Promise.all([...names.map((name) => join(folder, name)), here('package-lock.json')].map((path) => stat(path)));
  return times.every((time) => time.isDirectory() || time.mtimeMs < built);
}

/** The page with the hooks of this version, at a URL, or another that is built on them; what it asks goes to `api`. */
export async function startPage(version, name = 'page.jsx') {
  const of = createRequire(here(`node_modules/react${version}/package.json`));
  const folder = (name, from) => join(from.resolve(`${name}/package.json`), '..');
  const { outputFiles } = await build({
    entryPoints: [here(name)], bundle: true, write: false, minify: true, format: 'esm', jsx: 'automatic', logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"' },
    alias: { '@ai-sdk/react': here(`node_modules/react${version}`), ai: folder('ai', of), react: here('node_modules/react') },
  });
  const script = outputFiles[0].contents;
  const html = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><div id="root"></div><script type="module" src="/page.js"></script>';
  const server = http.createServer((request, response) => {
    const [type, body] = request.url === '/page.js' ? ['text/javascript', script] : ['text/html', html];
    response.writeHead(200, { 'content-type': type }).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    at: (api, id, model, gate = id) => `http://127.0.0.1:${server.address().port}/?${new URLSearchParams({ api: `${api}/api/chat`, id, model, gate })}`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

export const launch = () => puppeteer.launch({
  browser: 'chrome', executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

/** A folder that is gone with the test. */
export async function folder() {
  const path = await mkdtemp(join(tmpdir(), 'lastword-ai-sdk-'));
  return { path, gone: () => rm(path, { recursive: true, force: true }) };
}
