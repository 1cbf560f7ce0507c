"""A hostile next hop at each stage of a session: what becomes of the message, from its acceptance to the last notice.

`TABLE` has a row for each stage and each thing that can go wrong there. A row says how the first attempt ends and
why, what the connection is worth then, how many attempts there are until the end of the lifetime, and what the
sender is told. Single connections are examined in `test_faults` and `test_hostile_servers`.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from hop_bed import HopBed, open_hop_bed

from elemta.config import Config, QueueConfig, RouteConfig, RouteTls, TlsConfig, TransportKind
from elemta.config.units import parse_route_pattern
from elemta.testing.network import MemoryStream
from elemta.testing.peers import (
    BODY_OK,
    DATA_OK,
    GREETING,
    LOCKSTEP_HELLO,
    MAIL_OK,
    PIPELINING_HELLO,
    RCPT_OK,
    TRANSACTION,
    Fault,
    ScriptedPeer,
    SinkPeer,
    Step,
)
from elemta.tls import TlsContexts

HOST, HOME = "127.0.0.9", "198.51.100.1"
HOUR = 3600.0
LIFETIME, RETRY = 2 * HOUR, 0.5 * HOUR
FAULTS: dict[str, bytes | Fault] = {
    "4xx": b"450 4.2.0 later\r\n",
    "5xx": b"550 5.7.1 not you\r\n",
    "421": b"421 4.3.2 going down\r\n",
    "drop": Fault.DROP,
    "stall": Fault.STALL,
    "garbage": Fault.GARBAGE,
    "endless": Fault.ENDLESS,
    "mixed": b"250-one\r\n451 two\r\n",  # RFC 5321 §4.2.1: the same code in each line
    "1xx": b"150 wait\r\n",
    "early": b"450 4.2.0 later\r\n250 2.0.0 or not\r\n",  # and a reply to what was not asked yet
}
BAD_SEQUENCE = b"503 5.5.1 bad sequence\r\n"
STARTTLS_HELLO: Step = (b"EHLO ", b"250-peer.example\r\n250 STARTTLS\r\n")
AUTH_HELLO: Step = (b"EHLO ", b"250-peer.example\r\n250 AUTH PLAIN\r\n")


@attrs.frozen
class Row:
    """What is to be."""

    result: str
    """Of the first attempt for the last recipient: `delivered`, `deferred` or `failed`."""
    cause: str = ""
    quits: bool = False
    """Whether QUIT was said on the first connection; else it was closed, as it was of no more use."""
    attempts: int = 1
    """Until it is delivered or the lifetime is over."""
    status: str = ""
    """In the notice of failure; empty: there is none."""
    quoted: str = ""
    """What it quotes of the next hop's own words."""


FOUR = Row("deferred", "remote-reply", True, 5, "4.2.0", "450 4.2.0 later")
FIVE = Row("failed", "remote-reply", True, 1, "5.7.1", "550 5.7.1 not you")
GOING = Row("deferred", "remote-reply", False, 5, "4.3.2", "421 4.3.2 going down")
LOST = Row("deferred", "connection-lost", False, 5, "4.4.2")
SLOW = Row("deferred", "timeout", False, 5, "4.4.2")
BROKEN = Row("deferred", "protocol", False, 5, "4.5.0")
UNKNOWN = Row("deferred", "unknown-after-dot", False, 5, "4.4.2")
NO_TLS = Row("deferred", "tls", False, 5, "4.7.5")
NO_LOGIN = Row("deferred", "login", True, 5, "4.7.8")
DONE = Row("delivered")
NOISE = dict.fromkeys(("garbage", "endless", "mixed", "1xx"), BROKEN)
IN_SESSION = {"4xx": FOUR, "5xx": FIVE, "421": GOING, "drop": LOST, "stall": SLOW, **NOISE}
OUT_OF_STEP = attrs.evolve(FOUR, quits=False)
REFUSED = attrs.evolve(FOUR, status="4.3.2", quoted="")  # RFC 5321 §3.1: mostly about us and about now
TABLE: dict[str, dict[str, Row]] = {
    "banner": {**IN_SESSION, "4xx": attrs.evolve(FOUR, quits=False), "5xx": REFUSED, "early": OUT_OF_STEP},
    "ehlo": {**IN_SESSION, "5xx": REFUSED, "early": FOUR},
    "mail": {**IN_SESSION, "early": OUT_OF_STEP},
    "rcpt": {**IN_SESSION, "early": OUT_OF_STEP},
    "data": {**IN_SESSION, "early": OUT_OF_STEP},
    "dot": {
        **IN_SESSION,
        **dict.fromkeys(("drop", "garbage", "endless", "mixed", "1xx"), UNKNOWN),
        "stall": attrs.evolve(UNKNOWN, attempts=4),  # each takes ten minutes (RFC 5321 §4.5.3.2.6)
        "early": OUT_OF_STEP,
    },
    # RFC 7435 §3: without TLS rather than not at all
    "starttls": {
        fault: attrs.evolve(DONE, quits=fault in ("4xx", "5xx")) for fault in FAULTS if fault != "early"
    },
    "handshake": dict.fromkeys(FAULTS, DONE),
    "starttls-required": {
        **dict.fromkeys(FAULTS, NO_TLS),
        **dict.fromkeys(("4xx", "5xx", "early"), Row("deferred", "tls-not-offered", True, 5, "4.7.5")),
    },
    "handshake-required": dict.fromkeys(FAULTS, NO_TLS),
    "auth": {**IN_SESSION, "4xx": NO_LOGIN, "5xx": NO_LOGIN, "early": NO_LOGIN},
    # The first recipient was taken; behind it stands a peer that behaves
    "partial": {
        "4xx": attrs.evolve(FOUR, attempts=2, status="", quoted=""),
        "5xx": FIVE,
        "421": attrs.evolve(GOING, attempts=2, status="", quoted=""),
        "drop": attrs.evolve(LOST, attempts=2, status=""),
        "stall": attrs.evolve(SLOW, attempts=2, status=""),
        **dict.fromkeys(NOISE, attrs.evolve(BROKEN, attempts=2, status="")),
    },
    # It is about the message before: the next one goes over a new connection at once
    "rset": dict.fromkeys(FAULTS, DONE),
    "quit": dict.fromkeys(FAULTS, attrs.evolve(DONE, quits=True)),
}
HELLOS = {"pipelining": PIPELINING_HELLO, "lockstep": LOCKSTEP_HELLO}
PLAIN = ("banner", "ehlo", "mail", "rcpt", "data", "dot")
BEHAVES_LATER = ("starttls", "handshake", "partial", "rset")
"""Stages behind which a peer that behaves takes the second connection."""


