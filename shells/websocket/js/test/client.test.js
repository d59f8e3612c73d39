/** The client against a real hub. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { VisorbusError, connect } from '../visorbus.js';
import { ACCOUNT, API_KEY, CA, GUEST, TOKEN, URL_PLAIN, URL_TLS, client, next, refusal, way } from './hub.js';

test('a_token_lets_one_in_under_a_name_below_its_subject', async (t) => {
  const panel = await client(t);
  assert.match(panel.name, /^panel\.[0-9a-z]{1,4}$/);
  assert.equal(panel.state, 'up');
  assert.equal(panel.hello.name, 'bus');
  const peers = await panel.peers();
  const own = peers.find(({ name }) => name === panel.name);
  assert.ok(own.authenticated, JSON.stringify(peers));
});

test('a_request_is_answered_over_tls_with_an_authority_of_ones_own', async (t) => {
  const panel = await client(t, { tls: { ca: CA } }, URL_TLS);
  assert.deepEqual(await panel.request('echo/ping', { a: [1, 'ü', null] }), { a: [1, 'ü', null] });
  const stranger = await refusal(connect(URL_TLS, { token: TOKEN, tls: {} }));
  assert.equal(stranger.kind, 'Connection');
  assert.match(stranger.text, /certificate/);
});

test('all_there_is_in_json_comes_back_as_it_went', async (t) => {
  const panel = await client(t);
  for (const value of [null, true, 0, -1.5, 1e300, '', 'a"\\\u0000\u2028é', [], {}, [[{}]], 'x'.repeat(200_000)]) {
    assert.deepEqual(await panel.request('echo/ping', value), value);
  }
  assert.deepEqual(await panel.request('echo/ping', new Uint8Array([0, 127, 255])), new Uint8Array([0, 127, 255]));
  assert.equal(await panel.request('echo/ping'), undefined);
});

test('integers_that_no_number_can_hold_go_as_bigint_and_come_as_digits', async (t) => {
  const panel = await client(t);
  const sent = { id: 18446744073709551615n, list: [-9223372036854775808n, 9007199254740991n] };
  const back = await panel.request('echo/ping', sent);
  assert.deepEqual(back, { id: '18446744073709551615', list: ['-9223372036854775808', 9007199254740991] });
  const texts = ['"18446744073709551615"', '\\', '12345678901234567890.5'];
  assert.deepEqual(await panel.request('echo/ping', texts), texts);
});

test('a_bigint_changes_nothing_else_in_the_message', async (t) => {
  const panel = await client(t);
  const texts = ['\0' + '7', '\\0123', '\0', 'a"\0' + '7"', '"7"', '\\u00007', '\\"\\u00007\\"', 'n7', ':7', '-7', '7n', '",7,"'];
  const keys = Object.fromEntries(texts.map((text) => [text, text]));
  const sent = (number) => [number, ...texts, keys, number, [[number]], `${number}`];
  assert.deepEqual(await panel.request('echo/ping', sent(5n)), sent(5));
  assert.deepEqual(await panel.request('echo/ping', 7n), 7);
});

test('typed_addresses_take_and_give_json', async (t) => {
  const panel = await client(t);
  assert.equal(await panel.request('imu/set-rate', 200), 200);
  const info = await panel.request('imu/info');
  assert.equal(info.rate_hz, 200);
  const wrong = await refusal(panel.request('imu/set-rate', 'fast'));
  assert.equal(wrong.kind, 'Serialization');
  assert.match(wrong.text, /u16/);
});

test('errors_say_what_and_where', async (t) => {
  const panel = await client(t);
  const nobody = await refusal(panel.request('nobody/there'));
  assert.ok(nobody instanceof VisorbusError);
  assert.equal(nobody.kind, 'Message');
  assert.match(nobody.text, /nobody/);
  const guest = await client(t, { token: GUEST });
  for (const asked of [guest.request('echo/ping'), guest.peers(), guest.subscribe('imu/*')]) {
    assert.equal((await refusal(asked)).kind, 'Authorization');
  }
  assert.equal(await guest.request('bus/permissions').then((list) => list.length > 0), true);
});

test('samples_come_to_a_callback_and_to_a_loop', async (t) => {
  const panel = await client(t);
  const heard = [];
  const enough = new Promise((resolve) => {
    const take = (delivery) => heard.push(delivery) === 5 && resolve();
    panel.subscribe('imu/*', { policy: { drop_oldest: 16 } }, take).catch(resolve);
  });
  await enough;
  for (const { topic, payload, source } of heard) {
    assert.deepEqual([topic, source], ['imu/sample', 'imu']);
    assert.ok([...payload.accel, ...payload.gyro].every(Number.isFinite), JSON.stringify(payload));
  }
  let count = 0;
  const loop = await panel.subscribe('imu/sample');
  for await (const { payload } of loop) {
    assert.equal(payload.accel.length, 3);
    if ((count += 1) === 3) break;
  }
  // The other one goes on.
  const before = heard.length;
  while (heard.length === before) await panel.ping();
});

test('patterns_select_as_the_hub_does', async (t) => {
  const panel = await client(t);
  const heard = [];
  await panel.subscribe('zoo/*/eats', ({ topic }) => heard.push(`one ${topic}`));
  await panel.subscribe('zoo/**', ({ topic }) => heard.push(`all ${topic}`));
  const last = new Promise((resolve) => void panel.subscribe('zoo', resolve).then(() => panel.notify('zoo/a/eats', 1)));
  for (const topic of ['zoo/a', 'zoo/a/eats/b', 'zoo']) {
    await panel.ping();
    panel.notify(topic, 1);
  }
  await last;
  assert.deepEqual(heard.filter((one) => one === 'one zoo/a/eats').length, 1);
  assert.deepEqual(heard.filter((one) => one.startsWith('one ')), ['one zoo/a/eats']);
  assert.deepEqual(heard.filter((one) => one.startsWith('all ')).sort(), [
    'all zoo',
    'all zoo/a',
    'all zoo/a/eats',
    'all zoo/a/eats/b',
  ]);
});

