// The page: asks, shows, stops, cuts and comes back. The stream's id is in the address (#id), so that a reload or a
// second tab reads the same answer again from its beginning and then live.

import * as api from './api.js';
import { Answer } from './answer.js';
import { Reader } from './stream.js';
import { Wire } from './wire.js';

const $ = (id) => document.getElementById(id);
const answer = new Answer({ said: $('said'), reasoned: $('reasoned'), extras: $('extras') });
const wire = new Wire($('wire'));

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
    const stream = await api.create(request);
    history.pushState(null, '', `#${stream.id}`);
    follow(stream.id, { url: stream.events_url, model: stream.model, askedAt });
    $('talk').scrollIntoView({ block: 'nearest' });
  } catch (e) {
    problem(e.words ?? String(e), e.field);
  } finally {
    $('send').disabled = false;
  }
}

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

/** Shows a stream from its beginning. */
function follow(id, { url = api.eventsPath(id), model, askedAt } = {}) {
  reader?.close();
  const mine = shown = { id, model, askedAt, status: 'running' };
  answer.clear();
  wire.clear();
  follows = true;
  $('trouble').textContent = $('proof').textContent = '';
  document.body.dataset.status = mine.status;
  reader = new Reader(id, url, {
    event: (event) => take(event),
    reset: ({ after, reason, raw }) => {
      answer.reset(after);
      wire.event({ id: null, name: 'reset', raw });
      wire.mark(`reset (${reason ?? 'no reason given'}): what came after ${after} is dropped`);
      soon();
    },
    state: (name, detail) => mine === shown && connection(name, detail),
  });
  reader.open();
  // What the events do not say to one who comes later: the time of the first token.
  if (askedAt === undefined) api.state(id).then((state) => mine === shown && learn(state), () => {});
  soon();
}

function take(event) {
  const { name, data } = event;
  wire.event(event);
  answer.add(event);
  if (name === 'start') shown.model = data.model ?? shown.model;
  if (name === 'message' && shown.askedAt !== undefined) shown.firstToken ??= performance.now() - shown.askedAt;
  soon();
}

function learn(state) {
  shown.model ??= state.model;
  shown.firstToken ??= state.timings?.first_token_ms;
  soon();
}

const ENDINGS = { completed: 'Completed', failed: 'Failed', cancelled: 'Stopped', interrupted: 'Interrupted' };

/** What happens to the connection, in words. */
function connection(name, detail) {
  if (name === 'repeat') return soon();
  const at = reader.cursor === null ? '' : ` after id ${reader.cursor}`;
  const was = document.body.dataset.state;
  document.body.dataset.state = name;

  if (name === 'connecting') say('Connecting');
  else if (name === 'live') {
    const again = detail.after !== null;
    say(again ? `Live, resumed after id ${detail.after}` : 'Live');
    if (again) wire.mark(`resumed after id ${detail.after}`);
  } else if (name === 'cut') {
    say(`Cut${at}, back in ${detail.seconds} s`);
    wire.mark(`cut${at}; the server was not told`);
  } else if (name === 'reconnecting') {
    say(`Reconnecting${at}`);
    if (was === 'live') wire.mark(`connection lost${at}`);
  } else if (name === 'ended') ended(detail);
  else if (name === 'denied') stuck('Not allowed any more', detail.message ?? 'The credential is no longer good.');
  else if (name === 'refused') stuck('Refused', detail.words);
  else if (name === 'gone') stuck('Gone', `This stream is ${detail.status === 410 ? 'expired' : 'not known here'}. ${detail.words}`);
  soon();
}

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
  if (error) $('trouble').textContent = `${api.sentence(error.message ?? error.code)}${error.retryable ? ' Asking again may help.' : ''}`;
  compare(shown);
}

/** The proof: what was put together here, over any number of connections, is what the gateway recorded. */
async function compare(mine) {
  let state;
  try { state = await api.state(mine.id); } catch { return; }
  if (mine !== shown) return;
  learn(state);
  if (typeof state.text !== 'string') return;
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
  $('stop').disabled = !running || shown.stopping === true;
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
    await api.cancel(mine.id);
  } catch (e) {
    if (mine === shown) $('trouble').textContent = e.words ?? String(e);
    mine.stopping = false;
    soon();
  }
});

$('cut').addEventListener('click', () => {
  const connected = ['live', 'connecting'].includes(document.body.dataset.state);
  if (connected) reader.cut();
  else reader.open();
});

$('show-ids').addEventListener('change', (e) => {
  answer.showIds(e.target.checked);
  paint();
});

$('answer').addEventListener('scroll', () => {
  const box = $('answer');
  follows = box.scrollTop + box.clientHeight >= box.scrollHeight - 40;
}, { passive: true });

// A network that is back, or a page that comes out of the browser's cache, need not wait for the retry.
addEventListener('online', () => document.body.dataset.state === 'reconnecting' && reader.open());
addEventListener('pageshow', (e) => e.persisted && reader && document.body.dataset.state !== 'ended' && reader.open());

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
    list = await api.models();
  } catch (e) {
    return problem(`The models cannot be listed. ${e.words ?? e}`);
  }
  const names = (Array.isArray(list.data) ? list.data : []).map((model) => model.id).filter(Boolean);
  if (list.default && !names.includes(list.default)) names.unshift(list.default);
  const options = names.map((name) => new Option(name, name));
  if (!list.default) options.unshift(new Option('default', ''));
  $('model').replaceChildren(...options);
  $('model').value = names.includes(chosen) ? chosen : (list.default ?? '');
}

function arrive() {
  const id = location.hash.slice(1);
  if (id && id !== shown?.id) follow(id);
}

addEventListener('hashchange', arrive);

const draft = recall();
$('prompt').value = draft.prompt ?? '';
$('options').value = draft.options ?? '';
$('mock').open = Boolean(draft.options);
if (/Mac|iP(hone|ad)/.test(navigator.platform)) document.querySelector('.hint').textContent = '⌘ ⏎';
offer(draft.model);
arrive();
