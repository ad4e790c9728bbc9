// A TCP way to a gateway on which things go wrong: cut after so many bytes of the answers, or silent from then on.

import net from 'node:net';

/** `cut(bytes of this connection, its number, bytes of all)` says how many more may come before it is cut; Infinity for all. */
export async function startRelay(url, cut = () => Infinity) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  let connections = 0, all = 0, cuts = 0, silent = false;
  const server = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    const number = connections++;
    let came = 0;
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
    near.on('data', (bytes) => silent || far.write(bytes));
    far.on('data', (bytes) => {
      if (silent) return;
      const most = cut(came, number, all);
      const piece = bytes.subarray(0, most);
      came += piece.length;
      all += piece.length;
      if (piece.length === bytes.length && most > bytes.length) return void near.write(piece);
      cuts += 1;
      near.write(piece, () => near.resetAndDestroy());
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    get all() { return all; },
    get cuts() { return cuts; },
    get connections() { return connections; },
    /** What is open says nothing more, and neither does what is opened, until it is told to. */
    silence(on) {
      silent = on;
    },
    breakAll() {
      for (const socket of sockets) socket.destroy();
    },
    stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
