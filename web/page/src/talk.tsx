// The answer, and what is known of it.

import { useLayoutEffect, useRef } from 'preact/hooks';
import { Answer } from './answer';
import { copied } from './copy';
import { connected, type Facts, type Session } from './session';
import { useStore } from './store';

const NAMES: [keyof Facts, string][] = [['status', 'Status'], ['answered-by', 'Model'], ['first-token', 'First token'], ['usage', 'Usage'],
  ['pieces', 'Pieces'], ['last-id', 'Last id'], ['resumes', 'Resumes'], ['repeats', 'Repeats']];

export function Talk({ session, share }: { session: Session; share: () => void }) {
  const { line, says, trouble, proof, facts, running, stopping, shared, shareable } = useStore(session.view);
  const box = useRef<HTMLDivElement>(null), said = useRef<HTMLDivElement>(null);
  const reasoned = useRef<HTMLDivElement>(null), extras = useRef<HTMLDivElement>(null);
  // What is within the answer is drawn by it alone: ten thousand tokens are too many for a comparison of trees with each frame.
  useLayoutEffect(() => {
    if (box.current && said.current && reasoned.current && extras.current) {
      session.attach({ box: box.current, answer: new Answer(said.current, reasoned.current, extras.current) });
    }
  }, []);
  const known = JSON.parse(facts) as Facts;
  return (
    <section id="talk" class="card" aria-label="Answer">
      <div class="row bar">
        <p id="state" role="status" aria-live="polite">{says}</p>
        <span class="grow" />
        <button type="button" id="share" disabled={!shareable} onClick={share}>Share</button>
        <button type="button" id="cut" disabled={!running} onClick={() => session.cut()}>
          {running && !connected(line) ? 'Reconnect now' : 'Cut the connection'}
        </button>
        <button type="button" id="stop" disabled={!running || stopping || shared} onClick={() => void session.stop()}>Stop</button>
      </div>
      <div id="answer" tabIndex={0} role="region" aria-label="Text of the answer" ref={box}>
        <Parts reasoned={reasoned} said={said} extras={extras} />
      </div>
      <div id="notes">
        <p id="trouble" class="problem" role="alert">{trouble}</p>
        <p id="proof">{proof}</p>
      </div>
      <dl>
        {NAMES.map(([id, name]) => <div key={id}><dt>{name}</dt><dd id={id}>{known[id] ?? '–'}</dd></div>)}
      </dl>
    </section>
  );
}

type Place = { current: HTMLDivElement | null };

function Parts({ reasoned, said, extras }: { reasoned: Place; said: Place; extras: Place }) {
  return (
    <>
      <details open hidden><summary>Reasoning</summary><div id="reasoned" ref={reasoned} /></details>
      <div id="said" ref={said} onClick={copied} />
      <div id="extras" ref={extras} />
    </>
  );
}
