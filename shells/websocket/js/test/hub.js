/** The hub that the tests talk to, which somebody else has started; the variables say where it is and who may what. */
import { readFileSync } from 'node:fs';
import { connect as dial, createServer } from 'node:net';
import { once } from 'node:events';

import { connect } from '../visorbus.js';

/** Without TLS, and with it. */
export const URL_PLAIN = wanted('VISORBUS_URL');
export const URL_TLS = wanted('VISORBUS_TLS_URL');
/** The authority that the certificate of the latter is of. */
export const CA = readFileSync(wanted('VISORBUS_CA'));
/** Its subject is `panel`, and it may do everything. */
export const TOKEN = wanted('VISORBUS_TOKEN');
/** Its subject is `guest`, and it may do next to nothing. */
export const GUEST = wanted('VISORBUS_GUEST');
/** An account of the hub's. */
export const ACCOUNT = { username: 'alice', password: 'correct horse battery' };
export const API_KEY = wanted('VISORBUS_API_KEY');

function wanted(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: these tests need a running hub, see tests/tests/websocket/node.rs`);
  return value;
}

/** A client that is closed with the test. */
export async function client(t, options = {}, url = URL_PLAIN) {
  const made = await connect(url, { token: TOKEN, ...options });
  t.after(() => made.close());
  return made;
}

/** The next event of this name. */
export function next(emitter, event) {
  return new Promise((resolve) => {
    const off = emitter.on(event, (detail) => {
      off();
      resolve(detail);
    });
  });
}

/** The error that a promise ends with. */
export async function refusal(promise) {
  const value = await promise.then(
    (value) => ({ value }),
    (error) => error,
  );
  if (!(value instanceof Error)) throw new Error(`not refused: ${JSON.stringify(value)}`);
  return value;
}

/** A way to the hub that can be cut, and held up: what is then sent is lost. */
export async function way(t) {
  const to = new URL(URL_PLAIN);
  const sockets = new Set();
  let held = false;
  const server = createServer((near) => {
    const far = dial(Number(to.port), to.hostname);
    for (const [from, into] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.on('data', (bytes) => held || into.write(bytes));
      from.on('error', () => {});
      from.on('close', () => into.destroy());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  t.after(() => {
    cut();
    server.close();
  });
  return { url: `ws://127.0.0.1:${server.address().port}/`, cut, hold: (on) => (held = on) };
}
