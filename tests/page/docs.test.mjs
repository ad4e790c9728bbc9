// The API's page in a real browser: it draws all that the description has.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './browser.mjs';
import { startGateway } from './gateway.mjs';

let gateway, browser;
before(async () => {
  gateway = await startGateway();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});

for (const [name, viewport] of [['desktop', { width: 1280, height: 800 }], ['phone', { width: 360, height: 740 }]]) {
  test(`every_operation_is_drawn_with_its_example_on_a_${name}`, { timeout: 60_000 }, async (t) => {
    const context = await browser.newContext({ viewport, permissions: ['clipboard-read', 'clipboard-write'] });
    t.after(() => context.close());
    const logged = [];
    context.on('console', (message) => message.type() === 'error' && logged.push(message.text()));
    context.on('weberror', (error) => logged.push(String(error.error())));
    const page = await context.newPage();
    const described = await (await page.request.get(new URL('/openapi.json', gateway.url).href)).json();
    const operations = Object.values(described.paths).flatMap((item) => Object.values(item));
    await page.goto(new URL('/docs#read_events', gateway.url).href);
    await page.locator('main[aria-busy=false]').waitFor();
    assert.equal(await page.locator('article').count(), operations.length);
    for (const { operationId, summary, parameters = [], responses } of operations) {
      const article = page.locator(`#${operationId}`);
      const text = await article.textContent();
      for (const shown of [summary, ...parameters.map(({ name: parameter }) => parameter)]) assert.ok(text.includes(shown), `${operationId}: ${shown}`);
      for (const status of Object.keys(responses)) assert.ok(text.includes(status === 'default' ? 'else' : status), `${operationId}: ${status}`);
      assert.ok((await article.locator('pre').textContent()).startsWith('curl '), operationId);
    }
    assert.ok(await page.locator('#read_events').evaluate((it) => it.getBoundingClientRect().top < innerHeight), 'what the URL names is in view');
    const example = page.locator('#create_stream .example');
    await example.getByRole('button').click();
    await example.getByText('Copied').waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await example.locator('pre').textContent());
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), viewport.width, 'nothing is wider than the screen');
    assert.deepEqual(logged, [], 'errors in the console');
  });
}
