// OpenAI's own client for Node, unmodified, asking for Responses: they are waited for, streamed, left alone, resumed and cancelled.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { startGateway } from '../page/gateway.mjs';

let gateway, responses;
before(async () => {
  gateway = await startGateway();
  ({ responses } = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: 'any', maxRetries: 0 }));
});
after(() => gateway?.stop());

const TEXT = 'One zwei\n三 🌊four "five" s\\ix.';

/** A request for these words of the mock's. */
const asks = (options, more) => ({ model: 'mock/words', input: 'say it', backend_options: { delay: '0ms', ...options }, ...more });
const fails = (kind, after, more) => asks({ text: 'one two three', fault: { kind, after, ...more } });

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const words = (events) => events.filter(({ type }) => type === 'response.output_text.delta').map(({ delta }) => delta).join('');

test('plain', async () => {
  const answer = await responses.create(asks({ text: TEXT, reasoning: 'hm' }));
  assert.equal(answer.output_text, TEXT);
  assert.deepEqual([answer.status, answer.output.map(({ type }) => type)], ['completed', ['reasoning', 'message']]);
  const again = await responses.retrieve(answer.id);
  assert.deepEqual([again.output, again.usage], [answer.output, answer.usage]);
});

test('a stream, resumed behind every event', async () => {
  const whole = await all(await responses.create(asks({ text: TEXT, tool_call: { name: 'look' } }, { stream: true })));
  assert.equal(words(whole), TEXT);
  const { id } = whole[0].response;
  for (const { sequence_number: number } of whole) {
    const rest = await all(await responses.retrieve(id, { stream: true, starting_after: number }));
    assert.deepEqual(rest, whole.slice(number + 1));
  }
});

test('a stream, added up by the client, and again from the middle', async () => {
  const tools = [{ type: 'function', name: 'look', parameters: { type: 'object' }, strict: false }];
  const options = { text: TEXT, tool_call: { name: 'look', arguments: { the: 'words' } } };
  const answer = await responses.stream(asks(options, { tools })).finalResponse();
  assert.equal(answer.output_text, TEXT);
  assert.equal(answer.output[1].arguments, '{"the":"words"}');
  const again = responses.stream({ response_id: answer.id, starting_after: 5 });
  const events = await all(again);
  assert.equal(events[0].sequence_number, 6);
  assert.equal((await again.finalResponse()).output_text, TEXT);
});

test('in the background, cancelled, erased', async () => {
  const { id, status } = await responses.create(asks({ text: 'one', repeat: 100000, delay: '10ms' }, { background: true }));
  assert.ok(['queued', 'in_progress'].includes(status), status);
  assert.equal((await responses.cancel(id)).status, 'cancelled');
  const events = await all(await responses.retrieve(id, { stream: true }));
  assert.equal(events.at(-1).type, 'response.incomplete');
  await responses.delete(id);
  await assert.rejects(responses.retrieve(id), OpenAI.NotFoundError);
});

test('a conversation', async () => {
  const first = await responses.create(asks({ text: 'And so on.' }));
  const second = await responses.create(asks({ text: 'As I said.' }, { previous_response_id: first.id }));
  const items = await all(responses.inputItems.list(second.id, { order: 'asc', limit: 1 }));
  assert.deepEqual(items.map(({ content }) => content[0].text), ['say it', 'And so on.', 'say it']);
});

test('an error before the first word is of its class, one after it is told', async () => {
  for (const stream of [false, true]) {
    await assert.rejects(responses.create({ ...fails('error', 0, { status: 429, code: 'their_word' }), stream }), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError, String(error));
      assert.equal(error.code, 'their_word');
      return true;
    });
  }
  for (const kind of ['error', 'close', 'reset', 'panic']) {
    const events = await all(await responses.create({ ...fails(kind, 2), stream: true }));
    assert.deepEqual([words(events), events.at(-1).type], ['one two', 'response.failed']);
    await assert.rejects(responses.create(fails(kind, 2)), OpenAI.InternalServerError);
  }
});
