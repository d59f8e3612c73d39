/** The WebSocket for Node against a server that breaks the rules of RFC 6455 one by one. It needs no hub. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';

import { NodeWebSocket } from '../node-websocket.js';

/** A server that says `bytes` once it has answered; gives what the client does, and what it has sent by its end. */
async function meet(t, bytes, { headers = {}, act = () => {} } = {}) {
  const server = createServer();
  t.after(() => server.close());
  const received = [];
  const closed = new Promise((resolve) => {
    server.on('upgrade', (request, socket) => {
      const proof = createHash('sha1');
      proof.update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
      const answer = {
        Upgrade: 'websocket',
        Connection: 'Upgrade',
        'Sec-WebSocket-Accept': proof.digest('base64'),
        'Sec-WebSocket-Protocol': 'test',
        ...headers,
      };
      const lines = Object.entries(answer).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`);
      socket.write(Buffer.from(bytes));
      socket.on('data', (part) => received.push(part));
      socket.on('error', () => {});
      socket.on('end', () => socket.end());
      socket.on('close', () => resolve(Buffer.concat(received)));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = new NodeWebSocket(`ws://127.0.0.1:${server.address().port}/`, 'test');
  const seen = { messages: [], error: null, close: null };
  await new Promise((resolve) => {
    socket.onmessage = ({ data }) => {
      seen.messages.push(data);
      act(socket, seen);
    };
    socket.onerror = ({ message }) => (seen.error = message);
    socket.onclose = (event) => resolve((seen.close = event));
  });
  return { ...seen, socket, sent: seen.error && !socket.protocol ? Buffer.alloc(0) : await closed };
}

/** A frame of a server. */
function frame(first, payload) {
  const bytes = Buffer.from(payload);
  const head = bytes.length > 125 ? [first, 126, bytes.length >> 8, bytes.length & 255] : [first, bytes.length];
  return Buffer.concat([Buffer.from(head), bytes]);
}

/** The frames of a client, unmasked; each must be masked. */
function frames(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    assert.ok(bytes[at + 1] & 0x80, 'a client masks');
    const short = bytes[at + 1] & 0x7f;
    const long = short === 126 ? 2 : short === 127 ? 8 : 0;
    const length = long === 2 ? bytes.readUInt16BE(at + 2) : long === 8 ? Number(bytes.readBigUInt64BE(at + 2)) : short;
    const from = at + 2 + long + 4;
    const mask = bytes.subarray(from - 4, from);
    const payload = Buffer.from(bytes.subarray(from, from + length).map((byte, index) => byte ^ mask[index & 3]));
    found.push({ opcode: bytes[at] & 0x0f, payload });
    at = from + length;
  }
  return found;
}

const CLOSE = frame(0x88, [0x03, 0xe8]);

test('fragments_with_pings_between_them_are_one_message', async (t) => {
  const bytes = Buffer.concat([
    frame(0x01, 'gr'),
    frame(0x89, 'here?'),
    frame(0x00, [0xc3]),
    frame(0x00, ''),
    frame(0x80, [0xbc, 0x6e]),
    frame(0x81, 'x'.repeat(70_00)),
    CLOSE,
  ]);
  const { messages, close, sent } = await meet(t, bytes);
  assert.deepEqual(messages, ['grün', 'x'.repeat(70_00)]);
  assert.equal(close.code, 1000);
  const [pong, farewell] = frames(sent);
  assert.deepEqual([pong.opcode, pong.payload.toString()], [10, 'here?']);
  assert.deepEqual([farewell.opcode, farewell.payload.readUInt16BE(0)], [8, 1000]);
});

test('what_is_sent_is_masked_each_time_anew_at_every_length', async (t) => {
  const texts = ['', 'a', 'b'.repeat(125), 'c'.repeat(126), 'd'.repeat(65_535), 'e'.repeat(65_536)];
  const act = (socket) => {
    for (const text of texts) socket.send(text);
    socket.close(1000, 'done');
  };
  const { sent } = await meet(t, Buffer.concat([frame(0x81, 'go'), CLOSE]), { act });
  const found = frames(sent);
  assert.deepEqual(found.slice(0, -1).map(({ payload }) => payload.toString()), texts);
  assert.equal(found.at(-1).payload.subarray(2).toString(), 'done');
});

const WRONG = {
  reserved_bits_end_the_connection: [[0xc1, 0x00], 1002],
  a_masked_frame_ends_the_connection: [[0x81, 0x80, 0, 0, 0, 0], 1002],
  an_unknown_opcode_ends_the_connection: [[0x83, 0x00], 1002],
  a_control_frame_in_pieces_ends_the_connection: [[0x09, 0x00], 1002],
  a_control_frame_that_is_too_long_ends_the_connection: [[0x89, 126, 0, 126], 1002],
  a_message_inside_another_ends_the_connection: [[0x01, 0x00, 0x81, 0x00], 1002],
  a_piece_of_nothing_ends_the_connection: [[0x80, 0x00], 1002],
  half_a_close_code_ends_the_connection: [[0x88, 0x01, 3], 1002],
  text_that_is_not_utf8_ends_the_connection: [[0x81, 0x01, 0xff], 1007],
  a_frame_without_bound_ends_the_connection: [[0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0], 1009],
};

for (const [name, [bytes, code]] of Object.entries(WRONG)) {
  test(name, async (t) => {
    const { messages, error, close, sent } = await meet(t, bytes);
    assert.deepEqual(messages, []);
    assert.ok(error, 'it is said why');
    assert.equal(close.code, 1006);
    const farewell = frames(sent).at(-1);
    assert.deepEqual([farewell.opcode, farewell.payload.readUInt16BE(0)], [8, code]);
  });
}

test('an_answer_that_is_not_to_this_request_opens_nothing', async (t) => {
  for (const [header, value] of [
    ['Sec-WebSocket-Accept', 'wrong'],
    ['Sec-WebSocket-Protocol', 'another'],
    ['Sec-WebSocket-Extensions', 'permessage-deflate'],
    ['Upgrade', 'h2c'],
  ]) {
    const { error, messages, socket } = await meet(t, frame(0x81, 'hello'), { headers: { [header]: value } });
    assert.ok(error, header);
    assert.deepEqual([messages, socket.protocol], [[], ''], header);
  }
});
