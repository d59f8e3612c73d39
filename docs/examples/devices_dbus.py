"""Prints which devices come and go, over D-Bus, with jeepney: DBUS_SESSION_BUS_ADDRESS=… python3 devices_dbus.py"""
import sys

from jeepney import DBusAddress, MatchRule, message_bus, new_method_call
from jeepney.io.blocking import Proxy, open_dbus_connection
from jeepney.low_level import HeaderFields

hub = DBusAddress("/org/visorbus/Bus1", bus_name="org.visorbus.Bus1", interface="org.visorbus.Hardware1")

with open_dbus_connection(bus="SESSION") as bus:
    rule = MatchRule(type="signal", interface=hub.interface, path=hub.object_path)
    Proxy(message_bus, bus).AddMatch(rule)
    with bus.filter(rule, bufsize=64) as signals:
        # Whoever uses the interface hears its signals from then on.
        answer = bus.send_and_get_reply(new_method_call(hub, "ListDevices", "s", ("board",)))
        if answer.header.message_type.name == "error":
            sys.exit(f"ListDevices: {answer.body[0]}")
        for id, kind, name, state in answer.body[0]:
            print(f"{id} is {state}", flush=True)
        while True:
            signal = bus.recv_until_filtered(signals)
            print(signal.header.fields[HeaderFields.member], *signal.body, flush=True)
