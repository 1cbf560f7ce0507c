"""What 1 000 watchers of the live tail, half of whom never read, cost the relaying of mail, and the memory.

One elemta relays to Postfix's smtp-sink, load by smtp-source; rounds without and with watchers in turns, order reversed each
time. The watchers are a second process of the lowest priority, since on few cores what they read with is not the server's.
Needs Debian's postfix package. Usage: python benchmarks/tail.py [--rounds 5] [--clients 1000] [--messages 1500]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
from mta import Sink, load
from serving import cpu_seconds, free_port, machine, raise_file_limit, resident, running_elemta

MOST_SLOWER = 0.05
"""Goal: share of the relaying that watchers may take."""
MOST_GROWTH = 4096
"""Goal: KiB that the server may grow from the first round with watchers to the last, allocator included."""
LEAD_IN = 500
"""Messages before each measurement, not timed: what watchers may take at once after a quiet while is taken then."""
SIGN_OF_LIFE = 55.0
"""Seconds between two words of a watcher that reads, who would be asked for one after 60."""
PONG = b"\x8a\x80\x00\x00\x00\x00"
UPGRADE = (
    "GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


# --- The watchers, a process of their own ----------------------------------------------------------------


def watch(port: int, token: str, clients: int) -> None:
    """Opens the watchers, says so, and lets every second one read until the input ends; then tells how much came."""
    request = UPGRADE.format(port=port, token=token).encode()
    sockets: list[socket.socket] = []
    while len(sockets) < clients:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        sock.settimeout(30)
        sock.connect(("127.0.0.1", port))
        sock.sendall(request)
        answer = sock.recv(4096)
        if answer.startswith(b"HTTP/1.1 101"):
            sockets.append(sock)
            continue
        sock.close()
        if not answer.startswith(b"HTTP/1.1 429"):
            raise SystemExit(f"not taken as a watcher: {answer!r}")
        time.sleep(1)  # as its Retry-After asks: the requests of one token are limited
    octets = 0
    with selectors.DefaultSelector() as selector:
        for sock in sockets[::2]:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print("ready", flush=True)
        alive = time.monotonic()
        while True:
            if time.monotonic() - alive > SIGN_OF_LIFE:
                alive = time.monotonic()
                for sock in sockets[::2]:
                    sock.send(PONG)
            for key, _ in selector.select(SIGN_OF_LIFE):
                if key.fileobj is sys.stdin:
                    print(octets, flush=True)
                    return
                assert isinstance(key.fileobj, socket.socket)
                with contextlib.suppress(BlockingIOError):
                    if not (data := key.fileobj.recv(65536)):
                        raise SystemExit("a watcher that reads was thrown out")
                    octets += len(data)


@attrs.define
class Watched:
    """What the watchers that read got."""

    octets: int = 0


@contextlib.contextmanager
def watchers(port: int, token: str, clients: int) -> Iterator[Watched]:
    watched = Watched()
    if not clients:
        yield watched
        return
    arguments = ["--watch", str(port), "--clients", str(clients)]
    with subprocess.Popen(
        ["nice", "-n", "19", sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ELEMTA_TOKEN": token},
    ) as process:
        assert process.stdin
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the watchers could not all begin")
        yield watched
        process.stdin.close()
        watched.octets = int(process.stdout.readline() or "0")


# --- The rounds ------------------------------------------------------------------------------------------


@attrs.frozen
class Round:
    """One measurement."""

    rate: float
    """Messages a second."""
    cpu: float
    """Seconds of the server's processor time for a message."""
    resident: int
    """KiB at the end, with the watchers still there."""
    octets: int


@attrs.frozen
class Bed:
    """The server with what is around it."""

    pid: int
    port: int
    admin: int
    token: str
    sink: Sink

    def measure(self, clients: int, messages: int) -> Round:
        with watchers(self.admin, self.token, clients) as watched:
            self._relay(LEAD_IN)
            begun, cpu = time.perf_counter(), cpu_seconds(self.pid)
            self._relay(messages)
            rate = messages / (time.perf_counter() - begun)
            spent = (cpu_seconds(self.pid) - cpu) / messages
            memory = resident(self.pid)
        return Round(rate, spent, memory, watched.octets)

    def _relay(self, messages: int) -> None:
        wanted = self.sink.count() + messages
        end = time.monotonic() + 300
        load(self.port, 10, messages, 4096, kept=True)
        while self.sink.count() < wanted:
            if time.monotonic() > end:
                raise SystemExit(f"only {self.sink.count()} of {wanted} messages arrived")
            time.sleep(0.01)


@contextlib.contextmanager
def open_bed(clients: int) -> Iterator[Bed]:
    port, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="elemta-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        sink = Sink(folder)
        config = (
            '[relay]\nnetworks = ["127.0.0.0/8"]\n[[routes]]\nmatch = "*"\ntransport = "smtp"\nhost = "127.0.0.1"\n'
            f'port = {sink.port}\ntls = "none"\n[limits]\nsessions_per_client = 10000\nmessages_per_session = 1000000\n'
            f'[admin]\naddress = "127.0.0.1:{admin}"\ntail_clients = {clients + 10}\n[logging]\nlevel = "warning"\n'
        )
        try:
            with running_elemta(port, config, folder) as server:
                token = (folder / "state/admin.token").read_text().strip()
                yield Bed(server.pid, port, admin, token, sink)
        finally:
            sink.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each kind, at least 2")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=1500, help="in each round")
    parser.add_argument("--watch", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if raise_file_limit() < arguments.clients + 200:
        raise SystemExit("too few open files are allowed")
    if arguments.watch:
        watch(arguments.watch, os.environ["ELEMTA_TOKEN"], arguments.clients)
        return
    if not shutil.which("smtp-source"):
        raise SystemExit("smtp-source and smtp-sink are missing: they are in Debian's package postfix")
    print(machine())
    rounds: dict[int, list[Round]] = {0: [], arguments.clients: []}
    with open_bed(arguments.clients) as bed:
        for clients in rounds:  # caches, pools and the ring are filled before anything counts
            bed.measure(clients, arguments.messages)
        for number in range(max(2, arguments.rounds)):
            for clients in sorted(rounds, reverse=number % 2 == 1):
                seen = bed.measure(clients, arguments.messages)
                rounds[clients].append(seen)
                print(
                    f"{clients:5} watchers: {seen.rate:6.0f} messages/s, {seen.cpu * 1e6:5.0f} µs of the server each, "
                    f"{seen.resident} KiB, {seen.octets} octets read",
                    flush=True,
                )
    without, with_them = rounds[0], rounds[arguments.clients]
    slower = 1 - statistics.median(each.rate for each in with_them) / statistics.median(
        each.rate for each in without
    )
    dearer = (
        statistics.median(each.cpu for each in with_them) / statistics.median(each.cpu for each in without)
        - 1
    )
    growth = with_them[-1].resident - with_them[0].resident
    print(
        f"{arguments.clients} watchers: relay {slower:+.1%} slower (goal {MOST_SLOWER:.0%}), {dearer:+.1%} processor time "
        f"a message, memory {growth:+} KiB from the first of these rounds to the last (goal {MOST_GROWTH})"
    )
    if slower > MOST_SLOWER or growth > MOST_GROWTH:
        sys.exit("a goal was missed")


if __name__ == "__main__":
    main()
