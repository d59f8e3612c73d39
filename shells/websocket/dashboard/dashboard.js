/** The page: logging in, the state of the connection, the theme. What the panels show is in panels.js. */
import { connect } from './visorbus.js';
import { Panels, headline, log } from './panels.js';

const at = (id) => document.getElementById(id);
const panels = new Panels();
let client = null;
let ours = false;
let countdown = null;

// Logging in and out.

at('login-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const how = document.querySelector('input[name="how"]:checked').value;
  const token = at('token').value.trim();
  const [username, password] = [at('username').value.trim(), at('password').value];
  const missing = how === 'token' ? !token && 'token' : !username ? 'username' : !password && 'password';
  if (missing) return refuse('Fill this in first.', missing);
  return void logIn(how === 'token' ? { token } : { username, password });
});

for (const radio of document.querySelectorAll('input[name="how"]')) {
  radio.addEventListener('change', () => {
    for (const part of document.querySelectorAll('.by')) part.hidden = part.dataset.how !== radio.value;
    at('login-problem').textContent = '';
  });
}

async function logIn(credentials) {
  const button = at('login-button');
  if (button.getAttribute('aria-busy') === 'true') return;
  at('login-problem').textContent = '';
  button.setAttribute('aria-busy', 'true');
  state('connecting', 'Connecting');
  try {
    let { token } = credentials;
    ours = token === undefined || sessionStorage.getItem(OURS) === token;
    const on = { token: ({ value }) => remember((token = value)) };
    const joined = await connect(address(), { credentials, heartbeatMs: 3000, reconnect: { maxMs: 5000 }, on });
    remember(token);
    enter(joined, credentials);
  } catch (error) {
    // Only who was refused has no use for the token any more.
    if (FINAL.has(error.kind)) forget();
    state('out', 'Not logged in');
    const field = credentials.token === undefined ? 'password' : 'token';
    refuse(`${headline(error)}: ${error.text ?? error.message}`, field);
  } finally {
    button.removeAttribute('aria-busy');
  }
}

function enter(joined, credentials) {
  client = joined;
  for (const field of ['token', 'password']) at(field).value = '';
  watch(joined);
  at('who').textContent = joined.name;
  view('dashboard');
  state('up', 'Connected');
  void panels.start(joined);
  at('main').focus({ preventScroll: true });
}

function leave(problem) {
  const last = client;
  client = null;
  panels.stop();
  forget();
  view('login');
  state('out', 'Not logged in');
  last?.close();
  if (problem) refuse(problem, 'token');
  else at('token').focus();
}

at('logout').addEventListener('click', async () => {
  // A token that this login was given is of no use to anybody any more; one that was pasted is somebody's.
  const last = client;
  client = null;
  if (ours) await last.revoke().catch(() => {});
  last.close();
  leave();
});

/** Where to type again what was refused. */
function refuse(text, field) {
  at('login-problem').textContent = text;
  const place = at(field).closest('.by').hidden ? document.querySelector('.by:not([hidden]) input') : at(field);
  place.focus();
}

/** The hub that served this page. */
function address() {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/`;
}

// The token is kept in memory, and beyond that only where the person said so: until the tab is closed.

function remember(token) {
  if (!at('keep').checked || !token) return;
  sessionStorage.setItem(KEPT, token);
  if (ours) sessionStorage.setItem(OURS, token);
}

function forget() {
  sessionStorage.removeItem(KEPT);
  sessionStorage.removeItem(OURS);
}

// The connection.

function watch(joined) {
  joined.on('down', ({ reason }) => {
    log(reason, 'Hub lost');
    state('down', 'Hub lost, trying again');
    panels.pause();
  });
  joined.on('retrying', ({ delayMs, reason, attempt }) => {
    if (attempt > 1) at('state').title = reason.text;
    countDown(delayMs);
  });
  joined.on('up', () => {
    log(null, 'The hub is back');
    state('up', 'Connected');
    panels.resume();
  });
  joined.on('closed', ({ reason }) => {
    if (joined === client) leave(`${headline(reason)}: ${reason.text}`);
  });
  joined.on('problem', ({ what, error }) => log(error, what));
  joined.on('revoked', ({ what, name, reason }) => log({ text: `${what} '${name}': ${reason}` }, 'The hub took away'));
  joined.on('missed', ({ pattern, count }) => {
    log({ text: `${count} of '${pattern}' were dropped: this page was too slow` }, 'Missed');
  });
}

/** `out`, `connecting`, `up` or `down`; read out by screen readers, so only what changes is written. */
function state(name, text) {
  document.body.dataset.state = name;
  document.title = name === 'down' ? 'Visorbus (hub lost)' : 'Visorbus';
  if (at('state-text').textContent !== text) at('state-text').textContent = text;
  at('state').title = '';
  const focused = document.activeElement === at('retry');
  at('retry').hidden = name !== 'down';
  if (focused && name !== 'down') at('main').focus({ preventScroll: true });
  if (name !== 'down') countDown(null);
}

function countDown(delayMs) {
  clearInterval(countdown);
  at('countdown').textContent = '';
  if (delayMs === null) return;
  const end = performance.now() + delayMs;
  const show = () => {
    const left = Math.max(0, (end - performance.now()) / 1000);
    at('countdown').textContent = left > 0 ? `in ${left.toFixed(1)} s` : 'now …';
    if (left === 0) clearInterval(countdown);
  };
  show();
  countdown = setInterval(show, 100);
}

at('retry').addEventListener('click', () => client?.retryNow());

function view(name) {
  document.body.dataset.view = name;
  at('login').hidden = name !== 'login';
  at('dashboard').hidden = name !== 'dashboard';
  at('logout').hidden = at('who').hidden = name !== 'dashboard';
}

// The theme: as the system has it, or as the person has chosen.

const THEMES = ['auto', 'light', 'dark'];

function theme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  at('theme').textContent = `Theme: ${name}`;
  localStorage.setItem(THEME, name);
  panels.recolour();
}

at('theme').addEventListener('click', () => {
  const now = document.documentElement.dataset.theme ?? 'auto';
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => panels.recolour());

const FINAL = new Set(['Authentication', 'Authorization']);
const KEPT = 'visorbus.token';
/** The same, where it came of a password: such a token is taken back at the end. */
const OURS = 'visorbus.own-token';
const THEME = 'visorbus.theme';

theme(THEMES.find((name) => name === localStorage.getItem(THEME)) ?? 'auto');
void logInAgain();

/** With the token that was kept over a reload, until the hub says something to it or the person does. */
async function logInAgain() {
  at('token').focus();
  for (let kept; !client && (kept = sessionStorage.getItem(KEPT)) && !at('token').value; ) {
    at('keep').checked = true;
    await logIn({ token: kept });
    if (!client) await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
