// axe-core finds nothing wrong with the pages, light and dark, on a desktop and on a phone.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { startGateway } from '../page/gateway.mjs';
import { launch } from './way.mjs';

const TEXT = '# Rivers\n\nA *river* [arrives](https://example.com/).\n\n1. one\n   - two\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n> quoted\n\n'
  + '```js\nlet code = "a line that is so long that on a phone it can only be seen by scrolling to the side, by keyboard too";\n```\n\n- [x] done `it`\n';
const AXE = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

describe('Chromium', () => {
  let browser, gateway;
  before(async () => {
    browser = await launch('Chromium');
    gateway = await startGateway({ LASTWORD_BACKENDS__MOCK__KIND: 'mock', LASTWORD_BACKENDS__MOCK__REASONING: 'Let me see.',
      LASTWORD_BACKENDS__MOCK__TEXT: TEXT });
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
  });

  for (const scheme of ['light', 'dark']) {
    for (const [device, viewport] of [['a desktop', { width: 1280, height: 800 }], ['a phone', { width: 390, height: 844, isMobile: true, hasTouch: true }]]) {
      test(`${scheme}, on ${device}`, async (t) => {
        const context = await browser.createBrowserContext();
        t.after(() => context.close());
        const page = await context.newPage();
        page.setDefaultTimeout(20_000);
        await page.setViewport(viewport);
        await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
        const faults = async () => {
          await page.evaluate(AXE);
          const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
          return violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map((node) => node.html).join(' ')}`);
        };
        const until = (such) => page.waitForFunction(such, { polling: 20 });

        await page.goto(gateway.url);
        await until(() => document.querySelectorAll('#model option').length > 0);
        assert.deepEqual(await faults(), [], 'before anything is asked');
        await page.type('#prompt', 'What do you say?');
        await page.click('#send');
        await until(() => document.getElementById('state').textContent === 'Completed');
        assert.deepEqual(await faults(), [], 'with an answer');
        await page.select('#template', 'translate');
        await page.waitForSelector('#variables');
        assert.deepEqual(await faults(), [], 'with a template');
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than the screen');
        await page.click('#share');
        await page.waitForSelector('#shared[open]');
        assert.deepEqual(await faults(), [], 'with a dialog');
        await page.goto(`${gateway.url}/dashboard`);
        await until(() => document.querySelectorAll('#backends td').length > 0);
        assert.deepEqual(await faults(), [], 'the dashboard');
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than the screen');
        await page.goto(`${gateway.url}/docs`);
        await until(() => document.body.textContent.includes('/v1/streams'));
        assert.deepEqual(await faults(), [], 'the description');
      });
    }
  }
});
