# A program on the bus, with dbus-fast: objects made of what they say of themselves. Arguments: the bus's address.
import asyncio
import sys

from dbus_fast import DBusError, Variant
from dbus_fast.aio import MessageBus

BUS, ROOT = "org.visorbus.Bus1", "/org/visorbus/Bus1"


async def main():
    bus = await MessageBus(bus_address=sys.argv[1]).connect()

    async def interface(path, name):
        node = await bus.introspect(BUS, path)
        return bus.get_proxy_object(BUS, path, node).get_interface(name)

    hub = await interface(ROOT, BUS)
    imu = await interface(ROOT + "/components/imu", "org.visorbus.components.Imu")
    component = await interface(ROOT + "/components/imu", "org.visorbus.Component1")
    settings = await interface(ROOT, "org.example.Settings1")

    assert await imu.call_set_rate(50) == 50
    assert (await hub.call_call("imu/set-rate", Variant("q", 60), {"timeout_ms": Variant("u", 5000)})).value == 60
    assert await hub.get_subject() == "panel"
    assert "imu/sample" in [address for address, _, _ in await component.get_addresses()]
    echoed = await settings.call_any(Variant("a{s(id)}", {"a": [1, 2.5]}))
    assert echoed.signature == "a{s(id)}" and list(echoed.value["a"]) == [1, 2.5], echoed
    await settings.set_volume(12)
    assert await settings.get_volume() == 12

    async def refused(call, name):
        try:
            await call
        except DBusError as refusal:
            assert refusal.type.endswith(name), refusal
        else:
            raise AssertionError(name)

    await refused(hub.call_call("config/open", Variant("s", "x"), {}), ".AccessDenied")
    await refused(hub.call_call("imu/set-rate", Variant("ay", b""), {}), "")
    await refused(hub.call_subscribe("bus/audit", {}), ".AccessDenied")
    await refused(hub.call_authenticate("vb1."), ".AuthFailed")

    heard = asyncio.Queue()
    imu.on_sample(lambda *sample: heard.put_nowait(sample))
    await component.call_subscribe("imu/sample")
    for _ in range(5):
        timestamp, accel, gyro = await asyncio.wait_for(heard.get(), 20)
        assert len(accel) == len(gyro) == 3 and timestamp > 0
    await component.call_unsubscribe("imu/sample")
    # Many at once, each with its own answer.
    rates = range(10, 90)
    assert await asyncio.gather(*(imu.call_set_rate(rate) for rate in rates)) == list(rates)
    print("all of it")


asyncio.run(main())
