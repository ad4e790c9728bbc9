// Who asks, and the link to an answer.

import { useEffect, useRef, useState } from 'preact/hooks';
import { call } from '../../client/lastword.js';
import { OPTIONS, type Session } from './session';
import { message, sentence } from './words';

/** Asks for the key; then what was refused can be tried again. */
export function SignIn({ session, done }: { session: Session; done: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null), key = useRef<HTMLInputElement>(null);
  const [why, say] = useState('');
  session.signIn = () => {
    say('');
    if (dialog.current && !dialog.current.open) dialog.current.showModal();
  };
  const send = async (e: Event) => {
    e.preventDefault();
    if (!key.current) return;
    const headers = { authorization: `Bearer ${key.current.value.trim()}` };
    let problem: string | null = null;
    try {
      const response = await fetch('v1/session', { method: 'POST', headers });
      if (!response.ok) problem = (await response.json() as { detail: string }).detail;
    } catch {
      problem = 'lastword does not answer';
    }
    say(problem ? sentence(problem) : '');
    if (problem) return;
    key.current.value = '';
    dialog.current?.close();
    done();
  };
  return (
    <dialog id="sign-in" aria-labelledby="sign-in-title" ref={dialog}>
      <form method="dialog" onSubmit={(e) => void send(e)}>
        <h2 id="sign-in-title">Who asks?</h2>
        <p>This lastword needs a key. It is exchanged for a cookie that no script can read, and kept nowhere else.</p>
        <label for="key">Key</label>
        <input id="key" type="password" autocomplete="current-password" spellcheck={false} aria-describedby="key-problem" required ref={key} />
        <p id="key-problem" class="problem" role="alert">{why}</p>
        <div class="row"><span class="grow" /><button type="submit" class="primary">Sign in</button></div>
      </form>
    </dialog>
  );
}

export interface Shared {
  link: string;
  how: string;
}

/** Who has the link reads, and does nothing else: it holds a ticket, where one is needed, and no key. What stands behind # is sent to nobody. */
export async function shared(session: Session): Promise<Shared | null> {
  const { id } = session;
  try {
    const asked = { ...OPTIONS, method: 'POST', body: { scope: 'read' } };
    const given: { token?: string; expires_at?: string } = await call(`v1/streams/${id}/tickets`, asked);
    const until = given.expires_at && ` until ${new Date(given.expires_at).toLocaleString()}`;
    return {
      link: `${location.href.split('#')[0]}#${id}${given.token ? `?token=${given.token}` : ''}`,
      how: until ? `Whoever has it reads this answer${until}, and needs no key.` : 'Whoever can reach this lastword reads this answer with it.',
    };
  } catch (e) {
    if (id === session.id) session.trouble(message(e));
    return null;
  }
}

export function Share({ shared: { link, how }, done }: { shared: Shared; done: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null), input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
    input.current?.select();
    navigator.clipboard?.writeText(link).catch(() => {});
  }, []);
  return (
    <dialog id="shared" aria-labelledby="shared-title" ref={dialog} onClose={done}>
      <form method="dialog">
        <h2 id="shared-title">A link to this answer</h2>
        <p id="shared-how">{how}</p>
        <label for="link">Link</label>
        <input id="link" readonly spellcheck={false} value={link} ref={input} />
        <div class="row"><span class="grow" /><button type="submit" class="primary">Done</button></div>
      </form>
    </dialog>
  );
}
