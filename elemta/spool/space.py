"""Room on the disk: when new mail is refused, and the ballast that lets completions be written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from elemta.config import SpoolConfig

from .errors import SpoolError, SpoolFull, SpoolUnavailable
from .folder import BALLAST

_FRESH = 1.0
"""Seconds for which an answer of the file system is believed."""
_MOST_RESERVED = 1024 * 1024 * 1024
_RESERVED_PART = 0.05
_RESERVED_FILES = 1000

Statvfs = Callable[[Path], os.statvfs_result]


def give_up_ballast(directory: Path) -> bool:
    """Delete the ballast of a spool folder; returns whether there was any."""
    try:
        (directory / BALLAST).unlink()
    except OSError:
        return False
    return True


class Space:
    """Watches the file system of one folder. Sync and cheap: at most one look a second."""

    def __init__(
        self,
        directory: Path,
        config: SpoolConfig,
        *,
        message_size: int,
        current_time: Callable[[], float],
        statvfs: Statvfs = os.statvfs,
    ) -> None:
        self._directory = directory
        self._config = config
        self._message_size = message_size
        self._current_time = current_time
        self._statvfs = statvfs
        self._looked = -_FRESH
        self._status: os.statvfs_result | None = None
        self._ballast = directory / BALLAST

    def check(self, size: int = 0) -> None:
        """Whether there is room for another message of that size.

        Raises:
          SpoolFull: there is not; says what is short.
          SpoolUnavailable: the file system does not answer.
        """
        status = self._look()
        free, reserve = status.f_bavail * status.f_frsize, self._reserve(status)
        if free - size < reserve:
            raise SpoolFull(f"{free >> 20} MiB free in {self._directory}, {reserve >> 20} MiB are kept free")
        # Some file systems have no fixed number of files and say 0.
        files = min(_RESERVED_FILES, int(status.f_files * _RESERVED_PART))
        if status.f_favail < files:
            raise SpoolFull(f"{status.f_favail} files left in {self._directory}, {files} are kept free")

    def _look(self) -> os.statvfs_result:
        # A thread that makes the ballast may come in between, so only the local name is relied on.
        now, status = self._current_time(), self._status
        if status is None or now - self._looked >= _FRESH:
            try:
                self._status = status = self._statvfs(self._directory)
            except OSError as cause:
                raise SpoolUnavailable(f"{self._directory} cannot be asked for room: {cause}") from cause
            self._looked = now
        return status

    def _reserve(self, status: os.statvfs_result) -> int:
        if self._config.min_free:
            return self._config.min_free
        part = int(status.f_blocks * status.f_frsize * _RESERVED_PART)
        return max(self._message_size * 3 // 2, min(part, _MOST_RESERVED))

    # Ballast. Files are touched in a thread or at start-up, except `give_up`, which is one unlink.

    @property
    def has_ballast(self) -> bool:
        return self._config.ballast == 0 or self._ballast.exists()

    def give_up(self) -> bool:
        """Delete the ballast so that what must be written can be; returns whether there was any."""
        self._status = None
        return give_up_ballast(self._directory)

    def make_ballast(self) -> bool:
        """Make the ballast where it is missing and there is room for it; returns whether it is there."""
        if self.has_ballast:
            return True
        try:
            self.check(self._config.ballast)
            descriptor = os.open(
                self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                os.fchmod(descriptor, 0o600)
                os.posix_fallocate(descriptor, 0, self._config.ballast)
            finally:
                os.close(descriptor)
        except (OSError, SpoolError):
            self.give_up()
            return False
        return True
