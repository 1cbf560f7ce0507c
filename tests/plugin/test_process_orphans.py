"""A server that is killed leaves no worker behind, whatever the worker is doing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

SERVER = """
import random, sys
from pathlib import Path
import trio
from elemta.plugin import HookArguments
from elemta.plugin.process import ProcessTier
from elemta.plugin.worker import WorkerSettings

async def question(name, content):
    return b""

async def main():
    settings = WorkerSettings(name="x", entry="failing_plugin:load", setup={}, directory=Path(sys.argv[1]))
    tier = ProcessTier(settings, timeout=60, question=question, random=random.Random(1), workers=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(tier.start)
        nursery.start_soon(tier.call, "rcpt", HookArguments(reason=sys.argv[2]))
        await trio.sleep(0.2)
        print(tier.statistics().workers[0], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.deadline(30)
@pytest.mark.parametrize("how", ["hang", "busy loop", "busy without python"])
async def test_no_worker_outlives_a_killed_server(how: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    server = await trio.lowlevel.open_process(
        [sys.executable, "-c", SERVER, str(tmp_path), how],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert server.stdout is not None
    async with server.stdout:
        pid = int(await server.stdout.receive_some(100))
        server.send_signal(signal.SIGKILL)
        await server.wait()
    state = Path(f"/proc/{pid}/stat")
    # Gone, or dead and waiting for whoever reaps in this container.
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        await trio.sleep(0.02)
