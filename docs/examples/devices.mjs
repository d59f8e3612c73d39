// Prints which devices come and go, over a WebSocket: VISORBUS_TOKEN=vb1.… node devices.mjs ws://127.0.0.1:7400
import { connect } from '../../shells/websocket/js/visorbus.js';

const bus = await connect(process.argv[2], { token: process.env.VISORBUS_TOKEN });

const events = await bus.subscribe('hardware/*');
for (const { id, state } of await bus.request('hardware/list', 'board')) console.log(`${id} is ${state}`);
for await (const { topic, payload } of events) {
  if (topic === 'hardware/added') console.log(`${payload.id} is there`);
  if (topic === 'hardware/removed') console.log(`${payload.id} is gone: ${payload.why}`);
}
