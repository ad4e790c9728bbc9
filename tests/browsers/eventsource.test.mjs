// The browsers' own EventSource, of which nothing can be mended: what lastword sends must be all that it needs.
//
//   npm test        LASTWORD_BIN=/path/to/lastword, CHROMIUM=/usr/bin/chromium, FIREFOX=/usr/bin/firefox-esr

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { BINARY, startGateway } from '../page/gateway.mjs';
import { launch, names, startNginx, startRelay } from './way.mjs';

const WORDS = Array.from({ length: 120 }, (_, n) => `naïve${n} 🦀`).join(' ');
/** EventSource comes back soon. */
const SOON = { LASTWORD_SERVER__RETRY_MIN: '20ms', LASTWORD_SERVER__RETRY_MAX: '60ms' };
const DISK = { ...SOON, LASTWORD_STORE__ENGINE: 'disk' };
const CLOSED = 2;

/** Lets the mock say this; gives back the state. */
async function say(url, text, options = {}, headers = {}) {
  const body = JSON.stringify({ prompt: 'x', model: 'mock/words', backend_options: { text, delay: '5ms', ...options } });
  const response = await fetch(`${url}/v1/streams`, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } });
  assert.equal(response.status, 201);
  return response.json();
}

const state = async (url, id, headers) => (await fetch(`${url}/v1/streams/${id}`, { headers })).json();

