import * as sdk from 'ai6';
import { createOpenAICompatible } from 'openai6';
import { ask } from '../../../../answer.js';

export async function POST(request) {
  const [result, options] = await ask(sdk, createOpenAICompatible, request);
  return result.toUIMessageStreamResponse(options);
}
