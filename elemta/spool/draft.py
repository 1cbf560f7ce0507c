"""A body being received: in memory first, then in a temporary file."""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import trio

from elemta.mail import MessageId, is_id
from elemta.runtime import ThreadPool, run_in_thread

from .budget import MemoryBudget
from .errors import SpoolUnavailable
from .folder import BODIES, INCOMING, storage_error, sync_folder

DIGEST_SIZE = 16
_HEAD = 1024 * 1024
"""Octets of the header block that are kept at hand."""
_BUFFER = 1024 * 1024
"""Octets that gather before they are written to the file; the head must fit."""
_SCARCE_BUFFER = 16 * 1024
"""The same while the memory for all drafts is used up."""


class _State(enum.Enum):
    OPEN = enum.auto()
    FINISHED = enum.auto()
    """The body has its final place; a row may be committed that refers to it."""
    KEPT = enum.auto()
    """A row refers to the body, or may."""
    DISCARDED = enum.auto()


class Draft:
    """One body on its way in. Used by one task; ended by `Spool.commit` or `discard`.

    Up to `inline_size` octets it lives in memory. A larger one goes to a file in pieces of 1 MiB,
    so that its size does not show in the memory of the process. While `memory` is exceeded every body
    goes to its file, in small pieces: a thousand slow clients with a body each are then no burden.
    """

    def __init__(
        self,
        message: MessageId,
        directory: Path | None,
        *,
        inline_size: int,
        pool: ThreadPool,
        on_failure: Callable[[SpoolUnavailable], None],
        memory: MemoryBudget | None = None,
    ) -> None:
        if not is_id(message):
            raise ValueError("not a message id")  # it becomes a file name
        self.message = message
        self._directory = directory
        self._inline_size = inline_size
        self._pool = pool
        self._on_failure = on_failure
        self._memory = memory or MemoryBudget(_BUFFER)
        self._charged = 0
        """Octets that are counted in `memory`."""
        self._buffer = bytearray()
        self._head: bytes | None = None
        """Once its end was seen; of a body in a file also where there is room for all that it can be."""
        self._in_file = False
        self._size = 0
        self._digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
        self._descriptor: int | None = None
        self._state = _State.OPEN

    @property
    def size(self) -> int:
        """Octets written so far."""
        return self._size

    @property
    def head(self) -> bytes:
        """The header block with its empty line, as far as it was written; at most 1 MiB."""
        if self._head is not None:
            return self._head
        start = self._written_start() + self._buffer[:_HEAD] if self._in_file else self._buffer
        if start.startswith(b"\r\n"):
            return b"\r\n"
        end = start.find(b"\r\n\r\n", 0, _HEAD)
        if end < 0:
            return bytes(start[:_HEAD])
        self._head = head = bytes(start[: end + 4])  # it stays what it is, and is asked for several times
        return head

    @property
    def body(self) -> bytes | None:
        """The whole body where it is in memory, `None` where it goes to a file."""
        return None if self._in_file else bytes(self._buffer)

    async def write(self, data: bytes) -> None:
        """Append a piece. Cancelled, it was taken wholly or not at all.

        Gives way to other tasks only where it writes to the disk.

        Raises:
          SpoolFull: the disk is full; the draft can only be discarded.
          SpoolUnavailable: storage failed.
        """
        assert self._state is _State.OPEN
        await trio.lowlevel.checkpoint_if_cancelled()
        self._buffer += data
        self._size += len(data)
        self._digest.update(data)
        self._charge()
        if self._directory is None:
            return
        scarce = self._memory.exceeded
        full = len(self._buffer) >= (_SCARCE_BUFFER if scarce else _BUFFER)
        self._in_file = self._in_file or self._size > self._inline_size or (scarce and full)
        if self._in_file and full:
            await self._in_thread(self._write_out)

    async def written(self) -> Path | None:
        """The file that has all of the body so far, for those who only read; None where it is in memory.

        Raises what `write` raises.
        """
        if not self._in_file:
            await trio.lowlevel.checkpoint()
            return None
        await self._in_thread(self._write_out)
        return self._temporary

    async def read(self, start: int, size: int) -> bytes:
        """So many octets of what was written so far; fewer at its end.

        Raises what `write` raises.
        """
        if not self._in_file:
            await trio.lowlevel.checkpoint()
            return bytes(self._buffer[start : start + size])
        found: list[bytes] = []

        def read() -> None:
            self._write_out()
            assert self._descriptor is not None
            found.append(os.pread(self._descriptor, size, start))

        await self._in_thread(read)
        return found[0]

    async def finish(self) -> None:
        """Bring the body to where a row may refer to it: durable in its file, where it has one.

        Raises what `write` raises.
        """
        assert self._state is _State.OPEN
        if self._in_file:
            await self._in_thread(self._settle)
        self._state = _State.FINISHED

    def digest(self, prefix: bytes) -> bytes:
        """Of the body, then the prefix."""
        digest = self._digest.copy()
        digest.update(prefix)
        return digest.digest()

    def keep(self) -> None:
        """From now on a row refers to the body, or may: `discard` leaves it alone."""
        self._state = _State.KEPT
        self._give_back()

    def discard(self) -> None:
        """Forget the draft and its file; does nothing after a commit. At any time, and again."""
        if self._state in (_State.KEPT, _State.DISCARDED):
            return
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._in_file:
            # What cannot be unlinked now is swept at the next start: no row refers to it.
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._final.unlink(missing_ok=True)
        self._buffer = bytearray()
        self._state = _State.DISCARDED
        self._give_back()

    def _charge(self) -> None:
        """Count what is in memory now."""
        octets = len(self._buffer) + len(self._head or b"")
        self._memory.add(octets - self._charged)
        self._charged = octets

    def _give_back(self) -> None:
        """The memory is no longer a draft's: nobody's, or the queue's."""
        self._memory.add(-self._charged)
        self._charged = 0

    def _written_start(self) -> bytes:
        """What a head can be in of what was written to the file. Read in the loop: it was written just now,
        so the system has it in memory, and only bodies that came while memory was scarce need it."""
        if self._descriptor is not None:
            return os.pread(self._descriptor, _HEAD, 0)
        if self._state is _State.OPEN:
            return b""  # nothing yet
        with self._final.open("rb") as file:
            return file.read(_HEAD)

    # In the thread pool; the task waits, so nothing else touches the draft meanwhile.

    async def _in_thread(self, function: Callable[[], None]) -> None:
        try:
            await run_in_thread(self._pool, function)
        except OSError as cause:
            error = storage_error(cause, f"body of {self.message}")
            if isinstance(error, SpoolUnavailable):
                self._on_failure(error)
            raise error from cause
        finally:
            self._charge()

    @property
    def _temporary(self) -> Path:
        assert self._directory is not None
        return self._directory / INCOMING / self.message

    @property
    def _final(self) -> Path:
        assert self._directory is not None
        return self._directory / BODIES / self.message

    def _write_out(self) -> None:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._temporary, flags, 0o600)
            os.fchmod(self._descriptor, 0o600)
            head = self.head
            if len(head) < len(self._buffer) or not self._memory.exceeded:
                self._head = head  # its end was seen, or there is room for all that it can be
        with memoryview(self._buffer) as rest:
            written = 0
            while written < len(rest):
                written += os.write(self._descriptor, rest[written:])
        self._buffer = bytearray()

    def _settle(self) -> None:
        self._write_out()
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None
        self._temporary.rename(self._final)
        sync_folder(self._final.parent)
