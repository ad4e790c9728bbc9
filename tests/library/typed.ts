// An application in TypeScript: it compiles, or the library's types are wrong.

import { ask, read, call, Problem, Answer, type AnswerEvent, type Options } from 'lastword';
import { useAnswer } from 'lastword/react';

const options: Options = { url: 'https://answers.example.com', token: async (why?: Problem) => (why ? 'new' : 'old') };

export async function use(): Promise<string> {
  const answer: Answer = ask({ prompt: 'Tell me about rivers' }, options);
  for await (const event of answer) {
    if (event.name === 'message') event.data.text.toUpperCase();
    if (event.name === 'tool_call') event.data.index.toFixed();
    if (event.name === 'reset') event.data.after.toFixed();
    // @ts-expect-error: the end has no text
    if (event.name === 'end') event.data.text;
  }
  const end = await read(answer.id ?? '', { after: answer.cursor ?? 0 }).done();
  // @ts-expect-error: there is no such status
  if (end.status === 'finished') return '';
  const off: () => void = answer.subscribe((event: AnswerEvent | null) => event?.name);
  off();
  await call('v1/models', options);
  // @ts-expect-error: there is no such option
  ask('x', { adress: '' });
  return answer.text;
}

export function Component(): string {
  const { text, ask: again } = useAnswer(null, options);
  again('Tell me about rivers');
  return text;
}