def plain_script(stage: str, answer: bytes | Fault, hello: Step) -> ScriptedPeer:
    """A session that goes well up to the stage, with the replies to what was pipelined behind it."""
    steps: list[Step] = []
    usual = (GREETING, hello, MAIL_OK, RCPT_OK, DATA_OK, BODY_OK)
    for name, step in zip(PLAIN, usual, strict=True):
        if name != stage:
            steps.append(step)
            continue
        steps.append((step[0], answer))
        if isinstance(answer, bytes):
            if name == "ehlo" and answer.startswith(b"55"):
                steps.append((b"HELO", answer))
            if hello is PIPELINING_HELLO and answer[:1] in b"45":
                rest = {"mail": (RCPT_OK[0], DATA_OK[0]), "rcpt": (DATA_OK[0],)}.get(name, ())
                steps += [(command, BAD_SEQUENCE) for command in rest]
        break
    return ScriptedPeer(*steps)


def script(stage: str, answer: bytes | Fault, hello: Step) -> ScriptedPeer:
    """The hostile peer of a stage."""
    greeting = (GREETING, LOCKSTEP_HELLO)
    match stage.removesuffix("-required"):
        case "starttls":
            goes_on = isinstance(answer, bytes) and answer[:3] in (b"450", b"550")
            rest = TRANSACTION if goes_on and stage == "starttls" else ()
            return ScriptedPeer(GREETING, STARTTLS_HELLO, (b"STARTTLS", answer), *rest)
        case "handshake":
            return ScriptedPeer(GREETING, STARTTLS_HELLO, (b"STARTTLS", b"220 go\r\n"), (0.0, answer))
        case "auth":
            return ScriptedPeer(GREETING, AUTH_HELLO, (b"AUTH PLAIN", answer))
        case "partial":
            return ScriptedPeer(*greeting, MAIL_OK, RCPT_OK, (RCPT_OK[0], answer), DATA_OK, BODY_OK)
        case "rset":
            nobody = (RCPT_OK[0], b"550 5.1.1 nobody\r\n")
            return ScriptedPeer(*greeting, MAIL_OK, nobody, (b"RSET", answer))
        case "quit":
            return ScriptedPeer(*greeting, *TRANSACTION, (b"QUIT", answer))
    return plain_script(stage, answer, hello)


def config_of(stage: str, password: Path) -> Config:
    """One route for the senders, and one for the peer as its stage wants it."""
    tls = RouteTls.REQUIRED if stage.endswith("-required") else RouteTls.OPPORTUNISTIC
    login: dict[str, Any] = {"username": "tim", "password_file": password} if stage == "auth" else {}
    routes = (
        RouteConfig(parse_route_pattern("home.example"), TransportKind.SMTP, host=HOME),
        RouteConfig(parse_route_pattern("*"), TransportKind.SMTP, host=HOST, tls=tls, **login),
    )
    queue = QueueConfig(retry=(RETRY,), retry_jitter=0.0, lifetime=LIFETIME, delay_notice=0.0)
    return Config(hostname="mx.example", queue=queue, routes=routes)


def ends(bed: HopBed, recipient: str) -> list[Any]:
    """How each attempt for a recipient ended."""
    kinds = ("recipient.delivered", "recipient.deferred", "recipient.failed")
    return [event for event in bed.events if event.type in kinds and event.recipient == recipient]  # type: ignore[attr-defined]


