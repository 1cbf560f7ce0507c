"""What the proof about failing plugins needs: a server with lanes for marked sessions, a steady load, one cell.

A lane is a listener of its own with a plugin of its own that is asked about nobody else. In a lane one cell is
done after the other: the plugin is ordered to fail at one hook in one way, something makes the server ask it
there, the failure has to be told and its verdict given, and the plugin has to answer again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from .ledger import Ledger, Lines, body_digest, make_message
from .servers import free_port

ALL = os.environ.get("ELEMTA_PROOF_CHAOS") == "all"
RATE = 200 if ALL else 50
"""Messages a second of the load."""
SESSIONS = 24
LANES = 4
WORKERS = 2
"""Of a plugin; the default."""
ACCOUNT = "client@example.org"
LIFETIME = 6
"""Seconds after which the server gives a recipient up: as long as `expire` takes to happen."""
_bodies: list[bytes] = []
VERDICTS = {"error": "reject", "timeout": "defer", "crash": "continue"}
"""What the configuration declares, different for each kind so that it can be told which was given."""


def lane_name(number: int) -> str:
    return f"lane{number}"


@dataclass
class Bed:
    """A server's folder, its ports, and what it said."""

    folder: Path
    state: Path
    """In memory, so that no disk that others use, too, is measured."""
    isolation: str
    sink: int
    port: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    lanes: dict[str, int] = field(default_factory=dict)
    password: str = ""
    grown: int = 0
    """MiB that the server has grown by."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    """Suspensions and stalls."""
    _read: int = 0

    @property
    def config(self) -> Path:
        return self.folder / "elemta.toml"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def timeout(self) -> float:
        """Of the plugins. A call may have to wait for a worker that comes up beside the load."""
        return 1.0 if self.isolation == "task" else 5.0

    def write(self) -> None:
        """The configuration, the plugin and an account."""
        (self.folder / "orders").mkdir()
        plugin = self.folder / "chaos"
        plugin.mkdir(mode=0o755)
        here = Path(__file__).parent
        shutil.copy(here / "chaos_plugin.py", plugin / "plugin.py")
        shutil.copy(here.parent / "plugin" / "failing_plugin.py", plugin / "failing_plugin.py")
        for file in plugin.iterdir():
            file.chmod(0o600)
        names = [*map(lane_name, range(LANES)), "strict"]
        self.lanes = {name: free_port() for name in names}
        listeners = "".join(
            f'[[listeners]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\nauth = "optional"\ntls = "starttls"\n'
            for name, port in self.lanes.items()
        )
        entries = "".join(self._entry(name) for name in [*names, "hears"])
        self.config.write_text(
            f"""
hostname = "mx.example.org"
state_dir = "{self.state}"
[[listeners]]
name = "mx"
address = "127.0.0.1:{self.port}"
{listeners}
[relay]
networks = ["127.0.0.0/8"]
[auth]
users = "{self.folder}/users"
loopback_without_tls = true
hash_memory = "8MiB"
[tls]
certificate = "{self.folder}/mx.example.org.pem"
key = "{self.folder}/mx.example.org.key"
[[routes]]
match = "*"
transport = "smtp"
host = "127.0.0.1"
port = {self.sink}
tls = "none"
[queue]
retry = ["1s"]
lifetime = "{LIFETIME}s"
delay_notice = "0s"
[limits]
sessions_per_client = 1000
messages_per_session = 1000000
errors = 1000
soft_errors = 0
[admin]
address = "127.0.0.1:{self.admin}"
[logging]
level = "warning"
{entries}
"""
        )
        made = subprocess.run(
            [sys.executable, "-m", "elemta", "user", "add", "-c", self.config, "--json", "--generate", "--send-as", "*", ACCOUNT],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        self.password = json.loads(made.stdout)["password"]

    def _entry(self, name: str) -> str:
        hears = name == "hears"
        about = "" if hears else f'"{name}.example", "{name}.later.example", "{name}.never.example", '
        return f"""
