// Anthropic's own client for Node, unmodified, against a real lastword with its mock backend: only the base URL is another.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { startGateway } from '../page/gateway.mjs';

let gateway, client;
before(async () => {
  gateway = await startGateway();
  client = new Anthropic({ baseURL: gateway.url, apiKey: 'any', maxRetries: 0 });
});
after(() => gateway?.stop());

/** A request for these words of the mock's. */
const asks = (options, more) => ({
  model: 'mock/words', max_tokens: 1000, messages: [{ role: 'user', content: 'say it' }],
  backend_options: { delay: '0ms', ...options }, ...more,
});
const fails = (kind, after, more) => asks({ text: 'one two three', fault: { kind, after, ...more } });

test('plain', async () => {
  const answer = await client.messages.create(asks({ text: 'one two three' }));
  assert.deepEqual(answer.content.map(({ type, text }) => [type, text]), [['text', 'one two three']]);
  assert.deepEqual([answer.stop_reason, answer.usage.output_tokens], ['end_turn', 3]);
});

test('a stream with thinking and a tool call, added up by the client', async () => {
  const told = { text: 'Let me see.', reasoning: 'hm hm', tool_call: { name: 'look', arguments: { 'the words': 'a b' } } };
  const stream = client.messages.stream(asks(told));
  let said = '';
  stream.on('text', (text) => (said += text));
  const { content: [thinking, text, call], stop_reason } = await stream.finalMessage();
  assert.deepEqual([said, text.text, thinking.thinking], ['Let me see.', 'Let me see.', 'hm hm']);
  assert.deepEqual([call.type, call.id, call.name, call.input], ['tool_use', 'call_mock', 'look', { 'the words': 'a b' }]);
  assert.equal(stop_reason, 'tool_use');
});

test('an error before the first word is of its class', async () => {
  for (const [status, kind] of [[400, Anthropic.BadRequestError], [401, Anthropic.AuthenticationError],
    [429, Anthropic.RateLimitError], [503, Anthropic.InternalServerError]]) {
    for (const stream of [false, true]) {
      await assert.rejects(client.messages.create({ ...fails('error', 0, { status }), stream }), (error) => {
        assert.ok(error instanceof kind, String(error));
        assert.equal(error.status, status);
        assert.ok(error.requestID);
        return true;
      });
    }
  }
});

test('an error after the first word raises', async () => {
  for (const kind of ['error', 'close', 'reset', 'panic']) {
    let said = '';
    await assert.rejects(async () => {
      for await (const event of await client.messages.create({ ...fails(kind, 2), stream: true })) said += event.delta?.text ?? '';
    }, Anthropic.APIError);
    assert.equal(said, 'one two');
  }
});

test('twenty at once', async () => {
  const words = Array.from({ length: 50 }, (_, n) => `w${n}`).join(' ');
  const read = async () => (await client.messages.stream(asks({ text: words, delay: '1ms' })).finalMessage()).content[0].text;
  assert.deepEqual(await Promise.all(Array.from({ length: 20 }, read)), Array(20).fill(words));
});

test('models', async () => {
  const ids = [];
  for await (const { id } of client.models.list()) ids.push(id);
  assert.ok(ids.includes('mock/words'));
});
