// A browser keeps six connections to a site on HTTP/1.1, of all tabs together: what comes then waits, and nothing says so but this.

const AFTER = 3000;

let timer: ReturnType<typeof setTimeout> | undefined;

/** @param say to who waits; nobody any more */
export function patience(say: ((words: string) => void) | null): void {
  clearTimeout(timer);
  const [page] = performance.getEntriesByType('navigation');
  if (!say || !(page instanceof PerformanceNavigationTiming) || page.nextHopProtocol !== 'http/1.1') return;
  timer = setTimeout(() => say('Still waiting for a connection. Over HTTP/1.1 a browser has six for a site, in all tabs together: close a tab '
    + 'that reads an answer, or serve lastword with TLS, and so over HTTP/2.'), AFTER);
}
