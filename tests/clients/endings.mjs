// What a Node program sees of an answer: how it ended, or what is thrown. Asked with a line of JSON, [url, surface, body, stream].

import { createInterface } from 'node:readline';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

async function* all(answer) {
  yield* answer;
}

/** The last thing of these that there is. */
async function last(events, pick) {
  let found;
  for await (const event of all(events)) found = pick(event) ?? found;
  return found;
}

const surfaces = {
  async chat(url, body) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', maxRetries: 0 });
    const answer = await client.chat.completions.create(body);
    return body.stream ? last(answer, (chunk) => chunk.choices[0]?.finish_reason) : answer.choices[0].finish_reason;
  },
  async responses(url, body) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', maxRetries: 0 });
    const answer = await client.responses.create(body);
    if (!body.stream) return answer.status;
    return last(answer, (event) => event.response && `${event.type}\`, \`${event.response.status}`);
  },
  async messages(url, body) {
    const client = new Anthropic({ baseURL: url, apiKey: 'any', maxRetries: 0 });
    const answer = await client.messages.create(body);
    return body.stream ? last(answer, (event) => event.delta?.stop_reason) : answer.stop_reason;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [url, surface, body, stream] = JSON.parse(line);
  let seen;
  try {
    seen = `\`${await surfaces[surface](url, { ...body, stream })}\``;
  } catch (error) {
    seen = `raises \`${error.constructor.name}\``;
  }
  console.log(JSON.stringify(seen));
}
