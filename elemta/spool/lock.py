"""One process per spool: a file lock that the kernel gives up when the process is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from .errors import SpoolForeign, SpoolInUse
from .folder import refusal

LOCK = "lock"
"""In the state folder."""


class SpoolLock:
    """Held from construction until `release`, or until the process ends however it may."""

    def __init__(self, state_dir: Path) -> None:
        """Take the lock.

        Raises:
          SpoolInUse: another process has it.
          SpoolForeign: the file cannot be written.
        """
        path = state_dir / LOCK
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as cause:
            raise refusal(path, cause) from cause
        try:
            self._take(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise SpoolInUse(f"{path.parent} is in use by {self._holder()}") from cause
        except OSError as cause:
            raise SpoolForeign(
                f"{path} cannot be locked ({cause.strerror}); use a local file system"
            ) from cause
        os.fchmod(self._descriptor, 0o600)
        # Whose it is serves one message to people. A full disk, which a start must survive, may have no room.
        with contextlib.suppress(OSError):
            number = f"{os.getpid()}\n".encode()
            os.pwrite(self._descriptor, number, 0)
            os.ftruncate(self._descriptor, len(number))

    def _holder(self) -> str:
        number = os.pread(self._descriptor, 20, 0).strip()
        return f"process {number.decode()}" if number.isdigit() and number.isascii() else "another process"

    def release(self) -> None:
        """Give the lock up. The file stays: unlinking it would let two processes lock two files."""
        os.close(self._descriptor)
