"""A setting over D-Bus, with jeepney: reads it, changes it where a number is given, and prints what anybody changes.

DBUS_SESSION_BUS_ADDRESS=… python3 settings_dbus.py display brightness [NUMBER]
"""
import sys

from jeepney import DBusAddress, MatchRule, message_bus, new_method_call
from jeepney.io.blocking import Proxy, open_dbus_connection

hub = DBusAddress("/org/visorbus/Bus1", bus_name="org.visorbus.Bus1", interface="org.visorbus.Config1")
category, key, *number = sys.argv[1:]

with open_dbus_connection(bus="SESSION") as bus:
    rule = MatchRule(type="signal", interface=hub.interface, member="ConfigChanged", path=hub.object_path)
    Proxy(message_bus, bus).AddMatch(rule)
    with bus.filter(rule, bufsize=64) as changes:
        def call(member, signature, *arguments):
            answer = bus.send_and_get_reply(new_method_call(hub, member, signature, arguments))
            if answer.header.message_type.name == "error":
                sys.exit(f"{member}: {answer.body[0]}")
            return answer.body[0]

        _, value = call("GetValue", "ss", category, key)
        print(f"{category}.{key} is {value}", flush=True)
        if number:
            call("SetValue", "ssv", category, key, ("x", int(number[0])))
        while True:
            changed_category, changed_key, (_, value) = bus.recv_until_filtered(changes).body
            print(f"{changed_category}.{changed_key} is now {value}", flush=True)
