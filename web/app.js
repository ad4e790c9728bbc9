// The page: asks, shows, stops, cuts and comes back. The stream's id is in the address (#id), so that a reload or a
// second tab reads the same answer again from its beginning and then live.

import { Answer } from './answer.js';
import * as lastword from './lastword.js';
import { Wire } from './wire.js';

const $ = (id) => document.getElementById(id);
const answer = new Answer({ said: $('said'), reasoned: $('reasoned'), extras: $('extras') });
const wire = new Wire($('wire'));

// Addresses are relative, so that the page also works under a path of a reverse proxy. It shows records, not whole words.
const OPTIONS = { url: '.', params: { chunking: 'token' } };
const BACK_AFTER_CUT = 3000;
const SIX_AFTER = 3000;

let reader = null;
let shown = null; // of the stream on the page: { id, status, model, firstToken, usage, askedAt }

// -- asking --

async function ask() {
  if ($('send').disabled) return;
  problem(null);
  const request = { prompt: $('prompt').value };
  if (!request.prompt.trim()) return problem('Type a prompt first.', 'prompt');
  if ($('model').value) request.model = $('model').value;
  const options = $('options').value.trim();
  if (options) {
    try {
      request.backend_options = JSON.parse(options);
    } catch (e) {
      return problem(`The mock options are not JSON: ${e.message}.`, 'backend_options');
    }
  }
  remember();

  $('send').disabled = true;
  const askedAt = performance.now();
  try {
    patience(problem);
    const asked = lastword.ask(request, OPTIONS);
    asked.subscribe(() => asked.state === 'waiting' && asked.id === null && problem('The gateway does not answer. Asking again.'));
    const id = await asked.begun();
    problem(null);
    history.pushState(null, '', `#${id}`);
    follow(asked, askedAt);
    $('talk').scrollIntoView({ block: 'nearest' });
  } catch (e) {
    if (e.status === 401) signIn();
    problem(sentence(e.message), e.field);
  } finally {
    patience(null);
    $('send').disabled = false;
  }
}

let six;

/**
 * A browser keeps six connections to a site on HTTP/1.1, of all tabs together: what comes then waits, and nothing says so but this.
 * @param {((words: string) => void) | null} say who waits; nobody any more
 */
function patience(say) {
  clearTimeout(six);
  const [page] = performance.getEntriesByType('navigation');
  if (!say || page?.nextHopProtocol !== 'http/1.1') return;
  six = setTimeout(() => say('Still waiting for a connection. Over HTTP/1.1 a browser has six for a site, in all tabs together: close a tab '
    + 'that reads an answer, or serve lastword with TLS, and so over HTTP/2.'), SIX_AFTER);
}

// -- signing in --

/** Asks for the key; then what was refused can be tried again. */
function signIn() {
  $('key-problem').textContent = '';
  if (!$('sign-in').open) $('sign-in').showModal();
}

$('sign-in').addEventListener('submit', async (e) => {
  e.preventDefault();
  const headers = { authorization: `Bearer ${$('key').value.trim()}` };
  let why;
  try {
    const response = await fetch('v1/session', { method: 'POST', headers });
    why = response.ok ? null : (await response.json()).detail;
  } catch {
    why = 'lastword does not answer';
  }
  if (why) return void ($('key-problem').textContent = sentence(why));
  $('key').value = '';
  $('sign-in').close();
  problem(null);
  offer($('model').value || recall().model);
  if (document.body.dataset.state === 'denied') follow(lastword.read(shown.id, OPTIONS));
});

/** Says what is wrong, at the field it is about. */
function problem(words, field = '') {
  $('problem').textContent = words ?? '';
  const at = ['prompt', 'model', 'backend_options'].find((name) => field.startsWith(name));
  for (const name of ['prompt', 'model', 'options']) $(name).removeAttribute('aria-invalid');
  if (!words || !at) return;
  const input = $(at === 'backend_options' ? 'options' : at);
  if (input === $('options')) $('mock').open = true;
  input.setAttribute('aria-invalid', 'true');
  input.focus();
}

// -- reading --

/** Shows a stream from its beginning: one that was asked for now, or another time. */
function follow(next, askedAt) {
  reader?.close();
  reader = next;
  const mine = shown = { id: reader.id, askedAt, status: 'running' };
  answer.clear();
  wire.clear();
  follows = true;
  $('trouble').textContent = $('proof').textContent = '';
  document.body.dataset.status = mine.status;
  let state = null;
  reader.subscribe((event) => {
    if (mine !== shown) return;
    if (event?.name === 'reset') reset(event);
    else if (event) take(event);
    else if (state !== next.state) connection(state = next.state);
    soon();
  });
  connection(state = reader.state);
  // What the events do not say to one who comes later: the time of the first token.
  if (askedAt === undefined) reader.fetchState().then((known) => mine === shown && learn(known), () => {});
  soon();
}

function reset({ data }) {
  answer.reset(data.after);
  wire.event({ id: null, name: 'reset', data });
  wire.mark(`reset (${data.reason ?? 'no reason given'}): what came after ${data.after} is dropped`);
}

