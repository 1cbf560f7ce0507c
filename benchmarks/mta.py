"""Accept and relay rates of elemta and Postfix, side by side in one run, rotated, medians and ratios.

Needs root (for Postfix) and Debian's postfix package, whose smtp-source and smtp-sink make the load. Both servers
sync each message before its 250. Every run checks that all messages arrived at the sink (relay) or were
acknowledged (accept). Usage: python benchmarks/mta.py [--rounds 3] [--messages 4000] [--only accept]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from serving import cpu_seconds

POSTFIX_DAEMONS = "/usr/lib/postfix/sbin"
COUNTERS = re.compile(rb"mesg=(\d+)")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            if sock.recv(3) == b"220":
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Sink:
    """smtp-sink, with the number of messages it has taken."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "sink.log"
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                ["smtp-sink", *user, "-c", "-m", "2000", f"127.0.0.1:{self.port}", "2000"],
                stdout=out,
                stderr=out,
            )
        wait_for(self.port)

    def count(self) -> int:
        found = COUNTERS.findall(self._log.read_bytes()[-4096:])
        return int(found[-1]) if found else 0

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def elemta(
    folder: Path, sink: Sink | None, *, more: str = '[logging]\nlevel = "info"\n'
) -> Iterator[tuple[int, int]]:
    """A running elemta that relays to the sink, or discards; yields port and process id. `more` ends the
    configuration."""
    port = free_port()
    route = (
        f'transport = "smtp"\nhost = "127.0.0.1"\nport = {sink.port}\ntls = "none"'
        if sink
        else 'transport = "discard"'
    )
    config = folder / "elemta.toml"
    config.write_text(
        f'hostname = "mx.example.org"\nstate_dir = "{folder}/state"\n[[listeners]]\nname = "mx"\n'
        f'address = "127.0.0.1:{port}"\n[relay]\nnetworks = ["127.0.0.0/8"]\n[[routes]]\nmatch = "*"\n{route}\n'
        "[limits]\nsessions_per_client = 10000\nsessions = 10000\nmessages_per_session = 1000000\n"
        f"{more}"
    )
    log = (folder / "elemta.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "elemta", "run", "-c", str(config)], stdout=log, stderr=log
    )
    try:
        wait_for(port)
        yield port, process.pid
    finally:
        stop(process)
        log.close()


