// The library in Node, Chromium and Firefox; in the long form in Deno and Bun, too, which `tests/run full` installs: cut again and again,
// streaming and polling.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { launch, names } from '../browsers/way.mjs';
import { startGateway } from '../page/gateway.mjs';
import { startRelay } from './relay.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const RUNTIMES = { node: ['node'] };
if (process.env.LASTWORD_TEST === 'full') {
  Object.assign(RUNTIMES, { deno: [here('runtimes/node_modules/.bin/deno'), 'run', '-A', '--no-lock'], bun: [here('runtimes/node_modules/.bin/bun'), 'run'] });
}

let gateway;
before(async () => {
  gateway = await startGateway({ LASTWORD_SERVER__RETRY_MIN: '1ms', LASTWORD_SERVER__RETRY_MAX: '10ms', LASTWORD_SERVER__CORS: '["*"]' });
});
after(() => gateway?.stop());

const TRANSPORTS = ['stream', 'poll'];

/** An answer as this runtime reads it on a line that is cut: it has all, each piece once. */
async function holds(t, transport, read) {
  const relay = await startRelay(gateway.url, (came, number) => (number < 8 ? 300 + 60 * number - came : Infinity));
  t.after(() => relay.stop());
  const { id, text, told, status } = await read(relay.url, transport);
  const state = await (await fetch(`${gateway.url}/v1/streams/${id}`)).json();
  assert.deepEqual([text, told, status], [state.text, state.text, 'completed']);
  assert.ok(text.length > 100 && relay.cuts >= 4, `${relay.cuts} cuts`);
}

for (const [runtime, command] of Object.entries(RUNTIMES)) {
  for (const transport of TRANSPORTS) {
    test(`${runtime}_${transport}`, { timeout: 60_000 }, (t) => holds(t, transport, async (url) => {
      const { stdout } = await promisify(execFile)(command[0], [...command.slice(1), here('runtimes/one.mjs'), url, transport]);
      return JSON.parse(stdout);
    }));
  }
}

for (const name of names) {
  for (const transport of TRANSPORTS) {
    test(`${name}_${transport}`, { timeout: 60_000 }, async (t) => {
      const browser = await launch(name);
      t.after(() => browser.close());
      const page = await browser.newPage();
      // The page (one without a policy) and the module come by the way that is sound; its answer, from another origin, by the one that is cut.
      await page.goto(`${gateway.url}/healthz`);
      await holds(t, transport, (url) => page.evaluate(async (url, transport) => {
        const { ask } = await import('/lastword.js');
        const request = { prompt: 'x', model: 'mock/words', backend_options: { delay: '2ms' } };
        const answer = ask(request, { url, transport, backoff: [2, 20], attempts: 100 }), told = [];
        for await (const { name, data } of answer) if (name === 'message') told.push(data.text);
        return { id: answer.id, text: answer.text, told: told.join(''), status: answer.end.status };
      }, url, transport));
    });
  }
}
