// What has waited for a reader can come as hundreds of kilobytes at once. It is handed on in sips, and between two of them the browser may
// draw: so a long answer that is opened again costs no frame.

const SIP = 8192; // bytes

const turn = (): Promise<void> => new Promise((ok) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    ok();
  };
  port2.postMessage(null);
});

/** `fetch`, for the client library: what it uses of an answer. */
export async function fetchInSips(url: string, init: RequestInit): Promise<unknown> {
  const response = await fetch(url, init), { ok, status, statusText, headers, body } = response;
  return { ok, status, statusText, headers, text: () => response.text(), json: () => response.json() as Promise<unknown>,
    body: body && { getReader: () => reader(body.getReader()) } };
}

function reader(all: ReadableStreamDefaultReader<Uint8Array>) {
  let left = new Uint8Array();
  return {
    async read() {
      if (left.length) await turn();
      else {
        const { done, value } = await all.read();
        if (done) return { done, value };
        left = new Uint8Array(value);
      }
      const value = left.subarray(0, SIP);
      left = left.subarray(SIP);
      return { done: false, value };
    },
    cancel: () => all.cancel(),
  };
}
