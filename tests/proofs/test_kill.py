"""kill -9 at random moments under load: no acknowledged message is lost, duplicates stay within the bound.

The bound (RELIABILITY P5): a crash may repeat only deliveries whose completion was not yet committed.
Completions are committed at most some 20 ms after the next hop's reply; a loaded machine gets 500 ms here.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from .ledger import Ledger, run_sink, send_messages, write_config

KILLS = int(os.environ.get("ELEMTA_PROOF_KILLS", "50"))
WINDOW = 0.5


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def start(config: Path, port: int, log: Path) -> trio.Process:
    """A server that accepts connections."""
    with log.open("ab") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "elemta", "run", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
    with trio.fail_after(30):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                assert process.poll() is None, log.read_text()[-2000:]
                await trio.sleep(0.02)
                continue
            await trio.aclose_forcefully(stream)
            return process


@pytest.mark.proof
@pytest.mark.deadline(900)
async def test_no_acknowledged_message_is_lost_when_killed(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # to repeat a failure
    rng = random.Random(seed)
    ledger = Ledger()
    port = free_port()
    config, log = tmp_path / "elemta.toml", tmp_path / "log"
    async with trio.open_nursery() as nursery:
        sink_port = await nursery.start(
            lambda task_status: run_sink(ledger, rng, defer=0.02, task_status=task_status)
        )
        write_config(config, tmp_path / "state", port, sink_port)
        for _ in range(KILLS):
            process = await start(config, port, log)
            async with trio.open_nursery() as senders:
                for _ in range(10):
                    senders.start_soon(send_messages, port, ledger, rng, 100000)
                await trio.sleep(rng.uniform(0.05, 1.0))
                process.send_signal(signal.SIGKILL)
                ledger.kills.append(trio.current_time())
                await process.wait()
        process = await start(config, port, log)
        with trio.move_on_after(120):
            while ledger.lost():
                await trio.sleep(0.1)
            await trio.sleep(3)  # whatever else is on its way, duplicates among it
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(40):
            await process.wait()
        nursery.cancel_scope.cancel()
    print(
        f"{KILLS} kills, {len(ledger.sent)} messages begun, {len(ledger.acknowledged)} acknowledged, "
        f"{len(ledger.arrived)} arrived, {ledger.duplicates()} duplicates, {len(ledger.refused)} refused"
    )
    for id_ in ledger.unexplained(WINDOW):
        print(id_, id_ in ledger.acknowledged, ledger.arrived[id_], "kills", ledger.kills)
    assert len(ledger.acknowledged) > 10 * KILLS
    assert ledger.lost() == set()
    assert ledger.ghosts() == set()
    assert ledger.damaged() == set()
    assert ledger.unexplained(WINDOW) == []
    assert process.returncode == 0, log.read_text()[-2000:]