async def judge(bed: HopBed, row: Row, recipient: str) -> None:
    """Wait for the end of the message and hold it against the row."""
    await trio.sleep(LIFETIME + HOUR if row.status else HOUR)
    events = ends(bed, recipient)
    first, last = events[0], events[-1]
    assert first.type == f"recipient.{row.result}"
    assert getattr(first, "cause", "") == row.cause
    assert len(events) == row.attempts
    about = [status for status in await statuses(bed) if recipient in status["Final-Recipient"]]
    if not row.status:
        assert last.type == "recipient.delivered"
        assert about == []
        return
    (fields,) = about
    assert last.type == "recipient.failed"
    assert (fields["Action"], fields["Status"]) == ("failed", row.status)
    quoted = f"smtp; {row.quoted}" if row.quoted else None
    assert fields["Diagnostic-Code"] == quoted
    assert (fields["Remote-MTA"] is not None) == bool(row.quoted)
    totals = await bed.spool.totals()
    assert totals.queued == totals.held == 0


async def statuses(bed: HopBed) -> list[Any]:
    """The groups of fields about recipients, of all notices that came home."""
    found: list[Any] = []
    for number in range(len(bed.home.messages)):
        report = list((await bed.notice(number + 1)).iter_parts())[1]
        found += report.get_payload()[1:]
    return found


# The reply too many may be to one of those before it: none of them is believed
AHEAD = {("data", "early"): BROKEN}
CASES = [
    pytest.param(stage, fault, hello, id=f"{stage}-{fault}-{hello}")
    for stage, rows in TABLE.items()
    for fault in rows
    for hello in (HELLOS if stage in PLAIN else ("lockstep",))
]


@pytest.mark.parametrize(("stage", "fault", "hello"), CASES)
async def test_each_fault_at_each_stage(
    stage: str, fault: str, hello: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    password = tmp_path / "password"
    password.write_text("tanstaaf\n")
    row, peers, sink = TABLE[stage][fault], list[ScriptedPeer](), SinkPeer()
    if hello == "pipelining":
        row = AHEAD.get((stage, fault), row)

    async def serve(stream: MemoryStream) -> None:
        if peers and stage in BEHAVES_LATER:
            await sink.serve(stream)
            return
        peers.append(script(stage, FAULTS[fault], HELLOS[hello]))
        await peers[-1].serve(stream)

    async with open_hop_bed(config=config_of(stage, password)) as bed:
        bed.network.listen(HOST, 25, serve)
        if stage == "rset":
            await bed.accept("bob@one.example")
            await trio.sleep(1)
            await bed.accept("eve@one.example")
            await judge(bed, row, "eve@one.example")
            assert len(ends(bed, "bob@one.example")) == 1
            return
        people = ("bob@one.example", "eve@one.example") if stage == "partial" else ("bob@one.example",)
        await bed.accept(*people)
        await judge(bed, row, people[-1])
        if stage == "partial":
            assert ends(bed, people[0])[-1].type == "recipient.delivered"
        assert (peers[0].commands[-1:] == [b"QUIT"]) == row.quits


def no_peer(how: str) -> Callable[[HopBed], None]:
    return {
        "refused": lambda bed: bed.network.refuse(HOST, 25),
        "unreachable": lambda bed: bed.network.unreachable(HOST, 25),
        "silent": lambda bed: bed.network.hang(HOST, 25),
    }[how]


@pytest.mark.parametrize(
    ("how", "cause"), [("refused", "connect"), ("unreachable", "connect"), ("silent", "timeout")]
)
async def test_no_connection(how: str, cause: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_hop_bed(config=config_of("connect", Path("none"))) as bed:
        no_peer(how)(bed)
        await bed.accept("bob@one.example")
        await judge(bed, Row("deferred", cause, attempts=5, status="4.4.1"), "bob@one.example")


@pytest.mark.parametrize("trouble", ["untrusted", "other name", "expired"])
async def test_a_certificate_that_proves_nothing(
    trouble: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    known, other = trustme.CA(), trustme.CA()
    known.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer = other if trouble == "untrusted" else known
    ended = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if trouble == "expired" else None
    name = "other.example" if trouble == "other name" else HOST
    issuer.issue_cert(name, not_after=ended).configure_cert(context)

    async def serve(stream: MemoryStream) -> None:
        await stream.send_all(GREETING[1])  # type: ignore[arg-type]
        await stream.receive_some()
        await stream.send_all(STARTTLS_HELLO[1])  # type: ignore[arg-type]
        await stream.receive_some()
        await stream.send_all(b"220 go\r\n")
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
            await tls.receive_some()
        except trio.BrokenResourceError:
            pass

    config = config_of("verified", Path("none"))
    verified = attrs.evolve(config.routes[1], tls=RouteTls.VERIFIED)
    config = attrs.evolve(config, routes=(config.routes[0], verified))
    contexts = TlsContexts(TlsConfig(), authorities=tmp_path / "ca.pem")
    async with open_hop_bed(config=config, tls=contexts) as bed:
        bed.network.listen(HOST, 25, serve)
        await bed.accept("bob@one.example")
        row = Row("deferred", "certificate", attempts=5, status="4.7.5")
        await judge(bed, row, "bob@one.example")
