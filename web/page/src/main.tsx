// The page: asks, shows, stops, cuts and comes back.

import { render } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import '../../style.css';
import './page.css';
import { Ask } from './ask';
import { Asking } from './asking';
import { Share, shared, SignIn, type Shared } from './dialogs';
import { drawn, linksOf } from './safe';
import { Session } from './session';
import { Talk } from './talk';
import { Wire } from './wire';

const session = new Session(), asking = new Asking(session);

function Page() {
  const [link, show] = useState<Shared | null>(null);
  useEffect(() => {
    const arrive = () => session.arrive();
    addEventListener('hashchange', arrive);
    void asking.offer();
    arrive();
    return () => removeEventListener('hashchange', arrive);
  }, []);
  const signedIn = () => {
    asking.problem(null);
    void asking.offer();
    session.retry();
  };
  return (
    <>
      <header>
        <h1>lastword<i aria-hidden="true" /></h1>
        <p>Cut the line, reload, open a second tab: the answer goes on. <a href="dashboard">What runs</a> · <a href="docs">The API</a></p>
      </header>
      <main>
        <Ask asking={asking} />
        <Talk session={session} share={() => void shared(session).then(show)} />
        <OnTheWire />
      </main>
      <SignIn session={session} done={signedIn} />
      {link && <Share shared={link} done={() => show(null)} />}
    </>
  );
}

/** Its rows come and go with each frame, and are drawn by hand. */
function OnTheWire() {
  const list = useRef<HTMLOListElement>(null);
  useLayoutEffect(() => {
    if (list.current) session.attach({ wire: new Wire(list.current) });
  }, []);
  return (
    <aside class="card" aria-labelledby="wire-title">
      <div class="row bar">
        <h2 id="wire-title">On the wire</h2>
        <span class="grow" />
        <label class="check">
          <input type="checkbox" id="show-ids" onChange={(e) => session.showIds(e.currentTarget.checked)} /> ids in the text
        </label>
      </div>
      <ol id="wire" tabIndex={0} aria-label="The newest events: id, name, data" ref={list} />
    </aside>
  );
}

// The first block of a first answer is drawn by code that has run before: the compiler is not waited for in its frame.
const idle = window.requestIdleCallback ?? ((run: () => void) => setTimeout(run, 200));
idle(() => drawn('# a\n\n- *b* **c** `d` [e](https://f)\n\n| g |\n| - |\n| h |\n\n> i\n\n```\nj\n```', linksOf()));

const place = document.getElementById('page');
if (place) render(<Page />, place);
