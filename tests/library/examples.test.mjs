// Every example of `web/examples/` and of the library's README, as it stands there, on a line that is cut in mid-answer.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { buildSync } from 'esbuild';
import typescript from 'typescript';
import { launch } from '../page/browser.mjs';
import { startGateway } from '../page/gateway.mjs';
import { startRelay } from './relay.mjs';

const ADDRESS = 'http://127.0.0.1:8080';
const TEXT = Array.from({ length: 80 }, (_, i) => `word${i}`).join(' ');
const folder = new URL('../../web/examples/', import.meta.url);
const example = (name) => readFileSync(new URL(name, folder), 'utf8');
const run = promisify(execFile);

let gateway, browser;
before(async () => {
  gateway = await startGateway({
    LASTWORD_BACKENDS__MOCK__KIND: 'mock', LASTWORD_BACKENDS__MOCK__TEXT: TEXT, LASTWORD_BACKENDS__MOCK__DELAY: '5ms',
    LASTWORD_SERVER__RETRY_MIN: '10ms', LASTWORD_SERVER__RETRY_MAX: '20ms',
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});

/** A line that is cut once, in the middle of the first answer that is as long as none of the others. */
async function cutOnce(t) {
  let cut = false;
  const relay = await startRelay(gateway.url, (came) => {
    if (cut || came < 1500) return Infinity;
    cut = true;
    return 10;
  });
  t.after(() => relay.stop());
  return relay;
}

/** What a CDN would give. */
function packaged(name) {
  const contents = `export * from '${name}'; ${name === 'event-source-polyfill' ? `export { EventSourcePolyfill } from '${name}';` : ''}`;
  const { outputFiles } = buildSync({ stdin: { contents, resolveDir: fileURLToPath(new URL('.', import.meta.url)) }, bundle: true, format: 'esm', write: false });
  return outputFiles[0].text;
}

for (const name of readdirSync(folder).filter((name) => name.endsWith('.html'))) {
  test(name, { timeout: 60_000 }, async (t) => {
    const relay = await cutOnce(t);
    const context = await browser.newContext();
    t.after(() => context.close());
    await context.route('**/as-pasted', (route) => route.fulfill({ contentType: 'text/html', body: example(name) }));
    await context.route('https://esm.sh/**', (route) => {
      const asked = new URL(route.request().url()).pathname.slice(1), [, module, version] = /^(.+)@([\d.]+)$/.exec(asked);
      const tested = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8')).devDependencies[module];
      assert.equal(version, tested, 'the version that is tested here');
      return route.fulfill({ contentType: 'text/javascript', headers: { 'access-control-allow-origin': '*' }, body: packaged(module) });
    });
    const page = await context.newPage();
    const wrong = [];
    page.on('pageerror', (error) => wrong.push(String(error)));
    await page.goto(`${relay.url}/as-pasted`);
    const whole = () => page.waitForFunction((text) => document.getElementById('answer').textContent === text, TEXT, { timeout: 20_000 });
    await whole();
    assert.equal(relay.cuts, 1);
    if (name === 'library.html') {
      await page.reload();
      await whole();
      const { streams } = await (await fetch(`${gateway.url}/v1/streams?limit=1`)).json();
      assert.equal(new URL(page.url()).hash, `#${streams[0].id}`, 'none was asked for after the reload');
    }
    assert.deepEqual(wrong, []);
  });
}

for (const [name, ...command] of [['curl.sh', 'bash', '-c'], ['python.py', 'python3', '-c']]) {
  test(name, { timeout: 60_000 }, async (t) => {
    const relay = await cutOnce(t);
    const script = example(name);
    assert.ok(script.includes(ADDRESS));
    const { stdout } = await run(command[0], [command[1], script.replaceAll(ADDRESS, relay.url)], { encoding: 'utf8' });
    assert.equal(stdout.trimEnd(), TEXT);
    assert.equal(relay.cuts, 1);
  });
}

for (const [name, run] of [['push.py', (text) => ['python3', ['-c', text]]], ['push.ts', (text) => {
  const { outputText } = typescript.transpileModule(text, { compilerOptions: { module: 'esnext', target: 'esnext' } });
  return ['node', ['--input-type=module', '-e', outputText]];
}]]) {
  test(name, { timeout: 60_000 }, async (t) => {
    const own = await startGateway(); // the mock of the others is the only backend that is named there
    t.after(() => own.stop());
    const [command, words] = run(example(name).replaceAll(ADDRESS, own.url));
    const { stdout } = await promisify(execFile)(command, words, { encoding: 'utf8' });
    assert.equal(stdout.trimEnd(), 'Rivers carry water.');
  });
}

test('the_readmes_have_the_same_and_each_of_their_blocks_runs', { timeout: 60_000 }, async () => {
  const blocks = (file, language) => [...readFileSync(new URL(file, import.meta.url), 'utf8').matchAll(/^```(\w+)\n(.*?)^```/gms)]
    .filter(([, is]) => is === language).map(([, , text]) => text);
  assert.deepEqual(blocks('../../README.md', 'html'), [example('library.html'), example('eventsource.html')]);
  assert.equal(blocks('../../README.md', 'python')[0], example('python.py'));
  assert.deepEqual(blocks('../../docs/applications.md', 'python'), [example('push.py')]);
  assert.deepEqual(blocks('../../docs/applications.md', 'ts'), [example('push.ts')]);

  const [use, renew] = blocks('../../web/client/README.md', 'js');
  const at = use.replaceAll(ADDRESS, gateway.url).replace('"lastword"', JSON.stringify(new URL('../../web/client/lastword.js', import.meta.url).href));
  assert.notEqual(at, use);
  const { stdout } = await run('node', ['--input-type=module', '-e', at]);
  const said = stdout.trimEnd().split('\n');
  assert.deepEqual([said[0].split(' ')[0], said.at(-2), said.at(-1)], ['start', `end ${TEXT}`, 'completed']);
  assert.match(renew, /^read\(id, \{ token: async/);
});