function take(event) {
  const { name, data } = event;
  wire.event(event);
  answer.add(event);
  if (name === 'start') shown.model = data.model ?? shown.model;
  if (name === 'message' && shown.askedAt !== undefined) shown.firstToken ??= performance.now() - shown.askedAt;
}

function learn(state) {
  shown.model ??= state.model;
  shown.firstToken ??= state.timings?.first_token_ms;
  soon();
}

const ENDINGS = { completed: 'Completed', failed: 'Failed', cancelled: 'Stopped', interrupted: 'Interrupted' };

/** What happens to the connection, in words. */
function connection(state) {
  const at = reader.cursor === null ? '' : ` after id ${reader.cursor}`;
  const was = document.body.dataset.state;
  const name = state === 'failed' ? failure(reader.error)
    : state === 'paused' ? 'cut'
    : state === 'waiting' || (state === 'connecting' && reader.cursor !== null) ? 'reconnecting'
    : state === 'asking' ? 'connecting' : state;
  if (name !== 'closed') document.body.dataset.state = name;

  patience(name === 'connecting' || name === 'reconnecting' ? (words) => { $('trouble').textContent = words; } : null);
  if (name === 'live') $('trouble').textContent = '';
  if (name === 'connecting') say('Connecting');
  else if (name === 'live') {
    const again = reader.resumes > 0;
    say(again ? `Live, resumed${at}` : 'Live');
    if (again) wire.mark(`resumed${at}`);
  } else if (name === 'cut') {
    say(`Cut${at}, back in ${BACK_AFTER_CUT / 1000} s`);
    wire.mark(`cut${at}; the server was not told`);
  } else if (name === 'reconnecting') {
    say(`Reconnecting${at}`);
    if (was === 'live') wire.mark(`connection lost${at}`);
  } else if (name === 'ended') ended(reader.end);
  else if (name === 'denied') {
    stuck('Not allowed', sentence(reader.error.message));
    signIn();
  }
  else if (name === 'refused') stuck('Refused', sentence(reader.error.message));
  else if (name === 'gone') stuck('Gone', `This stream is ${reader.error.status === 410 ? 'expired' : 'not known here'}. ${sentence(reader.error.message)}`);
}

const failure = ({ status }) => (status === 404 || status === 410 ? 'gone' : status === 401 ? 'denied' : 'refused');

/** With a capital and a full stop. */
const sentence = (text) => `${text}`.replace(/^\p{Ll}/u, (c) => c.toUpperCase()).replace(/[^.!?…]$/u, '$&.');

function stuck(word, why) {
  shown.status = word.toLowerCase();
  say(word);
  $('trouble').textContent = why;
}

function ended({ status, reason, usage, error }) {
  shown.status = status === 'completed' && reason && reason !== 'stop' ? `${status} (${reason})` : status;
  shown.usage = usage;
  document.body.dataset.status = status;
  say(ENDINGS[status] ?? status);
  if (error) $('trouble').textContent = `${sentence(error.message ?? error.code)}${error.retryable ? ' Asking again may help.' : ''}`;
  compare(shown);
}

/** The proof: what was put together here, over any number of connections, is what the gateway recorded. */
async function compare(mine) {
  let state;
  try { state = await reader.fetchState(); } catch { return; }
  if (mine !== shown) return;
  learn(state);
  if (typeof state.text !== 'string') return;
  paint(); // the proof never comes before the words, however slow the frames of a tab in the background are
  const [here, there] = [answer.text, state.text].map((text) => text.length.toLocaleString('en'));
  if (state.text === answer.text) $('proof').textContent = `Identical to the log: ${here} characters.`;
  else $('trouble').textContent += ` This is not what the log has: ${here} characters here, ${there} there.`;
}

// -- showing --

const say = (words) => { if ($('state').textContent !== words) $('state').textContent = words; };

let due = false;

/** Draws once a frame, however much has come; in a hidden tab a few times a second. */
function soon() {
  if (due) return;
  due = true;
  const draw = () => {
    due = false;
    paint();
  };
  if (document.hidden) setTimeout(draw, 250);
  else requestAnimationFrame(draw);
}

let follows = true; // the newest words are kept in view until someone scrolls up

function paint() {
  answer.paint();
  wire.paint();
  const box = $('answer');
  if (follows) box.scrollTop = box.scrollHeight;

  const state = document.body.dataset.state;
  const running = shown !== null && !['idle', 'ended', 'gone'].includes(state);
  const connected = state === 'live' || state === 'connecting';
  set('status', shown?.status);
  set('answered-by', shown?.model);
  set('first-token', shown?.firstToken === undefined ? null : `${Math.round(shown.firstToken)} ms`);
  set('pieces', shown && answer.words);
  set('usage', shown?.usage && usage(shown.usage));
  set('last-id', reader?.cursor);
  set('resumes', reader?.resumes);
  set('repeats', reader?.repeats);
  $('stop').disabled = !running || shown.stopping === true || shown.shared === true;
  $('share').disabled = shown === null || shown.id === null || shown.shared === true || ['gone', 'denied', 'refused'].includes(state);
  $('cut').disabled = !running;
  $('cut').textContent = running && !connected ? 'Reconnect now' : 'Cut the connection';
}

