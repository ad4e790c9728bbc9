// A few values, and who draws them.

import { useLayoutEffect, useState } from 'preact/hooks';

export class Store<T extends object> {
  #value: T;
  #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  /** Tells those who draw, if anything is another than before. */
  set(change: Partial<T>): void {
    const now: T = { ...this.#value, ...change };
    if ((Object.keys(change) as (keyof T)[]).every((key) => Object.is(now[key], this.#value[key]))) return;
    this.#value = now;
    for (const listener of this.#listeners) listener(now);
  }

  subscribe(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** The store's values, in a component that is drawn again with each change. */
export function useStore<T extends object>(store: Store<T>): T {
  const [value, set] = useState(store.value);
  useLayoutEffect(() => {
    set(store.value);
    return store.subscribe(set);
  }, [store]);
  return value;
}
