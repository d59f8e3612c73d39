/**
 * The client end of a WebSocket (RFC 6455) for Node: for versions without one of their own, and for connections that
 * trust a CA of their own or show a certificate, which the one of browsers cannot. It has the part of the browsers'
 * interface that visorbus.js uses, and one event more before `close`: `error`, whose `message` says what went wrong.
 */
import { createHash, randomBytes } from 'node:crypto';
import { request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';

export class NodeWebSocket {
  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;
  /** The subprotocol that the other end chose. */
  protocol = '';
  /** As in browsers: 0 connecting, 1 open, 2 closing, 3 closed. */
  readyState = 0;
  #request;
  #socket = null;
  #reader = new FrameReader();
  #message = null;
  #closing = null;

  /** Connects; `tls` is what Node's `tls.connect` takes: `ca`, `cert`, `key`. */
  constructor(url, protocol, tls = {}) {
    const key = randomBytes(16).toString('base64');
    const at = new URL(url);
    at.protocol = at.protocol.replace('ws', 'http');
    this.#request = (at.protocol === 'https:' ? requestTls : requestPlain)(at, {
      ...tls,
      agent: false,
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': key,
        'Sec-WebSocket-Protocol': protocol,
      },
    });
    this.#request.on('upgrade', (response, socket, head) => this.#upgraded(response, socket, head, key, protocol));
    this.#request.on('response', (response) => this.#refused(response));
    this.#request.on('error', (error) => this.#fail(error.message || error.code));
    this.#request.end();
  }

  /** Bytes that the other end has not taken yet. */
  get bufferedAmount() {
    return this.#socket?.writableLength ?? 0;
  }

  /** Sends a text. */
  send(text) {
    if (this.readyState === 1) this.#write(TEXT, Buffer.from(text));
  }

  /** Says goodbye, and waits at most two seconds for the other end to say it too. */
  close(code = 1000, reason = '') {
    if (this.readyState === 0) return this.#fail('closed before it was open');
    if (this.readyState !== 1) return;
    this.readyState = 2;
    this.#writeClose(code, reason);
    this.#closing = setTimeout(() => this.#ended(1006, ''), CLOSE_MS);
  }

  /** Section 4.1: what the answer to the upgrade must have. */
  #upgraded(response, socket, head, key, protocol) {
    const proof = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    this.#socket = socket;
    const headers = response.headers;
    if (headers.upgrade?.toLowerCase() !== 'websocket') return this.#fail('the answer is no WebSocket');
    if (headers['sec-websocket-accept'] !== proof) return this.#fail('the answer is to another request');
    if (headers['sec-websocket-protocol'] !== protocol) return this.#fail(`the server does not speak ${protocol}`);
    if (headers['sec-websocket-extensions']) return this.#fail('the server uses an extension that was not offered');
    this.protocol = protocol;
    this.readyState = 1;
    socket.setNoDelay(true);
    socket.on('data', (bytes) => this.#take(bytes));
    socket.on('error', (error) => this.#fail(error.message || error.code));
    socket.on('close', () => this.#ended(1006, ''));
    this.onopen?.({});
    if (head.length > 0) this.#take(head);
  }

  /** The server answered as to any other request: its text says why. */
  #refused(response) {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (part) => (text = (text + part).slice(0, 400)));
    response.on('error', () => {});
    response.on('close', () => {
      const why = text.trim() || response.statusMessage;
      this.#fail(`the server answered ${response.statusCode}: ${why}`);
    });
  }

  #take(bytes) {
    if (this.readyState === 3) return;
    this.#reader.push(bytes);
    try {
      for (let frame; this.readyState !== 3 && (frame = this.#reader.next()); ) this.#handle(frame);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#writeClose(error.code, error.message);
      this.#fail(error.message);
    }
  }

  #handle({ final, opcode, payload }) {
    switch (opcode) {
      case TEXT:
      case BINARY:
        if (this.#message) throw new Violation(1002, 'a message began inside another');
        this.#message = { opcode, parts: [], length: 0 };
        return this.#append(final, payload);
      case CONTINUATION:
        if (!this.#message) throw new Violation(1002, 'a message went on that had not begun');
        return this.#append(final, payload);
      case PING:
        return this.readyState === 1 ? this.#write(PONG, payload) : undefined;
      case PONG:
        return undefined;
      case CLOSE:
        return this.#closed(payload);
      default:
        throw new Violation(1002, `there is no opcode ${opcode}`);
    }
  }

  #append(final, payload) {
    const message = this.#message;
    message.length += payload.length;
    if (message.length > MAX_MESSAGE) throw new Violation(1009, 'the message is too long');
    if (payload.length > 0) message.parts.push(payload);
    if (!final) return;
    this.#message = null;
    const whole = Buffer.concat(message.parts, message.length);
    if (this.readyState === 1) this.onmessage?.({ data: message.opcode === TEXT ? utf8(whole) : whole });
  }

  /** Section 5.5.1: the other end says goodbye, or answers ours. */
  #closed(payload) {
    if (payload.length === 1) throw new Violation(1002, 'a close without a whole code');
    const code = payload.length === 0 ? 1005 : payload.readUInt16BE(0);
    const reason = utf8(payload.subarray(2));
    if (this.readyState === 1) this.#writeClose(code === 1005 ? 1000 : code, '');
    this.#ended(code, reason);
  }

  #writeClose(code, reason) {
    const text = Buffer.from(reason).subarray(0, MAX_CONTROL - 2);
    const payload = Buffer.alloc(2 + text.length);
    payload.writeUInt16BE(code, 0);
    text.copy(payload, 2);
    this.#write(CLOSE, payload);
  }

  /** Section 5.3: what a client sends is masked with bytes that nobody can foresee. */
  #write(opcode, payload) {
    const mask = randomBytes(4);
    const long = payload.length > 0xffff ? 8 : payload.length > MAX_CONTROL ? 2 : 0;
    const frame = Buffer.allocUnsafe(6 + long + payload.length);
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (long === 8 ? 127 : long === 2 ? 126 : payload.length);
    if (long === 8) frame.writeBigUInt64BE(BigInt(payload.length), 2);
    if (long === 2) frame.writeUInt16BE(payload.length, 2);
    mask.copy(frame, 2 + long);
    for (let at = 0, to = 6 + long; at < payload.length; at += 1) frame[to + at] = payload[at] ^ mask[at & 3];
    this.#socket.write(frame);
  }

  #fail(message) {
    if (this.readyState === 3) return;
    this.onerror?.({ message });
    this.#ended(1006, '');
  }

  #ended(code, reason) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    clearTimeout(this.#closing);
    // What was written still goes out; a socket that does not end by then is cut.
    this.#socket?.end();
    this.#socket?.setTimeout(CLOSE_MS, () => this.#socket.destroy());
    if (!this.#socket) this.#request.destroy();
    this.onclose?.({ code, reason, wasClean: code !== 1006 });
  }
}