@contextlib.contextmanager
def postfix(folder: Path, sink: Sink | None) -> Iterator[tuple[int, int]]:
    """The same for a Postfix of its own, with nothing shared with the machine's."""
    port = free_port()
    etc, queue, data = folder / "etc", folder / "queue", folder / "data"
    for path in (etc, queue, data):
        path.mkdir()
    folder.chmod(0o755)
    shutil.chown(data, "postfix")
    transport = (
        f"default_transport = smtp\nrelayhost = [127.0.0.1]:{sink.port}\n"
        if sink
        else "default_transport = discard:\n"
    )
    (etc / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\n"
        f"command_directory = /usr/sbin\ndaemon_directory = {POSTFIX_DAEMONS}\nmail_owner = postfix\n"
        "setgid_group = postdrop\nmyhostname = mx.example.org\nmydestination =\nmynetworks = 127.0.0.0/8\n"
        "inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nsmtpd_client_connection_count_limit = 0\n"
        "smtpd_client_connection_rate_limit = 0\ndefault_process_limit = 200\nalias_maps =\nlocal_recipient_maps =\n"
        "smtp_tls_security_level = none\nsmtpd_tls_security_level = none\n"
        f"smtp_destination_concurrency_limit = 20\n{transport}"
    )
    services = [f"127.0.0.1:{port} inet n - n - - smtpd"]
    services += [
        "pickup unix n - n 60 1 pickup",
        "cleanup unix n - n - 0 cleanup",
        "qmgr unix n - n 300 1 qmgr",
        "tlsmgr unix - - n 1000? 1 tlsmgr",
        "rewrite unix - - n - - trivial-rewrite",
        "bounce unix - - n - 0 bounce",
        "defer unix - - n - 0 bounce",
        "trace unix - - n - 0 bounce",
        "verify unix - - n - 1 verify",
        "proxymap unix - - n - - proxymap",
        "smtp unix - - n - - smtp",
        "relay unix - - n - - smtp",
        "error unix - - n - - error",
        "retry unix - - n - - error",
        "discard unix - - n - - discard",
        "anvil unix - - n - 1 anvil",
        "scache unix - - n - 1 scache",
    ]
    (etc / "master.cf").write_text("\n".join(services) + "\n")
    subprocess.run(
        ["postfix", "-c", str(etc), "start"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        yield port, int((queue / "pid/master.pid").read_text())
    finally:
        subprocess.run(
            ["postfix", "-c", str(etc), "stop"],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def load(port: int, sessions: int, messages: int, size: int, *, kept: bool) -> float:
    """Seconds until smtp-source has all its answers; it ends non-zero where one is not 250."""
    begun = time.perf_counter()
    subprocess.run(
        ["smtp-source", *(["-d"] if kept else []), "-s", str(sessions), "-m", str(messages), "-l", str(size),
         "-f", "a@example.org", "-t", "b@sink.example", f"127.0.0.1:{port}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - begun


def measure(kind: str, server: object, sessions: int, messages: int, size: int) -> float:
    """Messages a second."""
    return measure_both(kind, server, sessions, messages, size)[0]


def measure_both(kind: str, server: object, sessions: int, messages: int, size: int) -> tuple[float, float]:
    """Messages a second, and seconds of the server's first process for a message."""
    with tempfile.TemporaryDirectory(prefix="elemta-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        sink = Sink(folder) if kind == "relay" else None
        try:
            with server(folder, sink) as (port, pid):  # type: ignore[operator]
                load(port, min(sessions, 5), 50, size, kept=True)
                if sink:
                    _wait_count(sink, 50)
                begun, cpu = time.perf_counter(), cpu_seconds(pid)
                load(port, sessions, messages, size, kept=True)
                if sink:
                    _wait_count(sink, 50 + messages)
                seconds = time.perf_counter() - begun
                spent = cpu_seconds(pid) - cpu
                if sink:
                    time.sleep(0.3)
                    if sink.count() != 50 + messages:
                        raise SystemExit(f"{sink.count()} messages at the sink, {50 + messages} were sent")
                return messages / seconds, spent / messages
        finally:
            if sink:
                sink.close()


def _wait_count(sink: Sink, wanted: int) -> None:
    end = time.monotonic() + 300
    while sink.count() < wanted:
        if time.monotonic() > end:
            raise SystemExit(f"only {sink.count()} of {wanted} messages arrived")
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--only", choices=["accept", "relay"])
    parser.add_argument("--sessions", type=int, nargs="*", default=[10, 50])
    parser.add_argument("--sizes", type=int, nargs="*", default=[4096, 102400])
    parser.add_argument("--servers", nargs="*", default=["elemta", "postfix"])
    arguments = parser.parse_args()
    servers = {"elemta": elemta, "postfix": postfix}
    chosen = [name for name in arguments.servers if name == "elemta" or shutil.which("postfix")]
    print(
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    )
    print(
        f"{'what':8}{'size':>8}{'sessions':>10}"
        + "".join(f"{name + '/s':>12}" for name in chosen)
        + f"{'ratio':>8}"
    )
    for kind in ("accept", "relay"):
        if arguments.only and kind != arguments.only:
            continue
        for size in arguments.sizes:
            for sessions in arguments.sessions:
                messages = arguments.messages if size < 65536 else max(200, arguments.messages // 5)
                rates: dict[str, list[float]] = {name: [] for name in chosen}
                for number in range(arguments.rounds):
                    order = chosen if number % 2 == 0 else chosen[::-1]
                    for name in order:
                        rates[name].append(measure(kind, servers[name], sessions, messages, size))
                medians = [statistics.median(rates[name]) for name in chosen]
                ratio = f"{medians[0] / medians[1]:8.2f}" if len(medians) == 2 else ""
                print(
                    f"{kind:8}{size:>8}{sessions:>10}"
                    + "".join(f"{median:12.0f}" for median in medians)
                    + ratio,
                    flush=True,
                )


if __name__ == "__main__":
    main()
