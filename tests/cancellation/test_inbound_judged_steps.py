"""The same for a session with accounts, policy and chunks: something goes wrong at step k, for each k."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from inbound_bed import STRANGER, Bed, Client, FakeSpool, make_config, open_bed
from inbound_fakes import PLAIN_ALICE, FakeAuthenticator, FakeExchange, FakeGate
from test_inbound_steps import Fault, FaultyStream, check

from elemta.config import ListenerAuth, ListenerRole
from elemta.policy import Client as Dossier
from elemta.policy import Refusal
from elemta.testing.network import memory_connection

DIALOGUE = (
    (b"EHLO x\r\n", 1),
    (b"AUTH PLAIN\r\n", 1),
    (f"{PLAIN_ALICE}\r\n".encode(), 1),
    (b"MAIL FROM:<alice@ours.example>\r\nRCPT TO:<b@ours.example>\r\nRCPT TO:<c@ours.example>\r\n", 3),
    (b"BDAT 10\r\nFrom: a\r\n\r", 1),
    (b"BDAT 7 LAST\r\n\ntext\r\n", 1),
    (b"MAIL FROM:<alice@ours.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\n", 3),
    (b"From: a\r\n\r\n.\r\nQUIT\r\n", 2),
)
STEPS = 45
CONFIG = make_config(role=ListenerRole.SUBMISSION, listener={"auth": ListenerAuth.REQUIRED})


class FaultyExchange(FakeExchange):
    fault: Fault

    async def step(self, response: bytes | None) -> Any:
        await self.fault.step("auth")
        return await super().step(response)


class FaultyAuthenticator(FakeAuthenticator):
    fault: Fault

    def begin(self, mechanism: str, client: Any) -> FaultyExchange:
        super().begin(mechanism, client)
        exchange = FaultyExchange(mechanism, self)
        exchange.fault = self.fault
        return exchange


class FaultyGate(FakeGate):
    fault: Fault

    async def _step(self, client: Dossier, step: str, *what: Any) -> Refusal | None:
        await self.fault.step(step)
        return await super()._step(client, step, *what)


async def talk(client: Client, acknowledged: list[str]) -> None:
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


async def run(
    fault: Fault, acknowledged: list[str], after: Callable[[Bed], Awaitable[None]], cancel: bool = False
) -> Bed:
    spool = FakeSpool()
    spool.on_step = lambda name: None if name == "draft" else fault.step(name)
    authenticator, gate = FaultyAuthenticator(), FaultyGate()
    authenticator.fault = gate.fault = fault
    async with trio.open_nursery() as clients:
        clients.cancel_scope.shield = True  # it sees what the server still said
        clients.cancel_scope.deadline = trio.current_time() + 20_000
        async with open_bed(
            CONFIG, spool=spool, cancel=cancel, authenticator=authenticator, gate=gate
        ) as bed:
            ours, theirs = memory_connection((STRANGER, 1), ("192.0.2.1", 25))
            bed.listener.put(FaultyStream(theirs, fault))
            clients.start_soon(talk, Client(ours), acknowledged)
            await after(bed)
    return bed


async def stop_soon(bed: Bed) -> None:
    await trio.sleep(1)
    bed.drain.begin("test", 25, 5)


async def stop_late(bed: Bed) -> None:
    await trio.sleep(10_000)
    bed.drain.begin("test", 25, 5)


async def hang(name: str) -> None:
    # A decision of the spool always comes (TRIO 3.4), though perhaps after every deadline
    await (trio.sleep(100) if name == "decide" else trio.sleep_forever())


@pytest.mark.parametrize("number", range(1, STEPS))
@pytest.mark.parametrize("after", [stop_soon, stop_late])
async def test_a_hang_at_step_k_has_an_end(autojump_clock, number: int, after: Any):
    fault, acknowledged = Fault(number, hang), []
    bed = await run(fault, acknowledged, after)
    check(bed, acknowledged, reply_may_be_lost=fault.where == "send")


@pytest.mark.parametrize("number", range(1, STEPS))
async def test_a_bug_at_step_k_leaves_a_consistent_state(autojump_clock, number: int):
    async def fail(name: str) -> None:
        raise RuntimeError("bug")

    fault, acknowledged = Fault(number, fail), []
    bed = await run(fault, acknowledged, stop_soon)
    check(bed, acknowledged, reply_may_be_lost=fault.where == "send")


@pytest.mark.parametrize("number", range(1, STEPS))
async def test_a_cancel_of_everything_at_step_k_eats_no_250(autojump_clock, number: int):
    reached = trio.Event()

    async def cancel(name: str) -> None:
        reached.set()

    async def when_reached(bed: Bed) -> None:
        with trio.move_on_after(5):
            await reached.wait()

    fault, acknowledged = Fault(number, cancel), []
    bed = await run(fault, acknowledged, when_reached, cancel=True)
    check(bed, acknowledged, reply_may_be_lost=False)


async def test_the_steps_cover_the_whole_dialogue(autojump_clock):
    async def nothing(name: str) -> None:
        pass

    fault, acknowledged = Fault(0, nothing), []
    bed = await run(fault, acknowledged, stop_soon)
    check(bed, acknowledged, reply_may_be_lost=False)
    assert len(acknowledged) == 2
    assert len(fault.steps) < STEPS
    assert set(fault.steps) >= {"connected", "hello", "auth", "sender", "recipient", "write", "decide"}
