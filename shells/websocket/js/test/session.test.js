/** The client against a hub of the tests' own, which answers late, wrongly or not at all. It needs no other hub. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connect } from '../visorbus.js';
import { ownHub } from './own-hub.js';

const CREDENTIALS = { username: 'alice', password: 'correct horse battery' };
const TOKEN = { value: 'vb1.first', expiration: 4_000_000_000, scope: [], issuer: 'bus' };
const RENEWED = { ...TOKEN, value: 'vb1.second' };

/** What a hub says to who asks before they are let in. */
function refused({ id }) {
  return { id, kind: 'Authentication', text: 'authenticate first' };
}

function authenticated(say) {
  say('Auth', { Authenticated: { token: TOKEN } });
}

test('a_log_in_may_take_many_heartbeats', async (t) => {
  let beats = 0;
  const url = await ownHub(t, ({ message_type, payload }, say) => {
    if (message_type === 'Heartbeat') {
      beats += 1;
      return say('Error', refused(payload));
    }
    return setTimeout(authenticated, 200, say);
  });
  const client = await connect(url, { credentials: CREDENTIALS, heartbeatMs: 20 });
  t.after(() => client.close());
  assert.equal(client.state, 'up');
  assert.equal(beats, 0, 'none goes before one is let in');
});

test('the_heart_beats_once_one_is_let_in', async (t) => {
  let beat;
  const beaten = new Promise((resolve) => (beat = resolve));
  const url = await ownHub(t, ({ message_type }, say) => (message_type === 'Heartbeat' ? beat() : authenticated(say)));
  const client = await connect(url, { credentials: CREDENTIALS, heartbeatMs: 20, reconnect: false });
  const closed = new Promise((resolve) => client.on('closed', resolve));
  await beaten;
  assert.match((await closed).reason.text, /has said nothing for 20 ms/);
});

test('a_hub_that_never_answers_a_log_in_is_noticed', async (t) => {
  const url = await ownHub(t, () => {});
  const asked = connect(url, { credentials: CREDENTIALS, heartbeatMs: 20, timeoutMs: 2_000 });
  await assert.rejects(asked, { kind: 'Timeout', text: /no answer to Authenticate/ });
});

test('an_error_to_what_nobody_waits_for_is_no_answer_to_a_renewal', async (t) => {
  const given = [];
  const url = await ownHub(t, ({ message_type, payload }, say) => {
    if (payload.Authenticate) return authenticated(say);
    if (message_type === 'IPC') return given.push(payload.id);
    for (const id of given) say('Error', { id, kind: 'Authentication', text: 'too late' });
    say('Error', { id: '4711', kind: 'Authorization', text: 'to nothing at all' });
    return say('Auth', { Refreshed: { token: RENEWED } });
  });
  const client = await connect(url, { credentials: CREDENTIALS });
  t.after(() => client.close());
  const controller = new AbortController();
  const asked = client.request('sloth/sleep', null, { signal: controller.signal });
  controller.abort();
  await assert.rejects(asked, { name: 'AbortError' });
  client.notify('not/allowed', 1);
  assert.deepEqual(await client.refresh(), RENEWED);
  assert.equal(given.length, 3, 'the request, that it was given up, the notification');
});

test('a_renewal_that_is_refused_is_refused', async (t) => {
  const url = await ownHub(t, ({ payload }, say) => {
    if (payload.Authenticate) return authenticated(say);
    return say('Error', { source: 'bus/refresh', kind: 'Authorization', text: 'not this one' });
  });
  const client = await connect(url, { credentials: CREDENTIALS });
  t.after(() => client.close());
  await assert.rejects(client.refresh(), { kind: 'Authorization', text: 'not this one' });
});

test('an_error_to_a_heartbeat_is_its_answer_and_no_request_s', async (t) => {
  const waiting = [];
  const url = await ownHub(t, ({ message_type, payload }, say) => {
    if (payload.Authenticate) return authenticated(say);
    if (message_type === 'IPC') return waiting.push(payload.id);
    say('Error', refused(payload));
    for (const id of waiting) say('IPC', { id, message_type: 'Response', source: 'echo', payload: { Json: 'here' } });
    return undefined;
  });
  const client = await connect(url, { credentials: CREDENTIALS });
  t.after(() => client.close());
  const asked = client.request('echo/ping');
  await assert.rejects(client.ping(), { kind: 'Authentication', text: 'authenticate first' });
  assert.equal(await asked, 'here');
});

test('a_text_of_many_megabytes_is_read_or_ends_the_connection_but_throws_nothing', async (t) => {
  const url = await ownHub(t, ({ payload }, say) => {
    if (payload.Authenticate) return authenticated(say);
    const text = payload.payload.Json.repeat(7.5 * 1024 * 1024);
    const answer = { text, number: 12345678901234567890 };
    return say('IPC', { id: payload.id, message_type: 'Response', source: 'echo', payload: { Json: answer } });
  });
  const client = await connect(url, { credentials: CREDENTIALS, reconnect: false, timeoutMs: 60_000 });
  t.after(() => client.close());
  const { text, number } = await client.request('echo/long', 'xy');
  assert.deepEqual([text.length, number], [15 * 1024 * 1024, '12345678901234567000']);
  // As long on the wire, and nothing but escapes: that may be too much.
  const answer = await client.request('echo/long', '"').then(({ number }) => number, ({ kind }) => kind);
  assert.ok(['12345678901234567000', 'Connection'].includes(answer), answer);
});
