"""What many messages for one dead domain cost those for others.

    benchmarks/dead.py [--messages 100000] [--probes 200] [--pause 0.05] [--state DIR]

A real server starts on a spool with so many messages of 4 KiB for one domain, all of them due. Its host takes connections
and never says a word, or refuses them. Meanwhile messages for other domains are handed in one by one, each for a domain of
its own, and what is measured is the time from their 250 to their arrival at a next hop. The same with an empty spool.
"""

from __future__ import annotations

import argparse
import os
import shutil
import smtplib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio
from depth import DEAD, free_port, seed

HOST = "127.0.0.1"


class Sink:
    """The next hop of all others: notes when each message has come. In a thread of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.silent_port = free_port()
        """Here nobody is ever greeted."""
        self.arrived: dict[str, float] = {}
        self.silent_connections = 0
        threading.Thread(target=trio.run, args=(self._run,), daemon=True).start()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_tcp, self._serve, self.port, host=HOST))
            nursery.start_soon(partial(trio.serve_tcp, self._say_nothing, self.silent_port, host=HOST))

    async def _say_nothing(self, stream: trio.SocketStream) -> None:
        self.silent_connections += 1
        with suppress(trio.BrokenResourceError):
            await stream.receive_some(1)

    async def _serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await self._talk(stream)

    async def _talk(self, stream: trio.SocketStream) -> None:
        buffer, in_body = b"", False
        await stream.send_all(b"220 sink ESMTP\r\n")
        while data := await stream.receive_some(65536):
            buffer += data
            while b"\r\n" in buffer:
                line, _, buffer = buffer.partition(b"\r\n")
                if in_body:
                    if line.startswith(b"Subject: probe "):
                        self.arrived[line.decode()[15:]] = time.monotonic()
                    in_body = line != b"."
                    if in_body:
                        continue
                in_body = line == b"DATA"
                await stream.send_all(b"354 go\r\n" if in_body else b"250 ok\r\n")


def serve(state: Path, sink: Sink, dead_port: int) -> tuple[subprocess.Popen[bytes], int]:
    port, settings = free_port(), state / "elemta.toml"
    settings.write_text(
        f'hostname = "mx.example.org"\nstate_dir = "{state}"\n[[listeners]]\nname = "mx"\nrole = "mx"\n'
        f'address = "{HOST}:{port}"\ntls = "off"\n[relay]\nnetworks = ["127.0.0.0/8"]\n'
        f'[[routes]]\nmatch = "{DEAD}"\nhost = "{HOST}"\nport = {dead_port}\ntls = "none"\n'
        f'[[routes]]\nmatch = "*"\nhost = "{HOST}"\nport = {sink.port}\ntls = "none"\n'
    )
    server = subprocess.Popen(
        [sys.executable, "-m", "elemta", "run", "-c", str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return server, port


def probe(port: int, sink: Sink, name: str, probes: int, pause: float) -> list[float]:
    """Milliseconds from the 250 to the arrival, for each."""
    taken: dict[str, float] = {}
    deadline = time.monotonic() + 60
    while True:
        try:
            client = smtplib.SMTP(HOST, port, timeout=30)
            break
        except OSError:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)
    time.sleep(3)  # it takes what is due
    for number in range(probes):
        key = f"{name}-{number}"
        client.sendmail(
            "s@client.example", [f"r@probe{number}.example"], f"Subject: probe {key}\r\n\r\nx\r\n"
        )
        taken[key] = time.monotonic()
        time.sleep(pause)
    client.quit()
    deadline = time.monotonic() + 60
    while not all(key in sink.arrived for key in taken):
        assert time.monotonic() < deadline, "not all of them arrived"
        time.sleep(0.05)
    return [max(0.0, sink.arrived[key] - since) * 1000 for key, since in taken.items()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two of them")
    parser.add_argument("--state", type=Path, help="where to make the spools; default: the temporary folder")
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="elemta-dead-", dir=arguments.state))
    sink = Sink()
    try:
        seeded = base / "seeded"
        begun = time.monotonic()
        seed(seeded, arguments.messages, 0, due_in=0.0)
        print(f"{arguments.messages} messages for {DEAD}, seeded in {time.monotonic() - begun:.0f} s")
        print(f"{'spool':10}{'median, ms':>12}{'95 %':>10}{'longest':>10}{'connections to the dead':>26}")
        for name, dead_port in (
            ("empty", free_port()),
            ("silent", sink.silent_port),
            ("refuses", free_port()),
        ):
            state = base / name
            if name == "empty":
                state.mkdir(mode=0o700)
            else:
                shutil.copytree(seeded, state)
            server, port = serve(state, sink, dead_port)
            before = sink.silent_connections
            try:
                times = sorted(probe(port, sink, name, arguments.probes, arguments.pause))
            finally:
                server.terminate()
                server.wait(60)
            late = times[int(len(times) * 0.95)]
            print(
                f"{name:10}{statistics.median(times):12.1f}{late:10.1f}{times[-1]:10.1f}"
                f"{sink.silent_connections - before:26}"
            )
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    os.umask(0o077)
    main()
