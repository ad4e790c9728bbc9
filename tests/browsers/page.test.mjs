// The page where a key is needed, and where the browser has no connection left.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { BINARY, startGateway } from '../page/gateway.mjs';
import { launch, names } from './way.mjs';

for (const name of names) {
  describe(name, () => {
    let browser;
    before(async () => { browser = await launch(name); });
    after(() => browser?.close());

    const text = (page, id) => page.$eval(`#${id}`, (element) => element.textContent);
    const until = (page, id, words) => page.waitForFunction((id, words) => document.getElementById(id).textContent.includes(words), { polling: 20 }, id, words);

    async function profile(t) {
      const context = await browser.createBrowserContext();
      t.after(() => context.close());
      return async (url) => {
        const page = await context.newPage();
        page.setDefaultTimeout(20_000);
        await page.goto(url);
        return page;
      };
    }

    async function ask(page, prompt) {
      await page.type('#prompt', prompt);
      await page.click('#send');
    }

    test('it asks for a key once, keeps it nowhere, and then everything works by the cookie', async (t) => {
      const key = JSON.parse((await promisify(execFile)(BINARY, ['keys', 'new', 'web', '--json'])).stdout);
      const gateway = await startGateway({ LASTWORD_AUTH__KEYS__WEB__HASH: key.hash, LASTWORD_BACKENDS__MOCK__KIND: 'mock', LASTWORD_BACKENDS__MOCK__DELAY: '20ms' });
      t.after(() => gateway.stop());
      const open = await profile(t);
      const page = await open(gateway.url);
      await page.waitForSelector('#sign-in[open]');
      await page.type('#key', 'wrong');
      await page.keyboard.press('Enter');
      await until(page, 'key-problem', 'The key is not known here');
      await page.$eval('#key', (input) => { input.value = ''; });
      await page.type('#key', key.key);
      await page.keyboard.press('Enter');
      await page.waitForSelector('#sign-in:not([open])');
      await page.waitForFunction(() => document.querySelectorAll('#model option').length > 0, { polling: 20 });
      await ask(page, 'What do you say?');
      await until(page, 'state', 'Live');
      await page.click('#stop');
      await until(page, 'state', 'Stopped');
      await until(page, 'proof', 'Identical to the log');
      assert.equal(await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage }).replace(/.*/, (all) => (all.includes('lw_') ? all : ''))), '');
      // Another tab, and a reload, are signed in.
      const other = await open(page.url());
      await until(other, 'state', 'Stopped');
      assert.equal(await other.$('#sign-in[open]'), null);
      // Who is not signed in any more is asked again, and reads on.
      await page.evaluate(() => fetch('v1/session', { method: 'DELETE' }));
      await page.reload();
      await page.waitForSelector('#sign-in[open]');
      await page.type('#key', key.key);
      await page.keyboard.press('Enter');
      await until(page, 'state', 'Stopped');
    });

    test('a template is picked, filled in and asked with', async (t) => {
      const gateway = await startGateway();
      t.after(() => gateway.stop());
      const page = await (await profile(t))(gateway.url);
      await page.waitForFunction(() => document.querySelectorAll('#template option').length > 1, { polling: 20 });
      await page.select('#model', 'mock/echo');
      await page.select('#template', 'translate');
      await page.waitForSelector('#var-text');
      await page.type('#var-text', 'The river goes on.');
      await page.click('#send');
      await page.waitForFunction(() => document.activeElement.id === 'var-to', { polling: 20 }); // the one that is missing
      assert.match(await text(page, 'problem'), /\bto\b/);
      await page.type('#var-to', 'Latin');
      await page.select('#var-tone', 'formal');
      await page.click('#send');
      await until(page, 'proof', 'Identical to the log');
      assert.match(await text(page, 'said'), /The river goes on\./);
      assert.equal(await text(page, 'problem'), '');
      // It is all there again after a reload.
      await page.reload();
      await page.waitForSelector('#var-tone');
      assert.deepEqual(await page.evaluate(() => ['text', 'to', 'tone'].map((name) => document.getElementById(`var-${name}`).value)),
        ['The river goes on.', 'Latin', 'formal']);
    });

    test('a link that is shared reads one answer, without a key, and nothing else', async (t) => {
      const key = JSON.parse((await promisify(execFile)(BINARY, ['keys', 'new', 'web', '--json'])).stdout);
      const gateway = await startGateway({ LASTWORD_AUTH__KEYS__WEB__HASH: key.hash, LASTWORD_BACKENDS__MOCK__KIND: 'mock', LASTWORD_BACKENDS__MOCK__DELAY: '100ms' });
      t.after(() => gateway.stop());
      const open = await profile(t);
      const page = await open(gateway.url);
      await page.waitForSelector('#sign-in[open]');
      await page.type('#key', key.key);
      await page.keyboard.press('Enter');
      await page.waitForFunction(() => document.querySelectorAll('#model option').length > 0, { polling: 20 });
      await ask(page, 'What do you say?');
      await until(page, 'state', 'Live');
      await page.click('#share');
      await page.waitForSelector('#shared[open]');
      const link = await page.$eval('#link', (input) => input.value);
      assert.match(link, /^http:[^#]+#[0-9a-f]{32}\?token=[\w.-]+$/);
      assert.ok(!link.includes(key.key.slice(3, 20)));

      const stranger = await (await profile(t))(link);
      await until(stranger, 'state', 'Live');
      assert.equal(await stranger.$('#sign-in[open]'), null);
      assert.equal(await stranger.$eval('#stop', (button) => button.disabled), true);
      await page.keyboard.press('Enter'); // Done
      await page.click('#stop');
      await until(stranger, 'state', 'Stopped');
      await until(stranger, 'proof', 'Identical to the log');
      const { hash } = new URL(link);
      const elsewhere = await stranger.evaluate((hash) => fetch(`v1/streams?${hash.split('?')[1]}`).then((response) => response.status), hash);
      assert.equal(elsewhere, 403);
    });

    test('it says why it waits where other tabs hold the six connections of HTTP/1.1', async (t) => {
      const gateway = await startGateway({ LASTWORD_BACKENDS__MOCK__KIND: 'mock', LASTWORD_BACKENDS__MOCK__DELAY: '5ms' });
      t.after(() => gateway.stop());
      const open = await profile(t);
      const page = await open(gateway.url);
      await page.waitForFunction(() => document.querySelectorAll('#model option').length > 0, { polling: 20 });
      const other = await open(`${gateway.url}/docs`);
      const body = JSON.stringify({ prompt: 'x', model: 'mock/words', backend_options: { repeat: 100000, delay: '20ms' } });
      const { id } = await (await fetch(`${gateway.url}/v1/streams`, { method: 'POST', body, headers: { 'content-type': 'application/json' } })).json();
      await other.evaluate((id) => {
        window.six = Array.from({ length: 6 }, () => new EventSource(`/v1/streams/${id}/events`));
      }, id);
      await other.waitForFunction(() => window.six.every((source) => source.readyState === 1), { polling: 20 });
      await page.bringToFront();
      await ask(page, 'What do you say?');
      // Firefox has a few more connections for what somebody clicks on, so there nobody waits.
      if (name !== 'Firefox') {
        await until(page, 'problem', 'in all tabs together');
        await other.evaluate(() => window.six.pop().close());
      }
      await until(page, 'state', 'Completed');
      assert.equal(await text(page, 'problem'), '');
      assert.equal(await text(page, 'trouble'), '');
    });
  });
}
