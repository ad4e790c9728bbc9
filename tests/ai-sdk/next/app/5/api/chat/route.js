import * as sdk from 'ai5';
import { createOpenAICompatible } from 'openai5';
import { ask } from '../../../../answer.js';

export async function POST(request) {
  const [result, options] = await ask(sdk, createOpenAICompatible, request);
  return result.toUIMessageStreamResponse(options);
}