test('who_serves_is_listed_called_and_told_when_nobody_waits_any_more', async (t) => {
  const [server, caller] = [await client(t), await client(t)];
  let gone;
  const givenUp = new Promise((resolve) => (gone = resolve));
  const service = await server.serve('adder', {
    add: ([one, other], { source }) => ({ sum: one + other, source }),
    refuse: () => {
      throw new VisorbusError('Message', 'not today');
    },
    fail: () => {
      throw new Error('a secret of the inside');
    },
    wait: (_, { signal }) => new Promise(() => signal.addEventListener('abort', () => gone(signal.reason))),
  });
  assert.deepEqual(await caller.request('adder/add', [1, 2]), { sum: 3, source: caller.name });
  const listed = (await caller.services()).find(({ component }) => component === 'adder');
  assert.deepEqual(listed.addresses.map(({ address }) => address).sort(), [
    'adder/add',
    'adder/fail',
    'adder/refuse',
    'adder/wait',
  ]);
  const refused = await refusal(caller.request('adder/refuse'));
  assert.deepEqual([refused.kind, refused.text], ['Message', 'not today']);
  const problem = next(server, 'problem');
  const failed = await refusal(caller.request('adder/fail'));
  assert.deepEqual([failed.kind, failed.text], ['Internal', "the handler of 'adder/fail' failed"]);
  assert.equal((await problem).error.message, 'a secret of the inside');
  assert.equal((await refusal(caller.request('adder/none'))).kind, 'Message');
  const controller = new AbortController();
  const waiting = refusal(caller.request('adder/wait', null, { signal: controller.signal }));
  await caller.ping();
  controller.abort();
  assert.equal((await waiting).name, 'AbortError');
  await givenUp;
  await service.unregister();
  assert.equal((await refusal(caller.request('adder/add', [1, 2]))).kind, 'Message');
});

test('a_request_without_an_answer_ends_with_its_time', async (t) => {
  const [server, caller] = [await client(t), await client(t)];
  await server.serve('sloth', { sleep: () => new Promise(() => {}) });
  const late = await refusal(caller.request('sloth/sleep', null, { timeoutMs: 50 }));
  assert.equal(late.kind, 'Timeout');
});

test('a_password_and_a_key_are_worth_a_token_that_is_renewed', async (t) => {
  let made;
  const on = { token: (token) => (made = token) };
  const alice = await client(t, { token: undefined, credentials: ACCOUNT, on });
  assert.match(alice.name, /^alice\./);
  const first = made.value;
  const renewed = await alice.refresh();
  assert.notEqual(renewed.value, first);
  assert.equal(made.value, renewed.value);
  assert.equal(await alice.request('echo/ping', 1), 1);
  const again = await client(t, { token: renewed.value });
  assert.equal(await again.request('echo/ping', 2), 2);
  const robot = await client(t, { token: undefined, credentials: { apiKey: API_KEY }, name: 'robot' });
  assert.equal(await robot.request('echo/ping', 3), 3);
});

test('a_token_of_a_login_is_renewed_by_itself_at_four_fifths_of_its_life', async (t) => {
  const far = farTimers(t);
  const tokens = [];
  const on = { token: (token) => tokens.push(token) };
  const alice = await client(t, { token: undefined, credentials: ACCOUNT, on });
  const lifeMs = tokens[0].expiration * 1000 - Date.now();
  assert.equal(far.length, 1);
  const [{ callback, ms }] = far;
  assert.ok(ms > lifeMs * 0.75 && ms < lifeMs * 0.85, `${ms} of ${lifeMs} ms`);
  await alice.ping();
  assert.equal(tokens.length, 1, 'it is not time yet');
  const renewal = next(alice, 'token');
  callback();
  const renewed = await renewal;
  assert.notEqual(renewed.value, tokens[0].value);
  assert.equal(await alice.request('echo/ping', 1), 1);
  assert.equal(far.length, 2, 'the new one is renewed in its time too');
});

