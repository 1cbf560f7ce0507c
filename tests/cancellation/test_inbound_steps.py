"""Something goes wrong at step k of a session, for each k: a hang, a lost connection, a cancel, a bug.

A step is a call of the stream or the spool. Whatever happens at it, afterwards: no message was
acknowledged that is not stored; none is stored and not acknowledged except where the reply itself was
lost; each draft is either kept by the spool or discarded; no session and no place is left over.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import attrs
import pytest
import trio
from inbound_bed import STRANGER, Bed, Client, FakeSpool, make_config, open_bed

from elemta.events import MessageAccepted, SessionClosed, SessionOpened
from elemta.spool import SpoolFull, SpoolUnavailable
from elemta.testing.network import MemoryStream, memory_connection

DIALOGUE = (
    (b"EHLO x\r\n", 1),
    (b"MAIL FROM:<a@else.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\n", 3),
    (b"Subject: 1\r\n", 0),
    (b"\r\n.\r\n", 1),
    (b"MAIL FROM:<a@else.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\n", 3),
    (b"Subject: 2\r\n\r\n.\r\nQUIT\r\n", 2),
)
"""What the client sends, and how many replies it waits for."""
STEPS = 24
"""More than the dialogue has; the last test of each kind shows that nothing is left out."""


@attrs.define
class Fault:
    """Strikes at the k-th step, once."""

    number: int
    strike: Callable[[str], Awaitable[None]]
    steps: list[str] = attrs.field(factory=list)
    where: str = ""

    async def step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) == self.number:
            self.where = name
            await self.strike(name)


class FaultyStream(trio.abc.Stream):
    """Each call is a step, before and after what it does."""

    def __init__(self, stream: MemoryStream, fault: Fault) -> None:
        self.stream = stream
        self.fault = fault
        self.peer_address = stream.peer_address

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.fault.step("send")
        await self.stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self.fault.step("receive")
        return await self.stream.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError("not used")

    async def aclose(self) -> None:
        await self.stream.aclose()


async def talk(client: Client, acknowledged: list[str]) -> None:
    """Hold the dialogue as long as the server does; collect the ids that it acknowledged."""

    async def read() -> bool:
        reply = await client.reply()
        if "queued as " in reply:
            acknowledged.append(reply.rpartition(" ")[2])
        return bool(reply)

    with suppress(trio.BrokenResourceError):
        await read()
        for data, replies in DIALOGUE:
            await client.send(data)
            for _ in range(replies):
                if not await read():
                    return
    while await read():
        pass


async def run(fault: Fault, acknowledged: list[str], *, drain_after: float | None = None) -> Bed:
    spool = FakeSpool()

    def on_step(name: str) -> Awaitable[None] | None:
        return None if name == "draft" else fault.step(name)

    spool.on_step = on_step
    config = make_config(timeouts={"final_reply": 30.0})
    async with open_bed(config, spool=spool, cancel=False) as bed:
        ours, theirs = memory_connection((STRANGER, 1), ("192.0.2.1", 25))
        bed.listener.put(FaultyStream(theirs, fault))
        bed.nursery.start_soon(talk, Client(ours), acknowledged)
        if drain_after is not None:
            await trio.sleep(drain_after)
            bed.drain.begin("test", 25, 5)
    return bed


def check(bed: Bed, acknowledged: list[str], *, reply_may_be_lost: bool) -> None:
    stored = set(bed.spool.stored)
    assert set(acknowledged) <= stored
    if not reply_may_be_lost:
        assert set(acknowledged) == stored
    for draft in bed.spool.drafts:
        assert draft.state == ("kept" if draft.message in stored else "discarded")
    assert {event.message for event in bed.seen(MessageAccepted)} == stored
    assert len(bed.seen(SessionClosed)) == len(bed.seen(SessionOpened))
    assert bed.listeners.sessions == ()
    assert bed.listeners.statistics().sessions.sessions == 0


@pytest.mark.parametrize("number", range(1, STEPS))
async def test_a_hang_at_step_k_is_ended_by_the_drain(autojump_clock, number: int):
    async def hang(name: str) -> None:
        # A decision of the spool always comes (TRIO 3.4), though perhaps after every deadline
        await (trio.sleep(100) if name == "decide" else trio.sleep_forever())

    fault, acknowledged = Fault(number, hang), []
    bed = await run(fault, acknowledged, drain_after=1)
    check(bed, acknowledged, reply_may_be_lost=fault.where == "send")


@pytest.mark.parametrize("number", range(1, STEPS))
async def test_a_hang_at_step_k_ends_by_its_own_deadline(autojump_clock, number: int):
    async def hang(name: str) -> None:
        await (trio.sleep(100) if name == "decide" else trio.sleep_forever())

    fault, acknowledged = Fault(number, hang), []
    bed = await run(fault, acknowledged, drain_after=10_000)
    assert bed.seen(SessionClosed)[0].seconds < 7200 + 60
    check(bed, acknowledged, reply_may_be_lost=fault.where == "send")


@pytest.mark.parametrize("number", range(1, STEPS))
async def test_a_stop_at_step_k_lets_what_is_under_way_finish(autojump_clock, number: int):
    holder: list[Bed] = []

    async def stop(name: str) -> None:
        holder[0].drain.begin("test", 25, 5)
        await trio.lowlevel.checkpoint()

    spool = FakeSpool()
    fault, acknowledged = Fault(number, stop), []
    spool.on_step = lambda name: None if name == "draft" else fault.step(name)
    async with open_bed(spool=spool, cancel=False) as bed:
        holder.append(bed)
        ours, theirs = memory_connection((STRANGER, 1), ("192.0.2.1", 25))
        bed.listener.put(FaultyStream(theirs, fault))
        bed.nursery.start_soon(talk, Client(ours), acknowledged)
    check(bed, acknowledged, reply_may_be_lost=False)


@pytest.mark.parametrize("number", range(1, STEPS))
async def test_a_cancel_of_everything_at_step_k_eats_no_250(autojump_clock, number: int):
    spool = FakeSpool()
    acknowledged: list[str] = []
    with trio.CancelScope() as everything:

        async def cancel(name: str) -> None:
            everything.cancel()

        fault = Fault(number, cancel)
        spool.on_step = lambda name: None if name == "draft" else fault.step(name)
        async with trio.open_nursery() as clients:
            # The client stands outside: it sees what the server still said.
            clients.cancel_scope.shield = True
            clients.cancel_scope.deadline = trio.current_time() + 1000
            ours, theirs = memory_connection((STRANGER, 1), ("192.0.2.1", 25))
            clients.start_soon(talk, Client(ours), acknowledged)
            with trio.CancelScope() as server:
                everything = server
                async with open_bed(spool=spool, cancel=False) as bed:
                    bed.listener.put(FaultyStream(theirs, fault))
    check(bed, acknowledged, reply_may_be_lost=False)


@pytest.mark.parametrize("number", range(1, STEPS))
@pytest.mark.parametrize("kind", ["lost", "bug", "full", "unavailable"])
async def test_an_error_at_step_k_leaves_a_consistent_state(autojump_clock, number: int, kind: str):
    errors = {
        "lost": trio.BrokenResourceError("connection reset by peer"),
        "bug": RuntimeError("bug"),
        "full": SpoolFull(),
        "unavailable": SpoolUnavailable(),
    }

    async def fail(name: str) -> None:
        of_stream = name in ("send", "receive")
        if of_stream is (kind == "lost") or kind == "bug":
            raise errors[kind]

    fault, acknowledged = Fault(number, fail), []
    bed = await run(fault, acknowledged, drain_after=10)
    check(bed, acknowledged, reply_may_be_lost=fault.where == "send")


async def test_the_steps_cover_the_whole_dialogue(autojump_clock):
    async def nothing(name: str) -> None:
        pass

    fault, acknowledged = Fault(0, nothing), []
    bed = await run(fault, acknowledged, drain_after=10)
    check(bed, acknowledged, reply_may_be_lost=False)
    assert len(acknowledged) == 2
    assert len(fault.steps) < STEPS
    assert set(fault.steps) == {"send", "receive", "write", "submit", "decide"}
