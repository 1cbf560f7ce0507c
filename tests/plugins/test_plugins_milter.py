"""The milter protocol: what a filter hears, what becomes of its answers, and what an odd one costs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from shipped_bed import MESSAGE, Client, Shipped, entry_of, serving

from elemta.events import MessageAccepted
from elemta.testing import MemoryStream

SERVICE = ("192.0.2.99", 8891)
ZONE = {
    "example.org": {"MX": [(10, "in.example.org")]},
    "in.example.org": {"A": ["192.0.2.25"]},
    "200.2.0.192.in-addr.arpa": {"PTR": ["client.example.net."]},
    "client.example.net": {"A": ["192.0.2.200"]},
}
CONTINUE = b"c"
NO_REPLY = 0xFF080


def text(*words: str) -> bytes:
    return b"".join(word.encode() + b"\0" for word in words)


class Filter:
    """Plays a filter: answers each command as told, and remembers what it heard."""

    def __init__(
        self,
        *,
        steps: int = 0,
        actions: int = 0x1FF & ~2,
        version: int = 6,
        macros: bytes = b"",
        **answers: Any,
    ) -> None:
        self.terms = struct.pack(">III", version, actions, steps) + macros
        self.steps = steps
        self.answers = answers
        """By the letter of the command; a list of packets, or one."""
        self.heard: list[tuple[str, bytes]] = []
        self.macros: dict[str, dict[str, str]] = {}
        self.open = 0

    async def serve(self, stream: MemoryStream) -> None:
        self.open += 1
        try:
            await self.converse(stream)
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1
            await stream.aclose()

    async def converse(self, stream: MemoryStream) -> None:
        buffer = bytearray()
        while True:
            while len(buffer) < 4 or len(buffer) < 4 + int.from_bytes(buffer[:4], "big"):
                piece = await stream.receive_some(65536)
                if not piece:
                    return
                buffer += piece
            size = int.from_bytes(buffer[:4], "big")
            letter, data = chr(buffer[4]), bytes(buffer[5 : 4 + size])
            del buffer[: 4 + size]
            if letter == "D":
                words = data[1:].decode().split("\0")[:-1]
                self.macros.setdefault(chr(data[0]), {}).update(zip(words[::2], words[1::2], strict=True))
                continue
            self.heard.append((letter, data))
            if letter in "AQ":
                continue
            flag = {
                "C": 0x1000,
                "H": 0x2000,
                "M": 0x4000,
                "R": 0x8000,
                "T": 0x10000,
                "L": 0x80,
                "N": 0x40000,
                "B": 0x80000,
            }.get(letter, 0)
            if self.steps & flag:
                continue
            answer = b"O" + self.terms if letter == "O" else self.answers.get(letter, CONTINUE)
            if callable(answer):
                answer = answer(data)
            for packet in answer if isinstance(answer, list) else [answer]:
                await stream.send_all(struct.pack(">I", len(packet)) + packet)

    def letters(self) -> str:
        return "".join(letter for letter, _ in self.heard)

    def all(self, letter: str) -> list[bytes]:
        return [data for each, data in self.heard if each == letter]


def milter(entry: dict[str, Any] | None = None, **config: Any):
    return serving(entry_of("milter", {"address": "192.0.2.99:8891", **config}, **(entry or {})), zone=ZONE)


async def test_a_filter_hears_everything_in_order(autojump_clock):
    peer = Filter()
    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        message = "From: s@example.net\r\nSubject:  two\r\n\tlines\r\n\r\nbody\r\n"
        client = bed.dial()
        await client.hello()
        assert (await client.deliver(message, recipients=("a@example.org", "b@example.org"))).startswith(
            "250"
        )
        assert peer.letters() == "OCHMRRTLLNBEQ"
        assert peer.heard[1][1] == b"client.example.net\x004" + peer.heard[1][1][20:22] + b"192.0.2.200\0"
        assert peer.all("H") == [b"client.example\0"]
        assert peer.all("M") == [b"<s@example.net>\0"]
        assert peer.all("R") == [b"<a@example.org>\0", b"<b@example.org>\0"]
        assert peer.all("L") == [b"From\0s@example.net\0", b"Subject\0 two\n\tlines\0"]
        assert peer.all("B") == [b"body\r\n"]
        assert peer.macros["C"]["j"] == "mx.example.org"
        assert peer.macros["C"]["{client_addr}"] == "192.0.2.200"
        assert peer.macros["C"]["_"] == "client.example.net [192.0.2.200]"
        assert peer.macros["M"]["{mail_addr}"] == "s@example.net"
        assert peer.macros["R"]["{rcpt_addr}"] == "b@example.org"
        assert peer.macros["E"]["i"] == peer.macros["M"]["i"] != ""
        assert bed.failures() == []


async def test_a_filter_hears_only_what_it_wants(autojump_clock):
    peer = Filter(
        steps=0x01 | 0x02 | 0x10 | 0x40 | 0x200 | 0x100000 | NO_REPLY,
        macros=struct.pack(">I", 2) + b"j {mail_addr}\0",
    )
    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        assert (await bed.dial().send()).startswith("250")
        assert peer.letters() == "OMRLLEQ"
        assert peer.all("L")[1] == b"Subject\0 x\0"
        assert set(peer.macros["M"]) == {"j", "{mail_addr}"}


async def test_a_large_body_comes_in_pieces_until_it_is_enough(autojump_clock):
    peer = Filter()
    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        body = ("x" * 70 + "\r\n") * 10_000
        assert (await bed.dial().send("Subject: x\r\n\r\n" + body)).startswith("250")
        assert b"".join(peer.all("B")) == body.encode()
        assert max(map(len, peer.all("B"))) <= 65535
        peer.heard.clear()
        peer.answers["B"] = b"s"
        assert (await bed.dial().send("Subject: x\r\n\r\n" + body)).startswith("250")
        assert len(peer.all("B")) == 1
        assert peer.letters().endswith("BEQ")


async def test_all_changes_are_made(autojump_clock):
    changes = [
        b"p",
        b"h" + text("X-Added", "one\n\ttwo"),
        b"i" + struct.pack(">I", 1) + text("DKIM-Signature", "v=1;\n\tb=abc"),
        b"m" + struct.pack(">I", 2) + text("X-Some", ""),
        b"m" + struct.pack(">I", 1) + text("Subject", "new"),
        b"+" + text("<c@example.org>"),
        b"2" + text("<d@example.org>", "NOTIFY=NEVER"),
        b"-" + text("<a@example.org>"),
        b"e" + text("<other@example.net>", ""),
        CONTINUE,
    ]
    async with milter() as bed:
        bed.network.listen(*SERVICE, Filter(E=changes).serve)
        assert (await bed.dial().send("X-Some: 1\r\nX-Some: 2\r\nX-Some: 3\r\n" + MESSAGE)).startswith("250")
        (accepted,) = bed.running.seen(MessageAccepted)
        assert accepted.sender == "other@example.net"
        assert sorted(accepted.recipients) == ["c@example.org", "d@example.org"]
        head = (await bed.stored()).partition(b"\r\n\r\n")[0]
        assert b"\r\nDKIM-Signature: v=1;\r\n\tb=abc\r\nX-Some: 1\r\nX-Some: 3\r\n" in head
        assert b"\r\nSubject: new\r\n" in head
        assert head.endswith(b"\r\nX-Added: one\r\n\ttwo")


@pytest.mark.parametrize("stage", ["C", "H", "M", "R", "T", "L", "N", "B", "E"])
@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (b"r", "550 5.7.1 Refused by local policy"),
        (b"t", "451 4.7.1 Try again later"),
        (b"y" + text("452 4.2.2 Full up"), "452 4.2.2 Full up"),
        (b"y" + text("550 Not here"), "550 5.7.1 Not here"),
        (b"y" + text("550-5.1.1 One\r\n550 5.1.1 two"), "550 5.1.1 One two"),
        (b"f", "421 4.3.0 mx.example.org Service not available"),
        (b"4", "421 4.3.0 mx.example.org Service not available"),
    ],
)
async def test_a_refusal_counts_at_each_stage(stage: str, answer: bytes, reply: str, autojump_clock):
    peer = Filter(**{stage: answer})
    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        client = bed.dial()
        await client.hello()
        assert await client.deliver() == reply
        assert bed.failures() == []
        await client.stream.aclose()
        await trio.sleep(1)
        assert peer.open == 0


@pytest.mark.parametrize("stage", ["C", "H", "M", "R", "T", "L", "N", "B", "E"])
async def test_what_is_accepted_early_goes_through(stage: str, autojump_clock):
    peer = Filter(**{stage: b"a"})
    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        assert (await bed.dial().send()).startswith("250")
        assert peer.letters().rstrip("Q")[-1] == stage
        assert bed.running.seen(MessageAccepted)


@pytest.mark.parametrize("stage", ["M", "R", "T", "L", "N", "B", "E"])
async def test_what_is_discarded_is_forgotten(stage: str, autojump_clock):
    async with milter() as bed:
        bed.network.listen(*SERVICE, Filter(**{stage: b"d"}).serve)
        assert (await bed.dial().send()).startswith("250")
        assert not bed.running.seen(MessageAccepted)


async def test_a_message_can_be_quarantined(autojump_clock):
    async with milter() as bed:
        bed.network.listen(
            *SERVICE, Filter(E=[b"q" + text("looks odd"), b"h" + text("X-Odd", "yes"), b"a"]).serve
        )
        assert (await bed.dial().send()).startswith("250")
        await trio.sleep(1)
        assert (await bed.running.spool.totals()).held == 1
        assert b"X-Odd: yes" in await bed.stored()


async def test_one_recipient_is_refused_and_the_others_are_not(autojump_clock):
    peer = Filter(R=lambda data: b"r" if b"bad" in data else CONTINUE)
    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        client = bed.dial()
        await client.hello()
        assert (await client.say("MAIL FROM:<s@example.net>")).startswith("250")
        for address, code in (
            ("a@example.org", "250"),
            ("bad@example.org", "550"),
            ("bad@example.org", "550"),
        ):
            assert (await client.say(f"RCPT TO:<{address}>")).startswith(code)
        assert (await client.say("DATA")).startswith("354")
        assert (await client.say(MESSAGE + ".")).startswith("250")
        assert peer.letters() == "OCHMRRRTLLNBEQ"
        assert bed.running.seen(MessageAccepted)[0].recipients == ("a@example.org",)


async def test_one_session_brings_many_messages(autojump_clock):
    peer = Filter()
    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        client = bed.dial()
        await client.hello()
        for _ in range(3):
            assert (await client.deliver()).startswith("250")
        assert (await client.say("MAIL FROM:<s@example.net>")).startswith("250")
        assert (await client.say("RSET")).startswith("250")
        assert (await client.deliver()).startswith("250")
        assert peer.letters() == "OCHMRTLLNBEQ" * 3 + "OCHM" + "OCHMRTLLNBEQ"


async def test_a_conversation_that_got_lost_is_told_again(autojump_clock):
    peer = Filter()
    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        client = bed.dial()
        await client.hello()
        for line in ("MAIL FROM:<s@example.net>", "RCPT TO:<a@example.org>"):
            assert (await client.say(line)).startswith("250")
        assert peer.open == 1
        await trio.sleep(60)
        assert peer.open == 0
        assert (await client.say("RCPT TO:<b@example.org>")).startswith("250")
        await trio.sleep(60)
        assert (await client.say("DATA")).startswith("354")
        assert (await client.say(MESSAGE + ".")).startswith("250")
        assert peer.letters() == "OCHMR" + "OCHMRR" + "OCHMRRTLLNBEQ"


async def test_a_large_message_is_not_shown(autojump_clock):
    peer = Filter(E=b"r")
    async with milter(max_size="1KiB") as bed:
        bed.network.listen(*SERVICE, peer.serve)
        assert (await bed.dial().send(MESSAGE + "x" * 900 + "\r\n" + "y" * 900 + "\r\n")).startswith("250")
        assert peer.letters() == "OCHMRT"
        assert peer.open == 0


# --- Odd filters ----------------------------------------------------------------------------------------------


async def hang_up(stream: MemoryStream) -> None:
    stream.reset()
    await trio.lowlevel.checkpoint()


async def deaf(stream: MemoryStream) -> None:
    await trio.sleep_forever()


async def endless_progress(stream: MemoryStream) -> None:
    try:
        await stream.send_all(struct.pack(">I", 13) + b"O" + struct.pack(">III", 6, 0, 0))
        while True:
            await stream.send_all(struct.pack(">I", 1) + b"p")
            await trio.sleep(0.1)
    except trio.BrokenResourceError:
        pass


def saying(data: bytes):
    async def serve(stream: MemoryStream) -> None:
        try:
            await stream.receive_some(1000)
            await stream.send_all(data)
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass

    return serve


def negotiated(version: int, actions: int, steps: int, more: bytes = b"") -> bytes:
    data = b"O" + struct.pack(">III", version, actions, steps) + more
    return struct.pack(">I", len(data)) + data


def too_many_changes(data: bytes) -> list[bytes]:
    return [b"h" + text("X-A", "b")] * 1001 + [CONTINUE]


def odd() -> Iterator[Any]:
    yield from [None, hang_up, deaf, endless_progress]
    for data in (
        b"", b"SSH-2.0-OpenSSH\r\n", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1z", b"\0\0\0\1c", b"\0\0\0\5O1234",
        negotiated(1, 0, 0), negotiated(7, 0, 0), negotiated(6, 2, 0), negotiated(6, 1 << 20, 0), negotiated(6, 0, 1 << 30),
        negotiated(6, 0, 0, struct.pack(">I", 99) + b"j\0"), negotiated(6, 0, 0, struct.pack(">I", 1) + b"jjj"),
    ):  # fmt: skip
        yield saying(data)
    for answers in (
        {"M": b"s"}, {"M": b"h" + text("X", "y")}, {"M": b"y" + text("250 fine")}, {"M": b"y" + text("nonsense")}, {"M": b"y"},
        {"E": b"h"}, {"E": [b"h" + text("bad name:", "x"), CONTINUE]}, {"E": b"m\0"}, {"E": too_many_changes},
        {"E": [b"h" + text("X-Long", "x" * 9000), CONTINUE]}, {"E": [b"h" + text("X", "y" * 65000)] * 30},
        {"E": b"O"}, {"E": [b"+" + text("no address"), CONTINUE]},
    ):  # fmt: skip
        yield Filter(**answers).serve


@pytest.mark.parametrize("server", list(odd()))
async def test_an_odd_filter_gives_the_declared_verdict_in_time(server, autojump_clock):
    async with milter() as bed:
        if server is not None:
            bed.network.listen(*SERVICE, server)
        client = bed.dial()
        await client.hello()
        began = trio.current_time()
        assert (await client.deliver()).startswith("45")
        assert trio.current_time() - began <= 31
        assert len(bed.failures()) <= 1


async def test_mail_goes_on_without_the_filter_where_that_is_wanted(autojump_clock):
    entry = {"on_error": "continue", "on_timeout": "continue"}
    async with milter(entry) as bed:
        assert (await bed.dial().send()).startswith("250")
        bed.network.listen(*SERVICE, deaf)
        client = bed.dial()
        await client.hello()
        assert (await client.deliver()).startswith("250")


async def test_many_sessions_at_once(autojump_clock):
    peer = Filter()

    async def one(bed: Shipped) -> None:
        client: Client = bed.dial()
        await client.hello()
        for _ in range(3):
            assert (await client.deliver()).startswith("250")

    async with milter() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        async with trio.open_nursery() as nursery:
            for _ in range(15):
                nursery.start_soon(one, bed)
        assert peer.letters().count("E") == 45
        assert peer.open == 0
        assert bed.failures() == []
