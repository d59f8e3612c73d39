// A setting over a WebSocket, from Node or, with the same calls, from a browser: reads it, changes it where a value is
// given, and prints what anybody changes from then on.
//
//   VISORBUS_TOKEN=vb1.… node settings.mjs ws://127.0.0.1:7400 display/brightness [JSON]
import { connect } from '../../shells/websocket/js/visorbus.js';

const [url, setting, json] = process.argv.slice(2);
const bus = await connect(url, { token: process.env.VISORBUS_TOKEN });

// First the subscription, so that no change falls between reading and hearing.
const changes = await bus.subscribe(`config/changed/${setting}`);
const { value } = await bus.request(`config/get/${setting}`);
console.log(`${setting} is ${JSON.stringify(value)}`);
if (json !== undefined) await bus.request(`config/set/${setting}`, JSON.parse(json));
for await (const { payload } of changes) {
  console.log(`${setting} is now ${JSON.stringify(payload.value)}, by ${payload.by}`);
}
