// OpenAI's own client for Node, unmodified, against a real lastword with its mock backend: only the base URL is another.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { startGateway } from '../page/gateway.mjs';

let gateway, client;
before(async () => {
  gateway = await startGateway();
  client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: 'any', maxRetries: 0 });
});
after(() => gateway?.stop());

/** Asks for these words of the mock's. */
function create(options, more) {
  const messages = [{ role: 'user', content: 'say it' }];
  return client.chat.completions.create({ model: 'mock/words', messages, backend_options: { delay: '0ms', ...options }, ...more });
}

const fails = (kind, after, more) => ({ text: 'one two three', fault: { kind, after, ...more } });

test('plain', async () => {
  const answer = await create({ text: 'one two three' });
  assert.equal(answer.choices[0].message.content, 'one two three');
  assert.equal(answer.usage.completion_tokens, 3);
});

test('stream', async () => {
  let said = '';
  let usage;
  for await (const chunk of await create({ text: 'one two three' }, { stream: true, stream_options: { include_usage: true } })) {
    said += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage;
  }
  assert.equal(said, 'one two three');
  assert.equal(usage.total_tokens, 5);
});

test('a stream with a tool call, added up by the client', async () => {
  const stream = client.chat.completions.stream({
    model: 'mock/words',
    messages: [{ role: 'user', content: 'say it' }],
    backend_options: { text: 'Let me see.', delay: '0ms', tool_call: { name: 'look', arguments: { 'the words': 'a b' } } },
  });
  const { message } = (await stream.finalChatCompletion()).choices[0];
  assert.equal(message.content, 'Let me see.');
  const [{ id, function: { name, arguments: given } }] = message.tool_calls;
  assert.deepEqual([id, name, JSON.parse(given)], ['call_mock', 'look', { 'the words': 'a b' }]);
});

test('an error before the first word is of its class', async () => {
  for (const [status, kind] of [[400, OpenAI.BadRequestError], [401, OpenAI.AuthenticationError],
    [429, OpenAI.RateLimitError], [503, OpenAI.InternalServerError]]) {
    for (const stream of [false, true]) {
      await assert.rejects(create(fails('error', 0, { status, code: 'their_word' }), { stream }), (error) => {
        assert.ok(error instanceof kind, String(error));
        assert.deepEqual([error.status, error.code], [status, 'their_word']);
        return true;
      });
    }
  }
});

test('an error after the first word raises', async () => {
  for (const kind of ['error', 'close', 'reset', 'panic']) {
    let said = '';
    await assert.rejects(async () => {
      for await (const chunk of await create(fails(kind, 2), { stream: true })) said += chunk.choices[0].delta.content ?? '';
    }, OpenAI.APIError);
    assert.equal(said, 'one two');
  }
});
