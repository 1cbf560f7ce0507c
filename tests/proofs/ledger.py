"""A ledger of what was promised and what arrived, and the plain SMTP ends that write it.

Written without elemta's own protocol code, so that a mistake there cannot hide on both sides.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio

ID = re.compile(rb"^X-Proof: ([0-9a-f]{16})\r\n", re.MULTILINE)
_FAILED = re.compile(rb"^Final-Recipient: rfc822; ?r-([0-9a-f]{16})@", re.MULTILINE | re.IGNORECASE)
_MESSAGE_ID = re.compile(rb"^Message-ID: *(\S+)\r\n", re.MULTILINE | re.IGNORECASE)


@dataclass
class Arrival:
    """One copy at the sink. Times are on Trio's clock."""

    time: float
    digest: str
    recipient: str
    answered: float = math.inf
    """When the sink's 250 was written; never, where the connection ended before."""


@dataclass
class Crash:
    """One end that the server did not choose."""

    time: float
    over: float = math.inf
    """From then on nothing of that life can arrive at the sink any more: the next one begins."""
    stored: frozenset[str] = frozenset()
    """What the spool still had when the server was gone."""


@dataclass
class Ledger:
    """Everything that senders and sink saw, by the id in the message."""

    sent: dict[str, str] = field(default_factory=dict)
    """Digest of the body by id, written before MAIL."""
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    arrived: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    crashes: list[Crash] = field(default_factory=list)
    notices: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Message-IDs of the notices that came about an id: of one that came twice there is one."""

    def lost(self) -> set[str]:
        """Acknowledged, and neither was it delivered nor has its sender heard of it."""
        return self.acknowledged - set(self.arrived) - set(self.notices)

    def twice_told(self) -> dict[str, set[str]]:
        """Failures with more than one notice (RELIABILITY D5)."""
        return {id_: notices for id_, notices in self.notices.items() if len(notices) > 1}

    def wrongly_told(self) -> set[str]:
        """Notices of failure about what was delivered."""
        return set(self.notices) & set(self.arrived)

    def ghosts(self) -> set[str]:
        """Answered 4yz or 5yz, and delivered all the same."""
        return self.refused & set(self.arrived)

    def damaged(self) -> set[str]:
        return {
            id_
            for id_, copies in self.arrived.items()
            if any(copy.digest != self.sent.get(id_) for copy in copies)
        }

    def duplicates(self) -> int:
        return sum(len(copies) - 1 for copies in self.arrived.values())

    def unrecorded(self) -> Iterator[tuple[str, float]]:
        """Deliveries that a crash found not yet written down, and how long the sink's reply had been there.

        Their message was still in the spool when the server was gone, though a copy had arrived in that
        life. These, and no others, may come again (RELIABILITY P5). Below zero: answered behind the crash.
        """
        since = -math.inf
        for crash in self.crashes:
            for id_ in crash.stored & self.arrived.keys():
                ages = [
                    crash.time - copy.answered
                    for copy in self.arrived[id_]
                    if since < copy.time <= crash.over
                ]
                if ages:
                    yield id_, max(ages)
            since = crash.over

    def unexplained(self) -> list[str]:
        """Ids with more copies than crashes that found one of them unrecorded."""
        excuses = Counter(id_ for id_, _ in self.unrecorded())
        return [id_ for id_, copies in self.arrived.items() if len(copies) - 1 > excuses[id_]]

    def overdue(self, window: float) -> list[tuple[str, float]]:
        """Deliveries that a crash found unrecorded after a longer time than that."""
        return [(id_, age) for id_, age in self.unrecorded() if age > window]


def body_digest(content: bytes) -> str:
    """Of the body behind the header; relays add header fields above."""
    return hashlib.sha256(content.partition(b"\r\n\r\n")[2]).hexdigest()


def subject_of(content: bytes) -> str | None:
    """The id of one of our messages; a notice about one returns its header, which does not count."""
    found = ID.search(content.partition(b"\r\n\r\n")[0] + b"\r\n")
    return found[1].decode() if found else None


def notice_about(content: bytes) -> tuple[str, str] | None:
    """The id that a notice is about, and its own Message-ID."""
    failed, own = _FAILED.search(content), _MESSAGE_ID.search(content)
    return (failed[1].decode(), own[1].decode()) if failed and own else None


def make_message(rng: random.Random) -> tuple[str, bytes]:
    """An id and a message with it: random lines, some of them starting with a dot, no final surprises."""
    id_ = f"{rng.getrandbits(64):016x}"
    lines = [
        rng.choice(["", ".", "..", ".x"]) + "".join(rng.choices("abcdefghij klm", k=rng.randrange(60)))
        for _ in range(rng.randrange(1, 60))
    ]
    body = "\r\n".join(lines) + "\r\n"
    header = f"From: <a@example.org>\r\nSubject: proof {id_}\r\nX-Proof: {id_}\r\n\r\n"
    return id_, (header + body).encode()


class Lines:
    """Reads CRLF lines from a stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._data = bytearray()

    async def read_until(self, end: bytes) -> bytes:
        """Up to and with `end`; raises EOFError where the other side leaves."""
        while (at := self._data.find(end)) < 0:
            chunk = await self.stream.receive_some(65536)
            if not chunk:
                raise EOFError
            self._data += chunk
        found = bytes(self._data[: at + len(end)])
        del self._data[: at + len(end)]
        return found

    async def reply(self) -> bytes:
        while True:
            line = await self.read_until(b"\r\n")
            if line[3:4] != b"-":
                return line


