// The dashboard: the metrics as they change, and what runs.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGateway } from '../page/gateway.mjs';
import { launch, names } from './way.mjs';

for (const name of names) {
  describe(name, () => {
    let browser;
    before(async () => { browser = await launch(name); });
    after(() => browser?.close());

    test('it shows what runs, stops it, and is there again when the server is', async (t) => {
      const gateway = await startGateway({ LASTWORD_STORE__ENGINE: 'disk', LASTWORD_SERVER__RETRY_MIN: '20ms', LASTWORD_SERVER__RETRY_MAX: '60ms' });
      t.after(() => gateway.stop());
      const context = await browser.createBrowserContext();
      t.after(() => context.close());
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      const errors = [];
      page.on('pageerror', (error) => errors.push(String(error)));
      await page.setViewport({ width: 1280, height: 800 });
      await page.goto(`${gateway.url}/dashboard`);
      const until = (such, ...more) => page.waitForFunction(such, { polling: 50 }, ...more);
      const plot = (caption, such) => until((caption, such) => {
        const figure = [...document.querySelectorAll('.plot')].find((it) => it.querySelector('figcaption').textContent.startsWith(caption));
        const text = figure.querySelector('output').textContent;
        return such === 'some' ? Number(text) > 0 : text === such;
      }, caption, such);
      await until(() => document.getElementById('state').textContent === 'Live');

      const body = JSON.stringify({ prompt: 'x', model: 'mock/words', backend_options: { repeat: 100000, delay: '20ms' } });
      const ask = async () => (await (await fetch(`${gateway.url}/v1/streams`, { method: 'POST', body, headers: { 'content-type': 'application/json' } })).json()).id;
      const [one, two] = [await ask(), await ask()];
      const reading = new AbortController();
      t.after(() => reading.abort());
      await fetch(`${gateway.url}/v1/streams/${one}/events`, { signal: reading.signal });
      await plot('Answers that run', '2');
      await plot('Readers', '1');
      await plot('Tokens', 'some');
      await until(() => document.querySelectorAll('#running tr').length === 2);
      const link = await page.$eval(`#running a[href$="${two}"]`, (it) => it.href);
      assert.equal(link, `${gateway.url}/#${two}`);
      if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/dashboard-${name}.png` });

      await page.click(`#running button[aria-label="Stop ${one.slice(-12)}"]`);
      await until(() => document.querySelectorAll('#running tr').length === 1);
      await plot('Answers that run', '1');
      const row = () => page.$$eval('#backends td', (cells) => cells.map((cell) => cell.textContent));
      await until(() => document.querySelectorAll('#backends td').length === 5);
      assert.deepEqual(await row(), ['mock', '0', '0', '1', '0']);

      await gateway.restart();
      await until(() => document.getElementById('state').textContent === 'Live' && document.querySelectorAll('#running tr').length === 0);
      await plot('Answers that run', '0');
      assert.deepEqual(errors, []);
    });

    test('where a key is needed it says where it is asked for', async (t) => {
      const gateway = await startGateway({ LASTWORD_AUTH__KEYS__WEB__HASH: `sha256:${'0'.repeat(64)}` });
      t.after(() => gateway.stop());
      const page = await (await browser.createBrowserContext()).newPage();
      await page.goto(`${gateway.url}/dashboard`);
      await page.waitForFunction(() => document.getElementById('trouble').textContent.includes('sign in'), { polling: 50, timeout: 20_000 });
    });
  });
}
