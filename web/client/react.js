// An answer in a React component: it is read while the component is there, and drawn again with each piece.

import { useCallback, useEffect, useReducer, useState } from 'react';
import { Answer } from './lastword.js';

/**
 * `stream` is an answer to go on with (its id, from the URL or a store), if there is one; `ask(request)` begins another.
 * A component that goes away leaves; the answer goes on, and is there when the component is back.
 * @param {string | null} [stream] @param {import('./lastword.js').Options} [options]
 */
export function useAnswer(stream = null, options = {}) {
  const [answer, set] = useState(() => (stream ? new Answer({ stream }, options) : null));
  const [, draw] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    const off = answer?.subscribe(draw);
    answer?.open();
    return () => {
      off?.();
      answer?.pause();
    };
  }, [answer]);
  const ask = useCallback((/** @type {string | Record<string, any>} */ request) => {
    const next = new Answer({ request }, options);
    set(next);
    return next;
  }, []);
  return { answer, ask, text: answer?.text ?? '', state: answer?.state ?? 'idle' };
}
