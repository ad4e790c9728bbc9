// The page in a real browser against a real lastword with its mock backend.
//
//   npm test        LASTWORD_BIN=/path/to/lastword, default ../../target/debug/lastword
//                   CHROMIUM=/path/to/chromium, default /usr/bin/chromium
//                   LASTWORD_PAGE=plain.html, for the page of a build without Node
//
// What the mock says and how fast is typed into the page's own field. Nothing sleeps: every wait is for a condition.

import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { launch } from './browser.mjs';
import { startGateway } from './gateway.mjs';

const DESKTOP = { width: 1280, height: 800 };
const LONG = Array.from({ length: 300 }, (_, i) => `word${i}${i % 40 === 39 ? '.\n\nNext: naïve 🦀' : ''}`).join(' ');

let gateway, browser, BASE;
before(async () => {
  gateway = await startGateway();
  BASE = gateway.url;
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});

/** A test in its own browser profile. It fails if the page wrote an error to the console, unless `errors` expects it. */
function claim(name, run, { viewport = DESKTOP, errors = null } = {}) {
  test(name, { timeout: 60_000 }, async (t) => {
    const context = await browser.newContext({ viewport });
    context.setDefaultTimeout(20_000);
    t.after(() => context.close());
    const logged = [];
    context.on('console', (message) => message.type() === 'error' && logged.push(message.text()));
    context.on('weberror', (error) => logged.push(String(error.error())));
    await run({ t, context, open: (url = BASE) => open(context, url) });
    if (errors) assert.ok(logged.every((line) => errors.test(line)), `unexpected in the console: ${logged.join('\n')}`);
    else assert.deepEqual(logged, [], 'errors in the console');
  });
}

async function open(context, url) {
  const page = await context.newPage(), place = new URL(url);
  if (process.env.LASTWORD_PAGE) place.pathname = process.env.LASTWORD_PAGE;
  await page.goto(place.href);
  return page;
}

async function ask(page, options) {
  await page.getByText('Mock options').click();
  await page.getByLabel(/^JSON for the mock/).fill(JSON.stringify(options));
  await page.getByLabel('Prompt').fill('What do you say?');
  await page.getByLabel('Prompt').press('Control+Enter');
}

const text = (page) => page.locator('#said').textContent();
const fact = async (page, id) => Number(await page.locator(`#${id}`).textContent());
const inState = (page, state) => page.locator(`body[data-state="${state}"]`).waitFor();
const button = (page, name) => page.getByRole('button', { name });

/** Until this many pieces of text are on the page. */
const pieces = (page, n) => page.waitForFunction((n) => Number(document.getElementById('pieces').textContent) >= n, n);

/** Until the answer has ended and the page has compared it with the record. */
async function ended(page) {
  await inState(page, 'ended');
  await page.getByText(/^Identical to the log/).waitFor();
}

async function recorded(page) {
  const id = new URL(page.url()).hash.slice(1);
  const response = await fetch(new URL(`/v1/streams/${id}`, BASE));
  assert.equal(response.status, 200);
  return response.json();
}

