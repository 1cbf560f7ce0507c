"""How many messages a second the spool makes durable, and how many go all the way through it.

    benchmarks/spool.py [--state DIR] [--seconds 2] [--rounds 3]

*accept*: so many clients commit one message after the other. *cycle*: the same, with an intake that
takes each message at once and records it as delivered. Rows are run in rotated order, medians are
shown. Every run checks its result: counts add up, bodies come back byte for byte, nothing is left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import attrs
import trio

from elemta.config import SpoolConfig
from elemta.mail import (
    Delivered,
    Envelope,
    Origin,
    Recipient,
    Reply,
    ReversePath,
    make_id,
    parse_mailbox,
)
from elemta.runtime import SystemClock
from elemta.spool import AttemptRecord, Claim, RecipientResult, RecipientState, Spool, open_spool

ENVELOPE = Envelope(
    ReversePath(parse_mailbox("sender@example.org")), (Recipient(parse_mailbox("recipient@example.com")),)
)
ORIGIN = Origin("0123456789abcdef", "192.0.2.1", 40000, "client.example.org", "ESMTP", "mx")
PREFIX = b"Received: from client.example.org " + b"x" * 180 + b"\r\n"
DELIVERED = Delivered(Reply.of(250, "2.0.0", "queued as 12345"), "mx.example.com[192.0.2.9]:25")


@attrs.frozen
class Case:
    kind: str
    clients: int
    size: int


@attrs.frozen
class Result:
    per_second: float
    group: float
    flush_ms: float


CASES = [
    Case(kind, clients, size)
    for kind in ("accept", "cycle")
    for size in (4096, 102400)
    for clients in (1, 10, 20, 50)
]


@attrs.define
class Deliverer:
    """An intake that delivers at once."""

    spool: Spool

    def reserve(self, octets: int, recipients: int) -> bool:
        return True

    def cancel(self, octets: int, recipients: int) -> None:
        raise AssertionError("nothing is refused here")

    def put(self, claim: Claim) -> None:
        results = tuple(
            RecipientResult(recipient.index, recipient.lease, DELIVERED, RecipientState.DELIVERED)
            for recipient in claim.recipients
        )
        self.spool.record(AttemptRecord(claim.message.id, results))

    def wake(self) -> None:
        raise AssertionError("nothing is due here")


async def run(case: Case, state: Path, seconds: float) -> Result:
    body = os.urandom(case.size)
    count, ids = 0, random.Random(7)

    async def client() -> None:
        nonlocal count
        while trio.current_time() < deadline:
            count += 1
            message = make_id(time.time_ns() // 1_000_000, ids.getrandbits(35))
            draft = spool.new_draft(message)
            await draft.write(body)
            await spool.commit(draft, message=message, envelope=ENVELOPE, origin=ORIGIN, prefix=PREFIX)

    async with open_spool(
        state,
        SpoolConfig(ballast=0),
        message_size=1 << 20,
        clock=SystemClock(),
        random=random.Random(1),
        on_trouble=print,
    ) as spool:
        if case.kind == "cycle":
            spool.set_intake(Deliverer(spool))
        start = trio.current_time()
        deadline = start + seconds
        async with trio.open_nursery() as nursery:
            for _ in range(case.clients):
                nursery.start_soon(client)
        await spool.wait_recorded()
        elapsed = trio.current_time() - start
        found, totals = spool.statistics(), await spool.totals()
        if case.kind == "cycle":
            assert (totals.accepted, totals.delivered, totals.messages) == (count, count, 0), totals
        else:
            assert (totals.accepted, totals.queued, totals.messages) == (count, count, count), totals
            for claim in await spool.claim(20):
                async with spool.open_body(claim.message) as reader:
                    assert await reader.read() == body
    return Result(count / elapsed, found.requests / found.commits, found.mean_seconds * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--state", type=Path, help="folder on the disk to be measured; default: the temporary one"
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    results: dict[Case, list[Result]] = {case: [] for case in CASES}
    for number in range(arguments.rounds):
        turn = number * len(CASES) // arguments.rounds
        for case in CASES[turn:] + CASES[:turn]:
            state = Path(tempfile.mkdtemp(prefix="elemta-bench-", dir=arguments.state))
            try:
                results[case].append(trio.run(run, case, state, arguments.seconds))
            finally:
                shutil.rmtree(state)
    print(f"{'':8}{'clients':>8}{'octets':>8}{'per s':>9}{'group':>7}{'flush ms':>10}")
    for case, found in results.items():
        rate, group, flush = (
            statistics.median(getattr(result, name) for result in found)
            for name in ("per_second", "group", "flush_ms")
        )
        print(f"{case.kind:8}{case.clients:8}{case.size:8}{rate:9.0f}{group:7.1f}{flush:10.2f}")


if __name__ == "__main__":
    main()
