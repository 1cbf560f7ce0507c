"""Notices judged by a table: what the client asked for, what became of it, and what each field says then.

The server is whole; its next hops are in memory. Every notice is read with the standard library and held against
RFC 3461 (when and for whom), RFC 3464 (fields), RFC 6522 (parts) and RFC 6533 (international forms).
"""

from __future__ import annotations

import email
import email.policy
import email.utils
import quopri
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from elemta.config import (
    Config,
    DomainsConfig,
    HostPort,
    ListenerConfig,
    QueueConfig,
    RelayConfig,
    RouteConfig,
    TransportKind,
)
from elemta.config.units import parse_network, parse_route_pattern
from elemta.mail import Domain, Reply
from elemta.smtp import Capabilities
from elemta.testing.peers import SINK_CAPABILITIES, SinkPeer
from elemta.testing.server import RunningServer, open_test_server

CLIENT = "192.0.2.200"
HOUR = 3600.0
ALIASES = """
@ours.example
office@ours.example: one@store.example
team@ours.example: one@store.example, two@store.example, three@blind.example
broken@ours.example: one@store.example, gone@never.example
self@ours.example: self, one@store.example
"""
ZONE = {
    f"{name}.example": {"MX": [(10, f"mx.{name}.example")]}
    for name in ("blind", "knowing", "never", "later", "home")
} | {
    f"mx.{name}.example": {"A": [f"198.51.100.{number}"]}
    for number, name in enumerate(("blind", "knowing", "never", "later", "home"), 1)
}
BLIND = attrs.evolve(SINK_CAPABILITIES, dsn=False)
"""A next hop that knows nothing of notices."""
HEADER = b"From: Ann <ann@home.example>\r\nMessage-ID: <one@home.example>\r\nSubject: hello\r\n"
MESSAGE = HEADER + b"\r\nthe body\r\n"
ALL = "SUCCESS,FAILURE,DELAY"


@attrs.define(eq=False)
class Post:
    """The server and what came home."""

    server: RunningServer
    home: SinkPeer
    store: SinkPeer
    hops: dict[str, SinkPeer]

    async def send(
        self, *recipients: str, sender: str = "ann@home.example", mail: str = "", body: bytes = MESSAGE
    ) -> None:
        """Each recipient with the words behind its path."""
        utf8 = "SMTPUTF8" in mail
        stream = self.server.connect(peer=CLIENT)
        await self._read(stream)
        commands = ["EHLO client.example", f"MAIL FROM:<{sender}> {mail}".rstrip()]
        for each in recipients:
            address, _, words = each.partition(" ")
            commands.append(f"RCPT TO:<{address}> {words}".rstrip())
        for command in [*commands, "DATA"]:
            await stream.send_all(command.encode("utf-8" if utf8 else "ascii") + b"\r\n")
            said = await self._read(stream)
            assert said[:1] in b"23", (command, said)
        await stream.send_all(body + b".\r\n")
        assert (await self._read(stream))[:3] == b"250"
        await stream.aclose()

    async def _read(self, stream: trio.abc.Stream) -> bytes:
        said = b""
        while not said.endswith(b"\r\n") or said.split(b"\r\n")[-2][3:4] == b"-":
            said += await stream.receive_some()
        return said

    def notices(self) -> list[Notice]:
        return [Notice(received.content) for received in self.home.messages]