test('what_is_refused_is_said_and_changes_nothing', async (t) => {
  for (const [credentials, name] of [
    [{ ...ACCOUNT, password: 'wrong' }],
    [{ apiKey: 'vbk1.nothing' }, 'robot'],
    [{ token: `${TOKEN.slice(0, -3)}AAA` }],
  ]) {
    const error = await refusal(connect(URL_PLAIN, { credentials, name }));
    assert.equal(error.kind, 'Authentication', error.text);
    assert.ok(!error.message.includes(TOKEN.slice(4, 40)), 'no secret in an error');
  }
  const panel = await client(t);
  assert.equal((await refusal(panel.authenticate({ token: `${TOKEN.slice(0, -3)}AAA` }))).kind, 'Authentication');
  assert.equal(await panel.request('echo/ping', 1), 1);
  await assert.rejects(connect(URL_PLAIN, { token: 'vb1.bad' }), { kind: 'Authentication' });
  await assert.rejects(connect(URL_PLAIN.replace('ws://', 'ws://user:secret@'), { token: TOKEN }), TypeError);
});

test('a_connection_that_breaks_fails_what_waits_at_once_and_comes_back_with_all_it_had', async (t) => {
  const path = await way(t);
  const panel = await client(t, { reconnect: { minMs: 1 } }, path.url);
  await panel.serve('player', { play: (song) => `playing ${song}` });
  await panel.serve('sloth.two', { sleep: () => new Promise(() => {}) });
  let samples = 0;
  await panel.subscribe('imu/sample', () => (samples += 1));
  const events = [];
  for (const event of ['down', 'retrying', 'up', 'problem']) panel.on(event, () => events.push(event));
  const waiting = refusal(panel.request('sloth.two/sleep', null, { timeoutMs: 60_000 }));
  await panel.ping();
  const [down, up] = [next(panel, 'down'), next(panel, 'up')];
  path.cut();
  const lost = await waiting;
  assert.equal(lost.kind, 'Connection');
  assert.match(lost.text, /was not answered/);
  assert.equal((await down).reason.kind, 'Connection');
  assert.equal((await refusal(panel.request('echo/ping', 1))).kind, 'Connection');
  await up;
  const before = samples;
  while (samples === before) await panel.ping();
  const other = await client(t);
  assert.equal(await other.request('player/play', 'so what'), 'playing so what');
  assert.deepEqual([events[0], events[1], events.at(-1)], ['down', 'retrying', 'up'], events.join());
  assert.ok(!events.includes('problem'), events.join());
});

test('a_hub_that_is_silent_is_noticed', async (t) => {
  const path = await way(t);
  const panel = await client(t, { heartbeatMs: 500, reconnect: { minMs: 1 } }, path.url);
  const down = next(panel, 'down');
  path.hold(true);
  assert.match((await down).reason.text, /has said nothing for 500 ms/);
  const up = next(panel, 'up');
  path.hold(false);
  path.cut();
  await up;
  assert.equal(await panel.request('echo/ping', 1), 1);
});

test('who_is_not_let_in_any_more_does_not_try_again', async (t) => {
  let made;
  const on = { token: (token) => (made = token) };
  const alice = await client(t, { token: undefined, credentials: ACCOUNT, on, reconnect: { minMs: 1 } });
  const closed = next(alice, 'closed');
  // Somebody else takes the token back.
  const other = await client(t, { token: made.value, reconnect: false });
  await other.revoke().catch(() => {});
  assert.equal((await closed).reason.kind, 'Authentication');
  assert.equal(alice.state, 'closed');
});

test('what_was_closed_is_closed', async (t) => {
  const panel = await client(t);
  const loop = await panel.subscribe('imu/sample');
  const waiting = refusal(panel.request('bus/identity-of-nobody', null, { timeoutMs: 60_000 }));
  panel.close();
  assert.ok((await waiting) instanceof VisorbusError);
  for await (const _ of loop) continue;
  assert.equal((await refusal(panel.request('echo/ping'))).text, 'this client was closed');
});

test('a_message_that_is_too_long_is_refused_here', async (t) => {
  const panel = await client(t);
  const error = await refusal(panel.request('echo/ping', 'é'.repeat(600_000)));
  assert.deepEqual([error.kind, /1048576/.test(error.text)], ['Message', true], error.text);
  assert.equal(await panel.request('echo/ping', 1), 1);
});

/** Keeps the timers of more than a minute for the test to let them run out; the others are as ever. */
function farTimers(t) {
  const far = [];
  const near = globalThis.setTimeout;
  t.mock.method(globalThis, 'setTimeout', (callback, ms, ...rest) => {
    return ms > 60_000 ? far.push({ callback, ms }) && undefined : near(callback, ms, ...rest);
  });
  return far;
}
