// useChat of three versions in a browser: at lastword's own /api/chat, and at an application behind lastword.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TEXT, full, launch, startApp, startLastword, startNext, startPage, startRelay, versions } from './way.mjs';

let browser, model;

before(async () => {
  [browser, model] = await Promise.all([launch(), startLastword()]);
});

after(async () => {
  await browser?.close();
  await model?.stop();
});

for (const version of versions) {
  const next = version === '7' && full ? ['a Next.js route behind it'] : [];
  for (const behind of ['lastword itself', 'an application behind it', ...next]) {
    describe(`useChat of version ${version}, with ${behind}`, () => {
      let app, lastword, relay, page, tab, errors, count = 0, id;

      before(async () => {
        if (behind === 'lastword itself') lastword = model;
        else {
          app = next.includes(behind) ? await startNext(model.url) : await startApp(version, model.url);
          lastword = await startLastword({ relay: app.url });
        }
        relay = await startRelay(lastword.url);
        page = await startPage(version);
      });

      after(async () => {
        relay?.stop();
        page?.stop();
        await app?.kill();
        if (lastword !== model) await lastword?.stop();
      });

      async function open(model) {
        id = `chat-${version}-${behind.length}-${(count += 1)}`;
        tab = await browser.newPage();
        errors = [];
        tab.on('pageerror', (error) => errors.push(String(error)));
        tab.on('console', (line) => line.type() === 'error' && errors.push(line.text()));
        await tab.goto(page.at(relay.url, id, model));
        await tab.waitForSelector('#send');
        return tab;
      }
      const status = (of = tab) => of.$eval('#status', (element) => element.textContent);
      const answers = (of = tab) => of.$$eval('li.assistant', (all) => all.map((one) => one.textContent));
      const until = (condition, of = tab) => of.waitForFunction(condition, { timeout: 20_000, polling: 50 });
      const half = (of = tab) => until(() => /river/.test(document.querySelector('li.assistant')?.textContent), of);
      const ready = (of = tab) => until(() => document.querySelector('#status').textContent === 'ready' && document.querySelector('li.assistant'), of);

      it('shows an answer once, whole, also after a reload in its middle', async () => {
        await open('slow/words');
        await tab.click('#send');
        await half();
        await tab.reload();
        await half();
        assert.notDeepEqual(await answers(), [TEXT], 'it was reloaded in the middle');
        await ready();
        assert.deepEqual(await answers(), [TEXT]);
        assert.deepEqual(errors, []);
        await tab.reload();
        await until(() => document.querySelector('#status')?.textContent === 'ready');
        assert.deepEqual(await answers(), [], 'nothing runs any more: what was answered is the application to keep');
        await tab.close();
      });

      it('shows it in a second tab', async () => {
        const first = await open('slow/words');
        await tab.click('#send');
        await half();
        const second = await browser.newPage();
        await second.goto(first.url());
        await Promise.all([ready(first), ready(second)]);
        assert.deepEqual([await answers(first), await answers(second)], [[TEXT], [TEXT]]);
        await Promise.all([first.close(), second.close()]);
      });

      it('is told of a connection that broke, and has it all after a reload', async () => {
        await open('slow/words');
        await tab.click('#send');
        await half();
        relay.breakAll();
        await until(() => document.querySelector('#status').textContent === 'error');
        assert.notDeepEqual(await answers(), [TEXT]);
        await tab.reload();
        await ready();
        assert.deepEqual(await answers(), [TEXT]);
        await tab.close();
      });

      it('stops it, and there is nothing to resume then', async () => {
        await open('long/words');
        await tab.click('#send');
        await half();
        await tab.click('#stop');
        await until(() => document.querySelector('#status').textContent === 'ready');
        const resumed = tab.waitForResponse((response) => response.url().endsWith('/stream'));
        await tab.reload();
        assert.equal((await resumed).status(), 204);
        const streams = await (await fetch(`${lastword.url}/v1/streams?limit=1`)).json();
        assert.equal(streams.streams[0].status, 'cancelled');
        await tab.close();
      });

      it('goes on in the same message when a tool has given its result', async () => {
        await open('tool/words');
        await tab.click('#send');
        await until(() => /of them\.$/.test(document.querySelector('li.assistant')?.textContent));
        await ready();
        assert.deepEqual(await answers(), [`Looking. ${TEXT}`]);
        const parts = await tab.evaluate(() => globalThis.chat.messages.at(-1).parts.find((part) => part.type === 'tool-look'));
        assert.deepEqual([parts.state, parts.input, parts.output], ['output-available', { at: 'the sea' }, { seen: { at: 'the sea' } }]);
        assert.deepEqual(errors, []);
        await tab.close();
      });

      it('is told of a failure in mid-answer', async () => {
        await open('fails/words');
        await tab.click('#send');
        await until(() => document.querySelector('#status').textContent === 'error');
        assert.match(await tab.$eval('#error', (element) => element.textContent), /out of tea/);
        assert.equal(await status(), 'error');
        await tab.close();
      });
    });
  }
}