class Notice:
    """A notice as any mail reader sees it; making one checks what holds for all of them."""

    def __init__(self, raw: bytes) -> None:
        message = email.message_from_bytes(raw, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        assert not message.defects
        self.message = message
        # RFC 6522 §3, RFC 3834 §5
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "delivery-status"
        assert message["Auto-Submitted"] == "auto-replied"
        assert str(message["From"]).endswith("<MAILER-DAEMON@mx.ours.example>")
        assert str(message["References"]) == str(message["In-Reply-To"]) == "<one@home.example>"
        for name in ("Date", "Message-ID", "To", "Subject", "MIME-Version"):
            assert message[name], name
        self.text, self.status, self.original = message.iter_parts()
        assert self.text.get_content_type() == "text/plain"
        blocks = self.status.get_payload()
        assert isinstance(blocks, list)
        self.about: Message = blocks[0]
        self.groups: dict[str, Message] = {}
        for block in blocks[1:]:
            # RFC 3464 §2.3: these are required, and once
            for name in ("Final-Recipient", "Action", "Status"):
                assert len(block.get_all(name, [])) == 1, name
            digit = str(block["Status"])[0]
            assert digit in {"failed": "45", "delayed": "4"}.get(str(block["Action"]), "2")
            if block["Diagnostic-Code"] is not None:  # RFC 3464 §2.3.6: of the remote, which is named
                assert str(block["Diagnostic-Code"]).startswith("smtp; ")
                assert str(block["Remote-MTA"]).startswith("dns; ")
            self.groups[str(block["Final-Recipient"]).partition(";")[2].strip()] = block
        # RFC 3464 §2.2
        assert str(self.about["Reporting-MTA"]) == "dns; mx.ours.example"
        assert email.utils.parsedate_to_datetime(str(self.about["Arrival-Date"]))

    def actions(self) -> dict[str, str]:
        return {address: str(block["Action"]) for address, block in self.groups.items()}


def config(folder: Path) -> Config:
    (folder / "recipients").write_text(ALIASES)
    return Config(
        hostname="mx.ours.example",
        listeners=(ListenerConfig("mx", HostPort("192.0.2.1", 25)),),
        domains=DomainsConfig(local=(Domain("ours.example"),), recipients=folder / "recipients"),
        relay=RelayConfig((parse_network(CLIENT),)),
        routes=tuple(
            RouteConfig(parse_route_pattern(name), TransportKind.LMTP, host="192.0.2.50")
            for name in ("store.example", "ours.example")
        ),
        queue=QueueConfig(retry=(HOUR,), retry_jitter=0.0, delay_notice=4 * HOUR, lifetime=10 * HOUR),
    )


@asynccontextmanager
async def open_post(folder: Path) -> AsyncIterator[Post]:
    async with open_test_server(config(folder), zone=ZONE) as server:
        never = {"RCPT": Reply.of(550, "5.1.1", "no such user here")}
        later = {"RCPT": Reply.of(451, "4.2.1", "mailbox busy")}
        hops = {
            "blind": SinkPeer(capabilities=BLIND),
            "knowing": SinkPeer(),
            "never": SinkPeer(answers=never),
            "later": SinkPeer(answers=later),
            "home": SinkPeer(),
        }
        for number, peer in enumerate(hops.values(), 1):
            server.network.listen(f"198.51.100.{number}", 25, peer.serve)
        store = SinkPeer(capabilities=Capabilities(pipelining=True, eight_bit_mime=True), lmtp=True)
        server.network.listen("192.0.2.50", 24, store.serve)
        yield Post(server, hops["home"], store, hops)


# --- When, and for whom (RFC 3461 §4.1, §5.2) ---------------------------------------------------------

ONE = "one@store.example"
TABLE: list[tuple[str, str, list[dict[str, str]]]] = [
    # recipient, NOTIFY, the actions of each notice
    ("one@store.example", "", []),
    ("one@store.example", "NEVER", []),
    ("one@store.example", "FAILURE,DELAY", []),
    ("one@store.example", "SUCCESS", [{ONE: "delivered"}]),
    ("one@store.example", ALL, [{ONE: "delivered"}]),
    ("x@blind.example", "SUCCESS", [{"x@blind.example": "relayed"}]),
    ("x@blind.example", "FAILURE", []),
    ("x@knowing.example", ALL, []),  # its duty (§5.2.1)
    ("x@never.example", "", [{"x@never.example": "failed"}]),
    ("x@never.example", "FAILURE", [{"x@never.example": "failed"}]),
    ("x@never.example", "SUCCESS,DELAY", []),
    ("x@never.example", "NEVER", []),
    ("x@later.example", "", [{"x@later.example": "delayed"}, {"x@later.example": "failed"}]),
    ("x@later.example", "DELAY", [{"x@later.example": "delayed"}]),
    ("x@later.example", "FAILURE", [{"x@later.example": "failed"}]),
    ("x@later.example", "SUCCESS", []),
    # aliases (§5.2.7): one mailbox behind it is no expansion, several are
    ("office@ours.example", "SUCCESS", [{ONE: "delivered"}]),
    ("office@ours.example", "FAILURE", []),
    ("team@ours.example", "SUCCESS", [{"team@ours.example": "expanded"}]),
    ("team@ours.example", ALL, [{"team@ours.example": "expanded"}]),
    ("team@ours.example", "", []),
    ("team@ours.example", "FAILURE,DELAY", []),
    ("team@ours.example", "NEVER", []),
    ("broken@ours.example", ALL, [{"broken@ours.example": "expanded"}, {"gone@never.example": "failed"}]),
    ("broken@ours.example", "SUCCESS", [{"broken@ours.example": "expanded"}]),
    ("broken@ours.example", "", [{"gone@never.example": "failed"}]),
    ("self@ours.example", "SUCCESS", [{"self@ours.example": "expanded"}]),
]


@pytest.mark.parametrize(("recipient", "notify", "expected"), TABLE)
async def test_the_sender_is_told_what_he_asked_for(
    recipient: str,
    notify: str,
    expected: list[dict[str, str]],
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_post(tmp_path) as post:
        await post.send(f"{recipient} NOTIFY={notify}" if notify else recipient)
        await trio.sleep(12 * HOUR)
        notices = post.notices()
        assert sorted(map(str, (notice.actions() for notice in notices))) == sorted(map(str, expected))
        for received in post.home.messages:  # RFC 3461 §6.1: from nobody, and never answered
            assert received.mail.path.mailbox is None
            assert [rcpt.params.notify.value for rcpt in received.recipients] == [0]  # type: ignore[union-attr]
        totals = await post.server.spool.totals()
        assert (totals.queued, totals.held) == (0, 0)


GONE, FAILED = "gone@never.example", {"gone@never.example": "failed"}
NAMED_TWICE: list[tuple[tuple[str, ...], list[dict[str, str]]]] = [
    ((f"{GONE} NOTIFY=SUCCESS", f"{GONE} NOTIFY=FAILURE"), [FAILED]),
    ((f"{GONE} NOTIFY=NEVER", GONE), [FAILED]),
    ((GONE, f"{GONE} NOTIFY=NEVER"), [FAILED]),
    ((f"{GONE} NOTIFY=SUCCESS", f"{GONE} NOTIFY=DELAY"), []),
    ((f"{GONE} NOTIFY=NEVER", "broken@ours.example"), [FAILED]),
    (("broken@ours.example", f"{GONE} NOTIFY=NEVER"), [FAILED]),
    (("broken@ours.example NOTIFY=NEVER", GONE), [FAILED]),
    (("office@ours.example NOTIFY=NEVER", f"{ONE} NOTIFY=SUCCESS"), [{ONE: "delivered"}]),
    ((f"{ONE} NOTIFY=FAILURE", "office@ours.example NOTIFY=SUCCESS"), [{ONE: "delivered"}]),
]


@pytest.mark.parametrize(("recipients", "expected"), NAMED_TWICE)
async def test_one_who_is_named_twice_is_told_of_once_if_either_asked_for_it(
    recipients: tuple[str, ...],
    expected: list[dict[str, str]],
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_post(tmp_path) as post:
        await post.send(*recipients)
        await trio.sleep(HOUR)
        assert [notice.actions() for notice in post.notices()] == expected


@pytest.mark.parametrize("recipient", ["team@ours.example", ONE, "x@never.example", "x@later.example"])
async def test_nobody_is_told_of_what_nobody_sent(
    recipient: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """RFC 5321 §6.1, RFC 3461 §5.2.4"""
    async with open_post(tmp_path) as post:
        await post.send(f"{recipient} NOTIFY={ALL}", sender="")
        await trio.sleep(30 * HOUR)
        assert post.home.messages == []


async def test_an_expansion_passes_the_rest_of_the_wishes_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_post(tmp_path) as post:
        await post.send(
            f"team@ours.example NOTIFY={ALL} ORCPT=rfc822;list+2Bx@home.example", mail="ENVID=e+2B1 RET=HDRS"
        )
        await trio.sleep(HOUR)
        (notice,) = post.notices()
        block = notice.groups["team@ours.example"]
        assert str(block["Original-Recipient"]) == "rfc822; list+x@home.example"
        assert str(notice.about["Original-Envelope-Id"]) == "e+1"
        assert (str(block["Status"]), block["Diagnostic-Code"]) == ("2.1.5", None)
        assert "one@store.example" not in notice.message.as_string(), (
            "who stands behind it is nobody's business"
        )
        assert notice.original.get_content_type() == "text/rfc822-headers"
        assert len(post.store.messages) == 1
        assert len(post.store.messages[0].recipients) == 2


# --- The fields (RFC 3464 §2, RFC 3461 §6.3) ---------------------------------------------------------

ORIGINALS = [
    ("", None),
    ("ORCPT=rfc822;x@never.example", "rfc822; x@never.example"),
    ("ORCPT=rfc822;a+2Bb+3Dc@old.example", "rfc822; a+b=c@old.example"),  # xtext (RFC 3461 §4)
    ("ORCPT=x400;/C+3Dde/S+3DMeier/", "x400; /C=de/S=Meier/"),
]


@pytest.mark.parametrize(("words", "expected"), ORIGINALS)
@pytest.mark.parametrize("envid", [None, "QQ314159", "a+2Bb+20c"])
async def test_what_the_sender_gave_comes_back(
    words: str,
    expected: str | None,
    envid: str | None,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_post(tmp_path) as post:
        await post.send(f"x@never.example {words}".strip(), mail=f"ENVID={envid}" if envid else "")
        await trio.sleep(HOUR)
        (notice,) = post.notices()
        (block,) = notice.groups.values()
        assert block["Original-Recipient"] == expected
        shown = None if envid is None else envid.replace("+2B", "+").replace("+20", " ")
        assert notice.about["Original-Envelope-Id"] == shown
        assert str(block["Final-Recipient"]) == "rfc822; x@never.example"
        assert str(block["Status"]) == "5.1.1"
        assert str(block["Diagnostic-Code"]) == "smtp; 550 5.1.1 no such user here"
        assert str(block["Remote-MTA"]) == "dns; mx.never.example"
        assert email.utils.parsedate_to_datetime(str(block["Last-Attempt-Date"]))
        assert block["Will-Retry-Until"] is None  # RFC 3464 §2.3.9: of what is delayed only
        assert str(notice.message["To"]) == "ann@home.example"


async def test_a_delay_says_until_when(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_post(tmp_path) as post:
        await post.send("x@later.example")
        await trio.sleep(6 * HOUR)
        (notice,) = post.notices()
        (block,) = notice.groups.values()
        arrival = email.utils.parsedate_to_datetime(str(notice.about["Arrival-Date"]))
        until = email.utils.parsedate_to_datetime(str(block["Will-Retry-Until"]))
        assert (until - arrival).total_seconds() == 10 * HOUR
        assert (str(block["Status"]), str(block["Action"])) == ("4.2.1", "delayed")
        assert str(notice.message["Subject"]).startswith("Delayed")


@pytest.mark.parametrize(
    ("field", "asked", "told"),
    [
        (b"Precedence: list", "", False),
        (b"List-Id: <l.home.example>", "", False),
        (b"Auto-Submitted: auto-generated", "", False),
        (b"Precedence: list", " NOTIFY=DELAY", True),
        (b"X-Precedence: list", "", True),
    ],
)
async def test_lists_and_programs_are_not_told_of_delays_unasked(
    field: bytes, asked: str, told: bool, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_post(tmp_path) as post:
        await post.send(f"x@later.example{asked}", body=field + b"\r\n" + MESSAGE)
        await trio.sleep(6 * HOUR)
        assert [notice.actions() for notice in post.notices()] == (
            [{"x@later.example": "delayed"}] if told else []
        )


# --- The original (RFC 3461 §4.3, RFC 6522 §3) -----------------------------------------------------------

LONG = HEADER + b"\r\n" + (b"x" * 76 + b"\r\n") * 15_000
EIGHT = HEADER + b"Content-Type: text/plain; charset=utf-8\r\n\r\nd\xc3\xa9j\xc3\xa0 vu\r\n"
BINARY_LINE = HEADER + b"\r\n" + b"y" * 1200 + b"\r\n"
PARTS: list[Any] = [
    pytest.param("", MESSAGE, "text/rfc822-headers", id="usual"),
    pytest.param("RET=HDRS", MESSAGE, "text/rfc822-headers", id="headers"),
    pytest.param("RET=FULL", MESSAGE, "message/rfc822", id="full"),
    pytest.param("RET=FULL BODY=8BITMIME", EIGHT, "message/rfc822", id="full-8bit"),
    pytest.param("RET=HDRS BODY=8BITMIME", EIGHT, "text/rfc822-headers", id="headers-8bit"),
    pytest.param("RET=FULL", LONG, "text/rfc822-headers", id="too-large"),
    pytest.param("RET=FULL", BINARY_LINE, "text/rfc822-headers", id="lines-that-cannot-travel"),
]


@pytest.mark.parametrize(("mail", "body", "kind"), PARTS)
async def test_what_of_the_original_comes_back(
    mail: str, body: bytes, kind: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_post(tmp_path) as post:
        await post.send("x@never.example", mail=mail, body=body)
        await trio.sleep(HOUR)
        (notice,) = post.notices()
        raw = post.home.messages[0].content
        assert notice.original.get_content_type() == kind
        returned = notice.original.as_bytes(policy=email.policy.SMTP)
        assert b"Subject: hello" in returned
        assert (body.partition(b"\r\n\r\n")[2][:20] in raw) == (kind == "message/rfc822")
        assert len(raw) < 1_200_000
        announced = post.home.messages[0].mail.params.body_type
        assert raw.isascii() or str(announced) == "8BITMIME"


# --- International mail (RFC 6533) -----------------------------------------------------------------------

UTF8_HEADER = HEADER.replace(b"Subject: hello", "Subject: déjà vu".encode())


@pytest.mark.parametrize(
    ("recipient", "words", "final", "original"),
    [
        ("renée@never.example", "", "utf-8; renée@never.example", None),
        (
            "renée@never.example",
            "ORCPT=utf-8;ren+C3+A9e@never.example",
            "utf-8; renée@never.example",
            None,
        ),
        (
            "renée@never.example",
            r"ORCPT=utf-8;ren\x{E9}e@old.example",
            "utf-8; renée@never.example",
            "utf-8; renée@old.example",
        ),
        ("x@never.example", "", "rfc822; x@never.example", None),
    ],
)
async def test_international_mail_is_told_of_in_global_forms(
    recipient: str,
    words: str,
    final: str,
    original: str | None,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_post(tmp_path) as post:
        await post.send(
            f"{recipient} {words}".strip(),
            mail="BODY=8BITMIME SMTPUTF8 RET=FULL",
            body=UTF8_HEADER + b"\r\nbody\r\n",
        )
        await trio.sleep(HOUR)
        raw = post.home.messages[0].content
        message = email.message_from_bytes(raw, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        _, status, returned = message.iter_parts()
        assert status.get_content_type() == "message/global-delivery-status"
        assert returned.get_content_type() == "message/global"
        assert f"Final-Recipient: {final}\r\n".encode() in raw
        if original is not None:
            assert f"Original-Recipient: {original}\r\n".encode() in raw
        assert "Subject: déjà vu".encode() in raw


@pytest.mark.parametrize("ret", ["FULL", "HDRS"])
async def test_international_mail_is_told_of_also_where_only_seven_bits_pass(
    ret: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """RFC 6533 §4, §6, RFC 6532 §3.5: these types may be encoded."""
    async with open_post(tmp_path) as post:
        post.home.capabilities = Capabilities(pipelining=True)
        post.hops["never"].answers["RCPT"] = Reply.of(550, "5.1.1", "kein Anschluß")
        body = UTF8_HEADER + "\r\nd\u00e9j\u00e0\r\n".encode()
        await post.send("renée@never.example", mail=f"BODY=8BITMIME SMTPUTF8 RET={ret}", body=body)
        await trio.sleep(HOUR)
        (received,) = post.home.messages
        assert received.content.isascii()
        assert received.mail.params.body_type is None
        message = email.message_from_bytes(received.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        text, status, original = (
            quopri.decodestring(part.as_bytes().partition(b"\n\n")[2]).decode()
            for part in message.iter_parts()
        )
        assert "renée@never.example" in text
        assert "Final-Recipient: utf-8; renée@never.example\n" in status
        assert "Diagnostic-Code: smtp; 550 5.1.1 kein Anschluß\n" in status
        assert "Subject: déjà vu\n" in original
        assert ("\n\ndéjà" in original) == (ret == "FULL")
