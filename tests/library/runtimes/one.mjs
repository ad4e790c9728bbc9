// One answer, from the address that is given, for whatever runtime runs this.

import { ask } from '../../../web/client/lastword.js';

const [url, transport] = (globalThis.Deno?.args ?? process.argv.slice(2));
const request = { prompt: 'x', model: 'mock/words', backend_options: { delay: '2ms' } };
const answer = ask(request, { url, transport, backoff: [2, 20], attempts: 100 });
const told = [];
for await (const { name, data } of answer) if (name === 'message') told.push(data.text);
console.log(JSON.stringify({ id: answer.id, text: answer.text, told: told.join(''), status: answer.end.status, resumes: answer.resumes }));
