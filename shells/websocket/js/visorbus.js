/**
 * A client of a Visorbus hub over a WebSocket, for browsers and for Node 18 or newer. It speaks the subprotocol
 * `visorbus.v1.json` of docs/websocket.md; the types are in visorbus.d.ts.
 *
 *     const client = await connect('wss://headset.local:7443/', { credentials: { token } });
 *     const info = await client.request('imu/info');
 *     const samples = await client.subscribe('imu/sample', { policy: 'latest' }, ({ payload }) => plot(payload));
 *
 * A connection that is lost comes back by itself: it logs in again, subscribes again and registers again. What waited
 * for an answer fails at once with an error that says so.
 */

/** The subprotocol: one envelope in JSON per text message. */
export const SUBPROTOCOL = 'visorbus.v1.json';

/** Connects to a hub, says hello and logs in; gives the client once it is let in, or throws why not. */
export async function connect(url, options = {}) {
  return Client.open(url, options);
}

/** What went wrong: `kind` is one of the eight of the wire, `text` says what, where and what to do. */
export class VisorbusError extends Error {
  constructor(kind, text) {
    super(text);
    this.name = 'VisorbusError';
    this.kind = kind;
    this.text = text;
  }
}

/** A client: one name on the bus, over as many connections as it takes. */
export class Client {
  #url;
  #options;
  #name;
  #credentials;
  #session = null;
  #state = 'connecting';
  #listeners = new Map();
  #subscriptions = new Map();
  #services = new Map();
  #calls = new Map();
  #wake = null;
  #renewal = null;

  /** As `connect`. */
  static async open(url, options = {}) {
    const client = new Client(url, options);
    try {
      await client.#attempt();
    } catch (error) {
      client.#finish(error);
      throw error;
    }
    return client;
  }

  /** Use `connect`. */
  constructor(url, options) {
    this.#url = checkedUrl(url);
    const { token, credentials = token === undefined ? null : { token }, name, on = {}, ...rest } = options;
    this.#options = { ...DEFAULTS, ...rest };
    this.#credentials = credentials && checkedCredentials(credentials);
    this.#name = name ?? nameFrom(this.#credentials);
    for (const [event, listener] of Object.entries(on)) this.on(event, listener);
  }

  /** The name on the bus. */
  get name() {
    return this.#name;
  }

  /** `connecting`, `up`, `down` (and coming back), or `closed`. */
  get state() {
    return this.#state;
  }

  /** What the hub said of itself in its hello; null while there is no connection. */
  get hello() {
    return this.#session?.hello ?? null;
  }