/** Section 5.2: bytes as they come in, whole frames as they go out. */
class FrameReader {
  #parts = [];
  #length = 0;
  #need = 2;

  push(bytes) {
    this.#parts.push(bytes);
    this.#length += bytes.length;
  }

  /** The next frame, or nothing until more has come; throws at what the protocol forbids. */
  next() {
    if (this.#length < this.#need) return undefined;
    const bytes = this.#parts.length === 1 ? this.#parts[0] : Buffer.concat(this.#parts, this.#length);
    this.#parts = [bytes];
    const opcode = bytes[0] & 0x0f;
    const final = (bytes[0] & 0x80) !== 0;
    if (bytes[0] & 0x70) throw new Violation(1002, 'reserved bits are set');
    if (bytes[1] & 0x80) throw new Violation(1002, 'a server does not mask');
    if (opcode & 0x08 && (!final || bytes[1] > MAX_CONTROL)) throw new Violation(1002, 'a control frame is too long');
    const head = bytes[1] === 127 ? 10 : bytes[1] === 126 ? 4 : 2;
    if (bytes.length < head) return this.#wait(head);
    const length = head === 10 ? Number(bytes.readBigUInt64BE(2)) : head === 4 ? bytes.readUInt16BE(2) : bytes[1];
    if (length > MAX_MESSAGE) throw new Violation(1009, 'the frame is too long');
    if (bytes.length < head + length) return this.#wait(head + length);
    const rest = bytes.subarray(head + length);
    this.#parts = rest.length > 0 ? [rest] : [];
    this.#length = rest.length;
    this.#need = 2;
    return { final, opcode, payload: bytes.subarray(head, head + length) };
  }

  #wait(length) {
    this.#need = length;
    return undefined;
  }
}

/** What the other end did that the protocol forbids, and the code to close with. */
class Violation extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

function utf8(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Violation(1007, 'a text is not UTF-8');
  }
}

const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0, 1, 2, 8, 9, 10];
const MAX_CONTROL = 125;
const MAX_MESSAGE = 16 * 1024 * 1024;
const CLOSE_MS = 2000;
