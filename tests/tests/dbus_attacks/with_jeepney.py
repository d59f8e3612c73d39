# A program on the bus, with jeepney: calls, properties, subscriptions, errors. Arguments: the bus's address.
import sys

from jeepney import DBusAddress, MessageType, Properties, new_method_call
from jeepney.io.blocking import open_dbus_connection
from jeepney.low_level import HeaderFields

BUS, ROOT = "org.visorbus.Bus1", "/org/visorbus/Bus1"
connection = open_dbus_connection(bus=sys.argv[1])


def ask(message):
    reply = connection.send_and_get_reply(message, timeout=20)
    if reply.header.message_type is MessageType.error:
        raise RuntimeError(reply.header.fields[HeaderFields.error_name], reply.body[0])
    return reply.body


def refused(message, name):
    try:
        answer = ask(message)
    except RuntimeError as refusal:
        assert refusal.args[0].endswith(name), refusal
    else:
        raise AssertionError(f"{answer} instead of {name}")


hub = DBusAddress(ROOT, BUS, BUS)
imu = DBusAddress(ROOT + "/components/imu", BUS, "org.visorbus.components.Imu")
component = DBusAddress(ROOT + "/components/imu", BUS, "org.visorbus.Component1")

assert ask(new_method_call(imu, "SetRate", "q", (50,))) == (50,)
assert ask(new_method_call(hub, "Call", "sva{sv}", ("imu/set-rate", ("q", 60), {}))) == (("q", 60),)
assert ask(new_method_call(hub, "Call", "sva{sv}", ("imu/set-rate", ("s", "70"), {"json": ("b", True)}))) == (("s", "70"),)
assert ask(Properties(hub).get("Subject")) == (("s", "panel"),)
assert ask(Properties(component).get("Name")) == (("s", "imu"),)
assert ask(new_method_call(hub, "Describe", "s", ("imu/set-rate",)))[:2] == ("q", "u16")
objects = ask(new_method_call(hub.with_interface("org.freedesktop.DBus.ObjectManager"), "GetManagedObjects"))[0]
assert ROOT + "/components/imu" in objects, objects

refused(new_method_call(imu, "SetRate", "s", ("fast",)), ".InvalidArgs")
refused(new_method_call(hub, "Call", "sva{sv}", ("imu/set-rate", ("d", 1.5), {})), ".InvalidSignature")
refused(new_method_call(hub, "Call", "sva{sv}", ("config/open", ("s", "x"), {})), ".AccessDenied")
refused(new_method_call(hub, "Nothing"), ".UnknownMethod")
refused(new_method_call(hub, "Authenticate", "s", ("vb1.nothing",)), ".AuthFailed")

ask(new_method_call(component, "Subscribe", "s", ("imu/sample",)))
ask(new_method_call(hub, "Subscribe", "sa{sv}", ("imu/*", {})))
samples, notifications = [], []
while len(samples) < 5 or len(notifications) < 5:
    message = connection.receive(timeout=20)
    member = message.header.fields.get(HeaderFields.member)
    if member == "Sample":
        samples.append(message.body)
    elif member == "Notification":
        notifications.append(message.body)
for timestamp, accel, gyro in samples:
    assert len(accel) == len(gyro) == 3 and timestamp > 0
for topic, source, payload, details in notifications:
    assert topic == "imu/sample" and payload[0] == "(tadad)" and details["format"] == ("s", "typed"), payload
print("all of it")
