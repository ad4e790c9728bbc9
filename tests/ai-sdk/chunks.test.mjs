// What lastword writes, read by the schemas of the clients. That of 5.0.0 is the strictest: it knows no chunk and no member but its own.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { HALF, TEXT, startExpress, startLastword, startModel } from './way.mjs';

const MODELS = ['fast', 'thinks', 'tool', 'fails', 'breaks', 'refuses'];
const said = (gate) => JSON.stringify({ id: gate, messages: [{ id: 'u', role: 'user', parts: [{ type: 'text', text: `Say it, gate:${gate}` }] }], model: 'gate/words' });

let gate, model, newer;

before(async () => {
  gate = await startModel();
  const push = { LASTWORD_BACKENDS__OWN__KIND: 'push', gate: gate.url };
  model = await startLastword(push);
  newer = await startLastword({ ...push, LASTWORD_SERVER__AI_SDK: '7' });
});

after(async () => {
  await newer?.stop();
  await model?.stop();
  gate?.stop();
});

/** All that is told of an answer. */
async function told(url, options) {
  const response = await fetch(url, options);
  assert.equal(response.status, 200);
  return response.text();
}

const asked = (url, name) => told(`${url}/api/chat`, { method: 'POST', body: JSON.stringify({ messages: JSON.parse(said('none')).messages, model: `${name}/words` }) });

/** An answer of the user's own code, with all that there is. */
async function pushed(url) {
  const created = await fetch(`${url}/v1/streams`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ model: 'own/mine' }) });
  const { id } = await created.json();
  const lines = [
    { event: 'reasoning', data: { text: 'Let me see.' } },
    { text: TEXT },
    { event: 'source', data: { url: 'https://example.org/', title: 'A "source"' } },
    { event: 'source', data: { url: 'https://example.org/b' } },
    { event: 'weather', data: { degrees: 7 } },
    { event: 'word', data: 'no JSON' },
    { event: 'list', data: [null, false, ''] },
    { event: 'file', data: { media_type: 'image/png', base64: 'iVBORw0KGgo=' } },
    { event: 'file', data: { media_type: 'text/plain', url: 'https://example.org/c' } },
    { event: 'tool_call', data: { index: 0, id: 'one', name: 'look', arguments: '{"at":' } },
    { event: 'tool_call', data: { index: 1, id: 'two', name: 'wait', arguments: '' } },
    { event: 'tool_call', data: { index: 0, arguments: '"the sea"}' } },
    { event: 'tool_call', data: { index: 2, id: 'three', name: 'cut', arguments: '{"off' } },
    { event: 'usage', data: { input_tokens: 3, output_tokens: 4 } },
    { event: 'end', data: { status: 'completed' } },
  ];
  const taken = await fetch(`${url}/v1/streams/${id}/events`, { method: 'POST', body: lines.map((line) => `${JSON.stringify(line)}\n`).join('') });
  assert.equal(taken.status, 200, await taken.text());
  return told(`${url}/api/chat/${id}/stream`);
}

async function stopped(url) {
  const id = `stopped-${url.length}-${Date.now()}`;
  const response = await fetch(`${url}/api/chat`, { method: 'POST', body: said(id) });
  let bytes = '';
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    if (!bytes.includes('down') && (bytes + piece).includes('down')) await fetch(`${url}/api/chat/${id}/stop`, { method: 'POST' });
    bytes += piece;
  }
  gate.open(id);
  return bytes;
}

/** The chunks, as a client of this version reads them: it throws at one that it does not know. And the message that they come to. */
async function read(version, bytes) {
  const { DefaultChatTransport, readUIMessageStream } = await import(`ai${version}`);
  const body = () => new Response(bytes, { headers: { 'content-type': 'text/event-stream' } });
  const open = () => new DefaultChatTransport({ api: 'http://127.0.0.1:9', fetch: async () => body() }).reconnectToStream({ chatId: 'c' });
  const chunks = [];
  for await (const chunk of await open()) chunks.push(chunk);
  let message;
  const errors = [];
  for await (const state of readUIMessageStream({ stream: await open(), onError: (error) => errors.push(String(error)) })) message = state;
  return { chunks, message, errors };
}

const frames = (bytes) => bytes.split('\n').filter((line) => line.startsWith('data: ') && line !== 'data: [DONE]').map((line) => JSON.parse(line.slice(6)));

async function check(version, name, bytes) {
  const { chunks, message, errors } = await read(version, bytes);
  assert.deepEqual(chunks, frames(bytes), `${name}, read by ${version}`);
  assert.equal(chunks.at(-1).type, 'finish');
  const wrong = frames(bytes).filter((chunk) => chunk.type === 'error').map((chunk) => chunk.errorText);
  assert.ok(errors.every((error) => wrong.some((text) => error.includes(text))), `${name}, read by ${version}: ${errors}`);
  return message;
}

describe('the chunks of lastword', () => {
  for (const [versions, what, url] of [
    [['5-0', '5', '6', '7'], 'as they are where nothing is said', () => model.url],
    [['5', '6', '7'], 'for version 7', () => newer.url],
  ]) {
    it(`are known to ${versions.join(', ')}, ${what}`, async () => {
      const answers = [...MODELS.map((name) => [name, () => asked(url(), name)]), ['pushed', () => pushed(url())], ['stopped', () => stopped(url())]];
      for (const [name, answer] of answers) {
        const bytes = await answer();
        for (const version of versions) {
          const message = await check(version, name, bytes);
          const text = message.parts.filter((part) => part.type === 'text').map((part) => part.text).join('');
          if (['fast', 'thinks', 'pushed'].includes(name)) assert.equal(text, TEXT, `${name}, read by ${version}`);
          if (name === 'stopped') assert.deepEqual(frames(bytes).slice(-2).map((chunk) => chunk.type), ['abort', 'finish']);
          if (name === 'pushed') {
            const types = new Set(message.parts.map((part) => part.type));
            for (const type of ['reasoning', 'text', 'source-url', 'file', 'tool-look', 'tool-wait', 'data-weather', 'data-word']) assert.ok(types.has(type), `${type}: ${[...types]}`);
          }
        }
      }
    });
  }

  it('are known, too, behind those of an application that was stopped, or died', async () => {
    const app = await startExpress('5', model.url);
    const lastword = await startLastword({ relay: app.url });
    try {
      const bytes = await stopped(lastword.url);
      await check('5-0', 'stopped', bytes);
      assert.deepEqual(frames(bytes).slice(-2).map((chunk) => chunk.type), ['abort', 'finish']);
      const response = await fetch(`${lastword.url}/api/chat`, { method: 'POST', body: said('dies-in-chunks') });
      let died = '', killed;
      for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
        died += piece;
        if (died.includes(HALF.split(' ').at(-1)) && died.includes('down')) killed ??= app.kill();
      }
      await killed;
      await check('5-0', 'died', died);
      assert.deepEqual(frames(died).slice(-2).map((chunk) => chunk.type), ['error', 'finish']);
    } finally {
      gate.open('dies-in-chunks');
      await app.kill().catch(() => {});
      await lastword.stop();
    }
  });
});