[[plugins]]
name = "{name}"
path = "{self.folder}/chaos"
enabled = {"false" if hears else "true"}
isolation = "{self.isolation}"
listeners = ["{"lane0" if hears else name}"]
domains = [{about}"{name}.slow.example"]
timeout = "{1000 * self.timeout:.0f}ms"
on_error = "{VERDICTS["error"]}"
on_timeout = "{VERDICTS["timeout"]}"
on_crash = "{VERDICTS["crash"]}"
suspend_after = {3 if name == "strict" else 0}
suspend_for = "{6 if name == "strict" else 2}s"
stall = "100ms"
memory = "192MiB"
[plugins.config]
orders = "{self.folder}/orders"
[[plugins.hooks]]
name = "event"
enabled = {"true" if hears else "false"}
"""

    def order(self, lane: str, hook: str, way: str) -> None:
        new = self.folder / f".{lane}"
        new.write_text(f"{hook} {way}")
        new.rename(self.folder / "orders" / lane)

    def withdraw(self, lane: str) -> None:
        (self.folder / "orders" / lane).unlink(missing_ok=True)

    def is_ordered(self, lane: str) -> bool:
        return (self.folder / "orders" / lane).exists()

    def read_log(self) -> None:
        """Take in what the server has said since."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1]
        self._read += len(lines)
        for line in lines.splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                kind = record.get("type") or record.get("event")
                if kind == "plugin.failed":
                    self.failures.append(record)
                elif kind in {"plugin.suspended", "plugin.stalled"}:
                    self.others.append(record | {"kind": kind})

    def ask(self, path: str, body: dict[str, object]) -> tuple[int, dict[str, Any]]:
        """The admin port, blocking."""
        token = (self.state / "admin.token").read_text().strip()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}/api/v1/{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")


class Load:
    """`RATE` messages a second on kept sessions, whatever becomes of them; how long each took since it was due."""

    def __init__(self, bed: Bed, ledger: Ledger, rng: random.Random) -> None:
        self._bed = bed
        self._ledger = ledger
        self._rng = rng
        self._due: list[float] = []
        self.took: list[tuple[float, float]] = []
        """When it was due, and how long until the 250, in seconds."""
        self.wrong: list[str] = []
        """What went otherwise: replies and ends of sessions."""

    async def run(self) -> None:
        send, receive = trio.open_memory_channel[float](100_000)
        async with trio.open_nursery() as nursery:
            for _ in range(SESSIONS):
                nursery.start_soon(self._session, receive)
            due = trio.current_time()
            while True:
                due += 1 / RATE
                await trio.sleep_until(due)
                self._due.append(due)
                send.send_nowait(due)

    async def calm(self) -> None:
        """Wait until the workers have come up: all that was due in a second was answered quickly."""
        with trio.move_on_after(60):
            while True:
                began = trio.current_time()
                await trio.sleep(1)
                if await self.p99(began, began + 1) < 0.25:
                    return

    async def p99(self, begin: float, end: float) -> float:
        """The 99th percentile of what was due in that time; waits until all of it has been answered."""
        wanted, found = 1, list[float]()
        with trio.move_on_after(30):
            while len(found) < wanted:
                await trio.sleep(0.05)
                wanted = sum(begin <= due < end for due in self._due)
                found = [took for due, took in self.took if begin <= due < end]
        assert len(found) == wanted, f"{len(found)} of {wanted} answered; {self.wrong}"
        return sorted(found)[int(wanted * 0.99)]

    async def _session(self, due: trio.MemoryReceiveChannel[float]) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self._bed.port)
        try:
            lines = Lines(stream)
            await lines.reply()
            await stream.send_all(b"EHLO load.example\r\n")
            await lines.reply()
            async for since in due:
                reply = await deliver(stream, lines, self._ledger, self._rng, "load.example")
                self.took.append((since, trio.current_time() - since))
                if not reply.startswith(b"250"):
                    self.wrong.append(reply.decode())
        except (EOFError, trio.BrokenResourceError) as error:
            self.wrong.append(repr(error))
        finally:
            await trio.aclose_forcefully(stream)


async def deliver(
    stream: trio.abc.Stream, lines: Lines, ledger: Ledger, rng: random.Random, domain: str
) -> bytes:
    """Send one message; the last reply, to the final dot or the command that was refused."""
    # What makes them is not what is measured: a body is used again and again under another id
    if len(_bodies) < 50:
        _bodies.append(make_message(rng)[1].partition(b"\r\n\r\n")[2])
    id_ = f"{rng.getrandbits(64):016x}"
    content = f"From: <a@example.org>\r\nX-Proof: {id_}\r\n\r\n".encode() + rng.choice(_bodies)
    ledger.sent[id_] = body_digest(content)
    envelope = f"MAIL FROM:<sender@example.org>\r\nRCPT TO:<r-{id_}@{domain}>\r\nDATA\r\n"
    await stream.send_all(envelope.encode())
    replies = [await lines.reply() for _ in range(3)]
    if not replies[2].startswith(b"354"):
        ledger.refused.add(id_)
        return next(each for each in replies if not each.startswith(b"250"))
    # RFC 5321 4.5.2
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    await stream.send_all(stuffed + b".\r\n")
    reply = await lines.reply()
    (ledger.acknowledged if reply.startswith(b"250") else ledger.refused).add(id_)
    return reply


