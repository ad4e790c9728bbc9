// What runs, live: the metrics come as server-sent events, once a second, and the browser's own EventSource reads them. It comes back by
// itself when the server was away; counters that begin again at zero are no step down.

import * as lastword from './lastword.js';

const $ = (id) => document.getElementById(id);
const OPTIONS = { url: '.' };
const SECONDS = 180;

// -- plots --

/** What is drawn: a name, and what it is of the values now, those a second ago, and the seconds between. */
const PLOTS = [
  ['Answers that run', (now) => now('lastword_streams_running')],
  ['Readers', (now) => now('lastword_readers')],
  ['Tokens and other records, a second', (now, was, s) => rate('lastword_records_total', now, was, s)],
  ['First token, ms', (now, was) => mean('gen_ai_server_time_to_first_token_seconds', now, was)],
  ['Resumes, a second', (now, was, s) => rate('lastword_resumes_total', now, was, s)],
  ['Resets, a second', (now, was, s) => rate('lastword_resets_total', now, was, s)],
  ['Failures, a second', (now, was, s) => rate('lastword_streams_ended_total', now, was, s, 'status="failed"')],
  ['Bytes of all logs', (now) => now('lastword_log_bytes')],
];

/** The sum of a metric over its labels, or over those that hold these words. */
const reader = (values) => (name, words = '') => {
  let sum = 0;
  for (const key in values) {
    if ((key === name || key.startsWith(`${name}{`)) && key.includes(words)) sum += values[key];
  }
  return sum;
};

const since = (name, now, was, words) => {
  const more = now(name, words) - was(name, words);
  return more < 0 ? now(name, words) : more; // another process counts
};
const rate = (name, now, was, seconds, words) => since(name, now, was, words) / seconds;
const mean = (name, now, was) => {
  const count = since(`${name}_count`, now, was);
  return count === 0 ? null : 1000 * since(`${name}_sum`, now, was) / count;
};

const plots = PLOTS.map(([name, value]) => {
  const figure = document.createElement('figure');
  figure.className = 'card plot';
  const caption = document.createElement('figcaption'), output = document.createElement('output');
  caption.textContent = name;
  output.textContent = '–';
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), path = document.createElementNS(svg.namespaceURI, 'path');
  svg.setAttribute('viewBox', `0 0 ${SECONDS} 1`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(path);
  figure.append(caption, output, svg);
  $('plots').append(figure);
  return { value, output, path, points: [] };
});

const shown = new Intl.NumberFormat('en', { maximumFractionDigits: 1, notation: 'compact' });

function draw(now, was, seconds) {
  for (const plot of plots) {
    const value = plot.value(now, was, seconds);
    plot.points.push(value);
    plot.points.splice(0, plot.points.length - SECONDS);
    if (value !== null) plot.output.textContent = shown.format(value);
    const most = Math.max(1e-9, ...plot.points.map((point) => point ?? 0));
    let line = '', pen = 'M';
    plot.points.forEach((point, n) => {
      if (point === null) return;
      line += `${pen}${SECONDS - plot.points.length + n} ${(1 - point / most).toFixed(3)}`;
      pen = 'L';
    });
    plot.path.setAttribute('d', line);
  }
}

// -- by backend --

const STATUSES = ['completed', 'failed', 'cancelled', 'interrupted'];

function backends(values) {
  const rows = new Map();
  for (const key in values) {
    const [, status, backend] = /^lastword_streams_ended_total\{status="(\w+)".*backend="(.*)"\}$/.exec(key) ?? [];
    if (!status) continue;
    const row = rows.get(backend) ?? rows.set(backend, {}).get(backend);
    row[status] = (row[status] ?? 0) + values[key];
  }
  fill($('backends'), [...rows].sort().map(([name, row]) => [name, ...STATUSES.map((status) => shown.format(row[status] ?? 0))]));
}

/** Rows of cells, which are texts or elements; a row that is as it was stays. */
function fill(body, rows) {
  body.replaceChildren(...rows.map((cells) => {
    const row = document.createElement('tr');
    row.append(...cells.map((cell) => {
      const td = document.createElement('td');
      td.append(cell);
      return td;
    }));
    return row;
  }));
}

// -- what runs --

const stopping = new Set();
let rows = '';

async function running() {
  let listed;
  try {
    listed = await lastword.call('v1/streams?limit=100', OPTIONS);
  } catch {
    return; // the next look will tell
  }
  const those = listed.streams.filter(({ status }) => status === 'running');
  for (const id of stopping) if (!those.some((stream) => stream.id === id)) stopping.delete(id);
  const now = JSON.stringify([those.map(({ id }) => id), [...stopping]]);
  if (now === rows) return; // a button keeps its focus
  rows = now;
  $('none').hidden = those.length > 0;
  fill($('running'), those.map(({ id, model, created_at }) => {
    const link = document.createElement('a');
    link.href = `./#${id}`;
    link.textContent = id.slice(-12);
    link.title = 'Watch it';
    const stop = document.createElement('button');
    stop.type = 'button';
    stop.textContent = 'Stop';
    stop.ariaLabel = `Stop ${id.slice(-12)}`;
    stop.disabled = stopping.has(id);
    stop.addEventListener('click', async () => {
      stop.disabled = true;
      stopping.add(id);
      try {
        await lastword.call(`v1/streams/${id}/cancel`, { ...OPTIONS, method: 'POST', body: {} });
      } catch (e) {
        stopping.delete(id);
        $('trouble').textContent = e.message;
      }
      running();
    });
    return [link, model, new Date(created_at).toLocaleTimeString(), stop];
  }));
}

// -- live --

let before = null;
const source = new EventSource('dashboard/events');
source.onmessage = (event) => {
  const values = JSON.parse(event.data), at = performance.now();
  const now = reader(values);
  if (before) draw(now, reader(before.values), Math.max(0.1, (at - before.at) / 1000));
  before = { values, at };
  backends(values);
  running();
  $('state').textContent = 'Live';
  document.body.dataset.state = 'live';
  $('trouble').textContent = '';
};
source.onerror = () => {
  const gone = source.readyState === EventSource.CLOSED;
  document.body.dataset.state = gone ? 'refused' : 'reconnecting';
  $('state').textContent = gone ? 'Not connected' : 'Reconnecting';
  if (gone) $('trouble').textContent = 'This lastword does not show its dashboard to you: sign in where you ask, and come back.';
};
