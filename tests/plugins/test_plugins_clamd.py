"""clamd: pieces as they come, the whole message where that fails, and what an odd server costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from shipped_bed import MESSAGE, Client, Shipped, entry_of, serving

from elemta.testing import MemoryStream

SERVICE = ("192.0.2.99", 3310)
ZONE = {"example.org": {"MX": [(10, "in.example.org")]}, "in.example.org": {"A": ["192.0.2.25"]}}
LARGE = MESSAGE + ("x" * 70 + "\r\n") * 5000


class Clamd:
    """Plays clamd: reads streams, and answers each."""

    def __init__(self, answer: bytes = b"stream: OK\0") -> None:
        self.answer = answer
        self.streams: list[bytes] = []
        self.open = 0
        self.before_end: list[int] = []
        """How many octets had come when the connection was a second old."""

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

        async def read(size: int) -> bytes:
            while len(buffer) < size:
                piece = await stream.receive_some(65536)
                if not piece:
                    raise trio.BrokenResourceError
                buffer.extend(piece)
            data = bytes(buffer[:size])
            del buffer[:size]
            return data

        assert await read(10) == b"zINSTREAM\0"
        self.streams.append(b"")
        number = len(self.streams) - 1
        while size := int.from_bytes(await read(4), "big"):
            self.streams[number] += await read(size)
        await stream.send_all(self.answer)


def clamd(entry: dict[str, Any] | None = None, **config: Any):
    return serving(entry_of("clamd", {"address": "192.0.2.99:3310", **config}, **(entry or {})), zone=ZONE)


async def test_a_message_is_sent_while_it_is_received(autojump_clock):
    peer = Clamd()
    async with clamd() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        client = bed.dial()
        await client.hello()
        for line in ("MAIL FROM:<s@example.net>", "RCPT TO:<a@example.org>", "DATA"):
            assert (await client.say(line))[0] in "23"
        await client.stream.send_all(LARGE.encode())
        await trio.sleep(1)
        (seen,) = peer.streams
        assert len(seen) >= len(LARGE) - 2  # what could be part of the end waits
        assert (await client.say(".")).startswith("250")
        assert peer.streams == [LARGE.encode()]
        assert bed.metrics() == {"clean": 1}
        assert peer.open == 0


@pytest.mark.parametrize(
    ("found", "reply", "held"),
    [
        ("reject", "554 5.7.1 The message has a virus (Eicar-Test)", 0),
        ("defer", "451 4.7.1", 0),
        ("discard", "250", 0),
        ("quarantine", "250", 1),
        ("hold", "250", 1),
        ("tag", "250", 0),
    ],
)
async def test_a_virus_is_dealt_with_as_the_settings_say(found: str, reply: str, held: int, autojump_clock):
    async with clamd(found=found) as bed:
        bed.network.listen(*SERVICE, Clamd(b"stream: Eicar-Test FOUND\0").serve)
        assert (await bed.dial().send("X-Virus: none\r\n" + MESSAGE)).startswith(reply)
        await trio.sleep(1)
        assert (await bed.running.spool.totals()).held == held
        if found in ("tag", "quarantine", "hold"):
            assert b"\r\nX-Virus: Eicar-Test\r\n" in await bed.stored()
        assert bed.metrics()["found"] == 1


async def test_some_findings_are_no_reason(autojump_clock):
    async with clamd(ignore=["PUA.*"]) as bed:
        bed.network.listen(*SERVICE, Clamd(b"stream: PUA.Win.Packer FOUND\0").serve)
        assert (await bed.dial().send("X-Virus: none\r\n" + MESSAGE)).startswith("250")
        assert bed.metrics() == {"ignored": 1}
        assert b"X-Virus" not in await bed.stored()


async def test_what_a_client_left_undone_is_no_part_of_the_next_message(autojump_clock):
    peer = Clamd()
    async with clamd() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        client = bed.dial()
        await client.hello()
        part = "Subject: x\r\n\r\nVIRUS\r\n"
        for line in (
            "MAIL FROM:<s@example.net>",
            "RCPT TO:<a@example.org>",
            f"BDAT {len(part)}\r\n{part[:-2]}",
        ):
            assert (await client.say(line))[0] == "2"
        assert (await client.say("RSET"))[0] == "2"
        assert (await client.deliver()).startswith("250")
        assert peer.streams == [part.encode(), MESSAGE.encode()]
        await client.stream.aclose()
        await trio.sleep(1)
        assert peer.open == 0


async def test_a_client_that_vanishes_leaves_no_connection(autojump_clock):
    peer = Clamd()
    async with clamd() as bed:
        bed.network.listen(*SERVICE, peer.serve)
        await begin(bed.dial())
        await trio.sleep(1)
        assert peer.open == 0


async def begin(client: Client, *, leave: bool = True) -> None:
    await client.hello()
    for line in ("MAIL FROM:<s@example.net>", "RCPT TO:<a@example.org>", "DATA"):
        await client.say(line)
    await client.stream.send_all(b"Subject: x\r\n\r\nfirst\r\n")
    await trio.sleep(0.1)
    if leave:
        client.stream.reset()


async def test_slow_clients_keep_no_thread_of_clamd(autojump_clock):
    peer = Clamd()
    async with clamd(streams=2) as bed:
        bed.network.listen(*SERVICE, peer.serve)
        clients = [bed.dial() for _ in range(3)]
        for each in clients:
            await begin(each, leave=False)
        assert peer.open == 2
        await trio.sleep(30)
        assert peer.open == 0
        for each in clients:
            assert (await each.say("body\r\n.")).startswith("250")
        assert peer.streams[-3:] == [b"Subject: x\r\n\r\nfirst\r\nbody\r\n"] * 3
        assert bed.metrics() == {"not streamed": 3, "clean": 3}


async def test_a_message_that_is_too_large_is_not_looked_at(autojump_clock):
    peer = Clamd(b"stream: Eicar FOUND\0")
    async with clamd(max_size="64KiB") as bed:
        bed.network.listen(*SERVICE, peer.serve)
        assert (await bed.dial().send(LARGE)).startswith("250")
        assert bed.metrics() == {"not streamed": 1, "too large": 1}
        assert peer.open == 0


async def test_a_large_message_is_read_from_its_file_where_the_first_way_failed(autojump_clock):
    peer = Clamd()

    async def once(stream: MemoryStream) -> None:
        bed.network.listen(*SERVICE, peer.serve)
        await stream.receive_some(30_000)
        stream.reset()

    async with clamd() as bed:
        bed.network.listen(*SERVICE, once)
        assert (await bed.dial().send(LARGE)).startswith("250")
        assert peer.streams == [LARGE.encode()]
        assert bed.failures() == []


# --- Odd servers ----------------------------------------------------------------------------------------------


async def hang_up(stream: MemoryStream) -> None:
    stream.reset()
    await trio.lowlevel.checkpoint()


async def silent(stream: MemoryStream) -> None:
    try:
        while await stream.receive_some(65536):
            pass
    except trio.BrokenResourceError:
        pass
    await trio.sleep_forever()


async def deaf(stream: MemoryStream) -> None:
    await trio.sleep_forever()


async def endless(stream: MemoryStream) -> None:
    try:
        while True:
            await stream.send_all(b"stream: OK " * 1000)
    except trio.BrokenResourceError:
        pass


async def dripping(stream: MemoryStream) -> None:
    try:
        while True:
            await stream.send_all(b"x")
            await trio.sleep(1)
    except trio.BrokenResourceError:
        pass


def garbage(text: bytes) -> Callable[[MemoryStream], Awaitable[None]]:
    return Clamd(text).serve


@pytest.mark.parametrize(
    "server",
    [
        None, hang_up, silent, deaf, endless, dripping, garbage(b"\0"), garbage(b"stream: OK"), garbage(b"stream: FOUND\0"),
        garbage(b"stream: OK\0stream: OK\0"), garbage(b"INSTREAM size limit exceeded. ERROR\0"), garbage(b"\xff" * 99 + b"\0"),
        garbage(b"stream: a b FOUND\0"), garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n\0"), garbage(b"x" * 5000 + b"\0"),
        garbage(b"stream: " + b"x" * 300 + b" FOUND\0"), garbage(b"stream: Evil\r\n250 FOUND\0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("verdict", "reply"), [("defer", "451 4.3.0"), ("continue", "250")])
@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
async def test_an_odd_server_gives_the_declared_verdict_in_time(
    server, verdict: str, reply: str, message: str, autojump_clock
):
    async with clamd(entry={"on_error": verdict, "on_timeout": verdict}) as bed:
        if server is not None:
            bed.network.listen(*SERVICE, server)
        began = trio.current_time()
        assert (await bed.dial().send(message)).startswith(reply)
        assert trio.current_time() - began <= 70
        assert len(bed.failures()) == 1, bed.failures()


async def test_the_address_may_be_a_socket(autojump_clock):
    peer = Clamd()
    async with serving(entry_of("clamd"), zone=ZONE) as bed:
        bed.network.listen_local("/run/clamav/clamd.ctl", peer.serve)
        assert (await bed.dial().send()).startswith("250")
        assert peer.streams == [MESSAGE.encode()]


async def test_many_at_once(autojump_clock):
    peer = Clamd()

    async def one(bed: Shipped) -> None:
        assert (await bed.dial().send(LARGE)).startswith("250")

    async with clamd(streams=3) as bed:
        bed.network.listen(*SERVICE, peer.serve)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one, bed)
        assert bed.metrics()["clean"] == 20
        assert peer.streams.count(LARGE.encode()) == 20
        assert peer.open == 0
