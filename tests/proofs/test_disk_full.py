"""A full disk: new mail is answered 452, what was accepted is delivered once, and room brings mail back.

Needs root, for a small tmpfs of its own under the state folder.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from ports import free_port

from .aftermath import examine
from .ledger import Ledger, Lines, run_sink, send_messages, write_config
from .servers import require, route_to, running_elemta, start_elemta

CONFIG = """
[queue]
retry = ["1s"]
[limits]
sessions_per_client = 1000
messages_per_session = 100000
message_size = "64KiB"
[spool]
min_free = "12MiB"
ballast = "8MiB"
[logging]
level = "warning"
"""


class Gate(random.Random):
    """The sink's chance: while closed, each message is deferred."""

    closed = True

    def random(self) -> float:
        return 0.0 if self.closed else 1.0


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """64 MiB in memory, unmounted at the end."""
    if os.getuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    require("mount", "umount")
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def free(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def fill(path: Path, leave: int) -> None:
    """Let one file take all but so many octets of what is free now.

    No more than that: what the server gives up meanwhile is its own. (And no `fallocate` of all at once:
    where that fails it takes everything for a moment, and gives it back.)
    """
    room = free(path) - leave
    with (
        (path / "filler").open("ab", buffering=0) as file,
        contextlib.suppress(OSError),
    ):  # no room: that is it
        while room > 0:
            room -= file.write(bytes(min(room, 65536)))


async def answer_to_mail(port: int) -> bytes:
    """The reply to MAIL in a session of its own."""
    with trio.fail_after(10):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            lines = Lines(stream)
            await lines.reply()
            await stream.send_all(b"EHLO proof.example\r\n")
            await lines.reply()
            await stream.send_all(b"MAIL FROM:<sender@example.org>\r\n")
            return await lines.reply()


async def until(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    with trio.move_on_after(seconds):
        while not condition():
            await trio.sleep(0.05)
    assert condition(), what


async def until_mail_is_answered(port: int, code: bytes) -> None:
    """The free space is looked at once a second."""
    with trio.move_on_after(15):
        while not (reply := await answer_to_mail(port)).startswith(code):
            await trio.sleep(0.1)
    assert reply.startswith(code), reply


async def fill_under_load(port: int, disk: Path, ledger: Ledger, rng: random.Random, leave: int) -> None:
    """Senders go on while the room goes away; they end by themselves at the first refusal."""
    async with trio.open_nursery() as senders:
        for _ in range(5):
            senders.start_soon(send_messages, port, ledger, rng, 2000)
        await trio.sleep(0.3)
        await trio.to_thread.run_sync(fill, disk, leave)
        await until_mail_is_answered(port, b"452")


@pytest.mark.proof
@pytest.mark.deadline(300)
@pytest.mark.parametrize("leave", [3 * 1024 * 1024, 0], ids=["below min_free", "nothing left"])
async def test_a_full_disk_loses_nothing_and_heals(tmp_path: Path, leave: int) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # to repeat a failure
    rng, gate, ledger = random.Random(seed), Gate(), Ledger()
    with small_disk(tmp_path / "disk") as disk:
        async with trio.open_nursery() as nursery:
            sink_port = await nursery.start(
                lambda task_status: run_sink(ledger, gate, defer=0.5, task_status=task_status)
            )
            context = running_elemta(tmp_path, route_to(sink_port) + CONFIG, state_dir=disk / "state")
            server = await trio.to_thread.run_sync(context.__enter__)
            try:
                await fill_under_load(server.port, disk, ledger, rng, leave)
                stored = len(ledger.acknowledged)
                assert stored > 10
                assert not ledger.arrived
                # Attempts that fail are written down although the disk is full.
                await trio.sleep(3)
                assert server.process.poll() is None, server.log.read_text()[-2000:]
                assert (await answer_to_mail(server.port)).startswith(b"452")

                gate.closed = False
                await until(lambda: not ledger.lost(), "what was stored is delivered while the disk is full")
                await trio.sleep(3)  # a second round of attempts would repeat what was not written down
                assert ledger.duplicates() == 0
                assert (await answer_to_mail(server.port)).startswith(b"452")

                (disk / "filler").unlink()
                await until_mail_is_answered(server.port, b"250")
                await send_messages(server.port, ledger, rng, 20)
                await until(lambda: not ledger.lost(), "new mail is delivered again")
                assert len(ledger.acknowledged) == stored + 20
            finally:
                await trio.to_thread.run_sync(context.__exit__, None, None, None)
            nursery.cancel_scope.cancel()
    print(
        f"{len(ledger.acknowledged)} acknowledged, {len(ledger.refused)} refused, {len(ledger.notices)} notices"
    )
    assert ledger.lost() == set()
    assert ledger.ghosts() == set()
    assert ledger.damaged() == set()
    assert ledger.duplicates() == 0


@pytest.mark.proof
def test_a_start_without_any_room_is_one_line_and_status_74(tmp_path: Path) -> None:
    config = tmp_path / "elemta.toml"
    with small_disk(tmp_path / "disk") as disk:
        config.write_text(
            f'hostname = "mx.example.org"\nstate_dir = "{disk}/state"\n'
            f'[[listeners]]\nname = "mx"\naddress = "127.0.0.1:{free_port()}"\n'
        )
        fill(disk, 0)
        done = subprocess.run(
            [sys.executable, "-m", "elemta", "run", "-c", str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 74, done.stderr
    assert "No space left" in done.stderr or "the disk is full" in done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("elemta: ")] == []


@pytest.mark.proof
@pytest.mark.deadline(180)
async def test_a_crash_on_a_full_disk_is_followed_by_a_start_that_delivers(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # to repeat a failure
    rng, gate, ledger = random.Random(seed), Gate(), Ledger()
    port, config, log = free_port(), tmp_path / "elemta.toml", tmp_path / "log"
    with small_disk(tmp_path / "disk") as disk:
        async with trio.open_nursery() as nursery:
            sink_port = await nursery.start(
                lambda task_status: run_sink(ledger, gate, defer=0.5, task_status=task_status)
            )
            write_config(config, disk / "state", port, sink_port)
            # The same settings, but for the section that `write_config` has.
            config.write_text(
                config.read_text().replace("[limits]", '[limits]\nmessage_size = "64KiB"')
                + '[spool]\nmin_free = "12MiB"\nballast = "8MiB"\n'
            )
            process = await start_elemta(config, port, log)
            try:
                await fill_under_load(port, disk, ledger, rng, 0)
                assert len(ledger.acknowledged) > 10
                process.kill()
                await process.wait()
                fill(disk, 1024 * 1024)  # about what is left of the ballast
                gate.closed = False
                process = await start_elemta(config, port, log)
                await until(lambda: not ledger.lost(), "what was stored is delivered though the disk is full")
                assert (await answer_to_mail(port)).startswith(b"452")
                process.terminate()
                with trio.fail_after(40):
                    await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
            nursery.cancel_scope.cancel()
        assert process.returncode == 0, log.read_text()[-2000:]
        assert examine(disk / "state").faults == []
    assert ledger.ghosts() == set()
    assert ledger.damaged() == set()
