"""A setting over a WebSocket, in Python: reads it, changes it where a value is given, and prints what anybody changes.

VISORBUS_TOKEN=vb1.… python3 settings_websocket.py ws://127.0.0.1:7400 display/brightness [JSON]
"""
import itertools
import json
import os
import sys

from websockets.sync.client import connect

url, setting, *new = sys.argv[1:]
ids = itertools.count(1)
early = []  # Notifications that came before an answer.


def send(socket, message_type, payload):
    socket.send(json.dumps({"message_type": message_type, "payload": payload}))


def is_notification(message):
    return message["payload"].get("message_type") == "Notification"


def receive(socket, wanted):
    """The payload of the next message for which `wanted` says so."""
    for text in socket:
        message = json.loads(text)
        if message["message_type"] == "Error":
            sys.exit(f"{message['payload']['kind']}: {message['payload']['text']}")
        if wanted(message):
            return message["payload"]
        if is_notification(message):
            early.append(message["payload"])
    sys.exit("the hub has closed the connection")


def request(socket, destination, payload="Empty"):
    id = str(next(ids))
    send(socket, "IPC", {"id": id, "message_type": "Request", "destination": destination, "payload": payload})
    answer = receive(socket, lambda m: m["payload"].get("message_type") == "Response" and m["payload"]["id"] == id)
    return answer.get("payload", "Empty")


with connect(url, subprotocols=["visorbus.v1.json"]) as socket:
    for part in ({"Hello": {"name": f"panel.{os.getpid()}"}}, {"Authenticate": {"Token": os.environ["VISORBUS_TOKEN"]}}):
        send(socket, "Auth", part)
        receive(socket, lambda message: message["message_type"] == "Auth")
    # First the subscription, so that no change falls between reading and hearing.
    request(socket, "bus/subscribe", {"Json": {"pattern": f"config/changed/{setting}"}})
    print(setting, "is", request(socket, f"config/get/{setting}")["Json"]["value"], flush=True)
    if new:
        request(socket, f"config/set/{setting}", {"Json": json.loads(new[0])})
    while True:
        change = (early.pop(0) if early else receive(socket, is_notification))["payload"]["Json"]
        print(f"{setting} is now {change['value']}, by {change['by']}", flush=True)
