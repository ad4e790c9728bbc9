// What the route handlers of all versions share: the request's messages to a model, which is lastword's mock.

export async function ask(sdk, createOpenAICompatible, request) {
  const { messages, model = 'slow/words' } = await request.json();
  const provider = createOpenAICompatible({ name: 'lastword', baseURL: `${process.env.MODEL_URL}/v1`, includeUsage: true });
  const look = sdk.tool({
    description: 'Looks.',
    inputSchema: sdk.jsonSchema({ type: 'object', properties: { at: { type: 'string' } } }),
  });
  const result = sdk.streamText({
    model: provider.chatModel(model), messages: await sdk.convertToModelMessages(messages), tools: { look }, maxRetries: 0,
  });
  return [result, {
    originalMessages: messages,
    generateMessageId: () => `made-${crypto.randomUUID()}`,
    onError: (error) => `the application says: ${error?.message ?? error}`,
  }];
}
