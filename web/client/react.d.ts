/**
 * `stream` is an answer to go on with (its id, from the URL or a store), if there is one; `ask(request)` begins another.
 * A component that goes away leaves; the answer goes on, and is there when the component is back.
 * @param {string | null} [stream] @param {import('./lastword.js').Options} [options]
 */
export function useAnswer(stream?: string | null, options?: import("./lastword.js").Options): {
    answer: Answer | null;
    ask: (request: string | Record<string, any>) => Answer;
    text: string;
    state: import("./lastword.js").State;
};
import { Answer } from './lastword.js';
