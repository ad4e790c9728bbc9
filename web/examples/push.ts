const url = "http://127.0.0.1:8080/v1/streams";
const ask = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: "push/mine" }) };
const { id } = await (await fetch(url, ask)).json();

async function* events() { // your generator: each line is with its readers as soon as it is said
  for (const text of ["Rivers", " carry", " water."]) yield JSON.stringify({ text }) + "\n";
  yield JSON.stringify({ event: "end", data: { status: "completed" } }) + "\n";
}
const body: ReadableStream = (ReadableStream as any).from(events()).pipeThrough(new TextEncoderStream());
await fetch(`${url}/${id}/events?at=0`, { method: "POST", body, duplex: "half" } as RequestInit);
console.log((await (await fetch(`${url}/${id}`)).json()).text);