@dataclass
class Lane:
    """The marked sessions of one plugin."""

    name: str
    bed: Bed
    ledger: Ledger
    rng: random.Random
    hang_up: Callable[[], None]
    """Sends the server SIGHUP."""

    async def alive(self, seconds: float = 30.0) -> None:
        """Wait until the plugin answers: each of its workers, which takes as many questions at the same time."""
        workers = 1 if self.bed.isolation == "task" else WORKERS
        answers: set[bytes] = set()

        async def ask() -> None:
            with contextlib.suppress(EOFError, OSError):  # not listening yet
                answers.add(await self._visit("alive"))

        with trio.move_on_after(seconds):
            while sum(b"is alive" in each for each in answers) < workers:
                await trio.sleep(0.05)
                answers.clear()
                async with trio.open_nursery() as nursery:
                    for _ in range(workers):
                        nursery.start_soon(ask)
        assert sum(b"is alive" in each for each in answers) == workers, (self.name, answers)

    async def trigger(self, hook: str) -> bytes:
        """Have the server ask at the hook; the reply of the client's message."""
        domain = {"deferred": "later.", "failed": "never.", "bounce": "never."}.get(hook, "")
        if hook in {"expire", "hold", "release"}:
            domain = "slow."
        if hook == "reload":
            self.hang_up()
        reply = await self._visit("tls" if hook == "tls" else "auth" if hook == "auth" else "", domain)
        for action in {"hold": ("hold",), "release": ("hold", "release")}.get(hook, ()):
            while not await self._change(action):  # it had expired by then
                reply = await self._visit("", domain)
                await self._change("hold")
        return reply

    async def fails(self, hook: str, kind: str, seconds: float = 20.0) -> str:
        """Wait until the server tells that the plugin failed there, and how; the detail."""
        # A nursery left open ends the plugin; until it is begun anew, others of its hooks are not asked, either
        bed, name = self.bed, "hears" if hook == "event" else self.name
        found: list[dict[str, Any]] = []
        with trio.move_on_after(seconds):
            while not found:
                await trio.sleep(0.02)
                bed.read_log()
                found = [
                    each
                    for each in bed.failures
                    if each["plugin"] == name and not each["detail"].startswith("out of service")
                ]
        assert found, f"{name}: no failure at {hook} was told"
        for each in found:
            bed.failures.remove(each)
        assert [(each["hook"], each["kind"]) for each in found] == [(hook, kind)], found[:3]
        return str(found[0]["detail"])

    async def _change(self, action: str) -> bool:
        """Hold or release what is slow; whether there was anything, at some moment in which it is not tried."""
        selection = {"domain": f"{self.name}.slow.example"}
        with trio.move_on_after(LIFETIME):
            while True:
                status, answer = await trio.to_thread.run_sync(
                    self.bed.ask, "queue", {"action": action, "selection": selection}
                )
                assert status == 200, answer
                if answer["recipients"]:
                    return True
                await trio.sleep(0.02)
        return False

    async def _visit(self, what: str, domain: str = "") -> bytes:
        """A session of the lane, with one message; its decisive reply."""
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", self.bed.lanes[self.name])
        try:
            lines = Lines(stream)
            greeting = await lines.reply()
            if not greeting.startswith(b"220"):
                return greeting
            await stream.send_all(b"EHLO lane.example\r\n")
            hello = await lines.reply()
            if not hello.startswith(b"250"):
                return hello
            if what == "auth":
                word = base64.b64encode(f"\0{ACCOUNT}\0{self.bed.password}".encode())
                await stream.send_all(b"AUTH PLAIN " + word + b"\r\n")
                reply = await lines.reply()
                assert reply.startswith(b"235"), reply
            if what == "tls":
                stream = await _secured(stream, lines)
                lines = Lines(stream)
                await stream.send_all(b"EHLO lane.example\r\n")
                await lines.reply()
            if what == "alive":
                await stream.send_all(
                    f"MAIL FROM:<sender@example.org>\r\nRCPT TO:<alive@{self.name}.example>\r\n".encode()
                )
                await lines.reply()
                return await lines.reply()
            reply = await deliver(stream, lines, self.ledger, self.rng, f"{self.name}.{domain}example")
            await stream.send_all(b"QUIT\r\n")
            await lines.reply()
            return reply
        finally:
            await trio.aclose_forcefully(stream)


async def _secured(stream: trio.abc.Stream, lines: Lines) -> trio.abc.Stream:
    import ssl

    await stream.send_all(b"STARTTLS\r\n")
    assert (await lines.reply()).startswith(b"220")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    private = trio.SSLStream(stream, context, https_compatible=True)
    await private.do_handshake()
    return private


@dataclass
class Usage:
    """What a process has used."""

    memory: int
    """Resident, in MiB."""
    seconds: float
    """Of a processor."""


def usage_of(pid: int) -> Usage:
    """Of that process, by itself."""
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text().split()[1])
    ticks = sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13]))
    return Usage(pages * os.sysconf("SC_PAGESIZE") >> 20, ticks / os.sysconf("SC_CLK_TCK"))
