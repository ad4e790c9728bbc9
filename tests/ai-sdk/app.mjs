// An application as its makers write it: Express, and the AI SDK's own helpers on the server. Its model is lastword's mock.
//
//   node app.mjs 5|6|7 MODEL_URL     prints the port it listens on

import express from 'express';

const [version, model] = process.argv.slice(2);
const sdk = await import(`ai${version}`);
const { createOpenAICompatible } = await import(`openai${version}`);

const provider = createOpenAICompatible({ name: 'lastword', baseURL: `${model}/v1`, includeUsage: true });
const tools = {
  look: sdk.tool({
    description: 'Looks.',
    inputSchema: sdk.jsonSchema({ type: 'object', properties: { at: { type: 'string' } } }),
  }),
};

const app = express();
// Of any type: WorkflowChatTransport says none.
app.use(express.json({ type: () => true }));

app.post('/api/chat', async (request, response) => {
  const { messages, model = 'slow/words' } = request.body;
  const result = sdk.streamText({
    model: provider.chatModel(model),
    messages: await sdk.convertToModelMessages(messages),
    tools,
    maxRetries: 0,
  });
  const options = { originalMessages: messages, generateMessageId: () => `made-${Date.now()}`, onError: (error) => `the application says: ${error?.message ?? error}` };
  if (version === '7') {
    sdk.pipeUIMessageStreamToResponse({ response, stream: sdk.toUIMessageStream({ stream: result.stream, ...options }) });
  } else {
    result.pipeUIMessageStreamToResponse(response, options);
  }
});

app.get('/api/plain', (_, response) => response.json({ plain: true }));

// LangGraph's server, as far as its client needs it: a run, told in named events with ids.
app.post('/threads/:thread/runs/stream', (_, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream', location: '/threads/t/runs/r/stream' });
  let n = 0;
  response.write(`event: metadata\ndata: {"run_id":"r"}\nid: ${n}\n\n`);
  const timer = setInterval(() => {
    n += 1;
    response.write(`event: values\ndata: {"n":${n},"text":"${'word '.repeat(n)}"}\nid: ${n}\n\n`);
    if (n === 30) {
      clearInterval(timer);
      response.end();
    }
  }, 5);
});

const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
