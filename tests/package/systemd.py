"""Stands in for systemd where it does not run: opens the socket of a unit, runs its service with that socket as the unit says
(ExecStart=, User=, Environment=), prints what the service notifies it of, a line each, and passes signals on."""

import configparser
import os
import pwd
import shlex
import signal
import socket
import sys

RUN = {"%t": "/run", "%S": "/var/lib", "%E": "/etc"}


def unit(name):
    text = configparser.RawConfigParser(strict=False)
    text.optionxform = str
    text.read(f"/usr/lib/systemd/system/{name}")
    return {section: dict(text[section]) for section in text.sections()}


def plain(text):
    for specifier, directory in RUN.items():
        text = text.replace(specifier, directory)
    return text


def main():
    service, opened = unit("visorbus.service")["Service"], unit("visorbus.socket")["Socket"]
    user = pwd.getpwnam(service["User"])
    path = plain(opened["ListenStream"])
    listener = socket.socket(socket.AF_UNIX)
    os.umask(0o777 & ~int(opened["SocketMode"], 8))
    listener.bind(path)
    os.chown(path, pwd.getpwnam(opened["SocketUser"]).pw_uid, user.pw_gid)
    listener.listen()
    os.umask(0o022)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind("/run/notify")
    os.chmod("/run/notify", 0o777)

    child = os.fork()
    if child == 0:
        environment = dict(pair.split("=", 1) for pair in shlex.split(plain(service["Environment"])))
        environment.update(
            PATH="/usr/bin:/bin", NOTIFY_SOCKET="/run/notify", LISTEN_PID=str(os.getpid()), LISTEN_FDS="1",
            LISTEN_FDNAMES=opened["FileDescriptorName"], WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid()),
        )
        os.dup2(listener.fileno(), 3)
        # Where it has that number already, that changes nothing.
        os.set_inheritable(3, True)
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        command = shlex.split(service["ExecStart"])
        os.execve(command[0], command, environment)

    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, _: os.kill(child, number))
    notify.settimeout(0.2)
    while True:
        try:
            for line in notify.recv(4096).decode().splitlines():
                print(line, flush=True)
        except TimeoutError:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                print(f"exited {os.waitstatus_to_exitcode(status)}", flush=True)
                sys.exit()


main()
