"""The power fails at random moments under load: no acknowledged message is lost, and what is there is whole.

The spool lies on an ext4 of its own in a loop device. FS_IOC_SHUTDOWN with NOLOGFLUSH stops that file system
at once: what it had not yet given to the device, data and journal, is gone as if the power were. Then
it is unmounted, checked, mounted (which replays the journal) and read. The device itself loses nothing
that it was given: disks that lie about a flush are not part of the promise (RELIABILITY P1).

Processor and disk lose their power together: the server is stopped first, with its flush under way in the
kernel. For a flush that the ioctl meets may return success though its data is gone (a loop of pwrite and
fdatasync shows it, one cut in ten), which nobody learns of without power. After every other cut the server
is let go on, to show that it ends by itself and lets no refused message live (D4); what it still
acknowledges counts for nothing then.
Needs root, mkfs.ext4 and loop devices.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import apsw
import pytest
import trio
from ports import free_port

from .aftermath import Aftermath, examine
from .ledger import Crash, Ledger, run_sink, send_messages, watch_lag, write_config
from .servers import require, start_elemta
from .test_kill import STEPS

CUTS = int(os.environ.get("ELEMTA_PROOF_CUTS", "12"))
SIZE = 512 * 1024 * 1024
FS_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32), linux/fs.h; ext4 has it since 4.12."""
NOLOGFLUSH = 2
STORAGE = 74
"""Exit status of a server whose storage failed."""
LATE = 0.25
"""Seconds that a delivery may have been unrecorded at the cut, and more where the machine is late: see
test_kill.WINDOW. Flushing to a loop device flushes its file on the disk below."""

# Half of the ledger's messages are larger than that and go to files of their own.
CONFIG = """
[spool]
inline_size = "1KiB"
ballast = "1MiB"
min_free = "4MiB"
"""

NORMAL = """
from elemta.spool import database
database._SETTINGS["synchronous"] = ("NORMAL", 1)
from elemta.cli import main
main()
"""
"""elemta as it must not be: its commits are not flushed."""


@dataclass
class Disk:
    """A file system that can lose its power."""

    image: Path
    folder: Path

    def mount(self) -> None:
        done = subprocess.run(
            ["mount", "-t", "ext4", "-o", "loop", str(self.image), str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise OSError(done.stderr.strip())

    def cut(self) -> None:
        """Stop the file system now."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True, capture_output=True)

    def power_up(self) -> None:
        """What a machine does when it starts: replay the journal, check, mount."""
        self.unmount()
        # First as mount alone would leave it, for the check must find nothing to mend behind a replay.
        self.mount()
        self.unmount()
        check = subprocess.run(
            ["fsck.ext4", "-f", "-n", str(self.image)], capture_output=True, text=True, check=False
        )
        assert check.returncode == 0, check.stdout + check.stderr
        self.mount()


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A fresh file system, which is gone afterwards whatever happened on it."""
    if os.getuid() != 0:
        pytest.skip("mounting a loop device needs root")
    require("mkfs.ext4", "fsck.ext4", "mount", "umount")
    made = Disk(folder / "image", folder / "disk")
    made.folder.mkdir()
    with made.image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(made.image)], check=True, capture_output=True)
    try:
        made.mount()
    except OSError as error:
        pytest.skip(f"mounting a loop device is not possible here: {error}")
    try:
        yield made
    finally:
        # Lazily: whatever still runs on it was told to end, and the loop device goes with the last user.
        if os.path.ismount(made.folder):
            subprocess.run(["umount", "-l", str(made.folder)], check=False, capture_output=True)
        made.image.unlink()


class Sink(random.Random):
    """The sink's chance to defer: half of all while mail comes in, nothing in the end."""

    open = False

    def random(self) -> float:
        return 1.0 if self.open else super().random()


async def freeze(process: trio.Process) -> None:
    """Stop the server: when this returns it can say nothing more. Its flush may go on in the kernel."""
    process.send_signal(signal.SIGSTOP)
    status = Path(f"/proc/{process.pid}/task/{process.pid}/stat")
    with trio.fail_after(5):
        while status.read_text().rpartition(")")[2].split()[0] != "T":
            await trio.lowlevel.checkpoint()


async def ends(process: trio.Process, log: Path) -> None:
    """The server notices by itself that its disk is gone, and ends."""
    with trio.move_on_after(20):
        await process.wait()
    assert process.returncode == STORAGE, (process.returncode, log.read_text()[-2000:])


async def cut_under_load(
    made: Disk,
    process: trio.Process,
    port: int,
    ledger: Ledger,
    rng: random.Random,
    *,
    lives_on: bool,
    log: Path,
) -> Crash:
    """Senders at work, then no power; returns when the server is gone."""
    async with trio.open_nursery() as senders:
        for _ in range(10):
            senders.start_soon(send_messages, port, ledger, rng, 100000)
        await trio.sleep(rng.uniform(0.1, 1.2))
        await freeze(process)
        made.cut()
        crash = Crash(trio.current_time())
        await trio.sleep(0.1)  # the senders read what it had said before
        said = set(ledger.acknowledged)
        if lives_on:
            process.send_signal(signal.SIGCONT)
            await ends(process, log)
        else:
            process.send_signal(signal.SIGKILL)
            await process.wait()
    ledger.acknowledged = said
    await trio.sleep(0.1)  # the sink reads what was on its way
    crash.over = trio.current_time()
    return crash


