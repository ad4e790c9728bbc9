// A chat page as its makers write it. What a person said is kept by the page; what is answered is not, so that a reload shows what came
// back of it.
import { createRoot } from 'react-dom/client';
import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from 'ai';

const words = new URLSearchParams(location.search);
const api = words.get('api'), id = words.get('id');
const known = () => JSON.parse(localStorage.getItem(id) ?? '[]');

function Chat() {
  const chat = useChat({
    id,
    messages: known(),
    resume: true,
    transport: new DefaultChatTransport({
      api,
      // Behind a tool's result another model goes on, or it would be called for ever.
      body: () => ({ model: globalThis.answered ? 'slow/words' : words.get('model') }),
    }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall({ toolCall }) {
      globalThis.answered = true;
      chat.addToolResult({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { seen: toolCall.input } });
    },
  });
  globalThis.chat = chat;
  const send = () => {
    const said = { id: 'said', role: 'user', parts: [{ type: 'text', text: 'Say it.' }] };
    localStorage.setItem(id, JSON.stringify([said]));
    chat.sendMessage(said);
  };
  const stop = async () => {
    await fetch(`${api}/${id}/stop`, { method: 'POST' });
    chat.stop();
  };
  return (
    <main>
      <button id="send" onClick={send}>Send</button>
      <button id="stop" onClick={stop}>Stop</button>
      <output id="status">{chat.status}</output>
      <output id="error">{chat.error?.message ?? ''}</output>
      <ol>{chat.messages.map((message) => <li key={message.id} className={message.role}>{message.parts.map((part) => part.text ?? '').join('')}</li>)}</ol>
    </main>
  );
}

createRoot(document.getElementById('root')).render(<Chat />);
