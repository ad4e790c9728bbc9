import * as sdk from 'ai7';
import { createOpenAICompatible } from 'openai7';
import { ask } from '../../../../answer.js';

export async function POST(request) {
  const [result, options] = await ask(sdk, createOpenAICompatible, request);
  return sdk.createUIMessageStreamResponse({ stream: sdk.toUIMessageStream({ stream: result.stream, ...options }) });
}
