// A route as the AI SDK's documentation has it.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { convertToModelMessages, createUIMessageStreamResponse, jsonSchema, streamText, tool, toUIMessageStream } from 'ai';

const tools = {
  look: tool({ description: 'Looks.', inputSchema: jsonSchema({ type: 'object', properties: { at: { type: 'string' } } }) }),
};

export async function POST(request) {
  const { messages, model = 'slow/words' } = await request.json();
  const provider = createOpenAICompatible({ name: 'lastword', baseURL: `${process.env.MODEL_URL}/v1` });
  const result = streamText({ model: provider.chatModel(model), messages: await convertToModelMessages(messages), tools, maxRetries: 0 });
  return createUIMessageStreamResponse({ stream: toUIMessageStream({ stream: result.stream, originalMessages: messages, onError: (error) => String(error?.message ?? error) }) });
}
