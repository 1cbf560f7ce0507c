"""What a flood from one address does to another: latency of a whole delivery beside it, and without it.

The measuring client comes from 127.0.0.6: connect, greeting, EHLO, MAIL, RCPT, DATA, message, 250, QUIT, over and over.
The flood is a second process from 127.0.0.5, of one kind after the other:

    connects    opens connections as fast as it can and leaves when it is greeted or turned away
    holds       as many connections as it gets, held and silent, with new ones tried all the time
    commands    50 sessions that send NOOP and RSET without reading much of the replies
    messages    50 sessions that send messages as fast as they are taken
    garbage     50 sessions that send octets without a line end, and come again when they are thrown out

Limits are those of a server on the internet: 50 sessions a client, errors and junk counted, 5 connections a second.
Usage: python benchmarks/flood.py [--seconds 10]
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from serving import free_port, machine, raise_file_limit, read_reply, running_elemta

FLOODER, CLIENT = "127.0.0.5", "127.0.0.6"
CONFIG = """
[domains]
local = ["ours.example"]
[[routes]]
match = "*"
transport = "discard"
[limits]
sessions_per_client = 50
messages_per_session = 1000000
[[policy.rates]]
count = "connections"
limit = "5/1s"
burst = 100
[logging]
level = "warning"
"""
MOST_SLOWER = 0.1
"""Seconds that half of the deliveries may take longer beside a flood."""
MOST = 1.0
"""Seconds that any delivery may take beside a flood."""


# --- The flood -------------------------------------------------------------------------------------------


def connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(5)
    sock.bind((FLOODER, 0))
    sock.connect(("127.0.0.1", port))
    return sock


def connects(port: int) -> None:
    while True:
        with contextlib.suppress(OSError), connect(port) as sock:
            sock.recv(1000)


def holds(port: int) -> None:
    held: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            sock = connect(port)
            if sock.recv(1000)[:3] == b"220":
                held.append(sock)
            else:
                sock.close()


def talk(port: int, data: bytes, sessions: int = 50) -> None:
    """Sessions that send the same octets for ever, and take their places again when they are thrown out."""
    with selectors.DefaultSelector() as selector:
        while True:
            while len(selector.get_map()) < sessions:
                try:
                    sock = connect(port)
                    if sock.recv(1000)[:3] != b"220":
                        sock.close()
                        break
                    sock.sendall(b"EHLO flood.example\r\n")
                    sock.setblocking(False)
                    selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
                except OSError:
                    break
            for key, events in selector.select(0.05):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    if events & selectors.EVENT_READ and not sock.recv(65536):
                        raise OSError("thrown out")
                    if events & selectors.EVENT_WRITE:
                        sock.send(data)
                except BlockingIOError:
                    pass
                except OSError:
                    selector.unregister(sock)
                    sock.close()


def commands(port: int) -> None:
    talk(port, b"NOOP\r\nRSET\r\n" * 500)


def messages(port: int) -> None:
    talk(
        port,
        b"MAIL FROM:<a@flood.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\n" + b"x" * 70 + b"\r\n.\r\n",
    )


def garbage(port: int) -> None:
    talk(port, b"\xff" * 8192)


FLOODS: dict[str, Callable[[int], None]] = {
    flood.__name__: flood for flood in (connects, holds, commands, messages, garbage)
}


# --- The client that must not notice ---------------------------------------------------------------------


def delivery_seconds(port: int) -> float:
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(CLIENT, 0)) as sock:
        read_reply(sock)
        for step in (
            b"EHLO client.example\r\n",
            b"MAIL FROM:<a@client.example>\r\n",
            b"RCPT TO:<b@ours.example>\r\n",
            b"DATA\r\n",
            b"Subject: x\r\n\r\nhello\r\n.\r\n",
            b"QUIT\r\n",
        ):
            sock.sendall(step)
            reply = read_reply(sock)
            if reply[:1] not in (b"2", b"3"):
                raise SystemExit(f"the other client was told {reply!r}")
        return time.perf_counter() - begun


def measure(port: int, seconds: float) -> list[float]:
    end = time.monotonic() + seconds
    found = []
    while time.monotonic() < end:
        found.append(delivery_seconds(port))
        time.sleep(0.25)  # below its own rate limit
    return found


def show(name: str, found: list[float]) -> None:
    ordered = sorted(found)
    print(
        f"{name:10}{statistics.median(ordered) * 1000:10.1f}{ordered[int(len(ordered) * 0.95)] * 1000:10.1f}"
        f"{ordered[-1] * 1000:10.1f}{len(ordered):8}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", choices=sorted(FLOODS))
    parser.add_argument("--flood", nargs=2, metavar=("KIND", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    raise_file_limit()
    if arguments.flood:
        FLOODS[arguments.flood[0]](int(arguments.flood[1]))
    print(machine())
    print(f"{'beside':10}{'median ms':>10}{'95 % ms':>10}{'most ms':>10}{'number':>8}")
    missed = []
    for name in [arguments.only] if arguments.only else FLOODS:
        port = free_port()
        with running_elemta(port, CONFIG):
            measure(port, 1)
            quiet = measure(port, arguments.seconds / 2)
            flood = subprocess.Popen([sys.executable, __file__, "--flood", name, str(port)])
            try:
                time.sleep(1)
                beside = measure(port, arguments.seconds)
                if flood.poll() is not None:
                    raise SystemExit(f"the flood {name} ended by itself")
            finally:
                flood.kill()
                flood.wait()
        show("nothing", quiet)
        show(name, beside)
        if statistics.median(beside) - statistics.median(quiet) > MOST_SLOWER or max(beside) > MOST:
            missed.append(name)
    if missed:
        raise SystemExit(f"harmed by: {', '.join(missed)}")


if __name__ == "__main__":
    main()
