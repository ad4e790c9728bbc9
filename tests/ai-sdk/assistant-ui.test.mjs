// assistant-ui's transport, which remembers the id of an answer in `x-resumable-stream-id`, and asks for it after a reload.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { AssistantChatTransport } from '@assistant-ui/ai-sdk';
import { readUIMessageStream } from 'ai7';
import { HALF, TEXT, startExpress, startLastword, startModel, startRelay } from './way.mjs';

let gate, model;

before(async () => {
  gate = await startModel();
  model = await startLastword({ gate: gate.url });
});

after(async () => {
  await model?.stop();
  gate?.stop();
});

const text = (message) => message?.parts.filter((part) => part.type === 'text').map((part) => part.text).join('');

/** Reads an answer's message, and shows `each` its text; what it came to, and the error that it ended with, if there was one. */
async function read(stream, each = () => {}) {
  let message, error;
  try {
    for await (const state of readUIMessageStream({ stream, terminateOnError: true, onError: (it) => { error = it; } })) {
      message = state;
      each(text(state));
    }
  } catch (it) {
    error = it;
  }
  return { message, error };
}

for (const behind of ['lastword itself', 'an application behind it']) {
  describe(`AssistantChatTransport, with ${behind}`, () => {
    let app, lastword, relay, stored;

    before(async () => {
      if (behind === 'lastword itself') {
        lastword = model;
      } else {
        app = await startExpress('7', model.url);
        lastword = await startLastword({ relay: app.url });
      }
    });

    after(async () => {
      await app?.kill();
      if (lastword !== model) await lastword?.stop();
    });

    afterEach(() => relay?.stop());

    /** A transport as a page has it that was just loaded; what is stored is the tab's. */
    const transport = (url) => new AssistantChatTransport({
      api: `${url}/api/chat`,
      body: { model: 'gate/words' },
      resumable: {
        storage: {
          getStreamId: () => stored ?? null,
          setStreamId: (id) => { stored = id; },
          clear: () => { stored = undefined; },
        },
        resumeApi: (id) => `${url}/api/chat/${id}/stream`,
      },
    });
    const send = (url, chatId) => transport(url).sendMessages({
      trigger: 'submit-message', chatId,
      messages: [{ id: 'u', role: 'user', parts: [{ type: 'text', text: `Say it, gate:${chatId}` }] }],
    });

    it('has the whole answer, once, when the connection broke in its middle and the page was loaded anew', async () => {
      relay = await startRelay(lastword.url);
      const chat = `assistant-ui-${app ? 'relayed' : 'direct'}`;
      const cut = await read(await send(relay.url, chat), (said) => said === HALF && relay.breakAll());
      assert.ok(cut.error, 'a part is not taken for the whole');
      assert.equal(text(cut.message), HALF);
      const id = stored;
      assert.match(id, /^[0-9a-f-]{36}$|^[0-9a-f]{32}$/);
      for (let times = 0; times < 2; times += 1) {
        const again = await read(await transport(relay.url).reconnectToStream({ chatId: chat }), (said) => said === HALF && (times === 0 ? relay.breakAll() : gate.open(chat)));
        assert.equal(text(again.message), times === 0 ? HALF : TEXT);
      }
      assert.equal(stored, undefined, 'it has seen the end');
      const state = await (await fetch(`${lastword.url}/v1/streams/${id}`)).json();
      assert.equal(state.status, 'completed');
    });

    it('has it, too, when all was said meanwhile', async () => {
      relay = await startRelay(lastword.url);
      const chat = `assistant-ui-ended-${app ? 'relayed' : 'direct'}`;
      await read(await send(relay.url, chat), (said) => said === HALF && relay.breakAll());
      gate.open(chat);
      const again = await read(await transport(relay.url).reconnectToStream({ chatId: chat }));
      assert.deepEqual([text(again.message), again.error, stored], [TEXT, undefined, undefined]);
    });
  });
}
