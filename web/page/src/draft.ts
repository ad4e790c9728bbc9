// What was typed is still there after a reload; a browser that keeps nothing is fine too.

export interface Draft {
  prompt?: string;
  model?: string;
  options?: string;
  template?: string;
  variables?: Record<string, string>;
}

const PLACE = 'lastword.draft';

export function remember(draft: Draft): void {
  try {
    localStorage.setItem(PLACE, JSON.stringify(draft));
  } catch { /* no storage */ }
}

export function recall(): Draft {
  try {
    return (JSON.parse(localStorage.getItem(PLACE) ?? 'null') as Draft | null) ?? {};
  } catch {
    return {};
  }
}
