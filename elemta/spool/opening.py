"""Opening and closing the spool: the order in which it is locked, checked, recovered, run and shut."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import attrs
import trio

from elemta.config import SpoolConfig
from elemta.runtime import SystemClock, ThreadPool, WallClock

from .database import check_soundness, open_readonly
from .errors import SpoolForeign, SpoolFull
from .folder import SPOOL, prepare
from .handover import Handover
from .indexing import Indexing
from .janitor import Janitor
from .lock import SpoolLock
from .queries import SqliteReader
from .readers import Reader
from .recover import Recovery, recover, sweep_orphans
from .space import Space, give_up_ballast
from .spool import Spool
from .sqlite import DATABASE, SqliteStore
from .store import Store, StoreReader
from .writer import Writer

_CHECK_SECONDS = 5.0
_FILE_THREADS = 4
_FIRST_LEASE_BITS = 40


@asynccontextmanager
async def open_spool(
    state_dir: Path,
    config: SpoolConfig,
    *,
    message_size: int,
    lease: float = 900.0,
    clock: WallClock,
    random: Random,
    on_trouble: Callable[[str, str], None],
    store: Store | None = None,
) -> AsyncGenerator[Spool, None]:
    """The spool in `state_dir`, locked, checked and recovered; shut when the block is left.

    `message_size` is the largest message that may come, `lease` how long an attempt may hold a
    recipient. A `store` that is given is used as it is, without lock and checks, and closed at the
    end. `on_trouble(what, detail)` is sync and must not raise.

    Leaving the block writes what was recorded, also when it is cancelled. If storage fails, the
    block is cancelled and `SpoolUnavailable` is raised (in a group).

    Raises (on entering):
      SpoolInUse: another process has it.
      SpoolForeign: it is not ours, damaged, newer, or not as private as it must be.
      SpoolFull, SpoolUnavailable: the disk is full, or does not work.
    """
    with ExitStack() as stack:
        if store is None:
            # In a thread, because a large database is checked for seconds.
            recovered = await trio.to_thread.run_sync(_open_store, state_dir, clock, stack)
        else:
            stack.callback(store.close)
            recovered = store, recover(store, clock.time())
        store, recovery = recovered
        for corrupt in recovery.corrupt:
            on_trouble("corrupt", f"{corrupt.message}: {corrupt.problem}")
        for note in recovery.notes:
            on_trouble("note", note)
        readers = (Reader(store, "spool-looks"), Reader(store, "spool-bodies"))
        for reader in readers:
            stack.callback(reader.close)
        files = ThreadPool("spool-files", _FILE_THREADS)
        space, janitor = None, None
        if store.directory is not None:
            space = Space(store.directory, config, message_size=message_size, current_time=time.monotonic)
            janitor = Janitor(store.directory, space, files)
            stack.callback(janitor.finish)
        # A random start: a lease of an earlier life of this process means nothing now.
        handover = Handover(
            clock, lease=lease, first=random.getrandbits(_FIRST_LEASE_BITS) + 1, on_trouble=on_trouble
        )
        writer = Writer(store, handover, alarm=config.alarm, on_trouble=on_trouble, janitor=janitor)
        spool = Spool(
            store,
            writer,
            handover,
            clock=clock,
            inline_size=config.inline_size,
            draft_memory=config.draft_memory,
            space=space,
            readers=readers,
            files=files,
            recovery=recovery,
            on_trouble=on_trouble,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run, name="spool writer")
            indexing = Indexing(writer, readers[0])
            if janitor is not None:
                nursery.start_soon(janitor.run, name="spool janitor")
                nursery.start_soon(indexing.run, name="index of searches")
            try:
                yield spool
            finally:
                indexing.stop()
                # The writer ignores cancellation and ends by itself, when all is written.
                writer.close()
                if janitor is not None:
                    janitor.stop()


def _open_store(state_dir: Path, clock: WallClock, stack: ExitStack) -> tuple[Store, Recovery]:
    store, notes = _open_locked(state_dir, stack)
    return store, attrs.evolve(_recover(store, clock), notes=notes)


def _recover(store: SqliteStore, clock: WallClock) -> Recovery:
    try:
        # A server that crashes soon after each start would never come to it, and the log would grow for ever.
        # On a full disk the log begins anew in the space that it has, so what follows may find room.
        store.checkpoint()
    except SpoolFull:
        pass
    try:
        return recover(store, clock.time())
    except SpoolFull:
        # A start on a full disk is what the ballast is for, too; new mail is refused afterwards.
        if store.directory is None or not give_up_ballast(store.directory):
            raise
        return recover(store, clock.time())


def _open_locked(state_dir: Path, stack: ExitStack) -> tuple[SqliteStore, tuple[str, ...]]:
    """Lock, open and check; what is to be undone goes to the stack."""
    spool = prepare(state_dir)
    stack.callback(SpoolLock(state_dir).release)
    store = SqliteStore.open(spool)
    stack.callback(store.close)
    note = check_soundness(
        store.connection, spool / DATABASE, seconds=_CHECK_SECONDS, monotonic=time.monotonic
    )
    return store, (note,) if note else ()


@contextmanager
def open_offline(state_dir: Path, *, clock: WallClock = SystemClock()) -> Generator[Store, None, None]:  # noqa: B008
    """The store of a spool that no server runs on, for commands that change it.

    Each change stands between `begin` and `commit`. Attempts that a dead server left are released.

    Raises (on entering):
      SpoolInUse: a server runs; ask it.
      SpoolForeign: there is no spool, or it is not usable.
      SpoolFull, SpoolUnavailable: the disk is full, or does not work.
    """
    if not (state_dir / SPOOL / DATABASE).exists():
        raise SpoolForeign(f"there is no spool in {state_dir}")
    with ExitStack() as stack:
        store, _ = _open_locked(state_dir, stack)
        _recover(store, clock)
        yield store
        sweep_orphans(store)


@contextmanager
def open_readonly_spool(state_dir: Path) -> Generator[StoreReader, None, None]:
    """A look into a spool, whether or not a server runs on it. Cannot change anything.

    Raises (on entering):
      SpoolForeign: there is no spool, or it is not ours.
    """
    reader = SqliteReader(open_readonly(state_dir / SPOOL / DATABASE))
    try:
        yield reader
    finally:
        reader.close()
