"""Real processes for proofs and interop: elemta itself, Postfix's smtp-sink, and the waits between them.

Every wait has an end, every process is ended by its own id.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from ports import free_port

_STATUS = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


def require(*programs: str) -> None:
    """Skip the test, with the reason, where one of the programs is absent."""
    # Daemons are in folders that an ordinary user's PATH may lack.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    absent = [program for program in programs if shutil.which(program, path=path) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Look every 20 ms; fails with `what` where it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def greets(port: int) -> bool:
    """Whether something answers on that port with a 220."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        return sock.recv(3) == b"220"
    return False


def end(process: subprocess.Popen[bytes], seconds: float = 40.0) -> int:
    """SIGTERM, and SIGKILL where that is not enough; returns the exit status."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(10)


@dataclass
class Elemta:
    """A running server."""

    port: int
    pid: int
    log: Path
    process: subprocess.Popen[bytes]

    def memory(self) -> dict[str, int]:
        """The sizes of /proc/PID/status in KiB: VmRSS, VmHWM and the others."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return {name: int(value) for name, value in _STATUS.findall(text)}


@contextlib.contextmanager
def running_elemta(folder: Path, config: str, *, state_dir: Path | None = None) -> Iterator[Elemta]:
    """elemta with `config` behind hostname, state folder and one listener; must end with status 0. What it logs
    at its most talkative is searched for secrets."""
    port = free_port()
    logging = "" if "[logging" in config else '[logging]\nlevel = "debug"\n'
    path, log = folder / "elemta.toml", folder / "elemta.log"
    path.write_text(
        f'hostname = "mx.example.org"\nstate_dir = "{state_dir or folder / "state"}"\n'
        f'[[listeners]]\nname = "mx"\naddress = "127.0.0.1:{port}"\n'
        f'[relay]\nnetworks = ["127.0.0.0/8"]\n{logging}{config}'
    )
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "elemta", "run", "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: process.poll() is not None or greets(port), "the banner of elemta")
        assert process.poll() is None, log.read_text()[-2000:]
        yield Elemta(port, process.pid, log, process)
        assert process.poll() is None, log.read_text()[-2000:]
    finally:
        status = end(process)
    assert status == 0, log.read_text()[-2000:]
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]


async def start_elemta(
    config: Path, port: int, log: Path, *, program: Sequence[str] = ("-m", "elemta")
) -> trio.Process:
    """elemta with this configuration, accepting connections; to be ended by the caller.

    `program`: what Python runs in its place, with the same arguments.
    """
    with log.open("ab") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, *program, "run", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
    with trio.fail_after(30):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                assert process.poll() is None, log.read_text()[-2000:]
                await trio.sleep(0.02)
                continue
            await trio.aclose_forcefully(stream)
            return process


def route_to(port: int, *, transport: str = "smtp") -> str:
    """The routing part of a configuration: everything to one next hop on loopback."""
    return f'[[routes]]\nmatch = "*"\ntransport = "{transport}"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n'


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter; those of pytest are closed again by each new run of it."""
    with tempfile.TemporaryDirectory(prefix="elemta-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def running_sink(*options: str) -> Iterator[tuple[int, Path]]:
    """smtp-sink that writes each message to a file of its own; yields its port and the folder of the files."""
    with open_folder() as folder, _running_sink(folder, options) as sink:
        yield sink


@contextlib.contextmanager
def _running_sink(folder: Path, options: Sequence[str]) -> Iterator[tuple[int, Path]]:
    port, dump = free_port(), folder / "dump"
    dump.mkdir()
    user = []
    if os.getuid() == 0:  # smtp-sink refuses to run as root
        user = ["-u", "nobody"]
        dump.chmod(0o777)
    with (folder / "sink.log").open("wb") as output:
        process = subprocess.Popen(
            ["smtp-sink", *user, "-m", "2000", *options, "-d", f"{dump}/%M.", f"127.0.0.1:{port}", "2000"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: process.poll() is not None or greets(port), "the banner of smtp-sink")
        assert process.poll() is None, (folder / "sink.log").read_text()
        yield port, dump
        assert process.poll() is None, (folder / "sink.log").read_text()
    finally:
        end(process, 10)
