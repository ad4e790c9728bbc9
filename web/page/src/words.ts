// What is said of what happens.

import type { State } from '../../client/lastword.js';

/** The connection, as the page calls it. */
export type Line = 'idle' | 'connecting' | 'live' | 'cut' | 'reconnecting' | 'ended' | 'denied' | 'refused' | 'gone' | 'closed';

export const ENDINGS: Record<string, string> = { completed: 'Completed', failed: 'Failed', cancelled: 'Stopped', interrupted: 'Interrupted' };

/** With a capital and a full stop. */
export const sentence = (text: string): string => text.replace(/^\p{Ll}/u, (c) => c.toUpperCase()).replace(/[^.!?…]$/u, '$&.');

export const message = (error: unknown): string => sentence(error instanceof Error ? error.message : String(error));

/** @param failed HTTP's status, where it failed @param begun whether anything came before */
export function line(state: State, failed: number | undefined, begun: boolean): Line {
  switch (state) {
    case 'failed': return failed === 404 || failed === 410 ? 'gone' : failed === 401 ? 'denied' : 'refused';
    case 'paused': return 'cut';
    case 'waiting': return 'reconnecting';
    case 'connecting': return begun ? 'reconnecting' : 'connecting';
    case 'asking': return 'connecting';
    default: return state;
  }
}

export function usage(counts: Record<string, unknown>): string {
  const known = [['input_tokens', 'in'], ['output_tokens', 'out']].filter(([name]) => Number.isFinite(counts[name ?? '']));
  return known.length ? known.map(([name, word]) => `${String(counts[name ?? ''])} ${word}`).join(', ') : JSON.stringify(counts);
}

/** With commas. Not by the browser's own way, which takes 30 ms the first time. */
export const grouped = (count: number): string => String(count).replace(/\B(?=(?:\d{3})+$)/g, ',');