async def examined(made: Disk, state: Path) -> Aftermath:
    """Power again; what the spool holds. Everything of it must be as it was written."""
    await trio.to_thread.run_sync(made.power_up)
    found = await trio.to_thread.run_sync(examine, state)
    assert found.faults == []
    return found


@pytest.mark.proof
@pytest.mark.deadline(600)
async def test_no_acknowledged_message_is_lost_when_the_power_fails(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # to repeat a failure
    rng, chance, ledger = random.Random(seed), Sink(seed), Ledger()
    late: list[float] = []
    port = free_port()
    config, log = tmp_path / "elemta.toml", tmp_path / "log"
    with disk(tmp_path) as made:
        state = made.folder / "state"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_lag, late)
            sink_port = await nursery.start(partial(run_sink, ledger, chance, defer=0.5, refuse=0.05))
            write_config(config, state, port, sink_port, CONFIG)
            for number in range(CUTS):
                process = await start_elemta(config, port, log)
                try:
                    crash = await cut_under_load(
                        made, process, port, ledger, rng, lives_on=bool(number % 2), log=log
                    )
                finally:
                    if process.returncode is None:
                        process.kill()
                found = await examined(made, state)
                crash.stored = frozenset(found.stored)
                ledger.crashes.append(crash)
                assert ledger.lost() <= crash.stored | found.notices
                assert not crash.stored & found.notices
                assert not ledger.refused & crash.stored
                assert {id_: ledger.sent[id_] for id_ in found.stored} == found.stored
            chance.open = True
            process = await start_elemta(config, port, log)
            with trio.move_on_after(120):
                while ledger.lost():
                    await trio.sleep(0.1)
                await trio.sleep(3)  # whatever else is on its way, duplicates among it
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(40):
                await process.wait()
            nursery.cancel_scope.cancel()
        assert process.returncode == 0, log.read_text()[-2000:]
        assert examine(state).faults == []
    ages = sorted(age for _, age in ledger.unrecorded())
    print(
        f"{CUTS} cuts, {len(ledger.sent)} messages begun, {len(ledger.acknowledged)} acknowledged, "
        f"{len(ledger.arrived)} arrived, {ledger.duplicates()} duplicates, {len(ledger.refused)} refused, "
        f"{len(ledger.notices)} notices; "
        f"{len(ages)} deliveries unrecorded, the oldest {max(ages, default=0) * 1000:.0f} ms; "
        f"the machine was {max(late) * 1000:.0f} ms late"
    )
    assert len(ledger.acknowledged) > 5 * CUTS
    assert ledger.lost() == set()
    assert ledger.ghosts() == set()
    assert ledger.damaged() == set()
    assert ledger.twice_told() == {}
    assert ledger.wrongly_told() == set()
    assert ledger.unexplained() == []
    assert ledger.overdue(LATE + STEPS * max(late)) == []


@pytest.mark.proof
@pytest.mark.deadline(120)
async def test_the_proof_finds_a_server_that_does_not_flush(tmp_path: Path) -> None:
    """The cut is worth something only if a server that answers too early does not survive it."""
    rng, chance, ledger = random.Random(1), Sink(1), Ledger()
    port = free_port()
    config, log = tmp_path / "elemta.toml", tmp_path / "log"
    with disk(tmp_path) as made:
        state = made.folder / "state"
        async with trio.open_nursery() as nursery:
            sink_port = await nursery.start(partial(run_sink, ledger, chance, defer=2.0))
            write_config(config, state, port, sink_port, CONFIG)
            process = await start_elemta(config, port, log, program=("-c", NORMAL))
            crash = await cut_under_load(made, process, port, ledger, rng, lives_on=False, log=log)
            await trio.to_thread.run_sync(made.power_up)
            nursery.cancel_scope.cancel()
        assert crash.time <= crash.over
        assert not ledger.arrived
        try:
            stored = set(examine(state).stored)
        except Exception as error:  # most often not even the schema was flushed
            print(f"the spool cannot be read: {error}")
            stored = set()
        lost = ledger.lost() - stored
    print(f"{len(ledger.acknowledged)} acknowledged, {len(lost)} of them lost")
    assert lost


@pytest.mark.proof
@pytest.mark.parametrize(("synchronous", "kept"), [("FULL", 200), ("NORMAL", 0)])
def test_the_cut_takes_what_sqlite_did_not_flush(tmp_path: Path, synchronous: str, kept: int) -> None:
    """What `RELIABILITY` 0.1 measured, on this machine: one flush per commit keeps all, none keeps nothing."""
    with disk(tmp_path) as made:
        database = apsw.Connection(str(made.folder / "rows.db"))
        database.pragma("journal_mode", "WAL")
        database.pragma("synchronous", "FULL")
        database.execute("CREATE TABLE row (number INTEGER)")
        database.pragma("synchronous", synchronous)
        for number in range(200):
            database.execute("INSERT INTO row VALUES (?)", (number,))
        made.cut()
        database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        database.close()
        made.power_up()
        database = apsw.Connection(str(made.folder / "rows.db"))
        assert database.execute("SELECT count(*) FROM row").get == kept
        assert database.pragma("integrity_check") == "ok"
        database.close()
