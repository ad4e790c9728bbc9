// WorkflowChatTransport, which comes back by itself: cut at every byte it ends with the identical message. And the chunks, against the
// strictest schema there is.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { WorkflowChatTransport } from '@ai-sdk/workflow/client';
import { readUIMessageStream } from 'ai7';
import { TEXT, full, startApp, startLastword, startRelay } from './way.mjs';

/** No head is longer. */
const HEAD = 1000;

const said = [{ id: 'u', role: 'user', parts: [{ type: 'text', text: 'Say it.' }] }];

/** All chunks, and the message that they come to. */
async function read(api, model, chatId = 'c') {
  const transport = new WorkflowChatTransport({ api: `${api}/api/chat` });
  const stream = await transport.sendMessages({ trigger: 'submit-message', chatId, messages: said, body: { model } });
  const [one, other] = stream.tee();
  const chunks = [];
  const collected = (async () => {
    for await (const chunk of one) chunks.push(chunk);
  })();
  let message;
  for await (const state of readUIMessageStream({ stream: other })) message = state;
  await collected;
  // Of each answer its own: it is asked anew each time.
  return { chunks: chunks.map((chunk) => (chunk.type === 'start' ? { type: 'start' } : chunk)), parts: message?.parts };
}

let model;
before(async () => {
  model = await startLastword();
});
after(() => model?.stop());

for (const behind of ['lastword itself', 'an application behind it']) {
  describe(`WorkflowChatTransport, with ${behind}`, () => {
    let app, lastword;

    before(async () => {
      if (behind === 'lastword itself') lastword = model;
      else {
        app = await startApp('7', model.url);
        lastword = await startLastword({ relay: app.url });
      }
    });

    after(async () => {
      await app?.kill();
      if (lastword !== model) await lastword?.stop();
    });

    it('ends with the identical message wherever it is cut', async () => {
      const error = console.error;
      console.error = () => {}; // the transport tells each cut
      try {
        const whole = await read(lastword.url, 'fast/words');
        assert.equal(whole.parts.find((part) => part.type === 'text').text, TEXT);
        const uncut = await startRelay(lastword.url);
        await read(uncut.url, 'fast/words');
        uncut.stop();
        // The head must have come whole: without it the transport does not know what to come back to, and says so.
        for (let at = HEAD; at < uncut.all; at += full ? 1 : 97) {
          const relay = await startRelay(lastword.url, (came, number) => (number === 0 ? at - came : Infinity));
          const mended = await read(relay.url, 'fast/words').catch((error) => error);
          relay.stop();
          assert.deepEqual(mended, whole, `cut at ${at}`);
        }
      } finally {
        console.error = error;
      }
    });
  });
}

describe('the chunks of lastword', () => {
  it('are all known to 5.0.0, which refuses what it does not know', async () => {
    const { DefaultChatTransport } = await import('ai5-0');
    for (const name of ['fast/words', 'tool/words']) {
      const transport = new DefaultChatTransport({ api: `${model.url}/api/chat` });
      const stream = await transport.sendMessages({ trigger: 'submit-message', chatId: 'c', messages: said, body: { model: name } });
      const types = [];
      for await (const chunk of stream) types.push(chunk.type);
      assert.deepEqual([types[0], types.at(-1)], ['start', 'finish']);
    }
  });
});
