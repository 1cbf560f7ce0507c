"""A server that crashed soon after each start never emptied its write-ahead log, which filled the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LIVES = 5
VICTIM = """
import os, random, sys
from pathlib import Path
import trio
from spool_builders import ORIGIN, PREFIX, envelope, message_id
from elemta.config import SpoolConfig
from elemta.runtime import SystemClock
from elemta.spool import open_spool

async def main(state, life):
    async with open_spool(
        state, SpoolConfig(ballast=0), message_size=10**6, clock=SystemClock(), random=random.Random(), on_trouble=print
    ) as spool:
        for number in range(60):
            message = message_id(life * 1000 + number)
            draft = spool.new_draft(message)
            await draft.write(bytes(8000))
            await spool.commit(draft, message=message, envelope=envelope(), origin=ORIGIN, prefix=PREFIX)
        os._exit(9)

trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
"""


def test_each_start_begins_the_log_anew(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    sizes = []
    for life in range(LIVES):
        done = subprocess.run(
            [sys.executable, "-c", VICTIM, str(tmp_path), str(life)],
            env={**os.environ, "PYTHONPATH": f"{tests / 'spool'}:{tests.parent}"},
            check=False,
        )
        assert done.returncode == 9
        sizes.append((tmp_path / "spool" / "spool.db-wal").stat().st_size)
    # The first life has the schema in it, the others a few pages more than they wrote.
    assert max(sizes) < 2 * sizes[0], sizes
