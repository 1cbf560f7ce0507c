"""What PIPELINING brings: messages a second with one command at a time, and with groups of commands (RFC 2920).

Nothing is delivered meanwhile: the next hop takes connections and never greets, and the queue holds one message, so
the rest stays in the spool. The source is our own: one process, all its sessions on one selector, the octets made
beforehand. One command at a time costs four round trips a message. In groups each message's end takes the next
message's envelope along, and one round trip is left. Both go to the same server in turn, and every message has to be
answered with 250. With a single session the flush of the disk decides, not the round trips.
Usage: python benchmarks/pipelined.py [--sessions 10 50] [--messages 4000] [--size 4096] [--rounds 5]
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import time
from collections.abc import Callable, Iterator

from serving import cpu_seconds, free_port, machine, read_reply, running_elemta

GOAL = 1.5
MAIL, RCPT, DATA = b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@sink.example>\r\n", b"DATA\r\n"
CONFIG = """
[relay]
networks = ["127.0.0.0/8"]
[[routes]]
match = "*"
transport = "smtp"
host = "127.0.0.1"
port = {hole}
tls = "none"
[queue]
active_messages = 1
[limits]
sessions_per_client = 10000
messages_per_session = 1000000
[logging]
level = "warning"
"""

Steps = Iterator[tuple[bytes, int]]
"""What to send next, and how many replies to wait for; each has one line."""


def one_by_one(messages: int, body: bytes) -> Steps:
    for _ in range(messages):
        yield MAIL, 1
        yield RCPT, 1
        yield DATA, 1
        yield body, 1


def in_groups(messages: int, body: bytes) -> Steps:
    yield MAIL + RCPT + DATA, 3
    for _ in range(messages - 1):
        yield body + MAIL + RCPT + DATA, 4
    yield body, 1


class Session:
    """One connection that goes through its steps."""

    def __init__(self, port: int, steps: Steps) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_reply(self.sock)
        self.sock.sendall(b"EHLO source.example\r\n")
        read_reply(self.sock)
        self._steps = steps
        self._missing = 0

    def go_on(self) -> bool:
        """Take the next step; false after the last one."""
        step = next(self._steps, None)
        if step is None:
            return False
        data, self._missing = step
        self.sock.sendall(data)
        return True

    def receive(self) -> bool:
        """Take what has come, and go on when it was the last of it; false when all is done."""
        data = self.sock.recv(65536)
        if not data or data[:1] not in (b"2", b"3") or b"\n4" in data or b"\n5" in data:
            raise SystemExit(f"refused: {data!r}")
        self._missing -= data.count(b"\r\n")
        return self._missing > 0 or self.go_on()


def load(port: int, sessions: int, messages: int, size: int, kind: Callable[[int, bytes], Steps]) -> float:
    """Messages a second until the last one is accepted."""
    line = b"x" * 70 + b"\r\n"
    body = b"Subject: load\r\n\r\n" + line * (size // len(line)) + b".\r\n"
    each = messages // sessions
    everyone = [Session(port, kind(each, body)) for _ in range(sessions)]
    with selectors.DefaultSelector() as selector:
        for session in everyone:
            selector.register(session.sock, selectors.EVENT_READ, session)
        begun = time.perf_counter()
        for session in everyone:
            session.go_on()
        busy = len(everyone)
        while busy:
            for key, _ in selector.select(30):
                if not key.data.receive():
                    selector.unregister(key.data.sock)
                    busy -= 1
        seconds = time.perf_counter() - begun
    for session in everyone:
        session.sock.close()
    return each * sessions / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, nargs="*", default=[10, 50])
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    kinds = [one_by_one, in_groups]
    print(machine())
    print(f"{'':16}{'messages a second':>30}{'':>7}{'server ms of CPU each':>26}")
    print(
        f"{'sessions':>8}{'size':>8}{'one by one':>16}{'in groups':>14}{'ratio':>7}{'one by one':>14}{'in groups':>12}{'ratio':>7}"
    )
    missed = False
    for sessions in arguments.sessions:
        port = free_port()
        rates: dict[str, list[float]] = {kind.__name__: [] for kind in kinds}
        costs: dict[str, list[float]] = {kind.__name__: [] for kind in kinds}
        with (
            socket.create_server(("127.0.0.1", 0)) as hole,
            running_elemta(port, CONFIG.format(hole=hole.getsockname()[1])) as server,
        ):
            load(port, sessions, max(200, sessions), arguments.size, in_groups)
            for number in range(arguments.rounds):
                for kind in kinds if number % 2 == 0 else kinds[::-1]:
                    before = cpu_seconds(server.pid)
                    rates[kind.__name__].append(
                        load(port, sessions, arguments.messages, arguments.size, kind)
                    )
                    costs[kind.__name__].append(
                        (cpu_seconds(server.pid) - before) * 1000 / arguments.messages
                    )
        slow, fast = (statistics.median(rates[kind.__name__]) for kind in kinds)
        dear, cheap = (statistics.median(costs[kind.__name__]) for kind in kinds)
        missed = missed or fast < GOAL * slow
        print(
            f"{sessions:>8}{arguments.size:>8}{slow:16.0f}{fast:14.0f}{fast / slow:7.2f}{dear:14.3f}{cheap:12.3f}{dear / cheap:7.2f}",
            flush=True,
        )
    if missed:
        raise SystemExit(f"the goal is a ratio of {GOAL}")


if __name__ == "__main__":
    main()
