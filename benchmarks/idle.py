"""Memory of idle sessions, and how soon a new one is greeted beside them.

The client is a second process, its sessions come from 127.0.0.2 to 127.0.0.9; each has said EHLO and then waits.
Usage: python benchmarks/idle.py [--sessions 5000]
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]
BATCH = 100
"""Connections opened at once; the listen queue of the kernel has an end."""
RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def raise_file_limit() -> int:
    """The hard limit of open files becomes the soft one, which child processes inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def read_reply(sock: socket.socket) -> bytes:
    """One reply, which may have several lines."""
    data = b""
    while not re.search(rb"(?:^|\n)\d{3} [^\n]*\n$", data):
        chunk = sock.recv(4096)
        if not chunk:
            raise SystemExit(f"the session was closed after {data!r}")
        data += chunk
    return data


def greeting_seconds(port: int) -> float:
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        if not read_reply(sock).startswith(b"220"):
            raise SystemExit("a new session was refused")
        return time.perf_counter() - begun


def hold_sessions(port: int, number: int) -> None:
    """The client process: opens the sessions, says so, and keeps them until its input ends."""
    sockets: list[socket.socket] = []
    while len(sockets) < number:
        batch = []
        for at in range(len(sockets), min(len(sockets) + BATCH, number)):
            source = (SOURCES[at % len(SOURCES)], 0)
            batch.append(socket.create_connection(("127.0.0.1", port), timeout=30, source_address=source))
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


def resident(pid: int) -> int:
    found = RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise SystemExit("the server has ended")
    return int(found[1])


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_server(folder: Path, port: int, sessions: int) -> subprocess.Popen[str]:
    config = folder / "elemta.toml"
    config.write_text(
        f'hostname = "mx.example.org"\nstate_dir = "{folder}/state"\n[[listeners]]\nname = "mx"\n'
        f'address = "127.0.0.1:{port}"\n[relay]\nnetworks = ["127.0.0.0/8"]\n'
        f"[limits]\nsessions = {sessions + 100}\nsessions_per_client = {sessions + 100}\n"
        '[logging]\nlevel = "warning"\n'
    )
    with (folder / "elemta.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "elemta", "run", "-c", str(config)], stdout=log, stderr=log, text=True
        )
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            greeting_seconds(port)
            return process
        time.sleep(0.05)
    stop(process)
    raise SystemExit((folder / "elemta.log").read_text())


def measure(sessions: int) -> None:
    if (limit := raise_file_limit()) < sessions + 200:
        raise SystemExit(f"only {limit} open files are allowed, {sessions} sessions need more")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="elemta-idle-") as name:
        server = start_server(Path(name), port, sessions)
        try:
            for _ in range(50):
                greeting_seconds(port)
            time.sleep(1)
            before = resident(server.pid)
            begun = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, __file__, "--hold", str(port), "--sessions", str(sessions)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as client:
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
            print(
                f"{sessions} idle sessions: {each:.1f} KiB each above {before} KiB, opened in {opened:.1f} s, "
                f"new session greeted in {statistics.median(greetings) * 1000:.1f} ms "
                f"(most {max(greetings) * 1000:.1f} ms), {ended} ended by the server"
            )
            if max(greetings) > 1 or ended != "0":
                raise SystemExit("a new session must be greeted within a second, and no idle one ended")
        finally:
            stop(server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument("--hold", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hold:
        raise_file_limit()
        hold_sessions(arguments.hold, arguments.sessions)
    else:
        measure(arguments.sessions)


if __name__ == "__main__":
    main()
