/** A hub of the test's own, for what a real one does seldom or at a bad moment: it says what the test has it say. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

const HELLO = { name: 'bus', boot_id: '1', requires_authentication: true };
const PROTOCOL = { version: '1', max_message_size: 16 * 1024 * 1024, heartbeat_interval_ms: 15_000 };

/**
 * Answers each Hello, and has `hear` called with every other envelope and with a function that says one to that client.
 * Gives where it is.
 */
export async function ownHub(t, hear) {
  const server = createServer();
  server.on('upgrade', (request, socket) => {
    t.after(() => socket.destroy());
    socket.on('error', () => {});
    socket.write(upgraded(request.headers['sec-websocket-key']));
    const say = (message_type, payload) => socket.write(frame(JSON.stringify({ message_type, payload })));
    let bytes = Buffer.alloc(0);
    socket.on('data', (part) => {
      const { texts, rest } = unmasked(Buffer.concat([bytes, part]));
      bytes = rest;
      for (const text of texts) {
        const { message_type, payload } = JSON.parse(text);
        if (payload.Hello) say('Auth', { Hello: { ...HELLO, protocol: PROTOCOL } });
        else hear({ message_type, payload }, say);
      }
    });
  });
  t.after(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `ws://127.0.0.1:${server.address().port}/`;
}

/** RFC 6455, section 4.2.2. */
function upgraded(key) {
  const proof = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
  return [...lines, `Sec-WebSocket-Accept: ${proof}`, 'Sec-WebSocket-Protocol: visorbus.v1.json', '', ''].join('\r\n');
}

/** One text in one frame. */
function frame(text) {
  const payload = Buffer.from(text);
  const head = Buffer.alloc(10);
  head.writeUInt8(0x81, 0);
  head.writeUInt8(127, 1);
  head.writeBigUInt64BE(BigInt(payload.length), 2);
  if (payload.length > 0xffff) return Buffer.concat([head, payload]);
  const short = payload.length > 125 ? [0x81, 126, payload.length >> 8, payload.length & 255] : [0x81, payload.length];
  return Buffer.concat([Buffer.from(short), payload]);
}

/** The texts of a client that are there as a whole, each in one frame below 64 KiB, and what is left. */
function unmasked(bytes) {
  const texts = [];
  for (let at = 0; ; ) {
    const rest = bytes.subarray(at);
    if (rest.length < 2) return { texts, rest };
    const short = rest[1] & 0x7f;
    const from = short === 126 ? 8 : 6;
    if (rest.length < from) return { texts, rest };
    const end = from + (short === 126 ? rest.readUInt16BE(2) : short);
    if (rest.length < end) return { texts, rest };
    const payload = rest.subarray(from, end).map((byte, index) => byte ^ rest[from - 4 + (index & 3)]);
    if ((rest[0] & 0x0f) === 1) texts.push(Buffer.from(payload).toString());
    at += end;
  }
}
