"""What the benchmarks share: an elemta as a process of its own, and plain sockets to talk to it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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


def greeting_seconds(port: int, source: str = "127.0.0.1") -> float:
    """How long a new session waits for its greeting, the connection included."""
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0)) as sock:
        if not read_reply(sock).startswith(b"220"):
            raise SystemExit("a new session was refused")
        return time.perf_counter() - begun


def resident(pid: int) -> int:
    """KiB of memory."""
    found = RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise SystemExit("the server has ended")
    return int(found[1])


def cpu_seconds(pid: int) -> float:
    """Processor time so far, of all threads, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running_elemta(port: int, config: str, folder: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """elemta with a plain listener on that port and `config` behind it."""
    with tempfile.TemporaryDirectory(prefix="elemta-bench-") as name:
        folder = folder or Path(name)
        path = folder / "elemta.toml"
        path.write_text(
            f'hostname = "mx.example.org"\nstate_dir = "{folder}/state"\n'
            f'[[listeners]]\nname = "mx"\naddress = "127.0.0.1:{port}"\n{config}'
        )
        with (folder / "elemta.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "elemta", "run", "-c", str(path)], stdout=log, stderr=log, text=True
            )
        try:
            end = time.monotonic() + 30
            while not _greets(port):
                if time.monotonic() > end or process.poll() is not None:
                    raise SystemExit((folder / "elemta.log").read_text())
                time.sleep(0.05)
            yield process
        finally:
            stop(process)


def _greets(port: int) -> bool:
    with contextlib.suppress(OSError):
        greeting_seconds(port)
        return True
    return False


def machine() -> str:
    """For the head of what is printed."""
    return (
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{time.strftime('%Y-%m-%d')}"
    )
