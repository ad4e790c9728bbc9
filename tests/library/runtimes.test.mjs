// The library in Node; in the long form in Deno and Bun, too, which `tests/run full` installs: cut again and again, streaming and polling.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startGateway } from '../page/gateway.mjs';
import { startRelay } from './relay.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const RUNTIMES = { node: ['node'] };
if (process.env.LASTWORD_TEST === 'full') {
  Object.assign(RUNTIMES, { deno: [here('runtimes/node_modules/.bin/deno'), 'run', '-A', '--no-lock'], bun: [here('runtimes/node_modules/.bin/bun'), 'run'] });
}

let gateway;
before(async () => { gateway = await startGateway({ LASTWORD_SERVER__RETRY_MIN: '1ms', LASTWORD_SERVER__RETRY_MAX: '10ms' }); });
after(() => gateway?.stop());

for (const [runtime, command] of Object.entries(RUNTIMES)) {
  for (const transport of ['stream', 'poll']) {
    test(`${runtime}_${transport}`, { timeout: 60_000 }, async (t) => {
      const relay = await startRelay(gateway.url, (came, number) => (number < 8 ? 300 + 60 * number - came : Infinity));
      t.after(() => relay.stop());
      const { stdout } = await promisify(execFile)(command[0], [...command.slice(1), here('runtimes/one.mjs'), relay.url, transport]);
      const { id, text, told, status } = JSON.parse(stdout);
      const state = await (await fetch(`${gateway.url}/v1/streams/${id}`)).json();
      assert.deepEqual([text, told, status], [state.text, state.text, 'completed']);
      assert.ok(text.length > 100 && relay.cuts >= 4, `${relay.cuts} cuts`);
    });
  }
}
