// What the tests here share: a lastword whose models do what is wanted, an application, a page in a browser, a way that cuts.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
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

export const full = process.env.LASTWORD_TEST === 'full';
export const versions = ['5', '6', '7'];
export const here = (name) => fileURLToPath(new URL(name, import.meta.url));

/** What the model `slow/words` says: with what must be escaped, and more than one byte a character. */
export const TEXT = 'The "river"\nruns 🦀 é down to the sea, word by word, and nobody loses one of them.';

/** The settings of one mock, as variables. */
const mock = (name, options) =>
  Object.entries({ kind: 'mock', ...options }).map(([key, value]) => [`LASTWORD_BACKENDS__${name}__${key}`.toUpperCase(), String(value)]);

const models = Object.fromEntries([
  ...mock('slow', { text: TEXT, delay: '40ms' }),
  ...mock('fast', { text: TEXT, delay: '1ms' }),
  ...mock('long', { text: TEXT, delay: '20ms', repeat: 200 }),
  ...mock('tool', { text: 'Looking. ', delay: '1ms', tool_call: '{ name = "look", arguments = { at = "the sea" } }' }),
  ...mock('fails', { text: TEXT, delay: '10ms', fault: '{ kind = "error", after = 5, message = "out of tea" }' }),
]);

/** A lastword with these models; `relay` is the origin of an application whose paths go through it. */
export function startLastword({ relay, ...variables } = {}) {
  const application = relay && {
    LASTWORD_BACKENDS__APP__KIND: 'relay', LASTWORD_BACKENDS__APP__URL: relay,
    LASTWORD_BACKENDS__APP__PATHS: '["/api/chat", "/*"]',
  };
  return startGateway({ ...models, ...application, LASTWORD_DEFAULT_MODEL: 'slow/words', LASTWORD_SERVER__CORS: '["*"]', LASTWORD_SERVER__DRAIN: '100ms', ...variables });
}

/** An application of this version; `kill()` ends it as a crash does. */
export async function startApp(version, model) {
  const child = spawn(process.execPath, [here('app.mjs'), version, model], { stdio: ['ignore', 'pipe', 'ignore'] });
  const end = () => child.kill('SIGKILL');
  process.once('exit', end);
  const [port] = await once(createInterface({ input: child.stdout }), 'line');
  return {
    url: `http://127.0.0.1:${port}`,
    async kill() {
      process.off('exit', end);
      const gone = once(child, 'exit');
      end();
      await gone;
    },
  };
}

/** The same route in Next.js, built and started as in production. */
export async function startNext(model) {
  const cwd = here('next'), next = join(cwd, 'node_modules/next/dist/bin/next');
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', MODEL_URL: model };
  const [code] = await once(spawn(process.execPath, [next, 'build'], { cwd, env, stdio: 'ignore' }), 'exit');
  if (code !== 0) throw new Error('next build failed; run it in tests/ai-sdk/next');
  const child = spawn(process.execPath, [next, 'start', '-H', '127.0.0.1', '-p', '0'], { cwd, env, stdio: ['ignore', 'pipe', 'ignore'] });
  const end = () => child.kill('SIGKILL');
  process.once('exit', end);
  for await (const line of createInterface({ input: child.stdout })) {
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
    if (url) return { url, kill: () => (process.off('exit', end), end()) };
  }
  throw new Error('next did not start');
}

/** The page with the hooks of this version, at a URL; what it asks goes to `api`. */
export async function startPage(version) {
  const of = createRequire(here(`node_modules/react${version}/package.json`));
  const folder = (name, from) => join(from.resolve(`${name}/package.json`), '..');
  const { outputFiles } = await build({
    entryPoints: [here('page.jsx')], bundle: true, write: false, format: 'esm', jsx: 'automatic', logLevel: 'error',
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
    at: (api, id, model) => `http://127.0.0.1:${server.address().port}/?${new URLSearchParams({ api: `${api}/api/chat`, id, model })}`,
    stop: () => server.close(),
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