/** A plain TCP way to the gateway that can be broken: what a tunnel or a change of networks does to a page. */
async function brokenWay(t) {
  const { hostname, port } = new URL(BASE);
  const sockets = new Set();
  let most = Infinity, silenced;
  const server = net.createServer((near) => {
    const far = net.connect(Number(port || 80), hostname);
    let came = 0;
    far.on('data', (bytes) => {
      came += bytes.length;
      if (came > most) silence();
    });
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const breakAll = () => sockets.forEach((socket) => socket.destroy());
  const silence = () => {
    most = Infinity; // connections made from now on are sound
    sockets.forEach((socket) => socket.unpipe().pause());
    silenced();
  };
  /** All connections there are fall silent when one of them has brought more than this: however busy the machine, in mid-answer. */
  const silenceAfter = (bytes) => new Promise((resolve) => {
    most = bytes;
    silenced = resolve;
  });
  t.after(() => {
    server.close();
    breakAll();
  });
  return { url: `http://127.0.0.1:${server.address().port}/`, breakAll, silenceAfter };
}

claim('a_prompt_is_answered_word_by_word_each_with_its_id', async ({ open }) => {
  const page = await open();
  await ask(page, { text: 'The river goes on.', delay: '5ms' });
  await ended(page);
  assert.equal((await text(page)).trim(), 'The river goes on.');

  const ids = (await page.locator('#wire .id').allTextContents()).map(Number);
  assert.equal(ids[0], 0, 'start is id 0');
  assert.ok(ids.every((id, i) => i === 0 || id > ids[i - 1]), `ids rise: ${ids}`);
  assert.equal(ids.at(-1), (await recorded(page)).cursor);
  const names = await page.locator('#wire .name').allTextContents();
  assert.deepEqual([names[0], names.at(-1)], ['start', 'end']);

  const told = ids.filter((_, i) => names[i] === 'message');
  await page.getByLabel('ids in the text').check();
  // It is drawn with the next frame.
  await page.waitForFunction((n) => document.querySelectorAll('#said span').length >= n, told.length);
  const inText = await page.locator('#said span').evaluateAll((spans) => spans.map((span) => Number(span.dataset.id)));
  assert.deepEqual(inText, told);
  assert.equal((await text(page)).trim(), 'The river goes on.');
});

claim('stop_keeps_the_partial_text', async ({ open }) => {
  const page = await open();
  await ask(page, { text: LONG, delay: '20ms' });
  await pieces(page, 10);
  await button(page, 'Stop').click();
  await ended(page);
  const state = await recorded(page);
  assert.equal(state.status, 'cancelled');
  assert.equal(await text(page), state.text);
  assert.ok(state.text.length > 0 && state.text.length < LONG.length);
  assert.ok(await button(page, 'Stop').isDisabled());
});

claim('cut_and_resume_gives_the_recorded_text', async ({ open }) => {
  const page = await open();
  await ask(page, { text: LONG, delay: '20ms' });
  for (const n of [20, 60]) {
    await pieces(page, n);
    await button(page, 'Cut the connection').click();
    await inState(page, 'cut');
    await button(page, 'Reconnect now').click();
    await inState(page, 'live');
    assert.match(await page.locator('#state').textContent(), /resumed after id \d+/);
  }
  await ended(page);
  assert.equal(await text(page), (await recorded(page)).text);
  assert.deepEqual([await fact(page, 'resumes'), await fact(page, 'repeats')], [2, 0]);
});

claim('a_cut_page_comes_back_by_itself', async ({ open }) => {
  const page = await open();
  await ask(page, { text: LONG, delay: '20ms' });
  await pieces(page, 20);
  await button(page, 'Cut the connection').click();
  await ended(page);
  assert.equal(await text(page), (await recorded(page)).text);
  assert.deepEqual([await fact(page, 'resumes'), await fact(page, 'repeats')], [1, 0]);
});

claim('a_connection_that_breaks_is_resumed', async ({ t, open }) => {
  const way = await brokenWay(t);
  const page = await open(way.url);
  await ask(page, { text: LONG, delay: '20ms' });
  await pieces(page, 20);
  way.breakAll();
  await inState(page, 'reconnecting');
  await ended(page);
  assert.equal(await text(page), (await recorded(page)).text);
  assert.deepEqual([await fact(page, 'resumes'), await fact(page, 'repeats')], [1, 0]);
}, { errors: /net::ERR_/ });

claim('a_connection_that_is_dead_without_a_word_is_noticed_and_resumed', async ({ t, open }) => {
  const way = await brokenWay(t);
  const page = await open(way.url);
  await page.clock.install();
  const silent = way.silenceAfter(60_000); // more than the page's own files and the answer's beginning
  await ask(page, { text: LONG.repeat(8), delay: '2ms' });
  await silent;
  await pieces(page, 20);
  // The browser's idle connections are as dead as the one in use, and it may try them first.
  const back = () => page.waitForFunction(() => ['live', 'ended'].includes(document.body.dataset.state), null, { timeout: 2000 });
  do await page.clock.fastForward(40_000);
  while (await back().then(() => false, () => true));
  await ended(page);
  assert.equal(await text(page), (await recorded(page)).text);
  assert.deepEqual([await fact(page, 'resumes'), await fact(page, 'repeats')], [1, 0]);
});

claim('offline_and_back_goes_on_at_once', async ({ context, open }) => {
  const page = await open();
  await ask(page, { text: LONG, delay: '20ms' });
  await pieces(page, 20);
  // What is open is cut by hand: going offline lets it be.
  await context.setOffline(true);
  await button(page, 'Cut the connection').click();
  await button(page, 'Reconnect now').click();
  await inState(page, 'reconnecting');
  const then = await fact(page, 'pieces');
  await page.waitForEvent('console', (message) => /ERR_INTERNET_DISCONNECTED/.test(message.text()));
  assert.equal(await fact(page, 'pieces'), then);
  await context.setOffline(false);
  await ended(page);
  assert.equal(await text(page), (await recorded(page)).text);
  assert.deepEqual([await fact(page, 'resumes'), await fact(page, 'repeats')], [1, 0]);
}, { errors: /net::ERR_INTERNET_DISCONNECTED/ });

claim('a_page_that_slept_wakes_up_with_a_dead_line_and_goes_on_at_once', async ({ t, open }) => {
  const way = await brokenWay(t);
  const page = await open(way.url);
  await page.clock.install();
  const silent = way.silenceAfter(60_000);
  await ask(page, { text: LONG.repeat(8), delay: '2ms' });
  await silent;
  await pieces(page, 20);
  // It sleeps for two minutes, in which no timer runs, and the line is dead without a word. Then it is looked at.
  await page.clock.setSystemTime(Date.now() + 120_000);
  await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await page.waitForFunction(() => document.body.dataset.state !== 'live', null, { timeout: 5000 }); // not after the 37 s of a silent line
  way.breakAll(); // the browser's idle connections are as dead, and it would try them first
  await ended(page);
  assert.equal(await text(page), (await recorded(page)).text);
  assert.deepEqual([await fact(page, 'resumes'), await fact(page, 'repeats')], [1, 0]);
}, { errors: /net::ERR_/ });

claim('a_reload_in_mid_answer_goes_on', async ({ open }) => {
  const page = await open();
  await ask(page, { text: LONG, delay: '20ms' });
  await pieces(page, 20);
  const [before, url] = [await text(page), page.url()];
  await page.reload();
  assert.equal(page.url(), url);
  await pieces(page, 25);
  assert.ok((await text(page)).startsWith(before));
  assert.equal(await page.getByLabel('Prompt').inputValue(), 'What do you say?');
  await ended(page);
  assert.equal(await text(page), (await recorded(page)).text);
});

claim('two_tabs_see_the_same', async ({ open }) => {
  const one = await open();
  await ask(one, { text: LONG, delay: '10ms' });
  await pieces(one, 20);
  const two = await open(one.url());
  await Promise.all([ended(one), ended(two)]);
  const { text: whole } = await recorded(one);
  assert.equal(await text(one), whole);
  assert.equal(await text(two), whole);
});

claim('a_long_answer_keeps_the_wire_panel_short', async ({ open }) => {
  const page = await open();
  const long = Array.from({ length: 3000 }, (_, i) => `w${i}`).join(' ');
  await ask(page, { text: long, delay: '0ms' });
  await ended(page);
  assert.equal(await text(page), (await recorded(page)).text);
  assert.ok((await page.locator('#wire li').count()) <= 200);
});

for (const viewport of [{ width: 390, height: 844 }, { width: 360, height: 640 }, { width: 1280, height: 480 }]) {
  claim(`nothing_overflows_at_${viewport.width}_by_${viewport.height}`, async ({ open }) => {
    const page = await open();
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(await overflow(), 0);
    await ask(page, { text: `${'unbroken'.repeat(60)} and then words`, delay: '5ms' });
    await ended(page);
    assert.equal(await overflow(), 0);
    await page.getByLabel('ids in the text').check();
    assert.equal(await overflow(), 0);
    const tight = await page.locator('button').evaluateAll((all) => all.filter((b) => b.scrollWidth > b.clientWidth).length);
    assert.equal(tight, 0, 'a button is narrower than its words');
    const wide = await page.locator('#answer').evaluate((box) => box.scrollWidth - box.clientWidth);
    assert.equal(wide, 0, 'the answer scrolls sideways');
  }, { viewport });
}

claim('a_long_model_name_fits_a_phone', async ({ context, open }) => {
  const id = 'vendor/a-model-with-a-name-that-is-much-longer-than-a-phone-is-wide';
  await context.route('**/v1/models', (route) => route.fulfill({ json: { object: 'list', data: [{ id }] } }));
  const page = await open();
  await page.getByLabel('Model').selectOption(id);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  const send = await button(page, 'Send').boundingBox();
  assert.ok(send.x + send.width <= 360, 'the send button is in view');
}, { viewport: { width: 360, height: 640 } });

claim('the_page_does_not_move_while_words_come', async ({ open }) => {
  const page = await open();
  await ask(page, { text: LONG, delay: '5ms' });
  await inState(page, 'live');
  const places = () => page.evaluate(() => ['cut', 'stop', 'answer', 'wire'].map((id) => {
    const { x, y, width, height } = document.getElementById(id).getBoundingClientRect();
    return [id, x, y, width, height];
  }));
  const then = await places();
  await ended(page);
  assert.deepEqual(await places(), then);
});

claim('options_that_are_not_json_are_named_and_not_sent', async ({ open }) => {
  const page = await open();
  await page.getByText('Mock options').click();
  await page.getByLabel(/^JSON for the mock/).fill('{delay: 5}');
  await page.getByLabel('Prompt').fill('Anything');
  await button(page, 'Send').click();
  await page.getByRole('alert').getByText(/not JSON/).waitFor();
  assert.equal(await page.locator('#options[aria-invalid=true]').count(), 1);
  assert.equal(new URL(page.url()).hash, '');
});

claim('a_stream_that_is_not_there_is_said_to_be_gone', async ({ open }) => {
  const page = await open(new URL('/#01990000-0000-7000-8000-000000000000', BASE).href);
  await inState(page, 'gone');
  await page.getByText(/not known here/).waitFor();
  assert.ok(await button(page, 'Stop').isDisabled());
}, { errors: /status of 404/ });
