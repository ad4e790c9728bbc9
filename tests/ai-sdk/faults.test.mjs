// Applications that die and a lastword that is killed: nobody is told a part of an answer as if it were all.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { HALF, TEXT, folder, full, launch, startExpress, startLastword, startModel, startPage, startRelay, versions } from './way.mjs';
import { Shown } from './shown.mjs';

let browser, gate, model;
/** What a test has started, to be ended behind it. */
const started = [];
const begin = (thing, end) => (started.push(end ?? (() => thing.stop())), thing);

before(async () => {
  gate = await startModel();
  [browser, model] = await Promise.all([launch(), startLastword({ gate: gate.url })]);
});

afterEach(async () => {
  for (const end of started.splice(0).reverse()) await end();
});

after(async () => {
  await browser?.close();
  await model?.stop();
  gate?.stop();
});

async function application(version) {
  const app = await startExpress(version, model.url);
  return begin(app, app.kill);
}

const post = (url, id, model, headers = {}) => fetch(`${url}/api/chat`, {
  method: 'POST', headers: { 'content-type': 'application/json', ...headers },
  body: JSON.stringify({ id, model, messages: [{ id: 'u', role: 'user', parts: [{ type: 'text', text: `Say it, gate:${id}` }] }] }),
});
const stateOf = async (url, id) => (await fetch(`${url}/v1/streams/${id}`)).json();

/** Reads a body as far as it comes: adds its chunks to those seen, and calls `on` with each; whether it ended by itself, and the last id. */
async function chunks(response, seen, on = () => {}) {
  const decoder = new TextDecoder();
  let rest = '', id;
  try {
    for await (const bytes of response.body) {
      rest += decoder.decode(bytes, { stream: true });
      for (let end; (end = rest.indexOf('\n\n')) >= 0; rest = rest.slice(end + 2)) {
        const lines = rest.slice(0, end).split('\n');
        const data = lines.find((line) => line.startsWith('data: '))?.slice(6);
        if (data && data !== '[DONE]') seen.push(JSON.parse(data));
        id = lines.find((line) => line.startsWith('id: '))?.slice(4) ?? id;
        on();
      }
    }
    return { clean: true, id };
  } catch {
    return { clean: false, id };
  }
}
const text = (seen) => seen.filter((chunk) => chunk.type === 'text-delta').map((chunk) => chunk.delta).join('');
const types = (seen) => seen.map((chunk) => chunk.type);

// What a page shows then is in chat.test.mjs.
describe('an application that dies in mid-answer', () => {
  it('is told to one who reads and to one who comes later, in the words of its protocol', async () => {
    const app = await application('5');
    const lastword = begin(await startLastword({ relay: app.url }));
    const response = await post(lastword.url, 'dies', 'gate/words');
    const seen = [];
    const { clean } = await chunks(response, seen, () => text(seen) === HALF && !app.killed && (app.killed = app.kill()));
    assert.ok(clean);
    assert.deepEqual([text(seen), types(seen).slice(-2)], [HALF, ['error', 'finish']]);
    const later = [];
    const run = response.headers.get('x-workflow-run-id');
    await chunks(await fetch(`${lastword.url}/api/chat/${run}/stream`), later);
    assert.deepEqual(later, seen);
  });

  it('is told, too, before it has answered at all', async () => {
    const app = await application('7');
    const lastword = begin(await startLastword({ relay: app.url }));
    await app.kill();
    assert.equal((await post(lastword.url, 'dead', 'gate/words')).status, 502);
    assert.equal((await fetch(`${lastword.url}/api/chat/dead/stream`)).status, 204);
  });
});

describe('a lastword that is killed under relayed answers', () => {
  const disk = async (home) => ({ LASTWORD_STORE__ENGINE: 'disk', LASTWORD_STORE__PATH: (await home).path });

  for (const version of versions) {
    it(`tells a page of version ${version} that it broke, and one that is loaded anew that nothing runs`, async () => {
      const app = await application(version), home = await folder();
      begin(home, home.gone);
      const lastword = begin(await startLastword({ relay: app.url, ...await disk(home) }));
      const page = begin(await startPage(version));
      const shown = await Shown.in(browser);
      begin(shown, () => shown.close());
      const name = `killed-${version}`;
      await shown.go(page.at(lastword.url, name, 'gate/words'));
      const id = await shown.send();
      await shown.until([HALF], 'streaming');
      await lastword.restart();
      await shown.until([HALF], 'error');
      assert.ok(!(await shown.statuses()).includes('ready'));
      assert.equal(await shown.reload(), 204);
      gate.open(name);
      await shown.until([], 'ready');
      assert.notEqual((await stateOf(lastword.url, id)).status, 'completed');
    });
  }

  const count = full ? 200 : 40;
  it(`tells each of ${count} readers all of it, or that it was interrupted`, async () => {
    const app = await application('7'), home = await folder();
    begin(home, home.gone);
    const lastword = begin(await startLastword({ relay: app.url, ...await disk(home) }));
    let halves = 0, killed = false, tell;
    const all = new Promise((resolve) => { tell = resolve; });
    const one = async (n) => {
      // Of some the rest comes before, of some it would come after.
      const id = `many-${n}`;
      const response = await post(lastword.url, id, 'gate/words');
      assert.equal(response.status, 200);
      const run = response.headers.get('x-workflow-run-id'), seen = [];
      let half = false;
      const here = () => {
        if (half || text(seen) !== HALF) return;
        half = true;
        halves += 1;
        if (n % 4 === 0) gate.open(id);
        if (halves === count) tell();
      };
      let { id: last } = await chunks(response, seen, here);
      if (seen.at(-1)?.type !== 'finish') assert.ok(killed, 'nothing else breaks it off');
      // Until there is a finish: by how many there were, as WorkflowChatTransport does, or by the last id, as an EventSource does.
      while (seen.at(-1)?.type !== 'finish') {
        const [path, headers] = n % 2 === 0 ? [`?startIndex=${seen.length}`, {}] : ['', last ? { 'last-event-id': last } : {}];
        const again = await fetch(`${lastword.url}/api/chat/${run}/stream${path}`, { headers }).catch(() => null);
        if (!again) continue;
        assert.equal(again.status, 200, await (again.status === 200 ? '' : again.text()));
        ({ id: last = last } = await chunks(again, seen));
      }
      return seen;
    };
    const reading = Promise.all(Array.from({ length: count }, (_, n) => one(n)));
    await Promise.race([all, reading]);
    killed = true;
    await lastword.restart();
    const ends = { whole: 0, interrupted: 0 };
    for (const seen of await reading) {
      assert.deepEqual([types(seen).indexOf('start'), types(seen).lastIndexOf('start')], [0, 0]);
      const told = text(seen);
      if (types(seen).includes('error')) {
        ends.interrupted += 1;
        assert.ok(TEXT.startsWith(told) && told.startsWith(HALF), told);
      } else {
        ends.whole += 1;
        assert.equal(told, TEXT);
      }
    }
    assert.ok(ends.interrupted >= count / 2, JSON.stringify(ends));
    console.log(JSON.stringify(ends));
  });
});