def _stuff(content: bytes) -> bytes:
    return re.sub(rb"(?m)^\.", b"..", content)


def _unstuff(data: bytes) -> bytes:
    return re.sub(rb"(?m)^\.\.", b".", data)


async def watch_lag(samples: list[float]) -> None:
    """Note how late this machine lets a process run that wanted to sleep for 5 ms; until cancelled."""
    while True:
        due = trio.current_time() + 0.005
        await trio.sleep_until(due)
        samples.append(trio.current_time() - due)


async def send_messages(port: int, ledger: Ledger, rng: random.Random, messages: int) -> None:
    """One session that sends up to `messages`, writing the ledger; a broken session ends it quietly."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return
    lines = Lines(stream)
    try:
        await lines.reply()
        await stream.send_all(b"EHLO proof.example\r\n")
        await lines.reply()
        for _ in range(messages):
            id_, content = make_message(rng)
            ledger.sent[id_] = body_digest(content)
            envelope = (
                f"MAIL FROM:<sender@example.org>\r\nRCPT TO:<r-{id_}@sink.example>\r\nDATA\r\n".encode()
            )
            await stream.send_all(envelope)
            replies = [await lines.reply() for _ in range(3)]
            if not replies[2].startswith(b"354"):
                ledger.refused.add(id_)
                return
            await stream.send_all(_stuff(content) + b".\r\n")
            answer = await lines.reply()
            (ledger.acknowledged if answer.startswith(b"250") else ledger.refused).add(id_)
    except (EOFError, trio.BrokenResourceError):
        return
    finally:
        await trio.aclose_forcefully(stream)


async def run_sink(
    ledger: Ledger,
    rng: random.Random,
    *,
    defer: float = 0.0,
    refuse: float = 0.0,
    judge: Callable[[str, str], bytes | None] | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A next hop that notes every copy; answers 451 to the final dot with probability `defer` (not noted).

    That share of the messages which `refuse` says is answered 550 whenever it comes. What `judge` answers for
    the id and the recipient of a message is said to its final dot; None: it is taken.
    """

    async def serve(stream: trio.SocketStream) -> None:
        lines = Lines(stream)
        try:
            await stream.send_all(b"220 sink.example ESMTP\r\n")
            recipient = ""
            while True:
                command = await lines.read_until(b"\r\n")
                verb = command[:4].upper()
                if verb == b"EHLO":
                    await stream.send_all(
                        b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 99999999\r\n"
                    )
                elif verb == b"DATA":
                    await stream.send_all(b"354 go\r\n")
                    await _take(stream, lines, recipient)
                elif verb == b"QUIT":
                    await stream.send_all(b"221 bye\r\n")
                    return
                else:
                    if verb == b"RCPT":
                        recipient = command.decode().partition("<")[2].partition(">")[0]
                    await stream.send_all(b"250 ok\r\n")
        except (EOFError, trio.BrokenResourceError):
            return

    async def _take(stream: trio.SocketStream, lines: Lines, recipient: str) -> None:
        content = _unstuff((await lines.read_until(b"\r\n.\r\n"))[:-3])
        if rng.random() < defer:
            await stream.send_all(b"451 4.3.0 not now\r\n")
            return
        id_ = subject_of(content)
        if id_ is None:
            notice = notice_about(content)
            assert notice is not None, content[:2000]
            ledger.notices[notice[0]].add(notice[1])
            await stream.send_all(b"250 ok\r\n")
            return
        if int(id_, 16) % 1000 < refuse * 1000:
            await stream.send_all(b"550 5.7.1 not wanted\r\n")
            return
        refusal = judge(id_, recipient) if judge is not None else None
        if refusal is not None:
            await stream.send_all(refusal + b"\r\n")
            return
        arrival = Arrival(trio.current_time(), body_digest(content), recipient)
        ledger.arrived[id_].append(arrival)
        await stream.send_all(b"250 2.0.0 taken\r\n")
        arrival.answered = trio.current_time()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(serve, listeners)


def write_config(path: Path, state_dir: Path, port: int, sink_port: int, extra: str = "") -> None:
    """A relay that sends everything to the sink and tries again within a second."""
    path.write_text(
        f"""
hostname = "mx.example.org"
state_dir = "{state_dir}"
[[listeners]]
name = "mx"
address = "127.0.0.1:{port}"
[relay]
networks = ["127.0.0.0/8"]
[[routes]]
match = "*"
transport = "smtp"
host = "127.0.0.1"
port = {sink_port}
tls = "none"
[queue]
retry = ["1s", "1s", "2s"]
hold_after_crashes = 0
[limits]
sessions_per_client = 1000
messages_per_session = 100000
[logging]
level = "warning"
{extra}
"""
    )
