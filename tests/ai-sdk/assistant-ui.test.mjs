// assistant-ui in a browser: its own transport goes on by the answer's id, which it has from the head (`x-resumable-stream-id`) and keeps in the tab.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { HALF, TEXT, launch, startExpress, startLastword, startModel, startPage, startRelay } from './way.mjs';
import { Shown } from './shown.mjs';

let browser, gate, model, page;

before(async () => {
  gate = await startModel();
  [browser, model, page] = await Promise.all([launch(), startLastword({ gate: gate.url }), startPage('7', 'assistant.jsx')]);
});

after(async () => {
  await browser?.close();
  page?.stop();
  await model?.stop();
  gate?.stop();
});

for (const behind of ['lastword itself', 'an application behind it']) {
  describe(`assistant-ui, with ${behind}`, () => {
    let app, lastword, breaking, shown, id;
    const direct = behind === 'lastword itself';
    const pending = () => shown.tab.evaluate(() => sessionStorage.getItem('aui-resumable-stream-id'));
    const asked = () => shown.tab.$$eval('li.user', (all) => all.length);

    before(async () => {
      app = direct ? null : await startExpress('7', model.url);
      lastword = app ? await startLastword({ relay: app.url }) : model;
      breaking = await startRelay(lastword.url);
    });

    // What is to be resumed is kept in the tab: a tab for each test.
    beforeEach(async () => { shown = await Shown.in(browser); });
    afterEach(() => shown?.close());

    after(async () => {
      breaking?.stop();
      await app?.kill();
      if (app) await lastword?.stop();
    });

    /** Asks, and waits for the middle of the answer; gives its id. */
    async function asks(name) {
      id = `${name}-${direct ? 'direct' : 'behind'}`;
      await shown.tab.goto(page.at(breaking.url, id, 'gate/words'), { waitUntil: 'domcontentloaded' });
      await shown.until([], 'ready');
      const answer = await shown.send();
      await shown.until([HALF], 'streaming');
      return answer;
    }

    /** Likewise, and cuts the connection there. */
    async function broken(name) {
      const answer = await asks(name);
      breaking.breakAll();
      await shown.until([HALF], 'error');
      assert.ok(!(await shown.statuses()).includes('ready'), 'what there is of it is shown as all');
      assert.equal(await pending(), answer);
      return answer;
    }

    it('has the whole answer, once, when it is loaded anew behind a cut', async () => {
      const answer = await broken('reload');
      const resumes = shown.tab.waitForRequest((request) => request.url().endsWith('/stream'), { timeout: 10_000 });
      const [request, status] = await Promise.all([resumes, shown.reload()]);
      assert.deepEqual([new URL(request.url()).pathname, status], [`/api/chat/${answer}/stream`, 200]);
      await shown.until([HALF], 'streaming');
      gate.open(id);
      await shown.until([TEXT], 'ready');
      assert.deepEqual([await asked(), await pending()], [1, null], 'there is nothing to go on with');
      await shown.tab.reload({ waitUntil: 'domcontentloaded' });
      await shown.until([], 'ready');
    });

    it('has it, too, when it asks for it without being loaded, in the place of what it had', async () => {
      await broken('again');
      assert.equal(await shown.resumed(() => shown.click('#resume')), 200);
      await shown.until([HALF], 'streaming');
      gate.open(id);
      await shown.until([TEXT], 'ready');
      assert.deepEqual([await asked(), await pending()], [1, null]);
    });

    it('has it also when it ended while the page was away', async () => {
      const answer = await broken('away');
      gate.open(id);
      await (await fetch(`${lastword.url}/v1/streams/${answer}/events`)).text();
      assert.equal(await shown.reload(), 200);
      await shown.until([TEXT], 'ready');
      assert.deepEqual([await asked(), await pending()], [1, null]);
    });

    if (!direct) {
      // The last: nothing answers behind it.
      it('is told of an application that is killed in mid-answer, with what it said, once', async () => {
        await asks('killed');
        await app.kill();
        await shown.until([HALF], 'error');
        assert.ok(!(await shown.statuses()).includes('ready'), 'what there is of it is shown as all');
      });
    } else {
      it("tells the model of the page's tools", async () => {
        await asks('tools');
        gate.open(id);
        const parameters = { type: 'object', properties: { at: { type: 'string' } } };
        assert.deepEqual((await gate.asked(id)).tools, [{ type: 'function', function: { name: 'look', description: 'Looks.', parameters } }]);
      });
    }
  });
}
