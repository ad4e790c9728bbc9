// The library as an npm package: what is in it, how large it is, that its types are those of its code, and its React hook.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { transformSync } from 'esbuild';
import { startGateway } from '../page/gateway.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const CLIENT = here('../../web/client');

let gateway;
before(async () => {
  gateway = await startGateway();
  // Packed, and installed as an application has it.
  const folder = mkdtempSync(join(tmpdir(), 'lastword-pack-'));
  execFileSync('npm', ['pack', '--silent', '--offline', '--pack-destination', folder], { cwd: CLIENT });
  rmSync(here('node_modules/lastword'), { recursive: true, force: true });
  mkdirSync(here('node_modules/lastword'));
  execFileSync('tar', ['-xzf', join(folder, readdirSync(folder)[0]), '--strip-components=1', '-C', here('node_modules/lastword')]);
  rmSync(folder, { recursive: true });
});
after(() => gateway?.stop());

test('the_package_has_what_belongs_to_it_and_no_dependency', async () => {
  const files = ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'lastword.d.ts', 'lastword.js', 'package.json', 'react.d.ts', 'react.js'];
  assert.deepEqual(readdirSync(here('node_modules/lastword')).sort(), files);
  assert.equal(JSON.parse(readFileSync(`${CLIENT}/package.json`)).dependencies, undefined);
  const { ask } = await import('lastword');
  const answer = ask({ prompt: 'x', model: 'mock/words', backend_options: { text: 'Once.', delay: '0ms' } }, { url: gateway.url });
  assert.equal((await answer.done()).status, 'completed');
  assert.equal(answer.text, 'Once.');
});

test('minified_and_packed_it_is_at_most_6_KB', () => {
  const { code } = transformSync(readFileSync(`${CLIENT}/lastword.js`, 'utf8'), { minify: true, format: 'esm' });
  const size = gzipSync(code, { level: 9 }).length;
  console.log(`lastword.js: ${size} bytes`);
  assert.ok(size <= 6 * 1024, `${size} bytes`);
});

test('the_types_are_those_of_the_code', () => {
  const out = mkdtempSync(join(tmpdir(), 'lastword-types-'));
  const tsc = (...more) => execFileSync(here('node_modules/.bin/tsc'), more, { cwd: here('.'), encoding: 'utf8', stdio: 'pipe' });
  tsc('-p', '.', '--outDir', out);
  for (const file of ['lastword.d.ts', 'react.d.ts']) {
    const remedy = `run \`npm run types\` in tests/library`;
    assert.equal(readFileSync(`${CLIENT}/${file}`, 'utf8'), readFileSync(join(out, file), 'utf8'), `${file}: ${remedy}`);
  }
  rmSync(out, { recursive: true });
  // As an application in TypeScript uses them; a mistake in it is found.
  tsc('--noEmit', '--strict', '--skipLibCheck', 'false', '--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler', 'typed.ts');
});

test('a_react_component_reads_leaves_and_comes_back', { timeout: 30_000 }, async () => {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
  const { createElement, act, StrictMode } = await import('react');
  const { create } = await import('react-test-renderer');
  const { useAnswer } = await import('lastword/react');
  const request = { prompt: 'x', model: 'mock/words', backend_options: { text: 'One two three four five.', delay: '10ms' } };
  let hook;
  function Component({ id }) {
    hook = useAnswer(id, { url: gateway.url });
    return createElement('p', null, hook.text);
  }
  const shown = (id) => createElement(StrictMode, null, createElement(Component, { id }));
  const until = async (what) => {
    while (!what()) await act(() => new Promise((ok) => { setTimeout(ok, 1); }));
  };
  let page;
  await act(() => { page = create(shown()); });
  assert.deepEqual([hook.text, hook.state], ['', 'idle']);
  let asked;
  await act(() => { asked = hook.ask(request); });
  await until(() => hook.text.length > 0);
  await act(() => page.unmount());
  await new Promise(setImmediate);
  assert.equal(asked.state, 'paused');

  await act(() => { page = create(shown(asked.id)); });
  await until(() => hook.state === 'ended');
  assert.deepEqual(page.toJSON().children, [request.backend_options.text]);
  const { streams } = await (await fetch(`${gateway.url}/v1/streams`)).json();
  assert.equal(streams.filter(({ model }) => model === 'mock/words').length, 2, 'each answer was asked for once, in strict mode too');
  await act(() => page.unmount());
});
