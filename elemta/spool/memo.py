"""A memo with a file behind it: hints that outlive a restart, and whose loss is harmless.

Theory of operation
-------------------
`put` changes memory only. A task writes what has gathered once a second, in batches, in a thread;
then it deletes what has expired and what is too much, some hundred entries at a time. `get` looks
into memory and asks the file, in another thread, only for what is not there. So nobody ever waits
for a write, and who waits for a read can leave at any time.

Each namespace has its own bounds, in memory and in the file. What is too much goes: in memory the
entries used longest ago, in the file those that would expire first (of greylisting, that is those
who never came again).

A file that is damaged is set aside and begun anew, once. One that cannot be used (read-only, full,
gone) is tried again each minute, and meanwhile the memory alone remembers. Either is told once.

Threads may be left to themselves when their caller is cancelled: whatever is done here may be done
twice, or not at all. So a disk that does not answer keeps nobody from leaving.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from elemta.runtime import ThreadPool, WallClock, summarize, supervise
from elemta.runtime.threads import in_place

from .memo_file import Entry, Key, MemoDamaged, MemoFile, MemoUnusable, set_aside
from .memo_values import DEFAULT_LIMITS, MemoLimits, MemoStatistics

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LARGEST_KEY = 200
"""Characters."""
LARGEST_VALUE = 4096
"""Octets."""
MOST_NAMESPACES = 1000

_BATCH = 1000
"""Changes that are written in one transaction: some 30 ms of the thread."""
_SWEEP = 500
"""Expired entries of a namespace that are deleted at one time."""
_CLOSING = 5.0
"""Seconds that writing may take when the memo is closed; what is not written then is lost."""


class FileMemo:
    """What `open_memo` gives; see `elemta.runtime.Memo` for what it promises."""

    def __init__(
        self,
        path: Path | None,
        *,
        clock: WallClock,
        on_trouble: Callable[[str, str], None],
        limits: MemoLimits = DEFAULT_LIMITS,
        open_file: Callable[[Path], MemoFile] = MemoFile,
    ) -> None:
        """Use `open_memo`. Without a path it remembers in memory only, and needs no task."""
        self._path = path
        self._open_file = open_file
        self._clock = clock
        self._on_trouble = on_trouble
        self._limits = limits
        self._file: MemoFile | None = None
        self._memory: dict[str, _Recent] = {}
        self._pending: OrderedDict[Key, Entry | None] = OrderedDict()
        self._writing: OrderedDict[Key, Entry | None] = OrderedDict()
        self._changed = trio.Event()
        self._unusable = False
        """It was told that there is no file now."""
        self._keeps_damaged = False
        """A file that seems damaged stays where it is: it was begun anew before, or could not be used, after
        which SQLite calls sound files damaged (RELIABILITY 0.1 item 5)."""
        self._reads = 0
        self._dropped = 0
        self._reading_pool = ThreadPool("memo-reads", 1)
        self._writing_pool = ThreadPool("memo-writes", 1)

    # --- For everybody ----------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        """The value, or None. Waits for the file where memory does not have it; cancelling is safe."""
        split = _split(key)
        found, entry = self._find(split)
        if found or self._file is None:
            await trio.lowlevel.checkpoint()
        else:
            entry = await self._read(split)
        if entry is None or entry[1] <= self._clock.time():
            return None
        return entry[0]

    async def values(self, namespace: str, most: int) -> list[bytes]:
        """What the file has of a namespace, those values first that expire last: for a start, as it knows
        nothing of changes that are still to be written. Cancelling is safe."""
        file = self._file
        if file is None:
            await trio.lowlevel.checkpoint()
            return []
        self._reads += 1
        try:
            return await _in_thread(self._reading_pool, file.read_all, namespace, self._clock.time(), most)
        except (MemoDamaged, MemoUnusable) as error:
            await self._give_up(file, error)
            return []

    def put(self, key: str, value: bytes, expires: float) -> None:
        """Remember the value until that time of the wall clock.

        Raises:
          ValueError: the key has no namespace, it or the value is too large, or it is one namespace too many.
        """
        if len(value) > LARGEST_VALUE:
            raise ValueError(f"a value of {len(value)} octets is too large for a memo")
        if not math.isfinite(expires):
            raise ValueError("what is remembered must expire")
        split = _split(key)
        if split[0] not in self._memory and len(self._memory) >= MOST_NAMESPACES:
            raise ValueError(f"more than {MOST_NAMESPACES} namespaces")
        self._remember(split, (value, expires))
        self._change(split, (value, expires))

    def forget(self, key: str) -> None:
        """Remember it no longer."""
        split = _split(key)
        if split[0] in self._memory:
            self._memory[split[0]].drop(split[1])
        self._change(split, None)

    def statistics(self) -> MemoStatistics:
        return MemoStatistics(
            in_memory={namespace: len(recent.entries) for namespace, recent in self._memory.items()},
            in_file=dict(self._file.counts) if self._file is not None else {},
            pending=len(self._pending) + len(self._writing),
            reads=self._reads,
            dropped=self._dropped,
            usable=self._file is not None,
        )

    # --- Memory -----------------------------------------------------------------------------------------

    def _find(self, key: Key) -> tuple[bool, Entry | None]:
        """Whether memory knows, and what; what was forgotten is known to be nothing."""
        for changes in (self._pending, self._writing):
            if key in changes:
                return True, changes[key]
        recent = self._memory.get(key[0])
        entry = recent.find(key[1]) if recent is not None else None
        return entry is not None, entry

    def _remember(self, key: Key, entry: Entry) -> None:
        namespace, rest = key
        recent = self._memory.get(namespace)
        if recent is None:
            recent = self._memory[namespace] = _Recent(self._limits)
        recent.keep(rest, entry)

    def _change(self, key: Key, entry: Entry | None) -> None:
        if self._path is None:
            return
        self._pending[key] = entry
        self._pending.move_to_end(key)
        if len(self._pending) > self._limits.pending:
            self._pending.popitem(last=False)
            self._dropped += 1
        self._changed.set()

    # --- The file ---------------------------------------------------------------------------------------

    async def _read(self, key: Key) -> Entry | None:
        file = self._file
        assert file is not None
        self._reads += 1
        try:
            entry = await _in_thread(self._reading_pool, file.read, key)
        except (MemoDamaged, MemoUnusable) as error:
            await self._give_up(file, error)
            return None
        known, newer = self._find(key)
        if known:  # changed while the thread was reading
            return newer
        if entry is not None and entry[1] > self._clock.time() and len(self._memory) < MOST_NAMESPACES:
            self._remember(key, entry)
        return entry

    async def open(self, damage: str = "") -> None:
        """Open the file, or begin it anew because of its `damage`; where that fails, go on in memory."""
        assert self._path is not None
        try:
            self._file, damage = await _in_thread(self._writing_pool, self._open_now, self._path, damage)
        except (MemoDamaged, MemoUnusable) as error:
            self._tell_unusable(error)
            return
        if damage:
            self._keeps_damaged = True
            self._on_trouble("memo-damaged", damage)
        if self._unusable:
            self._unusable = False
            self._on_trouble("memo-recovered", f"{self._path} is used again")

    def _open_now(self, path: Path, damage: str) -> tuple[MemoFile, str]:
        """The file, and what is to be told where it was begun anew. Runs in a thread."""
        if not damage:
            try:
                return self._open_file(path), ""
            except MemoDamaged as error:
                if self._keeps_damaged:
                    raise
                damage = str(error)
        aside = set_aside(path)
        told = f"{path} was damaged ({damage}) and begun anew; the old one is {aside.name}"
        return self._open_file(path), told

    async def run(self) -> None:
        """Write, delete and try again until cancelled."""
        more = False
        while True:
            if self._file is None:
                await trio.sleep(self._limits.retry_pause)
                await self.open()
                continue
            if not more:
                with trio.move_on_after(self._limits.sweep_pause):
                    await self._changed.wait()
            await trio.sleep(self._limits.write_pause)
            await self._write_batch()
            more = await self._sweep()
            # Without a pause where changes come faster than a batch a second. Each batch is followed by a
            # sweep that deletes more than a batch, so the file stays within its bound.
            while self._file is not None and len(self._pending) >= _BATCH:
                await self._write_batch()
                more = await self._sweep()

    async def close(self) -> None:
        """Write what is left and close the file. For when `run` has ended."""
        while self._file is not None and self._pending:
            await self._write_batch()
        file, self._file = self._file, None
        if file is not None:
            await self._close_file(file)

    async def _write_batch(self) -> None:
        file = self._file
        if file is None or not self._pending:
            await trio.lowlevel.checkpoint()
            return
        while self._pending and len(self._writing) < _BATCH:
            key, entry = self._pending.popitem(last=False)
            self._writing[key] = entry
        if not self._pending:
            self._changed = trio.Event()
        written = False
        try:
            await _in_thread(self._writing_pool, file.write, self._writing)
            written = True
        except (MemoDamaged, MemoUnusable) as error:
            await self._give_up(file, error)
        finally:
            batch, self._writing = self._writing, OrderedDict()
            if not written:  # they wait for the next file; what was changed meanwhile is newer
                self._pending = OrderedDict({**batch, **self._pending})
                self._changed.set()

    async def _sweep(self) -> bool:
        """Delete what has expired, and what is too much, some of each; whether there is more of it."""
        file = self._file
        if file is None:
            await trio.lowlevel.checkpoint()
            return False
        most = self._limits.file_entries
        try:
            return await _in_thread(self._writing_pool, _sweep, file, self._clock.time(), most)
        except (MemoDamaged, MemoUnusable) as error:
            await self._give_up(file, error)
            return False

    async def _give_up(self, file: MemoFile, error: MemoDamaged | MemoUnusable) -> None:
        """Use the file no longer; begin a damaged one anew at once."""
        if self._file is not file:  # somebody else found it first
            await trio.lowlevel.checkpoint()
            return
        self._file = None
        if isinstance(error, MemoUnusable) or self._keeps_damaged:
            self._tell_unusable(error)
        with trio.move_on_after(_CLOSING, shield=True):
            await self._close_file(file)
            if not self._unusable:
                await self.open(str(error))

    async def _close_file(self, file: MemoFile) -> None:
        await _in_thread(self._reading_pool, file.close_reader)
        await _in_thread(self._writing_pool, file.close)

    def _tell_unusable(self, error: Exception) -> None:
        self._keeps_damaged = True
        if not self._unusable:
            self._unusable = True
            self._on_trouble(
                "memo-unusable", f"{self._path} cannot be used, the memory alone remembers: {error}"
            )


class _Recent:
    """The entries of one namespace that were used last."""

    def __init__(self, limits: MemoLimits) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self._limits = limits
        self._octets = 0

    def find(self, rest: str) -> Entry | None:
        entry = self.entries.get(rest)
        if entry is not None:
            self.entries.move_to_end(rest)
        return entry

    def keep(self, rest: str, entry: Entry) -> None:
        self.drop(rest)
        self.entries[rest] = entry
        self._octets += len(rest) + len(entry[0])
        while len(self.entries) > self._limits.memory_entries or self._octets > self._limits.memory_octets:
            self.drop(next(iter(self.entries)))

    def drop(self, rest: str) -> None:
        entry = self.entries.pop(rest, None)
        if entry is not None:
            self._octets -= len(rest) + len(entry[0])


@asynccontextmanager
async def open_memo(
    path: Path | None,
    *,
    clock: WallClock,
    on_trouble: Callable[[str, str], None],
    limits: MemoLimits = DEFAULT_LIMITS,
    open_file: Callable[[Path], MemoFile] = MemoFile,
) -> AsyncGenerator[FileMemo, None]:
    """The memo in a file, whose folder must exist; without a path one in memory only.

    Never fails: where the file cannot be used, the memory alone remembers. `on_trouble(what, detail)`
    is told so (`memo-unusable`, `memo-damaged`, `memo-recovered`); it is sync and must not raise.
    Leaving the block writes what is left, within five seconds, also when it is cancelled.
    """
    memo = FileMemo(path, clock=clock, on_trouble=on_trouble, limits=limits, open_file=open_file)
    if path is None:
        yield memo
        return

    def on_crash(name: str, error: BaseException) -> None:
        on_trouble("memo-crashed", f"{name}: {summarize(error)}")

    await memo.open()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(supervise, "memo", memo.run, on_crash=on_crash), name="memo")
            yield memo
            nursery.cancel_scope.cancel(reason="the memo is closed")
    finally:
        with trio.move_on_after(_CLOSING, shield=True):
            await memo.close()


async def _in_thread(pool: ThreadPool, function: Callable[[*Ts], T], *args: *Ts) -> T:
    """The result of `function(*args)`, from a thread that a cancelled caller leaves behind."""
    if in_place.get():
        await trio.lowlevel.checkpoint()
        return function(*args)
    return await trio.to_thread.run_sync(
        function, *args, limiter=pool.limiter, abandon_on_cancel=True, thread_name=f"elemta-{pool.name}"
    )


def _sweep(file: MemoFile, now: float, most: int) -> bool:
    more = False
    for namespace, count in list(file.counts.items()):
        deleted = file.delete_until(namespace, now, _SWEEP) if count else 0
        excess = count - deleted - most
        if excess > 0:
            file.delete_until(namespace, math.inf, min(excess, 2 * _BATCH))
        more = more or deleted == _SWEEP or excess > 2 * _BATCH
    return more


def _split(key: str) -> Key:
    namespace, slash, rest = key.partition("/")
    if not namespace or not slash or not rest:
        raise ValueError(f"{key!r} has no namespace")
    if len(key) > LARGEST_KEY:
        raise ValueError(f"a key of {len(key)} characters is too large for a memo")
    return namespace, rest