function set(id, value) {
  const text = value === null || value === undefined ? '–' : String(value);
  if ($(id).textContent !== text) $(id).textContent = text;
}

function usage(counts) {
  const known = [['input_tokens', 'in'], ['output_tokens', 'out']].filter(([name]) => Number.isFinite(counts[name]));
  return known.length ? known.map(([name, word]) => `${counts[name]} ${word}`).join(', ') : JSON.stringify(counts);
}

// -- what people do --

$('ask').addEventListener('submit', (e) => {
  e.preventDefault();
  ask();
});

$('ask').addEventListener('keydown', (e) => {
  if (e.key !== 'Enter' || !(e.ctrlKey || e.metaKey)) return;
  e.preventDefault();
  ask();
});

$('stop').addEventListener('click', async () => {
  const mine = shown;
  mine.stopping = true;
  paint();
  try {
    await reader.cancel();
  } catch (e) {
    if (mine === shown) $('trouble').textContent = sentence(e.message);
    mine.stopping = false;
    soon();
  }
});

// Who has the link reads, and does nothing else: it holds a ticket, where one is needed, and no key. What stands behind # is sent to nobody.
$('share').addEventListener('click', async () => {
  const mine = shown;
  try {
    const given = await lastword.call(`v1/streams/${mine.id}/tickets`, { ...OPTIONS, method: 'POST', body: { scope: 'read' } });
    const ticket = given.token ? `?token=${given.token}` : '';
    $('link').value = `${location.href.split('#')[0]}#${mine.id}${ticket}`;
    const until = given.expires_at && ` until ${new Date(given.expires_at).toLocaleString()}`;
    $('shared-how').textContent = until ? `Whoever has it reads this answer${until}, and needs no key.` : 'Whoever can reach this lastword reads this answer with it.';
    $('shared').showModal();
    $('link').select();
    await navigator.clipboard?.writeText($('link').value).catch(() => {});
  } catch (e) {
    if (mine === shown) $('trouble').textContent = sentence(e.message);
  }
});

$('cut').addEventListener('click', () => {
  const connected = ['live', 'connecting'].includes(document.body.dataset.state);
  if (!connected) return reader.open();
  // As a tunnel would: the server is told nothing. It comes back by itself.
  const cut = reader;
  cut.pause();
  setTimeout(() => cut.state === 'paused' && cut.open(), BACK_AFTER_CUT);
});

$('show-ids').addEventListener('change', (e) => {
  answer.showIds(e.target.checked);
  paint();
});

$('answer').addEventListener('scroll', () => {
  const box = $('answer');
  follows = box.scrollTop + box.clientHeight >= box.scrollHeight - 40;
}, { passive: true });

// -- the beginning --

/** What was typed is still there after a reload; a browser that keeps nothing is fine too. */
function remember() {
  try {
    const draft = Object.fromEntries(['prompt', 'model', 'options'].map((id) => [id, $(id).value]));
    localStorage.setItem('lastword.draft', JSON.stringify(draft));
  } catch { /* no storage */ }
}

function recall() {
  try { return JSON.parse(localStorage.getItem('lastword.draft')) ?? {}; } catch { return {}; }
}

async function offer(chosen) {
  let list;
  try {
    list = await lastword.call('v1/models', OPTIONS);
  } catch (e) {
    // Who was sent a link has no key, and needs none.
    if (e.status === 401) return location.hash.includes('?token=') ? undefined : signIn();
    return problem(`The models cannot be listed. ${sentence(e.message)}`);
  }
  const names = (Array.isArray(list.data) ? list.data : []).map((model) => model.id).filter(Boolean);
  if (list.default && !names.includes(list.default)) names.unshift(list.default);
  const options = names.map((name) => new Option(name, name));
  if (!list.default) options.unshift(new Option('default', ''));
  $('model').replaceChildren(...options);
  $('model').value = names.includes(chosen) ? chosen : (list.default ?? '');
}

/** `#id`, or what was shared: `#id?token=…`. */
function arrive() {
  const [id, ticket] = location.hash.slice(1).split('?token=');
  if (!id || id === shown?.id) return;
  follow(lastword.read(ticket ? `v1/streams/${id}/events?token=${ticket}` : id, OPTIONS));
  shown.shared = Boolean(ticket);
  soon();
}

addEventListener('hashchange', arrive);

const draft = recall();
$('prompt').value = draft.prompt ?? '';
$('options').value = draft.options ?? '';
$('mock').open = Boolean(draft.options);
if (/Mac|iP(hone|ad)/.test(navigator.platform)) document.querySelector('.hint').textContent = '⌘ ⏎';
offer(draft.model);
arrive();
