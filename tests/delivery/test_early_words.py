"""Words that come before their time: within a large body, within a chunk, behind the reply to another command."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trustme
from delivery_helpers import connected, deliver_one, make_parcel, open_transport, streamed

from elemta.config import RouteTls
from elemta.delivery import ConnectFailed
from elemta.mail import BodyType, Cause, Deferred, Delivered, Failed
from elemta.testing.peers import (
    BODY_OK,
    DATA_OK,
    GREETING,
    LOCKSTEP_HELLO,
    MAIL_OK,
    PIPELINING_HELLO,
    RCPT_OK,
    ScriptedPeer,
)

EXTENSIONS = b"250-peer.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-8BITMIME\r\n"
ROOM = 2000
"""Octets that the network keeps between the two: a peer that does not read holds us up soon."""
LINE = b"x" * 78 + b"\r\n"


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages need not be large to be sent in many pieces."""
    for name, octets in (("CHUNK", 32 * 1024), ("BLOCK", 16 * 1024), ("SMALL", 4 * 1024)):
        monkeypatch.setattr(f"elemta.delivery.connection.{name}", octets)


class Interrupter:
    """Answers each command at once, and says its word after so many octets of the message."""

    def __init__(
        self, word: bytes = b"", *, after: int = 0, goes_on: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self.word, self.after, self.goes_on, self.tls = word, after, goes_on, tls
        self.taken = 0
        """Octets of the message."""
        self._buffer = b""

    async def serve(self, stream: Any) -> None:
        await stream.send_all(b"220 peer.example ESMTP\r\n")
        try:
            await self._talk(stream)
        except trio.BrokenResourceError:
            pass
        await trio.aclose_forcefully(stream)

    async def _talk(self, stream: Any) -> None:
        while True:
            verb, _, rest = (await self._line(stream)).upper().partition(b" ")
            match verb:
                case b"EHLO" if self.tls is not None and not isinstance(stream, trio.SSLStream):
                    await stream.send_all(EXTENSIONS + b"250 STARTTLS\r\n")
                case b"EHLO":
                    await stream.send_all(EXTENSIONS + b"250 SIZE\r\n")
                case b"STARTTLS":
                    assert self.tls is not None
                    await stream.send_all(b"220 go\r\n")
                    stream = trio.SSLStream(stream, self.tls, server_side=True, https_compatible=True)
                case b"BDAT":
                    await self._take(stream, int(rest.split()[0]))
                    await stream.send_all(b"250 2.0.0 taken\r\n")
                case b"DATA":
                    await stream.send_all(b"354 go ahead\r\n")
                    if self.word:
                        await self._take(stream, self.after + 1)
                    while await self._line(stream) != b".":
                        pass
                    await stream.send_all(b"250 2.0.0 taken\r\n")
                case _:
                    await stream.send_all(b"250 2.0.0 all is well, says this server at some length\r\n")

    async def _take(self, stream: Any, count: int) -> None:
        """Read so much of the message; say the word when it is time."""
        if self.word and self.taken + count > self.after:
            early = max(0, self.after - self.taken)
            await self._read(stream, early)
            await stream.send_all(self.word)
            if not self.goes_on:
                await trio.sleep_forever()
            count -= early
        await self._read(stream, count)

    async def _read(self, stream: Any, count: int) -> None:
        while len(self._buffer) < count:
            await self._fill(stream, count - len(self._buffer))
        self._buffer = self._buffer[count:]
        self.taken += count

    async def _line(self, stream: Any) -> bytes:
        while b"\r\n" not in self._buffer:
            await self._fill(stream, ROOM)
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def _fill(self, stream: Any, most: int) -> None:
        data = await stream.receive_some(most)
        if not data:
            raise trio.BrokenResourceError
        self._buffer += data


@asynccontextmanager
async def meeting(peer: Any, **more: Any) -> AsyncIterator[Any]:
    with trio.fail_after(3600):
        async with connected(peer, capacity=ROOM, **more) as connection:
            yield connection


FORMS = {
    # how it is sent, octets of the message, octets after which the peer has heard enough
    "dot": (None, 60_000, 30_000),
    "last block": (None, 14_000, 3000),
    "chunk": (BodyType.BINARY_MIME, 50_000, 3000),
    "second chunk": (BodyType.BINARY_MIME, 80_000, 36_000),
    "last chunk": (BodyType.BINARY_MIME, 14_000, 3000),
}
WORDS = {
    b"552 5.3.4 too big\r\n": Failed,
    b"451-4.3.0 no\r\n451 4.3.0 room\r\n": Deferred,
    b"421 4.3.2 going down\r\n": Deferred,
}


@pytest.mark.parametrize("goes_on", [False, True], ids=["deaf", "reading"])
@pytest.mark.parametrize("word", WORDS, ids=["5yz", "4yz", "421"])
@pytest.mark.parametrize("form", FORMS)
async def test_a_refusal_within_the_message_counts_at_once(
    form: str, word: bytes, goes_on: bool, autojump_clock: trio.testing.MockClock
) -> None:
    body_type, size, after = FORMS[form]
    content = streamed(b"Subject: y\r\n\r\n", *[LINE] * (size // len(LINE)))
    peer = Interrupter(word, after=after, goes_on=goes_on)
    async with meeting(peer) as connection:
        start = trio.current_time()
        outcome = await deliver_one(connection, content=content, body_type=body_type or BodyType.SEVEN_BIT)
        assert trio.current_time() == start
        assert not connection.usable
    assert isinstance(outcome, WORDS[word])
    assert (outcome.cause, outcome.from_remote) == (Cause.REMOTE_REPLY, True)
    assert outcome.reply.code == int(word[:3])
    assert peer.taken < after + 40_000  # what is refused is not sent to its end


@pytest.mark.parametrize("form", FORMS)
async def test_consent_within_the_message_is_none(form: str, autojump_clock: trio.testing.MockClock) -> None:
    body_type, size, after = FORMS[form]
    content = streamed(b"Subject: y\r\n\r\n", *[LINE] * (size // len(LINE)))
    async with meeting(Interrupter(b"250 2.0.0 taken\r\n", after=after, goes_on=True)) as connection:
        outcome = await deliver_one(connection, content=content, body_type=body_type or BodyType.SEVEN_BIT)
        assert not connection.usable
    assert isinstance(outcome, Deferred)
    last = form.startswith("last")
    assert outcome.cause is (Cause.UNKNOWN_AFTER_DOT if last else Cause.CONNECTION_LOST)


@pytest.mark.parametrize("form", FORMS)
async def test_a_peer_that_waits_for_the_end_takes_it(
    form: str, autojump_clock: trio.testing.MockClock
) -> None:
    body_type, size, _ = FORMS[form]
    content = streamed(b"Subject: y\r\n\r\n", *[LINE] * (size // len(LINE)))
    async with meeting(Interrupter()) as connection:
        for _ in range(2):
            outcome = await deliver_one(
                connection, content=content, body_type=body_type or BodyType.SEVEN_BIT
            )
            assert isinstance(outcome, Delivered)
            assert connection.usable


@pytest.mark.parametrize("form", ["dot", "last block", "chunk"])
async def test_a_refusal_within_the_message_counts_under_tls(
    form: str, autojump_clock: trio.testing.MockClock
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("peer.example").configure_cert(context)
    body_type, size, after = FORMS[form]
    content = streamed(b"Subject: y\r\n\r\n", *[LINE] * (size // len(LINE)))
    peer = Interrupter(b"552 5.3.4 too big\r\n", after=after, tls=context)
    async with meeting(peer, tls=RouteTls.OPPORTUNISTIC) as connection:
        assert connection.tls is not None
        outcome = await deliver_one(connection, content=content, body_type=body_type or BodyType.SEVEN_BIT)
    assert isinstance(outcome, Failed)
    assert str(outcome.reply) == "552 5.3.4 too big"


async def test_replies_are_read_while_many_recipients_are_named(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """RFC 2920 §3.1: a peer that cannot get rid of its replies reads no more commands."""
    people = [f"user-{number}@example.org" for number in range(500)]
    async with meeting(Interrupter()) as connection:
        outcomes = await connection.deliver(make_parcel(*people))
        assert connection.usable
    assert len(outcomes) == len(people)
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)


async def test_a_peer_that_talks_for_ever_while_recipients_are_named_is_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Talker(Interrupter):
        async def _talk(self, stream: Any) -> None:
            await self._line(stream)
            await stream.send_all(EXTENSIONS + b"250 SIZE\r\n")
            await self._line(stream)
            while True:
                await stream.send_all(b"250-and more\r\n" * 1000)

    people = [f"user-{number}@example.org" for number in range(500)]
    async with meeting(Talker()) as connection:
        [outcome] = {*await connection.deliver(make_parcel(*people))}
        assert not connection.usable
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.TIMEOUT


# --- One reply too many --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["hello", "mail", "first recipient", "second recipient"])
async def test_a_reply_too_many_never_counts_for_the_next_command(
    stage: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Else the refusal of one recipient is taken for that of the message, and of all of them."""
    nobody = (RCPT_OK[0], b"550 5.1.1 nobody\r\n")
    steps = {"hello": LOCKSTEP_HELLO, "mail": MAIL_OK, "first recipient": RCPT_OK}
    steps |= {"second recipient": RCPT_OK, "third recipient": nobody, "data": DATA_OK, "dot": BODY_OK}
    expected, answer = steps[stage]
    assert isinstance(answer, bytes)
    steps[stage] = expected, answer + b"250 2.0.0 once more\r\n"
    people = make_parcel("one@example.org", "two@example.org", "three@example.org")
    async with meeting(ScriptedPeer(GREETING, *steps.values())) as connection:
        outcomes = await connection.deliver(people)
        assert not connection.usable
    assert all(isinstance(outcome, Deferred) for outcome in outcomes)
    assert {outcome.cause for outcome in outcomes} == {Cause.PROTOCOL}


OK, AGAIN, NOBODY = b"250 2.0.0 ok\r\n", b"250 2.0.0 once more\r\n", b"550 5.1.1 nobody\r\n"


@pytest.mark.parametrize(
    "said",
    [
        OK + AGAIN + OK + NOBODY + b"354 go ahead\r\n",
        OK + AGAIN + NOBODY + OK + b"354 go ahead\r\n",
        OK + OK + AGAIN + NOBODY + b"354 go ahead\r\n",
    ],
)
async def test_a_reply_too_many_to_what_was_pipelined_fails_nobody(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    silent = [(command, b"") for command in (MAIL_OK[0], RCPT_OK[0], RCPT_OK[0])]
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *silent, (DATA_OK[0], said))
    async with meeting(peer) as connection:
        outcomes = await connection.deliver(make_parcel("one@example.org", "two@example.org"))
        assert not connection.usable
    assert all(isinstance(outcome, Deferred) for outcome in outcomes)
    assert {outcome.cause for outcome in outcomes} == {Cause.PROTOCOL}
    assert peer.bodies == []


async def test_a_refusal_of_data_counts_also_where_the_peer_then_goes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    said = OK + OK + NOBODY + b"554 5.7.1 no\r\n421 4.3.2 bye\r\n"
    silent = [(command, b"") for command in (MAIL_OK[0], RCPT_OK[0], RCPT_OK[0])]
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *silent, (DATA_OK[0], said))
    async with meeting(peer) as connection:
        outcomes = await connection.deliver(make_parcel("one@example.org", "two@example.org"))
        assert not connection.usable
    assert [str(outcome.reply) for outcome in outcomes] == ["554 5.7.1 no", "550 5.1.1 nobody"]


async def test_a_greeting_too_many_ends_the_session(autojump_clock: trio.testing.MockClock) -> None:
    peer = ScriptedPeer((GREETING[0], b"220 one\r\n220 two\r\n"), LOCKSTEP_HELLO)
    async with open_transport(peer) as transport:
        with pytest.raises(ConnectFailed) as caught:
            await transport.connect()
    assert isinstance(caught.value.outcome, Deferred)
    assert caught.value.outcome.cause is Cause.PROTOCOL
    assert peer.commands == []


@pytest.mark.parametrize("hello", [PIPELINING_HELLO, LOCKSTEP_HELLO], ids=["pipelining", "lockstep"])
async def test_421_behind_a_good_reply_ends_the_session_with_its_word(
    hello: Any, autojump_clock: trio.testing.MockClock
) -> None:
    peer = ScriptedPeer(GREETING, hello, (b"MAIL", b"250 2.1.0 ok\r\n421 4.3.2 going down\r\n"))
    async with meeting(peer) as connection:
        outcome = await deliver_one(connection)
        assert not connection.usable
    assert isinstance(outcome, Deferred)
    assert str(outcome.reply) == "421 4.3.2 going down"


# --- What is said to chunks (RFC 3030 §2) ------------------------------------------------------------------


class ChunkPeer(Interrupter):
    """Takes each chunk whole and answers it with the next of its words; None: closes, "": says nothing."""

    def __init__(self, *words: bytes | None) -> None:
        super().__init__()
        self.words = list(words)
        self.chunks = 0

    async def _talk(self, stream: Any) -> None:
        while True:
            verb, _, rest = (await self._line(stream)).upper().partition(b" ")
            if verb == b"EHLO":
                await stream.send_all(EXTENSIONS + b"250 SIZE\r\n")
                continue
            if verb != b"BDAT":
                assert verb in (b"MAIL", b"RCPT", b"RSET", b"QUIT"), verb
                await stream.send_all(b"250 2.0.0 ok\r\n")
                continue
            await self._read(stream, int(rest.split()[0]))
            self.chunks += 1
            word = self.words.pop(0)
            if word is None:
                return
            if not word:
                await trio.sleep_forever()
            await stream.send_all(word)


TAKEN = b"250 2.0.0 taken\r\n"
TO_A_CHUNK: dict[str, tuple[bytes | None, str, bool]] = {
    # what is said, the outcome (a code of the peer's, or a cause of ours), whether the session is of use behind the last
    "4yz": (b"452 4.3.1 full\r\n", "452", True),
    "5yz": (b"552 5.3.4 too big\r\n", "552", True),
    "503": (b"503 5.5.1 no chunks here\r\n", "503", True),
    "421": (b"421 4.3.2 bye\r\n", "421", False),
    "354": (b"354 go ahead\r\n", "protocol", False),
    "lost": (None, "connection-lost", False),
    "stall": (b"", "timeout", False),
    "garbage": (b"SSH-2.0\r\n", "protocol", False),
    "mixed": (b"250-one\r\n451 two\r\n", "protocol", False),
    "twice": (TAKEN * 2, "protocol", False),
}


@pytest.mark.parametrize("which", ["first", "second", "last"])
@pytest.mark.parametrize("case", TO_A_CHUNK)
async def test_each_word_to_a_chunk(case: str, which: str, autojump_clock: trio.testing.MockClock) -> None:
    word, expected, usable = TO_A_CHUNK[case]
    before = {"first": 0, "second": 1, "last": 2}[which]
    content = streamed(b"Subject: y\r\n\r\n", *[LINE] * (80_000 // len(LINE)))
    peer = ChunkPeer(*[TAKEN] * before, word)
    async with meeting(peer) as connection:
        outcome = await deliver_one(connection, content=content, body_type=BodyType.BINARY_MIME)
        assert connection.usable == (usable and which == "last")
    assert peer.chunks == before + 1  # none is sent behind one that was refused
    if which == "last":
        if case == "twice":  # the message is taken, the session is out of step
            assert isinstance(outcome, Delivered)
            return
        expected = expected if expected.isdecimal() else "unknown-after-dot"
    found = str(outcome.reply.code) if outcome.from_remote else str(outcome.cause)
    assert found == expected
