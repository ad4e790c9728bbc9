// A lastword of its own for a test: on a free port, in memory where nothing else is said, in an empty folder, gone with the test.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const BINARY = process.env.LASTWORD_BIN ?? fileURLToPath(new URL('../../target/debug/lastword', import.meta.url));

/** Starts it; `url` is where it listens, `stop()` ends it, `restart()` kills it with SIGKILL, or the signal, and starts another in its place. */
export async function startGateway(variables = {}) {
  const cwd = await mkdtemp(join(tmpdir(), 'lastword-page-'));
  const env = { PATH: process.env.PATH, LASTWORD_STORE__ENGINE: 'memory', ...variables };
  let one = await start(cwd, env, '127.0.0.1:0');
  const { url } = one;
  return {
    url,
    async stop() {
      await one.stop();
      await rm(cwd, { recursive: true });
    },
    async restart(signal) {
      await one.stop(signal);
      one = await start(cwd, env, new URL(url).host);
    },
  };
}

async function start(cwd, env, listen) {
  const child = spawn(BINARY, ['serve', '--listen', listen], { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] });
  const gone = Promise.race([once(child, 'exit'), once(child, 'error')]);
  const end = () => child.kill('SIGKILL');
  process.once('exit', end); // also when the test never gets to its own end
  const interrupted = () => process.exit(1);
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, interrupted);
  const stop = async (signal = 'SIGKILL') => {
    child.kill(signal);
    await gone.catch(() => {});
    process.off('exit', end);
    for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, interrupted);
  };

  const lines = createInterface({ input: child.stderr });
  const said = [];
  const listens = new Promise((resolve) => lines.on('line', (line) => {
    said.push(line);
    const url = /listening on (https?:\S+)/.exec(line)?.[1];
    if (url) resolve(url);
  }));
  const url = await Promise.race([listens, gone.then(() => null)]).catch((error) => said.push(String(error)) && null);
  if (url === null) {
    await stop();
    throw new Error(`${BINARY} did not start; \`cargo build\` makes it. It said: ${said.join('\n')}`);
  }
  return { url, stop };
}
