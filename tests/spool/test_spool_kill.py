"""What was acknowledged is there after a kill, and each group costs exactly one flush; with real processes."""

import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from elemta.spool import QueueFilter, open_offline

VICTIM = Path(__file__).with_name("spool_victim.py")
STRACE = shutil.which("strace")


def stored(state: Path) -> set[str]:
    with open_offline(state) as store:
        entries = store.list(QueueFilter(), after=None, limit=10**6)
        for entry in entries:
            assert store.body(entry.id) is not None or (state / "spool" / "bodies" / entry.id).exists()
        files = {path.name for path in (state / "spool" / "bodies").iterdir()}
        assert files == set(store.body_files())
        found = store.statistics()
        assert found.accepted == found.queued == found.messages == len(entries)
    return {entry.id for entry in entries}


@pytest.mark.deadline(20)
async def test_acknowledged_messages_survive_a_kill(tmp_path: Path) -> None:
    rng = random.Random(3)
    total = 0
    for life in range(4):
        state = tmp_path / str(life)
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                lambda state=state, **named: trio.run_process(
                    [sys.executable, str(VICTIM), str(state), "8", "100000"],
                    stdout=subprocess.PIPE,
                    check=False,
                    **named,
                )
            )
            assert process.stdout is not None
            said = bytearray(await process.stdout.receive_some())
            with trio.move_on_after(rng.uniform(0.01, 0.15)):
                while data := await process.stdout.receive_some():
                    said += data
            process.send_signal(signal.SIGKILL)
            while data := await process.stdout.receive_some():
                said += data
        acknowledged = set(said.decode().split("\n")[:-1])
        assert len(acknowledged) > 0
        kept = stored(state)
        assert acknowledged <= kept
        assert len(kept - acknowledged) <= 8, "at most what was under way"
        total += len(acknowledged)
    assert total > 20


@pytest.mark.proof
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.deadline(60)
async def test_each_group_is_flushed_exactly_once_before_it_is_acknowledged(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = [
        STRACE,
        "-f",
        "-y",
        "-e",
        "trace=fdatasync,fsync,write",
        "-o",
        str(trace),
        sys.executable,
        str(VICTIM),
    ]
    await trio.run_process([*command, str(tmp_path / "state"), "1", "41"], capture_stdout=True)
    flushes = messages = 0
    for line in trace.read_text().splitlines():
        if re.search(r"fdatasync\(\d+<[^>]*spool\.db-wal>.*", line) and "resumed" not in line:
            flushes += 1
        elif found := re.search(r'write\(1<[^>]*>, "([0-9a-z]{16})\\n', line):
            if messages:
                assert flushes == 1, found[1]
            flushes = 0
            messages += 1
    assert messages == 41


@pytest.mark.proof
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.deadline(120)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64", "fsync", "renameat", "rename", "ftruncate"])
async def test_kill_at_each_system_call_loses_nothing_that_was_acknowledged(
    tmp_path: Path, call: str
) -> None:
    for number in range(1, 60, 7):
        state = tmp_path / str(number)
        state.mkdir(0o700)
        command = [
            STRACE,
            "-f",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:signal=SIGKILL:when={number}",
        ]
        found = await trio.run_process(
            [*command, sys.executable, str(VICTIM), str(state), "2", "10"],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        acknowledged = set(found.stdout.decode().split("\n")[:-1])
        if (state / "spool" / "spool.db").exists():
            assert acknowledged <= stored(state)
        else:
            assert not acknowledged
        if found.returncode == 0:
            break


@pytest.mark.proof
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.deadline(120)
async def test_failed_flush_acknowledges_nothing_and_ends_the_process(tmp_path: Path) -> None:
    for number in (3, 5, 8, 12):
        state = tmp_path / str(number)
        state.mkdir(0o700)
        command = [
            STRACE,
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync",
            "-e",
            f"inject=fdatasync:error=EIO:when={number}+",
        ]
        found = await trio.run_process(
            [*command, sys.executable, str(VICTIM), str(state), "3", "50"],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        assert found.returncode != 0
        assert b"SpoolUnavailable" in found.stderr
        lines = found.stdout.decode().split("\n")
        acknowledged = {line for line in lines if re.fullmatch(r"[0-9a-z]{16}", line)}
        assert acknowledged <= (stored(state) if acknowledged else set())
