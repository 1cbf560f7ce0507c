"""What systemd is told and what it hands in: ready, reloading, stopping, watchdog, inherited sockets."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping

import attrs
import trio

_FIRST_DESCRIPTOR = 3
"""sd_listen_fds(3)."""
_NUMBER = re.compile(r"[0-9]{1,18}")


@attrs.frozen
class Notifier:
    """Sends sd_notify(3) datagrams; without NOTIFY_SOCKET it does nothing."""

    address: str = ""
    watchdog_seconds: float = 0.0
    """How often systemd wants to hear of us at least; 0: not at all."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        watchdog = environment.get("WATCHDOG_USEC", "")
        pid = environment.get("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        seconds = int(watchdog) / 1e6 if ours and _NUMBER.fullmatch(watchdog) else 0.0
        return cls(environment.get("NOTIFY_SOCKET", ""), seconds)

    def send(self, text: str) -> None:
        """Send one state, such as `READY=1`. A lost datagram is not our trouble: systemd's time-outs are."""
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        ) as sock:
            try:
                sock.sendto(text.encode(), address)
            except OSError:
                return

    def ready(self, status: str) -> None:
        self.send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        self.send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, reason: str) -> None:
        self.send(f"STOPPING=1\nSTATUS={reason}")


async def feed_watchdog(notifier: Notifier, alive: Callable[[], bool]) -> None:
    """Ping at half the interval as long as this loop turns and `alive()` holds; else systemd restarts us."""
    if not notifier.watchdog_seconds:
        return
    while True:
        if alive():
            notifier.send("WATCHDOG=1")
        await trio.sleep(notifier.watchdog_seconds / 2)


def inherited_sockets(environment: Mapping[str, str]) -> dict[str, list[socket.socket]]:
    """Listening sockets from systemd by their FileDescriptorName (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES)."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not _NUMBER.fullmatch(count):
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        descriptor = _FIRST_DESCRIPTOR + index
        os.set_inheritable(descriptor, False)
        name = names[index] if index < len(names) else "unknown"
        sockets.setdefault(name, []).append(socket.socket(fileno=descriptor))
    return sockets
