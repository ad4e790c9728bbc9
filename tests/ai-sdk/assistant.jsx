// A page with assistant-ui, as its makers write it: its transport and its store of what is to be resumed, its runtime, its parts. It keeps what it
// sends and nothing of what is answered.
import { useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { AssistantRuntimeProvider, MessagePrimitive, ThreadPrimitive, useAssistantTool, useAuiState } from '@assistant-ui/react';
import { AssistantChatTransport, createResumableSessionStorage, useAISDKChat, useAISDKError, useChatRuntime } from '@assistant-ui/ai-sdk';

const words = new URLSearchParams(location.search);
const api = words.get('api'), id = words.get('id');
const known = JSON.parse(localStorage.getItem(id) ?? '[]');
/** What the page has shown since it sent something, in order. */
const statuses = globalThis.statuses = [];

const transport = new AssistantChatTransport({
  api,
  body: { model: words.get('model') },
  resumable: { storage: createResumableSessionStorage(), resumeApi: (answer) => `${api}/${answer}/stream` },
  prepareSendMessagesRequest({ messages }) {
    localStorage.setItem(id, JSON.stringify(messages));
    return {};
  },
});

const look = { toolName: 'look', description: 'Looks.', parameters: { type: 'object', properties: { at: { type: 'string' } } }, execute: async () => ({}) };

const parts = { Text: ({ text }) => text };
const message = (role) => () => <MessagePrimitive.Root asChild><li className={role}><MessagePrimitive.Parts components={parts} /></li></MessagePrimitive.Root>;
const components = { UserMessage: message('user'), AssistantMessage: message('assistant') };

function Thread({ runtime }) {
  const chat = useAISDKChat(), error = useAISDKError();
  useAssistantTool(look);
  const status = useAuiState(({ thread }) => {
    const last = thread.messages.at(-1)?.status;
    return thread.isRunning ? 'streaming' : last?.type === 'incomplete' ? last.reason : 'ready';
  });
  useEffect(() => void statuses.push(status), [status]);
  const send = () => {
    statuses.length = 0;
    runtime.thread.append(`Say it, gate:${words.get('gate')}`);
  };
  return (
    <main>
      <button id="send" onClick={send}>Send</button>
      <button id="resume" onClick={() => chat.resumeStream()}>Resume</button>
      <output id="status">{status}</output>
      <output id="error">{error?.message ?? ''}</output>
      <ol><ThreadPrimitive.Messages components={components} /></ol>
    </main>
  );
}

function Page() {
  const runtime = useChatRuntime({ transport, messages: known });
  return <AssistantRuntimeProvider runtime={runtime}><Thread runtime={runtime} /></AssistantRuntimeProvider>;
}

createRoot(document.getElementById('root')).render(<Page />);
