"""Files that change are taken into use once they stand still; what cannot be used is told and left alone."""

import os
from pathlib import Path

import attrs
import pytest
import trio
from tls_files import make_pair, write_pair

from elemta.config import TlsConfig
from elemta.tls import FileWatcher, TlsContexts


@attrs.define(eq=False)
class Bed:
    folder: Path
    contexts: TlsContexts
    reloads: int = 0
    troubles: list[str] = attrs.field(factory=list)

    def watcher(self) -> FileWatcher:
        def on_reload() -> None:
            self.reloads += 1

        return FileWatcher(self.contexts, on_reload, self.troubles.append)

    @property
    def name(self) -> str:
        return self.contexts.certificates()[0].names[0]

    def replace(self, which: str, content: bytes) -> None:
        """As ACME clients do: another file in its place."""
        fresh = self.folder / f"{which}.new"
        fresh.write_bytes(content)
        os.rename(fresh, self.folder / which)


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    pair = write_pair(tmp_path, "mx", "old.test")
    return Bed(tmp_path, TlsContexts(TlsConfig(pair.certificate, pair.key)))


async def test_nothing_happens_while_nothing_changes(bed: Bed):
    watcher = bed.watcher()
    server = bed.contexts.server
    for _ in range(5):
        assert not await watcher.look()
    assert (bed.reloads, bed.contexts.server) == (0, server)


async def test_a_pair_is_taken_when_two_looks_have_seen_the_same(bed: Bed):
    watcher = bed.watcher()
    certificate, key = make_pair("new.test")
    bed.replace("mx.pem", certificate)
    assert not await watcher.look()
    bed.replace("mx.key", key)  # in between, they would not have matched
    assert not await watcher.look()
    assert bed.troubles == []
    assert await watcher.look()
    assert bed.name == "new.test"
    assert bed.reloads == 1
    assert not await watcher.look()


async def test_a_symbolic_link_that_leads_elsewhere_is_a_change(bed: Bed):
    # certbot: live/NAME/fullchain.pem leads to archive/NAME/fullchain2.pem
    pair = write_pair(bed.folder, "archive", "archived.test")
    watcher = bed.watcher()
    for which, target in (("mx.pem", pair.certificate), ("mx.key", pair.key)):
        (bed.folder / which).unlink()
        (bed.folder / which).symlink_to(target)
    await watcher.look()
    assert await watcher.look()
    assert bed.name == "archived.test"


async def test_what_cannot_be_used_is_told_once_and_the_old_pair_stays(bed: Bed):
    watcher = bed.watcher()
    certificate, key = make_pair("new.test")
    bed.replace("mx.pem", certificate)
    for _ in range(5):
        assert not await watcher.look()
    [trouble] = bed.troubles
    assert "not the private key" in trouble
    assert bed.name == "old.test"
    bed.replace("mx.key", b"nonsense")
    for _ in range(3):
        await watcher.look()
    assert len(bed.troubles) == 2  # another content, another trouble
    bed.replace("mx.key", key)
    await watcher.look()
    assert await watcher.look()
    assert bed.name == "new.test"


async def test_a_missing_file_is_told_and_its_return_is_not(bed: Bed):
    watcher = bed.watcher()
    os.rename(bed.folder / "mx.key", bed.folder / "away")
    for _ in range(3):
        await watcher.look()
    assert len(bed.troubles) == 1
    os.rename(bed.folder / "away", bed.folder / "mx.key")
    for _ in range(3):
        assert not await watcher.look()
    assert len(bed.troubles) == 1
    assert bed.reloads == 0


async def test_a_reload_that_came_in_between_is_not_undone(bed: Bed, monkeypatch):
    watcher = bed.watcher()
    pair = write_pair(bed.folder, "other", "other.test")
    bed.replace("mx.pem", make_pair("new.test")[0])
    prepare = bed.contexts.prepare

    def and_meanwhile(config: TlsConfig):
        write_pair(bed.folder, "mx", "new.test")
        swap = prepare(config)
        monkeypatch.undo()
        bed.contexts.reload(TlsConfig(pair.certificate, pair.key))
        return swap

    await watcher.look()
    monkeypatch.setattr(bed.contexts, "prepare", and_meanwhile)
    await watcher.look()
    assert bed.name == "other.test"


@pytest.fixture
def without_threads(monkeypatch):
    """A mock clock jumps while a thread runs."""

    async def call(pool: object, function, *arguments):
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr("elemta.tls.watch.run_in_thread", call)


async def test_ticket_keys_are_replaced_in_time(bed: Bed, autojump_clock, without_threads):
    bed.contexts.reload(attrs.evolve(bed.contexts.config, check_interval=10.0, ticket_lifetime=60.0))
    used = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bed.watcher().run)
        await trio.sleep(1)
        for _ in range(4):
            used.append(bed.contexts.server)
            await trio.sleep(58)
            assert bed.contexts.server is used[-1]
            await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert len(set(used)) == 4
    assert bed.reloads == 0  # nothing to tell


async def test_new_files_are_new_ticket_keys_too(bed: Bed, autojump_clock, without_threads):
    bed.contexts.reload(attrs.evolve(bed.contexts.config, check_interval=10.0, ticket_lifetime=60.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bed.watcher().run)
        await trio.sleep(35)
        write_pair(bed.folder, "mx", "new.test")
        await trio.sleep(20)
        assert bed.name == "new.test"
        server = bed.contexts.server
        await trio.sleep(50)
        assert bed.contexts.server is server
        await trio.sleep(15)
        assert bed.contexts.server is not server
        nursery.cancel_scope.cancel()


async def test_what_can_no_longer_be_read_when_keys_are_due_is_told(
    bed: Bed, autojump_clock, without_threads
):
    bed.contexts.reload(attrs.evolve(bed.contexts.config, check_interval=10.0, ticket_lifetime=60.0))
    server = bed.contexts.server
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bed.watcher().run)
        (bed.folder / "mx.key").unlink()
        await trio.sleep(65)
        nursery.cancel_scope.cancel()
    assert bed.contexts.server is server
    assert all("mx.key: No such file" in trouble for trouble in bed.troubles)
    assert len(bed.troubles) == 2