for (const name of names) {
  describe(name, () => {
    let browser;
    before(async () => { browser = await launch(name); });
    after(() => browser?.close());

    /** A page of this origin, in a profile of its own. */
    async function open(t, url) {
      const context = await browser.createBrowserContext();
      t.after(() => context.close());
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      await page.goto(`${url}/docs`);
      return page;
    }

    /** A native EventSource in the page, under this key, and what it was told. It does nothing by itself when the answer ends. */
    const listen = (page, url, key = 'one') => page.evaluate((url, key) => {
      const all = window.readers ??= {};
      const reader = all[key] = { text: '', ids: [], told: [], opened: 0, source: new EventSource(url) };
      reader.source.onopen = () => { reader.opened += 1; };
      reader.source.onmessage = (event) => {
        reader.text += JSON.parse(event.data).text;
        reader.ids.push(Number(event.lastEventId.split('-').at(-1)));
      };
      for (const name of ['start', 'reset', 'denied', 'end']) reader.source.addEventListener(name, (event) => reader.told.push([name, JSON.parse(event.data)]));
    }, url, key);

    const told = (page, key = 'one') => page.evaluate((key) => {
      const { text, ids, told, opened, source } = window.readers[key];
      return { text, ids, told, opened, state: source.readyState };
    }, key);
    const until = (page, such, ...more) => page.waitForFunction(such, { polling: 20 }, ...more);
    const hears = (page, length, key = 'one') => until(page, (key, length) => window.readers[key].text.length >= length, key, length);
    const stops = (page, key = 'one') => until(page, (key) => window.readers[key].source.readyState === 2, key);

    /** It was told this, once and in order. */
    function isWhole(reader, text, status) {
      assert.equal(reader.text, text);
      assert.ok(reader.ids.every((id, n) => n === 0 || id > reader.ids[n - 1]), `ids rise: ${reader.ids}`);
      assert.deepEqual(reader.told.map(([name]) => name), ['start', 'end']);
      assert.equal(reader.told[1][1].status, status);
      assert.equal(reader.state, CLOSED);
    }

    test('a line that is cut is opened again by itself, and behind the end it stops for good', async (t) => {
      const gateway = await startGateway(SOON);
      t.after(() => gateway.stop());
      const relay = await startRelay(gateway.url, (n) => 900 + 41 * n);
      t.after(() => relay.stop());
      const page = await open(t, relay.url);
      const { id } = await say(gateway.url, WORDS);
      await listen(page, `/v1/streams/${id}/events`);
      await stops(page);
      const reader = await told(page);
      isWhole(reader, WORDS, 'completed');
      assert.ok(reader.opened > 4, `${reader.opened} connections`);
      const answers = relay.asked().split(`GET /v1/streams/${id}/events`).length - 1;
      assert.deepEqual(relay.statuses().filter((status) => status === 204).length, 1, 'one 204');
      assert.ok(answers >= reader.opened + 1);
    });

    for (const [how, signal] of [['killed', 'SIGKILL'], ['stopped', 'SIGTERM']]) {
      test(`a server that is ${how} and started again is asked for the rest by itself`, async (t) => {
        const gateway = await startGateway({ ...DISK, LASTWORD_SERVER__DRAIN: '1s' });
        t.after(() => gateway.stop());
        const page = await open(t, gateway.url);
        const { id } = await say(gateway.url, WORDS.repeat(100));
        await listen(page, `/v1/streams/${id}/events`);
        await hears(page, 200);
        await gateway.restart(signal);
        await stops(page);
        const reader = await told(page);
        isWhole(reader, (await state(gateway.url, id)).text, 'interrupted');
        assert.ok(reader.text.length >= 200 && WORDS.repeat(100).startsWith(reader.text));
      });
    }

    test('a proxy that is killed and started again costs nothing', async (t) => {
      const gateway = await startGateway(SOON);
      t.after(() => gateway.stop());
      const nginx = await startNginx(gateway.url);
      t.after(() => nginx.stop());
      const page = await open(t, nginx.url);
      const { id } = await say(gateway.url, WORDS, { delay: '10ms' });
      await listen(page, `/v1/streams/${id}/events`);
      for (const length of [100, 400]) {
        await hears(page, length);
        await nginx.restart();
      }
      await stops(page);
      const reader = await told(page);
      isWhole(reader, WORDS, 'completed');
      assert.ok(reader.opened >= 3, `${reader.opened} connections`);
    });

    test('a cookie opens it, and a ticket; one that is over is told so and does not come back', async (t) => {
      const key = JSON.parse((await promisify(execFile)(BINARY, ['keys', 'new', 'web', '--json'])).stdout);
      const gateway = await startGateway({ ...SOON, LASTWORD_AUTH__KEYS__WEB__HASH: key.hash });
      t.after(() => gateway.stop());
      const bearer = { authorization: `Bearer ${key.key}` };
      const relay = await startRelay(gateway.url);
      t.after(() => relay.stop());
      const { id, events_url } = await say(gateway.url, WORDS, {}, bearer);

      const page = await open(t, relay.url);
      // Without either it is refused, for good: as EventSource takes any answer but 200.
      await listen(page, `/v1/streams/${id}/events`, 'stranger');
      await stops(page, 'stranger');
      const signedIn = await page.evaluate((key) => fetch('/v1/session', { method: 'POST', headers: { authorization: `Bearer ${key}` } }).then((response) => response.status), key.key);
      assert.equal(signedIn, 204);
      assert.equal(await page.evaluate(() => document.cookie), '', 'no script can read it');
      await listen(page, `/v1/streams/${id}/events`);
      await stops(page);
      isWhole(await told(page), WORDS, 'completed');

      const other = await open(t, relay.url);
      await listen(other, events_url);
      await stops(other);
      isWhole(await told(other), WORDS, 'completed');

      // A ticket that ends while it is read cuts nothing; behind a cut it is over.
      const slow = await say(gateway.url, WORDS, { delay: '100ms' }, bearer);
      const given = await fetch(`${gateway.url}/v1/streams/${slow.id}/tickets`, { method: 'POST', body: '{"ttl":"1s"}', headers: bearer });
      const { token } = await given.json();
      const cut = await startRelay(gateway.url, (n) => (n === 0 ? 2500 : Infinity));
      t.after(() => cut.stop());
      const third = await open(t, cut.url);
      await listen(third, `/v1/streams/${slow.id}/events?token=${token}`);
      await until(third, () => window.readers.one.told.some(([name]) => name === 'denied'));
      const { told: events, state: now } = await told(third);
      assert.deepEqual(events.map(([name]) => name), ['start', 'denied']);
      assert.equal(events[1][1].code, 'ticket_expired');
      assert.notEqual(now, CLOSED, 'it would come back, in 24 days');
    });

    test('over HTTP/2 fifty are live at once', async (t) => {
      const gateway = await startGateway({ ...SOON, LASTWORD_SERVER__TLS_SELF_SIGNED: 'true' });
      t.after(() => gateway.stop());
      const page = await open(t, gateway.url);
      const id = await page.evaluate(async () => {
        const body = JSON.stringify({ prompt: 'x', model: 'mock/words', backend_options: { text: 'word ', repeat: 100000, delay: '20ms' } });
        return (await (await fetch('/v1/streams', { method: 'POST', body, headers: { 'content-type': 'application/json' } })).json()).id;
      });
      for (let n = 0; n < 50; n++) await listen(page, `/v1/streams/${id}/events`, `${n}`);
      const all = (length) => until(page, (length) => Object.values(window.readers).length === 50
        && Object.values(window.readers).every(({ text }) => text.length >= length), length);
      await all(5);
      const before = await page.evaluate(() => Math.max(...Object.values(window.readers).map(({ text }) => text.length)));
      await all(before + 100);
      const protocols = await page.evaluate(() => [...new Set(performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol))]);
      assert.deepEqual(protocols.filter((it) => it), ['h2']);
    });

    test('over HTTP/1.1 the seventh waits until another one is closed', async (t) => {
      const gateway = await startGateway(SOON);
      t.after(() => gateway.stop());
      const page = await open(t, gateway.url);
      const { id } = await say(gateway.url, 'word ', { repeat: 100000, delay: '20ms' });
      for (let n = 0; n < 7; n++) await listen(page, `/v1/streams/${id}/events`, `${n}`);
      await until(page, () => Object.values(window.readers).filter(({ text }) => text.length > 200).length === 6);
      const waiting = await page.evaluate(() => Object.keys(window.readers).filter((key) => window.readers[key].opened === 0));
      assert.deepEqual(waiting, ['6']);
      await page.evaluate(() => window.readers[0].source.close());
      await hears(page, 1, '6');
    });
  });
}
