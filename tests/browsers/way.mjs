// What can stand between a browser and a gateway, and a browser.

import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const BROWSERS = {
  Chromium: { browser: 'chrome', executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'] },
  Firefox: { browser: 'firefox', executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr' },
};

export const names = Object.keys(BROWSERS);

/** The browser of this name, as Debian has it. It takes a certificate that nobody vouches for. */
export const launch = (name) => puppeteer.launch({ ...BROWSERS[name], headless: true, acceptInsecureCerts: true });

/**
 * A TCP way to a gateway, which sees what is asked and answered on it. `cut(n)` says after how many bytes of the nth answer in events its
 * connection is reset.
 */
export async function startRelay(url, cut = () => Infinity) {
  const { hostname, port } = new URL(url);
  const sockets = new Set(), seen = { asked: '', answered: '' };
  let events = 0;
  const server = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    let left = Infinity;
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
    near.on('data', (bytes) => {
      seen.asked += bytes;
      far.write(bytes);
    });
    far.on('data', (bytes) => {
      if (left === Infinity && bytes.includes('content-type: text/event-stream')) left = cut(events++);
      const piece = bytes.subarray(0, left);
      left -= piece.length;
      seen.answered += piece;
      near.write(piece, () => left <= 0 && near.resetAndDestroy());
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** The statuses of all answers, in order. */
    statuses: () => [...seen.answered.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map((line) => Number(line[1])),
    asked: () => seen.asked,
    stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** nginx in front of it, configured by docs/proxies.md; `restart()` kills it and starts another in its place. */
export async function startNginx(url) {
  const page = await readFile(new URL('../../docs/proxies.md', import.meta.url), 'utf8');
  const snippet = /^```nginx\n(.*?)^```/ms.exec(page)[1];
  const home = await mkdtemp(join(tmpdir(), 'lastword-nginx-')), port = await freePort();
  const server = snippet.replace('listen 80;', `listen 127.0.0.1:${port};`).replace('127.0.0.1:8080', new URL(url).host);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${name};`).join(' ');
  await writeFile(join(home, 'conf'), `daemon off; master_process off; pid pid; error_log stderr; events {} http { access_log off; ${temporary} ${server} }`);
  const start = async () => {
    const child = spawn('nginx', ['-e', 'stderr', '-c', join(home, 'conf'), '-p', home], { env: { PATH: `${process.env.PATH}:/usr/sbin` }, stdio: 'ignore' });
    const end = () => child.kill('SIGKILL');
    process.once('exit', end);
    const gone = new Promise((resolve) => child.once('exit', resolve).once('error', resolve));
    while (!await new Promise((resolve) => net.connect(port, '127.0.0.1').once('connect', function () { this.destroy(); resolve(true); }).once('error', () => resolve(false)))) {
      if (child.exitCode !== null) throw new Error(`nginx did not start: ${child.exitCode}`);
    }
    return async () => {
      end();
      await gone;
      process.off('exit', end);
    };
  };
  let stop = await start();
  return {
    url: `http://127.0.0.1:${port}`,
    async restart() {
      await stop();
      stop = await start();
    },
    async stop() {
      await stop();
      await rm(home, { recursive: true });
    },
  };
}
