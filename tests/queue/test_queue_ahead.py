"""A connection that takes the next job early: it is delivered next there, or finds another way."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio
from queue_bed import OK, Bed, ScriptedTransport, answer_ok, open_bed

from elemta.config import Config, DeliveryConfig
from elemta.delivery import Connection, Parcel
from elemta.mail import Outcome

CONFIG = Config(hostname="mx.example.net", delivery=DeliveryConfig(initial_concurrency=1, concurrency=1))


@attrs.define(eq=False)
class EagerTransport(ScriptedTransport):
    """Each connection asks for the next parcel, and takes five seconds."""

    ahead: list[Parcel] = attrs.field(factory=list)
    crash: bool = False

    async def connect(self) -> Connection:
        self.connects += 1
        await trio.sleep(0.1)  # meanwhile all three come
        return _EagerConnection(self)


class _EagerConnection(Connection):
    def __init__(self, transport: EagerTransport) -> None:
        self._transport = transport
        self._busy = False

    @property
    def usable(self) -> bool:
        return True

    @property
    def phase(self) -> str:
        return "final-dot" if self._busy else "idle"

    @property
    def dot_sent(self) -> bool:
        return self._busy

    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        transport = self._transport
        self._busy = True
        assert self.following is not None
        following = self.following()
        if following is not None:
            transport.ahead.append(following)
        await trio.sleep(5)
        if transport.crash:
            transport.crash = False
            raise RuntimeError("a bug")
        transport.parcels.append(parcel)
        self._busy = False
        return [OK] * len(parcel.recipients)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def three_messages() -> AsyncGenerator[tuple[Bed, EagerTransport], None]:
    async with open_bed(answer_ok, config=CONFIG) as bed:
        transport = bed.transports["smtp:x.example"] = EagerTransport(answer_ok)
        for number in range(3):
            await bed.accept(f"user{number}@x.example")
        yield bed, transport


def names(parcels: list[Parcel]) -> list[str]:
    return [parcel.recipients[0].mailbox.local_part for parcel in parcels]


async def test_job_that_was_taken_early_is_the_next_over_that_connection(autojump_clock) -> None:
    async with three_messages() as (_, transport):
        await trio.sleep(20)
        assert names(transport.parcels) == ["user0", "user1", "user2"]
        assert all(early is late for early, late in zip(transport.ahead, transport.parcels[1:], strict=True))
        assert transport.connects == 1


async def test_drain_gives_back_what_was_taken_early(autojump_clock) -> None:
    async with three_messages() as (bed, transport):
        await trio.sleep(1)
        assert names(transport.ahead) == ["user1"]
        bed.drain.begin("test", 20, 5)
        await trio.sleep(10)
        assert names(transport.parcels) == ["user0"]
        await bed.spool.wait_recorded()
        statistics = bed.spool.statistics()
        assert statistics.pending_records == 0
        claims = await bed.spool.claim(10)
        assert len(claims) == 2, "both are due at once, and nobody's"
        assert [claim.recipients[0].attempts for claim in claims] == [1, 1]


async def test_crash_of_the_present_job_leaves_the_next_one_to_another_connection(autojump_clock) -> None:
    async with three_messages() as (bed, transport):
        transport.crash = True
        await trio.sleep(30)
        assert names(transport.parcels) == ["user1", "user2"]
        assert transport.connects == 2
        assert len(bed.of("recipient.deferred")) == 1


async def test_connection_at_its_last_message_takes_nothing_early(autojump_clock) -> None:
    delivery = DeliveryConfig(initial_concurrency=1, concurrency=1, messages_per_connection=1)
    async with open_bed(answer_ok, config=attrs.evolve(CONFIG, delivery=delivery)) as bed:
        transport = bed.transports["smtp:x.example"] = EagerTransport(answer_ok)
        for number in range(3):
            await bed.accept(f"user{number}@x.example")
        await trio.sleep(20)
        assert names(transport.parcels) == ["user0", "user1", "user2"]
        assert transport.ahead == []
        assert transport.connects == 3
