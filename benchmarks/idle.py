"""Memory of idle sessions, plain and over TLS, and how soon a new one is greeted beside them.

The client is a second process, its sessions come from 127.0.0.2 to 127.0.0.9; each has said EHLO and then waits.
Usage: python benchmarks/idle.py [--sessions 10000] [--tls 2000]
"""

from __future__ import annotations

import argparse
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trustme
from serving import (
    free_port,
    greeting_seconds,
    machine,
    raise_file_limit,
    read_reply,
    resident,
    running_elemta,
)

SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]
BATCH = 100
"""Connections opened at once; the listen queue of the kernel has an end."""
MOST_KIB = {"plain": 20.0, "TLS": 80.0}
"""Goals: resident memory of one session."""


def hold_sessions(port: int, number: int, *, tls: bool) -> None:
    """The client process: opens the sessions, says so, and keeps them until its input ends."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sockets: list[socket.socket] = []
    while len(sockets) < number:
        batch = []
        for at in range(len(sockets), min(len(sockets) + BATCH, number)):
            source = (SOURCES[at % len(SOURCES)], 0)
            sock = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=source)
            batch.append(context.wrap_socket(sock) if tls else sock)
        for sock in batch:
            if not (reply := read_reply(sock)).startswith(b"220"):
                raise SystemExit(f"refused: {reply!r}")
            sock.sendall(b"EHLO idle.example\r\n")
        for sock in batch:
            read_reply(sock)
        sockets += batch
    print("ready", flush=True)
    sys.stdin.read()
    with selectors.DefaultSelector() as selector:  # a session that the server ended has become readable
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        print(f"ended {len(selector.select(0))}", flush=True)


def configuration(folder: Path, tls_port: int, sessions: int) -> str:
    trustme.CA().issue_cert("mx.example.org").private_key_and_cert_chain_pem.write_to_path(
        f"{folder}/cert.pem"
    )
    return (
        f'[[listeners]]\nname = "tls"\naddress = "127.0.0.1:{tls_port}"\ntls = "implicit"\n'
        f'[tls]\ncertificate = "{folder}/cert.pem"\nkey = "{folder}/cert.pem"\n'
        f'[relay]\nnetworks = ["127.0.0.0/8"]\n'
        f"[limits]\nsessions = {sessions + 100}\nsessions_per_client = {sessions + 100}\n"
        '[logging]\nlevel = "warning"\n'
    )


def measure(sessions: int, *, tls: bool) -> bool:
    """One run with a server of its own; whether the goals were reached."""
    if (limit := raise_file_limit()) < sessions + 200:
        raise SystemExit(f"only {limit} open files are allowed, {sessions} sessions need more")
    port, tls_port = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory(prefix="elemta-idle-") as name,
        running_elemta(port, configuration(Path(name), tls_port, sessions)) as server,
    ):
        for _ in range(50):
            greeting_seconds(port)
        time.sleep(1)
        before = resident(server.pid)
        begun = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, __file__, "--hold", str(tls_port if tls else port), "--sessions", str(sessions),
             *(["--over-tls"] if tls else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as client:  # fmt: skip
            assert client.stdin
            assert client.stdout
            if client.stdout.readline() != "ready\n":
                raise SystemExit("the client could not open all its sessions")
            opened = time.perf_counter() - begun
            time.sleep(2)
            each = (resident(server.pid) - before) / sessions
            greetings = [greeting_seconds(port) for _ in range(20)]
            client.stdin.close()
            ended = client.stdout.readline().split()[-1]
    kind = "TLS" if tls else "plain"
    print(
        f"{sessions} idle {kind} sessions: {each:.1f} KiB each above {before} KiB (goal {MOST_KIB[kind]:.0f}), "
        f"opened in {opened:.1f} s, new session greeted in {statistics.median(greetings) * 1000:.1f} ms "
        f"(most {max(greetings) * 1000:.1f} ms), {ended} ended by the server",
        flush=True,
    )
    return each <= MOST_KIB[kind] and max(greetings) <= 1 and ended == "0"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=10000, help="plain ones; 0: none")
    parser.add_argument("--tls", type=int, default=2000, help="over TLS; 0: none")
    parser.add_argument("--hold", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--over-tls", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hold:
        raise_file_limit()
        hold_sessions(arguments.hold, arguments.sessions, tls=arguments.over_tls)
        return
    print(machine())
    reached = [
        measure(number, tls=tls)
        for number, tls in ((arguments.sessions, False), (arguments.tls, True))
        if number
    ]
    if not all(reached):
        raise SystemExit("a goal was missed: memory, a greeting within a second, or a session that was ended")


if __name__ == "__main__":
    main()
