// WorkflowChatTransport, which comes back by itself: wherever it is cut, it ends with the identical message.

import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { WorkflowChatTransport } from '@ai-sdk/workflow/client';
import { readUIMessageStream } from 'ai7';
import { BRIEF, HALF, TEXT, full, startExpress, startLastword, startModel, startRelay, versions } from './way.mjs';

const asked = (gate) => [{ id: 'u', role: 'user', parts: [{ type: 'text', text: `Say it${gate ? `, gate:${gate}` : ''}` }] }];

let gate, model;
const telling = console.error;

before(async () => {
  gate = await startModel();
  model = await startLastword({ gate: gate.url });
  console.error = () => {}; // the transport tells each cut
});

after(async () => {
  console.error = telling;
  await model?.stop();
  gate?.stop();
});

/** All chunks of an answer, and the message that they come to. Each answer has a message id of its own: it is compared by its place. */
async function read(stream) {
  const [one, other] = stream.tee();
  const chunks = [];
  const collected = (async () => {
    for await (const chunk of one) chunks.push(chunk);
  })();
  let message;
  for await (const state of readUIMessageStream({ stream: other })) message = state;
  await collected;
  const id = chunks[0].messageId;
  return JSON.parse(JSON.stringify({ chunks, message }).replaceAll(JSON.stringify(id), '"ID"'));
}

/** What the transport makes of it; how often it asked stands beside it. */
async function ask(url, name, { most = 20, ...options } = {}) {
  let times = 0;
  const transport = new WorkflowChatTransport({
    api: `${url}/api/chat`,
    fetch(...words) {
      times += 1;
      if (times > most) throw new Error('it comes back for ever');
      return fetch(...words);
    },
    ...options,
  });
  const stream = await transport.sendMessages({ trigger: 'submit-message', chatId: 'c', messages: asked(), body: { model: name } });
  return { ...await read(stream), times };
}

/** How many bytes the head of the answer to a request has, as `fetch` gets it, and the answer's id. */
async function head(lastword, path, options) {
  const { hostname, port } = new URL(lastword);
  let came = '';
  const way = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    far.on('data', (bytes) => { came += bytes.toString('latin1'); });
    near.on('error', () => {}).pipe(far).on('error', () => {}).pipe(near);
  });
  await new Promise((resolve) => way.listen(0, '127.0.0.1', resolve));
  const response = await fetch(`http://127.0.0.1:${way.address().port}${path}`, options);
  await response.body.cancel();
  way.close();
  return { bytes: came.indexOf('\r\n\r\n') + 4, run: response.headers.get('x-workflow-run-id') };
}

/** Runs all, some at a time. */
async function each(cases, run) {
  const left = [...cases];
  await Promise.all(Array.from({ length: 6 }, async () => {
    while (left.length > 0) await run(left.shift());
  }));
}

const step = full ? 1 : 7;
function* every(from, to) {
  for (let at = from; at <= to; at += step) yield at;
}