  /** Has `listener` called with each event of this name; gives a function that takes it off again. */
  on(event, listener) {
    const set = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, set.add(listener));
    return () => set.delete(listener);
  }

  /** Logs in, or logs in as somebody else of the same name; what is refused changes nothing. */
  async authenticate(credentials) {
    const wanted = checkedCredentials(credentials);
    const token = await this.#up().authenticate(wanted, this.#options.timeoutMs);
    clearTimeout(this.#renewal);
    this.#credentials = wanted;
    if (token) this.#keep(token);
    return token;
  }

  /** Asks for a new token in the place of this client's own, which is void from then on. */
  async refresh() {
    const { token } = await this.#up().auth({ Refresh: this.#ownToken() }, 'Refreshed', this.#options.timeoutMs);
    this.#keep(token);
    return token;
  }

  /** Takes this client's own token back, for everybody who has it, and ends the connection for good. */
  async revoke() {
    await this.#up().auth({ Revoke: this.#ownToken() }, 'Revoked', this.#options.timeoutMs);
    this.#finish(new VisorbusError('Authentication', 'the token of this client was taken back'));
  }

  /** Sends a request and gives the answer's payload; throws a `VisorbusError` for every other end. */
  async request(address, json, options = {}) {
    return this.#request(address, json, options);
  }

  /** Sends a notification: a topic of one's own or of nobody, or an address of somebody who hears it. */
  notify(address, json, { priority } = {}) {
    const session = this.#up();
    const flags = priority === undefined ? undefined : { priority };
    const message = { id: session.nextId(), message_type: 'Notification', destination: address };
    session.send('IPC', { ...message, payload: toPayload(json), flags });
  }

  /** Gives what is published on the topics that `pattern` selects: to `callback`, or by `for await` over the result. */
  async subscribe(pattern, options = {}, callback = undefined) {
    if (typeof options === 'function') return this.subscribe(pattern, {}, options);
    const { policy, queue = DEFAULT_QUEUE } = options;
    const session = this.#up();
    const entry = this.#subscriptions.get(pattern) ?? { policy, members: new Set(), ready: null };
    const subscription = new Subscription(pattern, callback, queue, () => this.#unsubscribe(entry, subscription));
    // Before the hub is asked: what it publishes may come right behind its answer.
    entry.members.add(subscription);
    this.#subscriptions.set(pattern, entry);
    if (!entry.ready || (policy !== undefined && !same(policy, entry.policy))) {
      entry.policy = policy;
      entry.ready = this.#ask(session, 'bus/subscribe', subscribeTo(pattern, policy));
    }
    try {
      await entry.ready;
    } catch (error) {
      entry.members.delete(subscription);
      if (entry.members.size === 0) this.#subscriptions.delete(pattern);
      throw error;
    }
    return subscription;
  }

  /**
   * Answers for `component`: `handlers` has a function by what follows it in the address. The client's own name needs
   * no permission for that, another one does.
   */
  async serve(component, handlers, { access = 'permission' } = {}) {
    if (this.#services.has(component)) throw new VisorbusError('Message', `this client serves '${component}' already`);
    const service = { component, handlers, access };
    this.#services.set(component, service);
    try {
      await this.#offer(this.#up(), service);
    } catch (error) {
      this.#services.delete(component);
      throw error;
    }
    return { component, unregister: () => this.#unregister(component) };
  }

  /** The components that can be reached, and their addresses. */
  services() {
    return this.request('bus/services');
  }

  /** The hub's connections with their counters. */
  peers() {
    return this.request('bus/peers');
  }

  /** What this client may do. */
  permissions() {
    return this.request('bus/permissions');
  }

  /** Sends a heartbeat; gives how long it took to come back, and what the hub's clock shows more than this one. */
  ping() {
    return this.#up().ping(this.#options.timeoutMs);
  }

  /** Tries at once to come back, if the connection is lost. */
  retryNow() {
    this.#wake?.();
  }

  /** Ends the connection for good. */
  close() {
    this.#finish(new VisorbusError('Connection', 'this client was closed'));
  }

  // The life of connections.

  /** One connection, from nothing to up; throws why not. */
  async #attempt() {
    const { timeoutMs, heartbeatMs, tls } = this.#options;
    const socket = await openSocket(this.#url, tls);
    if (this.#state === 'closed') return socket.close();
    const session = new Session(socket, placeOf(this.#url), {
      message: (message) => this.#take(session, message),
      down: (error) => this.#lost(session, error),
    });
    this.#session = session;
    try {
      await session.start(this.#name, timeoutMs);
      if (this.#credentials) {
        const shown = this.#credentials;
        const token = await session.authenticate(shown, timeoutMs);
        if (token) this.#keep(token);
      }
      session.watch(heartbeatMs);
      await this.#restore(session);
    } catch (error) {
      session.end(asError(error));
      throw error;
    }
    if (session.ended) throw session.ended;
    this.#state = 'up';
    this.#emit('up', { hello: session.hello });
  }

  /** What the session before had. */
  async #restore(session) {
    const lost = (what) => (error) => {
      if (!session.ended) this.#emit('problem', { what: `${what} did not come back`, error });
    };
    const again = [];
    for (const service of this.#services.values()) {
      again.push(this.#offer(session, service).catch(lost(`the component '${service.component}'`)));
    }
    for (const [pattern, entry] of this.#subscriptions) {
      const asked = this.#ask(session, 'bus/subscribe', subscribeTo(pattern, entry.policy));
      again.push(asked.catch(lost(`the subscription of '${pattern}'`)));
    }
    await Promise.all(again);
  }

  #lost(session, error) {
    for (const call of this.#calls.values()) call.abort(error);
    this.#calls.clear();
    // During an attempt whoever makes it is told.
    if (session !== this.#session || this.#state !== 'up') return;
    this.#state = 'down';
    this.#emit('down', { reason: error });
    if (this.#options.reconnect === false) this.#finish(error);
    else void this.#comeBack(error);
  }

  /** Tries again and again, ever more slowly, with jitter: many clients of one hub must not come back as one. */
  async #comeBack(reason) {
    const { minMs, maxMs } = { ...BACK_OFF, ...this.#options.reconnect };
    for (let attempt = 1; this.#state === 'down'; attempt += 1) {
      const most = Math.min(maxMs, minMs * 2 ** (attempt - 1));
      const delayMs = Math.round(most * (0.5 + Math.random() / 2));
      this.#emit('retrying', { delayMs, attempt, reason });
      await this.#pause(delayMs);
      if (this.#state !== 'down') return;
      try {
        return await this.#attempt();
      } catch (error) {
        reason = asError(error);
        if (FINAL.has(reason.kind)) return this.#finish(reason);
      }
    }
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #finish(reason) {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearTimeout(this.#renewal);
    this.#credentials = null;
    this.#session?.end(reason);
    this.#wake?.();
    for (const { members } of this.#subscriptions.values()) {
      for (const subscription of members) subscription.finish();
    }
    this.#emit('closed', { reason });
  }

  /** The session, if it can be used now. */
  #up() {
    if (this.#state === 'up') return this.#session;
    const why = this.#state === 'closed' ? 'this client was closed' : 'not connected to the hub; it is tried again';
    throw new VisorbusError('Connection', why);
  }

  // Tokens.

  /** Shows a token that the hub made from now on, in place of what it came of, and has it renewed in time. */
  #keep(token) {
    this.#credentials = { Token: token.value };
    clearTimeout(this.#renewal);
    this.#emit('token', token);
    const life = lifeMs(token);
    if (life !== null) this.#renewAt(Date.now() + life * RENEW_AFTER);
  }

  /** One timer at most; longer than a timer runs is waited for in parts. */
  #renewAt(at) {
    const left = at - Date.now();
    const renew = () => (left > MAX_TIMER_MS ? this.#renewAt(at) : this.#renew());
    this.#renewal = setTimeout(renew, Math.max(0, Math.min(left, MAX_TIMER_MS)));
  }

  async #renew() {
    if (this.#state === 'closed') return;
    try {
      await this.refresh();
    } catch (error) {
      if (this.#state === 'up') this.#emit('problem', { what: 'the token was not renewed', error });
      if (error.kind === 'Connection' || error.kind === 'Timeout') this.#renewAt(Date.now() + RENEW_AGAIN_MS);
    }
  }

  #ownToken() {
    const token = this.#credentials?.Token;
    if (token === undefined) throw new VisorbusError('Authentication', 'this client has no token: authenticate first');
    return token;
  }

  // Requests and subscriptions.

  #request(address, json, options) {
    return this.#ask(this.#up(), address, json, options);
  }

  #ask(session, address, json, { timeoutMs = this.#options.timeoutMs, priority, signal } = {}) {
    const flags = { timeout_ms: timeoutMs, priority };
    const message = { message_type: 'Request', destination: address, payload: toPayload(json), flags };
    return session.request(message, timeoutMs, signal);
  }

  async #unsubscribe(entry, subscription) {
    if (!entry.members.delete(subscription) || entry.members.size > 0) return;
    this.#subscriptions.delete(subscription.pattern);
    if (this.#state === 'up') await this.#request('bus/unsubscribe', subscription.pattern);
  }

  /** A message of the hub that is no answer. */
  #take(session, message) {
    if (message.message_type === 'Request') return this.#serve(session, message);
    const topic = message.destination ?? '';
    const payload = fromPayload(message.payload);
    if (topic === 'bus/cancel') return this.#calls.get(`${payload.id} ${payload.source}`)?.abort(CANCELLED);
    const event = HUB_EVENTS[topic];
    if (event) {
      if (event === 'missed') this.#missed(payload);
      return this.#emit(event, payload);
    }
    if (this.#handler(topic)) void this.#serve(session, message);
    const { source, id, timestamp, uncertainty_us: uncertaintyUs, flags } = message;
    const delivery = { topic, payload, source, id, timestamp, uncertaintyUs, priority: flags?.priority ?? 'Normal' };
    for (const [pattern, { members }] of this.#subscriptions) {
      if (!matches(pattern, topic)) continue;
      for (const subscription of [...members]) this.#guard(`'${pattern}'`, () => subscription.take(delivery));
    }
  }

  #missed({ pattern, count }) {
    for (const subscription of this.#subscriptions.get(pattern)?.members ?? []) subscription.missed += count;
  }

  // Serving.

  /** Tells the hub of the addresses first, then registers: nobody reaches them before it knows what they ask. */
  async #offer(session, { component, handlers, access }) {
    const told = Object.keys(handlers).map((path) => {
      const row = { kind: 'endpoint', address: `${component}/${path}`, access };
      return this.#ask(session, 'bus/announce', { row });
    });
    await Promise.all(told);
    if (component !== this.#name) await this.#ask(session, 'bus/register', { component });
  }

  async #unregister(component) {
    if (!this.#services.delete(component) || this.#state !== 'up') return;
    if (component !== this.#name) await this.#request('bus/unregister', component);
  }

  #handler(address) {
    const slash = address.indexOf('/');
    const handlers = this.#services.get(address.slice(0, slash))?.handlers;
    const path = address.slice(slash + 1);
    return handlers && Object.hasOwn(handlers, path) ? handlers[path] : undefined;
  }

  /** Has a handler answer a request, or take a notification. */
  async #serve(session, { id, message_type, source, destination, payload, flags = {}, timestamp }) {
    const expectsAnswer = message_type === 'Request' && flags.requires_response !== false;
    const refuse = (kind, text) => expectsAnswer && session.send('Error', { id, destination: source, kind, text });
    const handler = this.#handler(destination);
    if (!handler) return refuse('Message', `nobody serves '${destination}'`);
    if (this.#calls.size >= MAX_CALLS) return refuse('Message', `'${destination}' has too much to do: try again`);
    const place = `${id} ${source}`;
    const controller = new AbortController();
    const call = { id, source, address: destination, timestamp, expectsAnswer, timeoutMs: flags.timeout_ms };
    this.#calls.set(place, controller);
    try {
      const answer = await handler(fromPayload(payload), { ...call, signal: controller.signal });
      if (!expectsAnswer || controller.signal.aborted) return;
      session.send('IPC', { id, message_type: 'Response', destination: source, payload: toPayload(answer) });
    } catch (error) {
      if (!controller.signal.aborted) this.#failed(destination, error, refuse);
    } finally {
      if (this.#calls.get(place) === controller) this.#calls.delete(place);
    }
  }

  /** A handler's own error goes to the caller as it is; what else it throws is not for the caller to read. */
  #failed(address, error, refuse) {
    const own = error instanceof VisorbusError;
    if (!own) this.#emit('problem', { what: `the handler of '${address}' failed`, error });
    refuse(own ? error.kind : 'Internal', own ? error.text : `the handler of '${address}' failed`);
  }

  #emit(event, detail) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      this.#guard(`'${event}'`, () => listener(detail));
    }
  }

  /** What a callback throws is the page's to see, and stops nothing here. */
  #guard(what, callback) {
    try {
      callback();
    } catch (error) {
      queueMicrotask(() => {
        throw new Error(`a listener of ${what} failed`, { cause: error });
      });
    }
  }
}

/** What a pattern brings: to a callback, or one by one to who iterates. */
export class Subscription {
  /** How many the hub has dropped because this end did not read. */
  missed = 0;
  /** How many were dropped here because nobody iterated. */
  dropped = 0;
  #callback;
  #limit;
  #leave;
  #queue = [];
  #waiting = [];
  #over = false;

  constructor(pattern, callback, limit, leave) {
    this.pattern = pattern;
    this.#callback = callback;
    this.#limit = limit;
    this.#leave = leave;
  }

  /** Ends it, here and at the hub. */
  async unsubscribe() {
    this.finish();
    await this.#leave();
  }

  /** For the client: one has come. */
  take(delivery) {
    if (this.#over) return;
    if (this.#callback) return void this.#callback(delivery);
    const next = this.#waiting.shift();
    if (next) return next({ value: delivery, done: false });
    this.#queue.push(delivery);
    if (this.#queue.length <= this.#limit) return;
    this.#queue.shift();
    this.dropped += 1;
  }

  /** For the client: no more will come. */
  finish() {
    this.#over = true;
    for (const next of this.#waiting.splice(0)) next({ value: undefined, done: true });
  }

  [Symbol.asyncIterator]() {
    return {
      next: () => {
        if (this.#queue.length > 0) return Promise.resolve({ value: this.#queue.shift(), done: false });
        if (this.#over) return Promise.resolve({ value: undefined, done: true });
        return new Promise((resolve) => this.#waiting.push(resolve));
      },
      return: async () => {
        await this.unsubscribe();
        return { value: undefined, done: true };
      },
    };
  }
}

/** One connection, from its opening to its end. */
class Session {
  /** What the hub said of itself. */
  hello = null;
  /** Why it ended. */
  ended = null;
  #socket;
  #place;
  #on;
  #opened = deferred();
  #lastWord = null;
  #turn = Promise.resolve();
  #asked = null;
  #pending = new Map();
  #lastId = 0;
  #beats = new Map();
  #heard = true;
  #heart = null;

  constructor(socket, place, on) {
    [this.#socket, this.#place, this.#on] = [socket, place, on];
    socket.onopen = () => this.#opened.resolve();
    socket.onmessage = ({ data }) => this.#receive(data);
    // Browsers say nothing more than that, so that no page can look about in a network; and some of Node leave the
    // closing out that follows elsewhere.
    socket.onerror = ({ message }) => {
      this.#lastWord ??= message || null;
      setTimeout(() => this.end(this.#farewell(1006, '')), 0);
    };
    socket.onclose = ({ code, reason }) => this.end(this.#farewell(code, reason));
  }

  /** Waits for the socket, and says hello. */
  async start(name, timeoutMs) {
    await this.#within(this.#opened.promise, timeoutMs, 'it did not open');
    if (this.#socket.protocol !== SUBPROTOCOL) {
      throw new VisorbusError('Protocol', `${this.#place} does not speak ${SUBPROTOCOL}`);
    }
    this.hello = await this.auth({ Hello: { name } }, 'Hello', timeoutMs);
  }

  /** Keeps the connection under watch from now on; not before the log-in, since the hub answers no stranger's heart. */
  watch(heartbeatMs) {
    const interval = heartbeatMs ?? this.hello.protocol?.heartbeat_interval_ms ?? 0;
    if (interval > 0 && !this.ended) this.#heart = setInterval(() => this.#beat(interval), interval);
  }

  /** Shows credentials; gives the token that the hub made for them, or null. */
  async authenticate(credentials, timeoutMs) {
    const shown = credentials.Certificate ? 'Certificate' : credentials;
    const { token } = (await this.auth({ Authenticate: shown }, 'Authenticated', timeoutMs)) ?? {};
    return token ?? null;
  }

  /** One Auth message and its answer. They have no ids, so they go one after the other. */
  auth(payload, answer, timeoutMs) {
    const turn = this.#turn.then(() => {
      if (this.ended) throw this.ended;
      this.#asked = { ...deferred(), answer };
      this.send('Auth', payload);
      return this.#within(this.#asked.promise, timeoutMs, `no answer to ${Object.keys(payload)[0]}`);
    });
    // An answer that comes later would be taken for that to the next.
    const over = (error) => error?.kind === 'Timeout' && this.end(error);
    this.#turn = turn.then(() => {}, over).then(() => (this.#asked = null));
    return turn;
  }

  /** Requests, notifications and heartbeats are counted together: an Error says only the number. */
  nextId() {
    this.#lastId += 1;
    return String(this.#lastId);
  }

  /** Sends a request; the hub tells when its time is over, and a little later it is over here too. */
  request(message, timeoutMs, signal) {
    if (this.ended) return Promise.reject(this.ended);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = this.nextId();
    const waiting = deferred();
    const timer = setTimeout(() => {
      waiting.reject(new VisorbusError('Timeout', `no answer from '${message.destination}' in ${timeoutMs} ms`));
    }, timeoutMs + GRACE_MS);
    const cancel = () => {
      waiting.reject(signal.reason);
      const payload = toPayload({ id, source: '' });
      this.send('IPC', { id: this.nextId(), message_type: 'Notification', destination: 'bus/cancel', payload });
    };
    signal?.addEventListener('abort', cancel, { once: true });
    this.#pending.set(id, waiting);
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      this.#pending.delete(id);
    };
    waiting.promise.then(settle, settle);
    try {
      this.send('IPC', { id, ...message });
    } catch (error) {
      waiting.reject(error);
    }
    return waiting.promise;
  }

  /** A heartbeat of one's own, and how long it took to come back. */
  ping(timeoutMs) {
    const id = this.nextId();
    const back = deferred();
    const start = performance.now();
    this.#beats.set(id, back);
    const done = () => this.#beats.delete(id);
    const taken = back.promise.then((timestamp) => {
      const end = performance.now();
      const halfway = performance.timeOrigin + (start + end) / 2;
      return { roundTripMs: end - start, clockOffsetMs: timestamp === undefined ? null : timestamp / 1000 - halfway };
    });
    taken.then(done, done);
    this.send('Heartbeat', { id });
    return this.#within(taken, timeoutMs, 'no answer to a heartbeat');
  }

  /** Sends one envelope, unless it is longer than the hub takes or too much waits already. */
  send(message_type, payload) {
    if (this.ended) return;
    const text = written({ message_type, payload });
    const most = this.hello?.protocol?.max_message_size ?? Infinity;
    // A character takes at most three bytes of UTF-8; only then is it worth counting.
    if (text.length * 3 > most && new TextEncoder().encode(text).length > most) {
      throw new VisorbusError('Message', `the message is longer than the ${most} bytes that the hub takes`);
    }
    if (this.#socket.bufferedAmount > MAX_BUFFERED) {
      throw new VisorbusError('Message', 'the hub does not read: too much waits to be sent');
    }
    this.#socket.send(text);
  }

  /** Ends it: what waits fails with `error`, and the client is told. */
  end(error) {
    if (this.ended) return;
    this.ended = error;
    clearInterval(this.#heart);
    Object.assign(this.#socket, { onopen: null, onmessage: null, onerror: null, onclose: null });
    this.#socket.close(1000);
    this.#opened.reject(error);
    this.#asked?.reject(error);
    const text = `${error.text ?? error.message}; the request was not answered before that`;
    const waits = [...this.#pending.values(), ...this.#beats.values()];
    for (const waiting of waits) waiting.reject(new VisorbusError('Connection', text));
    this.#on.down(error);
  }

  #receive(text) {
    this.#heard = true;
    const { message_type, payload } = parsed(text) ?? {};
    switch (message_type) {
      case 'IPC':
        return this.#message(payload);
      case 'Auth':
        return this.#authAnswer(payload);
      case 'Error':
        return this.#error(payload);
      case 'Heartbeat':
        return this.#beats.get(payload?.id)?.resolve(payload.timestamp);
      default:
        return this.end(new VisorbusError('Protocol', `${this.#place} sent what is not of ${SUBPROTOCOL}`));
    }
  }

  #message(message) {
    if (message.message_type === 'Response') {
      return this.#pending.get(message.id)?.resolve(fromPayload(message.payload));
    }
    if (message.destination !== 'bus/goodbye') return this.#on.message(message);
    this.#lastWord = `the hub said goodbye: ${fromPayload(message.payload)}`;
    return undefined;
  }

  #authAnswer(payload) {
    const answer = this.#asked?.answer;
    if (payload === answer) return this.#asked.resolve(null);
    if (answer && payload?.[answer]) return this.#asked.resolve(payload[answer]);
    return undefined;
  }

  /** With an id it is for who asked so, who may have gone; without one, for an Auth message, or the last word. */
  #error({ id, kind, text }) {
    const error = new VisorbusError(kind, text);
    if (id !== undefined) return (this.#pending.get(id) ?? this.#beats.get(id))?.reject(error);
    if (this.#asked) return this.#asked.reject(error);
    this.#lastWord = error;
    return undefined;
  }

  /** Once an interval: who has said nothing since the last, though asked, is gone. */
  #beat(interval) {
    if (!this.#heard) {
      return this.end(new VisorbusError('Connection', `${this.#place} has said nothing for ${interval} ms`));
    }
    this.#heard = false;
    return this.send('Heartbeat', { id: this.nextId() });
  }

  #farewell(code, reason) {
    if (this.#lastWord instanceof VisorbusError) return this.#lastWord;
    const broken = this.hello ? 'it broke off' : NOBODY;
    const said = code === 1006 ? broken : CLOSE_CODES[code];
    const why = this.#lastWord || reason || said || `it was closed with code ${code}`;
    return new VisorbusError('Connection', `connection to ${this.#place}: ${why}`);
  }

  #within(promise, ms, what) {
    const text = `connection to ${this.#place}: ${what} in ${ms} ms`;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new VisorbusError('Timeout', text)), ms);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  }
}

/** The browser's own WebSocket where there is one that does; else the one for Node. */
async function openSocket(url, tls) {
  if (globalThis.WebSocket && !tls) return new WebSocket(url, SUBPROTOCOL);
  if (!globalThis.process?.versions?.node) {
    throw new VisorbusError('Connection', 'a browser has its own certificates: leave the option tls out');
  }
  const { NodeWebSocket } = await import('./node-websocket.js');
  return new NodeWebSocket(url, SUBPROTOCOL, tls);
}

/** Throws away the query too: whatever it is, an error need not show it. */
function placeOf(url) {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}

function checkedUrl(url) {
  const { protocol, username, password } = new URL(url);
  if (protocol !== 'ws:' && protocol !== 'wss:') throw new TypeError('a hub is at ws://… or wss://…');
  if (username || password) throw new TypeError('credentials do not belong into an address: give them as an option');
  return String(url);
}

/** Credentials as the wire has them. */
function checkedCredentials(credentials) {
  const { token, username, password, apiKey } = credentials;
  if (credentials === 'certificate') return { Certificate: true };
  if (typeof token === 'string') return { Token: token.trim() };
  if (typeof apiKey === 'string') return { ApiKey: apiKey.trim() };
  if (typeof username === 'string' && typeof password === 'string') return { UsernamePassword: { username, password } };
  throw new TypeError("credentials are { token }, { username, password }, { apiKey } or 'certificate'");
}

/** Below the name that the credentials prove, so that several clients can have them at once. */
function nameFrom(credentials) {
  const own = credentials?.UsernamePassword?.username ?? claimsOf(credentials?.Token)?.subject;
  if (credentials?.Token !== undefined && own === undefined) {
    throw new VisorbusError('Authentication', 'this is no token of a hub: one begins with vb1. and is much longer');
  }
  if (own === undefined) throw new TypeError('a client needs a name: give it as an option');
  const tail = Math.floor(Math.random() * 36 ** 4).toString(36);
  return own.length + 1 + tail.length <= MAX_NAME ? `${own}.${tail}` : own;
}

/** What a token says of itself, unproven: docs/wire-format.md, section 5. */
function claimsOf(token) {
  try {
    const bytes = fromBase64(token.replace(/^vb1\./, '').replaceAll('-', '+').replaceAll('_', '/'));
    let at = 2;
    const byte = () => {
      if (at >= bytes.length) throw new RangeError('cut off');
      return bytes[at++];
    };
    const text = () => String.fromCharCode(...Array.from({ length: byte() }, byte));
    const [, subject] = [text(), text(), text()];
    const number = () => {
      for (let value = 0n, shift = 0n; ; shift += 7n) {
        const next = byte();
        value |= BigInt(next & 0x7f) << shift;
        if (next < 0x80) return value;
      }
    };
    number();
    return { subject, issuedAt: Number(number()) };
  } catch {
    return undefined;
  }
}

/** How long a token lives that was made just now, whatever this machine's clock shows; null: for ever. */
function lifeMs({ value, expiration }) {
  if (expiration === null || expiration === undefined) return null;
  const issued = claimsOf(value)?.issuedAt ?? Date.now() / 1000;
  return Math.max(0, expiration - issued) * 1000;
}

function subscribeTo(pattern, policy) {
  return policy === undefined ? { pattern } : { pattern, policy };
}

/** Whether a pattern selects a topic: `*` is one segment, a last `**` the rest. */
function matches(pattern, topic) {
  const [want, have] = [pattern.split('/'), topic.split('/')];
  for (const [index, segment] of want.entries()) {
    if (segment === '**') return true;
    if (index >= have.length || (segment !== '*' && segment !== have[index])) return false;
  }
  return want.length === have.length;
}

function toPayload(value) {
  if (value === undefined) return 'Empty';
  return value instanceof Uint8Array ? { Binary: toBase64(value) } : { Json: value };
}

function fromPayload(payload) {
  if (payload === undefined || payload === 'Empty') return undefined;
  if ('Binary' in payload) return fromBase64(payload.Binary);
  return payload.Json ?? payload.String ?? payload.Toml ?? payload.InvalidJson ?? null;
}

function toBase64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Integers that a number cannot hold become strings of their digits: a 64-bit serial number, say. */
function parsed(text) {
  try {
    // This throws too, if there is more than an expression can keep in mind.
    const exact = LONG.test(text) ? text.replace(TOKEN, (token) => (isTooBig(token) ? `"${token}"` : token)) : text;
    return JSON.parse(exact);
  } catch {
    return undefined;
  }
}

function isTooBig(token) {
  return /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token));
}

/** A BigInt goes as the number that it is: as a string first, behind a mark that the message has nowhere else. */
function written(envelope) {
  let big = false;
  const text = withBigInts(envelope, () => {
    big = true;
    return null;
  });
  if (!big) return text;
  let mark;
  do mark = `bigint${Math.random().toString(36).slice(2)}:`;
  while (text.includes(mark));
  const marked = withBigInts(envelope, (value) => `${mark}${value}`);
  return marked.replace(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1');
}

/** JSON in which each BigInt is what `put` makes of it. */
function withBigInts(envelope, put) {
  return JSON.stringify(envelope, (_, value) => (typeof value === 'bigint' ? put(value) : value));
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

function asError(error) {
  return error instanceof VisorbusError ? error : new VisorbusError('Connection', error.message);
}

function deferred() {
  let resolve, reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  // Not everybody waits for every one of them.
  promise.catch(() => {});
  return { promise, resolve, reject };
}

const DEFAULTS = { timeoutMs: 5000, heartbeatMs: undefined, reconnect: {}, tls: undefined };
const BACK_OFF = { minMs: 250, maxMs: 10_000 };
/** To come back with these would be refused again. */
const FINAL = new Set(['Authentication', 'Authorization']);
const HUB_EVENTS = { 'bus/missed': 'missed', 'bus/revoked': 'revoked', 'bus/mismatch': 'mismatch' };
const CANCELLED = new VisorbusError('Connection', 'nobody waits for the answer any more');
const CLOSE_CODES = {
  1000: 'the hub closed it',
  1001: 'the hub goes away',
  1005: 'the hub closed it without a reason',
};
const NOBODY = 'nobody answers there, or the server refuses this client, or its certificate is not trusted';
const DEFAULT_QUEUE = 1024;
const GRACE_MS = 1000;
/** A string or a number of JSON; and what has a number that may be too long. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const LONG = /9\d{15}|\d{17}/;
const MAX_BUFFERED = 4 * 1024 * 1024;
const MAX_CALLS = 256;
const MAX_NAME = 32;
const MAX_TIMER_MS = 2 ** 31 - 1;
const RENEW_AFTER = 0.8;
const RENEW_AGAIN_MS = 5000;
