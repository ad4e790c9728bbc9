// A chat page as its makers write it. It keeps what it sends, and of what is answered only what `keep` says: so a reload shows what came
// back of that.
import { useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { Chat, useChat } from '@ai-sdk/react';
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from 'ai';

const words = new URLSearchParams(location.search);
const api = words.get('api'), id = words.get('id');
const known = JSON.parse(localStorage.getItem(id) ?? '[]');
/** What the page has shown since it sent something, in order. */
const statuses = globalThis.statuses = [];

/** How many chunks came of this answer. */
let had = 0;

/**
 * What a page of 5 or 6 needs that resumes without a reload: its hook goes on with what it has when a connection broke, and takes a replay
 * for more of it. So it must be given the rest, and no replay. One of 6 may have a chat of its own (`own`) instead.
 */
async function counted(url, options) {
  const response = await fetch(url, options);
  if (response.status !== 200) return response;
  if (options.method === 'POST') had = 0;
  let rest = '';
  const count = new TransformStream({
    transform(text, controller) {
      const frames = (rest + text).split('\n\n');
      rest = frames.pop();
      had += frames.filter((frame) => /^data: \{/m.test(frame)).length;
      controller.enqueue(text);
    },
  });
  const body = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(count).pipeThrough(new TextEncoderStream());
  return new Response(body, response);
}
const counting = words.has('count') && {
  fetch: counted,
  prepareReconnectToStreamRequest: () => ({ api: `${api}/${id}/stream${had > 0 ? `?startIndex=${had}` : ''}` }),
};

const options = {
  id,
  messages: known,
  transport: new DefaultChatTransport({
    api,
    ...counting,
    prepareSendMessagesRequest({ messages, ...asked }) {
      localStorage.setItem(id, JSON.stringify(messages));
      // Behind a tool's result another model goes on, or it would be called for ever.
      const model = messages.at(-1).role === 'assistant' ? 'gate/words' : words.get('model');
      return { body: { id, messages, trigger: asked.trigger, messageId: asked.messageId, model } };
    },
  }),
  sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
  onToolCall({ toolCall }) {
    globalThis.chat.addToolResult({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { seen: toolCall.input } });
  },
};
const own = words.has('own') && { chat: new Chat(options) };

function Page() {
  const chat = useChat({ ...(own || options), resume: true });
  globalThis.chat = chat;
  useEffect(() => void statuses.push(chat.status), [chat.status]);
  useEffect(() => {
    if (words.has('keep')) localStorage.setItem(id, JSON.stringify(chat.messages));
  });
  const send = () => {
    statuses.length = 0;
    chat.sendMessage({ text: `Say it, gate:${words.get('gate')}` });
  };
  const stop = async () => {
    chat.stop();
    await fetch(`${api}/${id}/stop`, { method: 'POST' });
    document.body.dataset.stopped = '';
  };
  return (
    <main>
      <button id="send" onClick={send}>Send</button>
      <button id="stop" onClick={stop}>Stop</button>
      <button id="resume" onClick={() => chat.resumeStream()}>Resume</button>
      <output id="status">{chat.status}</output>
      <output id="error">{chat.error?.message ?? ''}</output>
      <ol>{chat.messages.map((message) => <li key={message.id} className={message.role}>{message.parts.map((part) => part.text ?? '').join('')}</li>)}</ol>
    </main>
  );
}

createRoot(document.getElementById('root')).render(<Page />);