for (const behind of ['lastword itself', 'an application behind it']) {
  describe(`WorkflowChatTransport, with ${behind}`, () => {
    let app, lastword, whole, all, post, get;

    before(async () => {
      if (behind === 'lastword itself') lastword = model;
      else {
        app = await startExpress('7', model.url);
        lastword = await startLastword({ relay: app.url });
      }
      const uncut = await startRelay(lastword.url);
      whole = await ask(uncut.url, 'brief/words');
      all = uncut.all;
      uncut.stop();
      const body = JSON.stringify({ messages: asked(), model: 'brief/words' });
      post = await head(lastword.url, '/api/chat', { method: 'POST', body });
      get = await head(lastword.url, `/api/chat/${post.run}/stream?startIndex=0`);
    });

    after(async () => {
      await app?.kill();
      if (lastword !== model) await lastword?.stop();
    });

    /** What it ends with if the connections are cut after so many bytes of their answers. */
    async function cut(places) {
      const relay = await startRelay(lastword.url, (came, number) => (number < places.length ? Math.max(0, places[number] - came) : Infinity));
      try {
        const { times, ...told } = await ask(relay.url, 'brief/words');
        return { told, times };
      } finally {
        relay.stop();
      }
    }
    const same = ({ times, ...told }) => told;

    it('has it whole, uncut', () => {
      assert.equal(whole.times, 1);
      assert.deepEqual(whole.message.parts.filter((part) => part.type === 'text').map((part) => [part.text, part.state]), [[BRIEF, 'done']]);
      assert.equal(whole.chunks.at(-1).type, 'finish');
    });

    it('ends with the identical message wherever the answer to its POST is cut', async () => {
      let cuts = 0;
      await each(every(post.bytes, all), async (at) => {
        const { told, times } = await cut([at]);
        cuts += times - 1;
        assert.deepEqual(told, same(whole), `cut at ${at} of ${all}`);
      });
      assert.ok(cuts > 0.7 * (all - post.bytes) / step, `${cuts} were cut`);
    });

    it('ends with it wherever what it comes back to is cut, too', async () => {
      let cuts = 0;
      await each(every(get.bytes, all - post.bytes - 200 + get.bytes), async (at) => {
        const { told, times } = await cut([post.bytes + 200, at]);
        cuts += times - 2;
        assert.deepEqual(told, same(whole), `cut at ${at}`);
      });
      assert.ok(cuts > 0.5 * (all - post.bytes - 200) / step, `${cuts} were cut`);
    });

    it('ends with it when every connection brings only some chunks', async () => {
      const { times: once, ...longer } = await ask(lastword.url, 'fast/words');
      assert.equal(once, 1);
      for (const bytes of [250, 400, 700]) {
        const relay = await startRelay(lastword.url, (came, number) => Math.max(0, (number === 0 ? post : get).bytes + bytes - came));
        // By itself it gives up after three.
        const { times, ...told } = await ask(relay.url, 'fast/words', { most: 60, maxConsecutiveErrors: 60 }).finally(relay.stop);
        assert.ok(times > 3, `${times}`);
        assert.deepEqual(told, longer);
      }
    });

    it('says so, if not even a head came', async () => {
      await each([0, 1, post.bytes - 1], (at) => assert.rejects(cut([at]), TypeError));
    });

    it('counts from the end, if it is told to', async () => {
      const id = `tail-${behind.length}`;
      const first = await fetch(`${lastword.url}/api/chat`, { method: 'POST', body: JSON.stringify({ id, messages: asked(id), model: 'gate/words' }) });
      const run = first.headers.get('x-workflow-run-id');
      const text = async () => (await (await fetch(`${lastword.url}/v1/streams/${run}`)).json()).text;
      while (behind === 'lastword itself' ? await text() !== HALF : !(await text())?.endsWith(' to'));
      const tail = await fetch(`${lastword.url}/api/chat/${id}/stream?startIndex=-2`);
      const last = Number(tail.headers.get('x-workflow-stream-tail-index'));
      await tail.body.cancel();
      assert.ok(last > 5, String(last));
      // It asks for more than there is, and is cut: so it must count right to go on.
      const relay = await startRelay(lastword.url, (came, number) => (number === 0 ? get.bytes + 400 - came : Infinity));
      const transport = new WorkflowChatTransport({
        api: `${relay.url}/api/chat`, initialStartIndex: -(last + 10),
        async fetch(...words) {
          const response = await fetch(...words);
          gate.open(id);
          return response;
        },
      });
      const told = await transport.reconnectToStream({ chatId: run }).then(read).finally(relay.stop);
      await first.body.cancel();
      assert.equal(relay.cuts, 1);
      const said = (message) => message.parts.filter((part) => part.type === 'text').map((part) => part.text);
      assert.deepEqual(said(told.message), [TEXT]);
    });
  });
}

describe('WorkflowChatTransport, of an answer that fails', () => {
  for (const version of ['', ...versions]) {
    describe(version ? `of an application of version ${version}` : 'of lastword itself', () => {
      let app, lastword;

      before(async () => {
        app = version && await startExpress(version, model.url);
        lastword = app ? await startLastword({ relay: app.url }) : model;
      });

      after(async () => {
        if (app) await app.kill();
        if (lastword !== model) await lastword?.stop();
      });

      for (const name of ['fails', 'breaks', 'refuses']) {
        it(`is told so, and comes back no more: ${name}`, async () => {
          const { chunks, times } = await ask(lastword.url, `${name}/words`);
          const types = chunks.map((chunk) => chunk.type);
          assert.ok(types.includes('error') && types.at(-1) === 'finish', String(types));
          assert.ok(times <= 2, `asked ${times} times`);
        });
      }
    });
  }
});
