"""The whole server as a process of its own, and the command line beside it; every wait is bounded."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from ports import free_port

STARTS_WITHIN = 60.0
ENDS_WITHIN = 15.0


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"after {seconds} seconds still not: {what}")


def environment() -> dict[str, str]:
    """This process's, without what would lead the server elsewhere."""
    unwanted = {"ELEMTA_CONFIG", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC"}
    root = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    # A width, so that tables are not folded; a zone, so that times are the same everywhere.
    return kept | {"PYTHONPATH": root, "COLUMNS": "200", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}


def elemta(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "elemta", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=STARTS_WITHIN,
        cwd=cwd,
        env=environment(),
        check=False,
    )


@attrs.define(eq=False)
class RunningServer:
    """A server that has greeted a client."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path
    log: Path

    def client(self, source: str | None = None) -> smtplib.SMTP:
        return smtplib.SMTP(
            "127.0.0.1",
            self.port,
            local_hostname="client.example",
            timeout=10,
            source_address=(source, 0) if source else None,
        )

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDS_WITHIN)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the log says of one type of event."""
        found = []
        for line in self.log.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the last line may be half written
                continue
            if kind in (record.get("type"), record.get("event")):
                found.append(record)
        return found


@contextmanager
def serving(
    folder: Path, port: int, *arguments: str | Path, cwd: Path | None = None, **variables: str
) -> Generator[RunningServer, None, None]:
    """`elemta run` with these arguments; killed by its pid if the block leaves it running."""
    output, log = folder / f"stdout-{port}", folder / f"stderr-{port}"
    with output.open("ab") as out, log.open("ab") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "elemta", "run", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=environment() | variables,
        )
    server = RunningServer(process, port, output, log)

    def greeted() -> bool:
        assert process.poll() is None, f"ended with {process.returncode}: {log.read_text()[-2000:]}"
        try:
            with server.client() as client:
                client.noop()
        except (OSError, smtplib.SMTPException):
            return False
        return True

    try:
        wait_for(greeted, "the server greets", STARTS_WITHIN)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(ENDS_WITHIN)


@attrs.frozen
class Setting:
    """A configuration below one folder, with a maildir for example.org and a next hop nobody serves."""

    folder: Path
    port: int = attrs.field(factory=free_port)
    closed: int = attrs.field(factory=free_port)

    @property
    def file(self) -> Path:
        return self.folder / "elemta.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def mail(self) -> Path:
        return self.folder / "mail"

    def write(
        self, *, domains: Sequence[str] = ("example.org",), networks: Sequence[str] = (), extra: str = ""
    ) -> Path:
        """Write the file (again); what the server logs at its most talkative is searched for secrets."""
        logging = "" if "[logging" in extra else '[logging]\nlevel = "debug"\n'
        self.file.write_text(
            f"""
hostname = "mx.example.org"
state_dir = "{self.state}"

[[listeners]]
name = "mx"
address = "127.0.0.1:{self.port}"

[domains]
local = {json.dumps(list(domains))}
relay = ["far.example"]

[relay]
networks = {json.dumps(list(networks))}

[[routes]]
match = "far.example"
transport = "smtp"
host = "127.0.0.1"
port = {self.closed}

[[routes]]
match = "*"
transport = "maildir"
path = "{self.mail}/{{domain}}/{{local_part}}"
{logging}{extra}
"""
        )
        return self.file
