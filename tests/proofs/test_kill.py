"""kill -9 at random moments under load: no acknowledged message is lost, duplicates stay within the bound.

The bound (RELIABILITY P5): a crash may repeat only deliveries whose completion was not yet committed. Which
these are is read from the spool after each kill: a message that had arrived at the sink and is still in
the spool. Nothing else is excused. A record may wait 20 ms for its group, and then for its turn and its
flush; what a kill finds unrecorded must not have been answered longer ago than WINDOW, which a busy machine
stretches by what it is seen to be late.

The sink refuses some for good: their sender hears of each exactly once, for the failure and its notice are
one transaction (D5).
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
import trio
from ports import free_port

from .aftermath import examine
from .ledger import Crash, Ledger, run_sink, send_messages, watch_lag, write_config
from .servers import start_elemta

KILLS = int(os.environ.get("ELEMTA_PROOF_KILLS", "50"))
STOPS = 10
WINDOW = 0.1
"""Seconds: 20 ms, and then a full batch, two flushes and the event loop of a server that shares its cores with
ten senders and a sink. Seen on two cores: 12 ms where they are free, 33 ms with three times the load."""
STEPS = 8
"""Times that a record has to wait for the processor: the server's loop and its writer, twice, and the sink's."""


@pytest.mark.proof
@pytest.mark.deadline(900)
async def test_no_acknowledged_message_is_lost_when_killed(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # to repeat a failure
    rng = random.Random(seed)
    ledger = Ledger()
    late: list[float] = []
    port = free_port()
    state, config, log = tmp_path / "state", tmp_path / "elemta.toml", tmp_path / "log"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_lag, late)
        sink_port = await nursery.start(
            lambda task_status: run_sink(ledger, rng, defer=0.02, refuse=0.05, task_status=task_status)
        )
        write_config(config, state, port, sink_port)
        for _ in range(KILLS):
            process = await start_elemta(config, port, log)
            async with trio.open_nursery() as senders:
                for _ in range(10):
                    senders.start_soon(send_messages, port, ledger, rng, 100000)
                await trio.sleep(rng.uniform(0.05, 1.0))
                process.send_signal(signal.SIGKILL)
                crash = Crash(trio.current_time())
                await process.wait()
            await trio.sleep(0.1)  # the sink reads what was on its way
            found = examine(state)
            assert found.faults == []
            crash.stored, crash.over = frozenset(found.stored), trio.current_time()
            ledger.crashes.append(crash)
            # What was acknowledged is at the sink, or here, whole, or its notice is; what was refused is nowhere
            # (P1, P2, D5).
            assert ledger.lost() <= crash.stored | found.notices
            assert not crash.stored & found.notices
            assert not ledger.refused & crash.stored
            assert {id_: ledger.sent[id_] for id_ in found.stored} == found.stored
        process = await start_elemta(config, port, log)
        with trio.move_on_after(120):
            while ledger.lost():
                await trio.sleep(0.1)
            await trio.sleep(3)  # whatever else is on its way, duplicates among it
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(40):
            await process.wait()
        nursery.cancel_scope.cancel()
    ages = sorted(age for _, age in ledger.unrecorded())
    window = WINDOW + STEPS * max(late)
    print(
        f"{KILLS} kills, {len(ledger.sent)} messages begun, {len(ledger.acknowledged)} acknowledged, "
        f"{len(ledger.arrived)} arrived, {ledger.duplicates()} duplicates, {len(ledger.refused)} refused, "
        f"{len(ledger.notices)} notices; "
        f"{len(ages)} deliveries unrecorded, the oldest {max(ages, default=0) * 1000:.0f} ms; "
        f"the machine was {max(late) * 1000:.0f} ms late"
    )
    for id_ in ledger.unexplained():
        print(id_, id_ in ledger.acknowledged, ledger.arrived[id_], [crash.time for crash in ledger.crashes])
    assert len(ledger.acknowledged) > 10 * KILLS
    assert ledger.lost() == set()
    assert ledger.ghosts() == set()
    assert ledger.damaged() == set()
    assert ledger.twice_told() == {}
    assert ledger.wrongly_told() == set()
    assert ledger.unexplained() == []
    assert ledger.overdue(window) == []
    assert process.returncode == 0, log.read_text()[-2000:]
    assert examine(state).faults == []


@pytest.mark.proof
@pytest.mark.deadline(300)
async def test_an_orderly_stop_under_load_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    """SIGTERM (RELIABILITY P9): commits are answered, results written, and nobody is told a false word."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # to repeat a failure
    rng, ledger, port = random.Random(seed), Ledger(), free_port()
    state, config, log = tmp_path / "state", tmp_path / "elemta.toml", tmp_path / "log"
    longest = 0.0
    async with trio.open_nursery() as nursery:
        sink_port = await nursery.start(
            lambda task_status: run_sink(ledger, rng, defer=0.02, refuse=0.05, task_status=task_status)
        )
        write_config(config, state, port, sink_port)
        for _ in range(STOPS):
            process = await start_elemta(config, port, log)
            async with trio.open_nursery() as senders:
                for _ in range(10):
                    senders.start_soon(send_messages, port, ledger, rng, 100000)
                await trio.sleep(rng.uniform(0.05, 1.0))
                process.send_signal(signal.SIGTERM)
                begun = trio.current_time()
                with trio.fail_after(40):
                    await process.wait()
                longest = max(longest, trio.current_time() - begun)
            assert process.returncode == 0, log.read_text()[-2000:]
            found = examine(state)
            assert found.faults == []
            assert ledger.lost() <= found.stored.keys() | found.notices
            # Whoever has arrived is written down: none of it will come again.
            assert not found.stored.keys() & ledger.arrived.keys()
        process = await start_elemta(config, port, log)
        with trio.move_on_after(60):
            while ledger.lost():
                await trio.sleep(0.1)
            await trio.sleep(3)
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(40):
            await process.wait()
        nursery.cancel_scope.cancel()
    print(f"{STOPS} stops, the longest {longest:.1f} s, {len(ledger.acknowledged)} acknowledged")
    assert ledger.lost() == set()
    assert ledger.ghosts() == set()
    assert ledger.damaged() == set()
    assert ledger.duplicates() == 0
    assert ledger.twice_told() == {}
    assert longest < 30
