"""A process that accepts messages and says which, to be killed at any moment: `spool_victim.py STATE CLIENTS COUNT`."""

import random
import sys
from pathlib import Path

import trio
from spool_builders import BODY, ORIGIN, PREFIX, envelope, message_id

from elemta.config import SpoolConfig
from elemta.runtime import SystemClock
from elemta.spool import Spool, open_spool


async def accept(spool: Spool, first: int, count: int) -> None:
    for number in range(first, first + count):
        draft = spool.new_draft(message_id(number))
        await draft.write(BODY if number % 5 else bytes(3000))
        await spool.commit(
            draft, message=message_id(number), envelope=envelope(), origin=ORIGIN, prefix=PREFIX
        )
        sys.stdout.write(f"{message_id(number)}\n")
        sys.stdout.flush()


async def main(state: Path, clients: int, count: int) -> None:
    async with (
        open_spool(
            state,
            SpoolConfig(inline_size=1000, ballast=0),
            message_size=10_000,
            clock=SystemClock(),
            random=random.Random(),
            on_trouble=print,
        ) as spool,
        trio.open_nursery() as nursery,
    ):
        for client in range(clients):
            nursery.start_soon(accept, spool, client * 100_000, count)


trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
