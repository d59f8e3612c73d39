/** What the panels show of the bus, live. They are given a client that is logged in, and know not how it came. */
import { Plot } from './plot.js';

const at = (id) => document.getElementById(id);
const lessMotion = matchMedia('(prefers-reduced-motion: reduce)');

/** All panels: started with a client, paused while the hub is lost, stopped when the person logs out. */
export class Panels {
  #client = null;
  #timer = null;
  #motion = new Motion();
  #traffic = new Traffic();
  #latency = new Latency();
  #services = new Services((address) => this.#calls.choose(address));
  #calls = new Calls(() => this.#client);

  async start(client) {
    this.#client = client;
    this.#motion.clear();
    this.#traffic.clear();
    this.#latency.clear();
    await this.resume();
  }

  /** Everything is asked for again; what is drawn goes on where it was. */
  async resume() {
    const client = this.#client;
    this.pause();
    this.#tick(client);
    await Promise.all([this.#motion.listen(client), this.#services.watch(client)]);
  }

  pause() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#client) note('motion-note', 'waiting for the hub');
    this.#traffic.interrupt();
    this.#latency.interrupt();
  }

  stop() {
    this.pause();
    this.#client = null;
    this.#motion.stop();
    this.#services.stop();
  }

  recolour() {
    for (const part of [this.#motion, this.#traffic, this.#latency]) part.recolour();
  }

  /** Once a second, counted from one beginning to the next. */
  #tick(client) {
    const begun = performance.now();
    const age = this.#motion.second();
    const done = () => {
      if (client !== this.#client || client.state !== 'up') return;
      const wait = Math.max(0, begun + SECOND - performance.now());
      this.#timer = setTimeout(() => this.#tick(client), wait);
    };
    const asked = [this.#latency.measure(client, age), this.#traffic.ask(client), this.#motion.compareClocks(client)];
    void Promise.all(asked).then(done, done);
  }
}

/** The samples of a motion sensor: `accel` and `gyro`, three numbers each, on any topic below `imu`. */
class Motion {
  #accel = new Plot(at('accel'), at('accel-legend'), { lines: 3, seconds: 10, capacity: 16_384 });
  #gyro = new Plot(at('gyro'), at('gyro-legend'), { lines: 3, seconds: 10, capacity: 16_384 });
  #client = null;
  #subscription = null;
  #refusal = null;
  #seen = 0;
  #sinceTick = 0;
  #lastTick = performance.now();
  #lastSample = null;
  #ages = { sum: 0, count: 0, uncertainty: 0 };
  #clock = null;
  #hubClock = null;
  #paused = false;
  #frame = null;
  #drawnAt = 0;
  #pace = 0;

  constructor() {
    at('pause').addEventListener('click', () => {
      this.#paused = !this.#paused;
      at('pause').setAttribute('aria-pressed', String(this.#paused));
      this.#note();
    });
  }

  async listen(client) {
    if (client !== this.#client) [this.#client, this.#subscription] = [client, null];
    this.#frame ??= requestAnimationFrame((time) => this.#draw(time));
    if (this.#subscription) return;
    try {
      const policy = { drop_oldest: 256 };
      this.#subscription = await client.subscribe('imu/*', { policy }, (delivery) => this.#take(delivery));
      this.#refusal = null;
    } catch (error) {
      this.#refusal = error;
    }
    this.#note();
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    [this.#client, this.#subscription, this.#frame] = [null, null, null];
  }

  clear() {
    [this.#seen, this.#sinceTick, this.#lastSample, this.#clock, this.#hubClock] = [0, 0, null, null, null];
    for (const plot of [this.#accel, this.#gyro]) {
      plot.clear();
      plot.label();
    }
    at('sample-count').textContent = '0';
  }

  recolour() {
    this.#accel.recolour();
    this.#gyro.recolour();
  }

  #take({ payload, timestamp, uncertaintyUs }) {
    if (!isVector(payload?.accel) || !isVector(payload?.gyro)) return;
    const now = performance.now() / 1000;
    this.#seen += 1;
    this.#sinceTick += 1;
    this.#lastSample = now;
    if (timestamp !== undefined && uncertaintyUs !== undefined) {
      this.#ages.sum += wallClock() - timestamp / 1000;
      this.#ages.count += 1;
      this.#ages.uncertainty = uncertaintyUs / 1000;
    }
    if (this.#paused) return;
    const time = this.#timeOf(payload.timestamp_us, now);
    this.#accel.push(time, payload.accel);
    this.#gyro.push(time, payload.gyro);
  }

  /**
   * When a sample was taken, by this page's clock: the way that was shortest so far is taken for no way at all, so that
   * samples stand where the sensor took them and not where the network let them through.
   */
  #timeOf(taken, now) {
    if (typeof taken !== 'number') return now;
    const offset = now - taken / 1e6;
    // The sensor began anew, or the first samples had waited: what was drawn stands in the wrong place.
    if (this.#clock === null || offset > this.#clock + 1 || offset < this.#clock - 0.02) {
      this.#clock = offset;
      this.#accel.clear();
      this.#gyro.clear();
    }
    // Up a little each time: the two clocks drift apart.
    this.#clock = Math.min(this.#clock + 1e-6, offset);
    return taken / 1e6 + this.#clock;
  }

  /** The figures of the last second; gives the age of its samples, or null. */
  second() {
    const now = performance.now();
    const rate = (this.#sinceTick * SECOND) / Math.max(1, now - this.#lastTick);
    [this.#sinceTick, this.#lastTick] = [0, now];
    at('sample-rate').textContent = this.#seen > 0 ? rate.toFixed(rate < 10 ? 1 : 0) : '–';
    at('sample-count').textContent = count(this.#seen);
    this.#note();
    return this.#age();
  }

  /**
   * What the hub's clock shows more than this machine's. Of the last comparisons the one that took least time is the
   * best; none is right for ever, because clocks drift.
   */
  async compareClocks(client) {
    if (this.#hubClock && (this.#hubClock.used += 1) > 10 && this.#hubClock.used % 5 !== 0) return;
    const { roundTripMs, clockOffsetMs } = await client.ping();
    if (clockOffsetMs === null) return;
    const old = this.#hubClock;
    const better = !old || old.used > 60 || roundTripMs / 2 <= old.bound;
    if (better) this.#hubClock = { offset: clockOffsetMs, bound: roundTripMs / 2, used: 1 };
  }

  /** The mean of the last second, in the hub's clock. */
  #age() {
    const { sum, count: many, uncertainty } = this.#ages;
    this.#ages = { sum: 0, count: 0, uncertainty };
    if (many === 0 || !this.#hubClock) {
      at('age').textContent = '–';
      return null;
    }
    const age = Math.max(0, sum / many + this.#hubClock.offset);
    at('age').textContent = age.toFixed(1);
    at('age-side').textContent = `± ${(uncertainty + this.#hubClock.bound).toFixed(1)} ms, hub’s clock`;
    return age;
  }

  #note() {
    const silent = this.#lastSample === null ? 'no samples yet' : 'no samples at present';
    const live = this.#lastSample !== null && performance.now() / 1000 - this.#lastSample < 2;
    const text = this.#paused ? 'paused; samples go on being counted' : live ? 'live' : silent;
    note('motion-note', this.#refusal ? refusal(this.#refusal) : text, this.#refusal !== null);
  }

  #draw(time) {
    this.#frame = requestAnimationFrame((next) => this.#draw(next));
    if (this.#paused || time - this.#drawnAt < this.#pace) return;
    this.#drawnAt = time;
    const begun = performance.now();
    for (const plot of [this.#accel, this.#gyro]) {
      plot.draw(begun / 1000);
      plot.label();
    }
    // A slow machine has better things to do than to draw.
    const cost = performance.now() - begun;
    this.#pace = lessMotion.matches ? 500 : Math.min(500, Math.max(30, cost * 10));
  }
}

/** The table of peers, and how many messages they send and get, from what the hub has counted. */
class Traffic {
  #plot = new Plot(at('rates'), at('rates-legend'), { lines: 2, seconds: 120, capacity: 240, digits: 0, floor: 0 });
  #rows = new Map();
  #before = new Map();
  #notBefore = 0;

  clear() {
    this.#plot.clear();
    this.#plot.label();
    this.#before.clear();
    this.#rows.clear();
    this.#notBefore = 0;
    at('peers').replaceChildren();
    for (const place of ['rate-total', 'rates-note', 'peers-note']) at(place).textContent = '';
  }

  /** What comes next is not the second after what was. */
  interrupt() {
    this.#before.clear();
    this.#plot.push(performance.now() / 1000, [NaN, NaN]);
  }

  recolour() {
    this.#plot.recolour();
  }

  async ask(client) {
    if (performance.now() < this.#notBefore) return;
    try {
      this.#show(await client.peers());
    } catch (error) {
      if (error.kind === 'Connection') return;
      // Perhaps it will be allowed one day; that need not be asked each second.
      if (error.kind === 'Authorization') this.#notBefore = performance.now() + 15 * SECOND;
      for (const place of ['peers-note', 'rates-note']) note(place, refusal(error), true);
      at('rate-side').textContent = 'not known';
    }
  }

  #show(peers) {
    const now = performance.now();
    const total = [0, 0];
    const seen = new Map();
    for (const peer of peers) {
      const key = `${peer.name} ${peer.origin}`;
      const before = this.#before.get(key);
      const rate = (field) => before && Math.max(0, ((peer[field] - before[field]) * SECOND) / (now - before.now));
      const [from, to] = [rate('frames_in'), rate('frames_out')];
      seen.set(key, { ...peer, now });
      total[0] += from ?? 0;
      total[1] += to ?? 0;
      this.#row(key, peer, from, to);
    }
    for (const [key, row] of this.#rows) {
      if (seen.has(key)) continue;
      row.remove();
      this.#rows.delete(key);
    }
    const first = this.#before.size === 0;
    this.#before = seen;
    note('peers-note', `${peers.length} connected`);
    note('rates-note', '');
    if (first) return;
    this.#plot.push(now / 1000, total);
    this.#plot.draw(now / 1000);
    this.#plot.label();
    at('rate-total').textContent = count(Math.round(total[0] + total[1]));
    at('rate-side').textContent = 'to and from the hub';
  }

  #row(key, peer, from, to) {
    let row = this.#rows.get(key);
    if (!row) {
      row = document.createElement('tr');
      for (let column = 0; column < 8; column += 1) {
        const cell = row.insertCell();
        cell.className = column === 0 ? 'name' : column > 2 ? 'n' : '';
      }
      this.#rows.set(key, row);
      at('peers').append(row);
    }
    const state = peer.authenticated ? 'logged in' : 'not logged in';
    const rate = (value) => (value === undefined ? '–' : count(Math.round(value)));
    const texts = [peer.name, peer.origin, state, rate(from), rate(to)];
    const numbers = [peer.queued_bytes, peer.missed, peer.refused];
    for (const [index, text] of [...texts, ...numbers.map(count)].entries()) {
      const cell = row.cells[index];
      if (cell.textContent === text) continue;
      cell.textContent = text;
      if (index < 2) cell.title = text;
    }
    row.cells[6].classList.toggle('warn', peer.missed > 0);
    row.cells[7].classList.toggle('warn', peer.refused > 0);
  }
}

/** How long a small request of one's own takes to the hub and back, and how old samples are when they come. */
class Latency {
  #plot = new Plot(at('latency'), at('latency-legend'), { lines: 2, seconds: 120, capacity: 240, digits: 1, floor: 0 });
  #minute = [];

  clear() {
    this.#minute = [];
    this.#plot.clear();
    this.#plot.label();
    for (const place of ['rtt-p50', 'rtt-max', 'age']) at(place).textContent = '–';
    note('latency-note', '');
  }

  recolour() {
    this.#plot.recolour();
  }

  /** What comes next is not the second after what was. */
  interrupt() {
    this.#plot.push(performance.now() / 1000, [NaN, NaN]);
  }

  async measure(client, age) {
    const begun = performance.now();
    let took = NaN;
    try {
      await client.permissions();
      took = performance.now() - begun;
      note('latency-note', '');
    } catch (error) {
      if (error.kind === 'Connection') return;
      note('latency-note', refusal(error), true);
    }
    const now = performance.now() / 1000;
    if (!Number.isNaN(took)) this.#minute.push({ now, took });
    this.#minute = this.#minute.filter((one) => one.now > now - 60);
    this.#plot.push(now, [took, age ?? NaN]);
    this.#plot.draw(now);
    this.#plot.label();
    const sorted = this.#minute.map((one) => one.took).sort((one, other) => one - other);
    if (sorted.length === 0) return;
    at('rtt-p50').textContent = sorted[Math.floor((sorted.length - 1) / 2)].toFixed(1);
    at('rtt-max').textContent = sorted.at(-1).toFixed(1);
  }
}

/** The components and what they offer, as they come and go. */
class Services {
  #choose;
  #client = null;
  #live = null;
  #timer = null;
  #shown = '';

  constructor(choose) {
    this.#choose = choose;
  }

  async watch(client) {
    if (client !== this.#client) [this.#client, this.#live, this.#shown] = [client, null, ''];
    if (!this.#live) {
      try {
        this.#live = await client.subscribe('bus/services/changed', { policy: 'latest' }, () => this.#soon(100));
      } catch {
        // Then they are asked for now and then.
        this.#live = null;
      }
    }
    await this.#ask(client);
  }

  stop() {
    clearTimeout(this.#timer);
    [this.#client, this.#live, this.#timer] = [null, null, null];
    at('services').replaceChildren();
    at('endpoints').replaceChildren();
  }

  /** Many changes at once are one: when a hub starts, all its peers come. */
  #soon(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#client && void this.#ask(this.#client), ms);
  }

  async #ask(client) {
    try {
      this.#show(await client.services());
    } catch (error) {
      if (error.kind !== 'Connection') note('services-note', refusal(error), true);
    }
    // Addresses of a board are known a little later than its name; and without notice, this is all there is.
    if (client === this.#client && client.state === 'up') this.#soon(5 * SECOND);
  }

  #show(services) {
    const text = JSON.stringify(services);
    note('services-note', `${services.length} components`);
    if (text === this.#shown) return;
    this.#shown = text;
    const list = at('services');
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.address : undefined;
    list.replaceChildren(...services.map((service) => this.#item(service)));
    if (focused) [...list.querySelectorAll('button')].find((one) => one.dataset.address === focused)?.focus();
    const endpoints = services.flatMap(({ addresses }) => addresses.filter(({ kind }) => kind === 'endpoint'));
    at('endpoints').replaceChildren(...endpoints.map(({ address }) => new Option('', address)));
  }

  #item({ component, peer, transport, addresses }) {
    const by = peer && peer !== component ? `${peer}, ${transport}` : transport;
    const title = make('div', 'title', make('strong', '', component), make('span', 'hint', by));
    const item = make('li', '', title);
    const chips = addresses.map((address) => make('li', '', this.#chip(address)));
    if (chips.length > 0) item.append(make('ul', '', ...chips));
    return item;
  }

  #chip({ address, kind, access }) {
    const what = access.startsWith('scope ') ? `${kind}, needs ${access.slice(6)}` : kind;
    const chip = make(kind === 'endpoint' ? 'button' : 'span', 'address', `${address} `, make('i', '', what));
    if (kind !== 'endpoint') return chip;
    chip.type = 'button';
    chip.dataset.address = address;
    chip.setAttribute('aria-label', `Call ${address}, ${what}`);
    chip.addEventListener('click', () => this.#choose(address));
    return chip;
  }
}

/** The form that calls an endpoint. */
class Calls {
  #client;

  constructor(client) {
    this.#client = client;
    at('body').addEventListener('input', () => this.#check());
    at('call').addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#call();
    });
  }

  /** Fills the address in and goes to the next field. */
  choose(address) {
    at('address').value = address;
    at('address').removeAttribute('aria-invalid');
    at('body').focus();
  }

  /** Reads the body and says what is the matter with it; undefined where it is not JSON. */
  #check() {
    const text = at('body').value.trim();
    try {
      const body = { value: text === '' ? undefined : JSON.parse(text) };
      note('body-check', text === '' ? 'nothing is sent with it' : 'this is JSON');
      at('body').removeAttribute('aria-invalid');
      return body;
    } catch (error) {
      note('body-check', `not JSON: ${error.message}`);
      at('body').setAttribute('aria-invalid', 'true');
      return undefined;
    }
  }

  async #call() {
    const [address, body, button] = [at('address').value.trim(), this.#check(), at('call-button')];
    at('address').toggleAttribute('aria-invalid', false);
    if (address === '') {
      at('address').setAttribute('aria-invalid', 'true');
      return at('address').focus();
    }
    if (!body) return at('body').focus();
    if (button.getAttribute('aria-busy') === 'true') return undefined;
    const timeoutMs = Math.min(3_600_000, Math.max(1, Math.round(Number(at('timeout').value) || 5000)));
    button.setAttribute('aria-busy', 'true');
    const begun = performance.now();
    const took = () => `${(performance.now() - begun).toFixed(1)} ms`;
    try {
      const answer = await this.#client().request(address, body.value, { timeoutMs });
      this.#show(`${address} answered in ${took()}`, printed(answer), false);
    } catch (error) {
      this.#show(`${headline(error)} (${address}, after ${took()})`, error.text ?? error.message, true);
      log(error, `Call of ${address}: ${headline(error)}`);
    }
    button.removeAttribute('aria-busy');
    return undefined;
  }

  #show(head, body, bad) {
    at('answer').classList.toggle('bad', bad);
    at('answer-head').textContent = head;
    at('answer-body').textContent = body;
  }
}

/** What an error means for the person who reads it; its text says the rest. */
export function headline({ kind }) {
  return HEADLINES[kind] ?? 'Something went wrong';
}

/** Adds a line to what happened; the same once more is counted. */
export function log(error, what) {
  const text = error ? `${what}: ${error.text ?? error.message}` : what;
  const list = at('log');
  const first = list.firstElementChild;
  at('log-note').textContent = '';
  if (first?.dataset.text === text) {
    first.dataset.times = String(Number(first.dataset.times) + 1);
    first.querySelector('span').textContent = `${text} (${first.dataset.times} times)`;
    return;
  }
  const line = make('li', error ? 'bad' : '', make('time', '', new Date().toLocaleTimeString([], { hour12: false })));
  line.append(make('span', '', text));
  [line.dataset.text, line.dataset.times] = [text, '1'];
  list.prepend(line);
  while (list.children.length > MAX_LOG) list.lastElementChild.remove();
}

/** Why a panel is empty. */
function refusal(error) {
  if (error.kind === 'Authorization') return `Not shown: the token does not allow it (${error.text})`;
  return `${headline(error)}: ${error.text ?? error.message}`;
}

function note(id, text, bad = false) {
  const place = at(id);
  if (place.textContent !== text) place.textContent = text;
  place.classList.toggle('bad', bad);
}

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Milliseconds since 1970 by this machine, finer than those of a Date. */
function wallClock() {
  return performance.timeOrigin + performance.now();
}

function isVector(value) {
  return Array.isArray(value) && value.length === 3 && value.every((one) => typeof one === 'number');
}

function count(number) {
  return number.toLocaleString('en', { useGrouping: true }).replaceAll(',', '\u202f');
}

function printed(answer) {
  if (answer === undefined) return 'no content';
  if (answer instanceof Uint8Array) {
    return `${answer.length} bytes: ${Array.from(answer.subarray(0, MAX_BYTES), hex).join(' ')}`;
  }
  const text = JSON.stringify(answer, null, 2);
  if (text.length <= MAX_TEXT) return text;
  return `${text.slice(0, MAX_TEXT)}\n… ${count(text.length - MAX_TEXT)} characters more`;
}

function hex(byte) {
  return byte.toString(16).padStart(2, '0');
}

const HEADLINES = {
  Authentication: 'The hub does not let you in',
  Authorization: 'Not allowed',
  Connection: 'No connection',
  Message: 'Not possible',
  Timeout: 'No answer in time',
  Serialization: 'The value does not fit',
  Protocol: 'The other end does not speak as agreed',
  Internal: 'The other end failed',
};
const MAX_BYTES = 512;
const MAX_LOG = 50;
const MAX_TEXT = 65_536;
const SECOND = 1000;
