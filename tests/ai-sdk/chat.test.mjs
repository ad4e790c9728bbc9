// useChat of three versions in a browser: at lastword's own /api/chat, and at applications behind lastword.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { HALF, TEXT, buildNext, full, launch, startExpress, startLastword, startModel, startNext, startPage, startRelay, versions } from './way.mjs';
import { Shown } from './shown.mjs';

let browser, gate, model;
const pages = {};
const applications = {
  'lastword itself': async () => ({ lastword: model }),
  'an application in Express': async (version) => {
    const app = await startExpress(version, model.url);
    return { app, lastword: await startLastword({ relay: app.url, gate: gate.url }) };
  },
  'an application in Next.js': async (version) => {
    const app = await startNext(model.url);
    return { app, lastword: await startLastword({ relay: `${app.url}/${version}/api/chat`, gate: gate.url }) };
  },
};

before(async () => {
  gate = await startModel();
  [browser, model] = await Promise.all([launch(), startLastword({ gate: gate.url })]);
  if (full) await buildNext();
  for (const version of versions) pages[version] = await startPage(version);
});

after(async () => {
  await browser?.close();
  await model?.stop();
  gate?.stop();
  for (const page of Object.values(pages)) page.stop();
});

describe('useChat', { concurrency: 5 }, () => {
  for (const version of versions) {
    for (const [name, start] of Object.entries(applications)) {
      if (!full && name.endsWith('Next.js')) continue; // its build takes long
      describe(`of version ${version}, with ${name}`, { concurrency: 1 }, () => {
        let app, lastword, relay, breaking, shown, count = 0, id;

        before(async () => {
          ({ app, lastword } = await start(version));
          relay = await startRelay(lastword.url);
          shown = await Shown.in(browser);
        });

        after(async () => {
          await shown?.close();
          relay?.stop();
          await app?.kill();
          if (lastword !== model) await lastword?.stop();
        });

        afterEach(() => breaking?.stop());

        async function open(model, { way = relay, gate = '', more = '' } = {}) {
          id = `chat-${version}-${name.split(" ").at(-1)}-${(count += 1)}`;
          await shown.go(pages[version].at(way.url, id, model, id + gate) + more);
        }

        const state = async (id) => (await fetch(`${lastword.url}/v1/streams/${id}`)).json();
        /** Its state, when it has ended: an application tells an error before that. */
        const ended = async (id) => (await (await fetch(`${lastword.url}/v1/streams/${id}/events`)).text(), state(id));

        it('shows an answer once, whole, also after reloads in its middle', async () => {
          await open('gate/words');
          await shown.send();
          await shown.until([HALF], 'streaming');
          for (let times = 0; times < 2; times += 1) {
            assert.equal(await shown.reload(), 200);
            await shown.until([HALF], 'streaming');
          }
          gate.open(id);
          await shown.until([TEXT], 'ready');
          assert.equal(await shown.reload(), 204, 'nothing runs any more');
          await shown.until([], 'ready');
          assert.deepEqual(shown.errors, []);
        });

        it('shows it also after a reload before its first word', async () => {
          await open('gate/words', { gate: '!' });
          await shown.click('#send');
          await gate.asked(id);
          await shown.until(null, 'submitted');
          assert.equal(await shown.reload(), 200);
          gate.open(id);
          await shown.until([TEXT], 'ready');
          assert.deepEqual(shown.errors, []);
        });

        it('shows it in two tabs', async () => {
          await open('gate/words');
          await shown.send();
          await shown.until([HALF], 'streaming');
          const second = await Shown.in(browser);
          await second.tab.goto(shown.tab.url(), { waitUntil: 'domcontentloaded' });
          await second.until([HALF], 'streaming');
          gate.open(id);
          await Promise.all([shown.until([TEXT], 'ready'), second.until([TEXT], 'ready')]);
          assert.deepEqual([...shown.errors, ...second.errors], []);
          await second.close();
        });

        it('is told of a connection that broke, and has it all after a reload', async () => {
          breaking = await startRelay(lastword.url);
          await open('gate/words', { way: breaking });
          await shown.send();
          await shown.until([HALF], 'streaming');
          breaking.breakAll();
          await shown.until([HALF], 'error');
          assert.equal(await shown.reload(), 200);
          await shown.until([HALF], 'streaming');
          gate.open(id);
          await shown.until([TEXT], 'ready');
          assert.ok(shown.errors.every((line) => /net::ERR_/.test(line)), shown.errors.join('\n'));
        });

        for (const [way, more, now] of {
          5: [['for the rest of it', '&count', 'submitted']],
          6: [['for the rest of it', '&count', 'submitted'], ['for it again, with a chat of its own', '&own', 'streaming']],
          7: [['for it again', '', 'streaming']],
        }[version]) {
          it(`has it all, too, when the page asks ${way}`, async () => {
            breaking = await startRelay(lastword.url);
            await open('gate/words', { way: breaking, more });
            await shown.send();
            await shown.until([HALF], 'streaming');
            breaking.breakAll();
            await shown.until([HALF], 'error');
            assert.equal(await shown.resumed(() => shown.click('#resume')), 200);
            await shown.until([HALF], now);
            gate.open(id);
            await shown.until([TEXT], 'ready');
          });
        }

        it('puts it in the place of what the page has kept of it', async () => {
          await open('gate/words', { more: '&keep' });
          await shown.send();
          await shown.until([HALF], 'streaming');
          assert.equal(await shown.reload(), 200);
          await shown.until([HALF], 'streaming');
          gate.open(id);
          await shown.until([TEXT], 'ready');
          assert.deepEqual(shown.errors, []);
        });

        it('stops it, and there is nothing to resume then', async () => {
          await open('gate/words');
          const answer = await shown.send();
          await shown.until([HALF], 'streaming');
          await shown.click('#stop');
          await shown.until([HALF], 'ready');
          await shown.tab.waitForSelector('[data-stopped]');
          assert.equal((await state(answer)).status, 'cancelled');
          assert.equal(await shown.reload(), 204);
          gate.open(id);
          await shown.until([], 'ready');
          assert.deepEqual(shown.errors, []);
        });

        it('goes on in the same message when a tool has given its result', async () => {
          await open('tool/words');
          await shown.send();
          await shown.until([`Looking. ${HALF}`], 'streaming');
          gate.open(id);
          await shown.until([`Looking. ${TEXT}`], 'ready');
          const part = await shown.tab.evaluate(() => globalThis.chat.messages.at(-1).parts.find((part) => part.type === 'tool-look'));
          assert.deepEqual([part.state, part.input, part.output], ['output-available', { at: 'the sea' }, { seen: { at: 'the sea' } }]);
          assert.deepEqual(shown.errors, []);
        });

        it('shows one message also after a reload behind a tool', async () => {
          await open('tool/words');
          await shown.send();
          await shown.until([`Looking. ${HALF}`], 'streaming');
          assert.equal(await shown.reload(), 200);
          // The hook puts what it resumes in the place of the message of this id, without what that had before.
          await shown.until([HALF], 'streaming');
          gate.open(id);
          await shown.until([TEXT], 'ready');
          assert.deepEqual(shown.errors, []);
        });

        it('is told of a failure in mid-answer', async () => {
          await open('fails/words');
          const answer = await shown.send();
          await shown.until(null, 'error');
          assert.match(await shown.error(), /out of tea/);
          assert.ok(!(await shown.statuses()).includes('ready'), 'what there is of it is shown as all');
          assert.equal((await ended(answer)).status, 'failed');
          assert.equal(await shown.reload(), 204);
          await shown.until([], 'ready');
        });

        if (name === 'lastword itself') return;

        // The last: nothing answers behind it.
        it('is told of an application that is killed in mid-answer, with what it said, once', async () => {
          await open('gate/words');
          const answer = await shown.send();
          await shown.until([HALF], 'streaming');
          await app.kill();
          await shown.until([HALF], 'error');
          assert.ok(!(await shown.statuses()).includes('ready'), 'what there is of it is shown as all');
          assert.match(await shown.error(), /broke|ended/);
          assert.equal((await ended(answer)).status, 'failed');
          assert.equal(await shown.reload(), 204);
          gate.open(id);
          await shown.until([], 'ready');
        });
      });
    }
  }
});
