"""Accounts from a users file, read again when it changes."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import TypeAlias

import attrs
import trio

from elemta.runtime import ThreadPool, get_logger, run_in_thread

from .hashing import HashingPool
from .keyfile import AuthFilesError, read_private
from .passwords import Cost
from .recent import RecentChecks
from .recordstore import RecordStore
from .sealing import Sealer
from .store import Account
from .users import UserRecord, UsersFile, UsersSyntaxError, parse_users

MAX_FILE = 64 << 20
"""Octets: some hundred thousand accounts."""

_log = get_logger(__name__)

_Stamp: TypeAlias = tuple[int, ...]


def load_users(path: Path) -> UsersFile:
    """Read and check a users file. Blocking.

    Raises:
      AuthFilesError: it cannot be used; names every line that is wrong.
    """
    return parse_content(path, read_private(path, MAX_FILE)[0])


def parse_content(path: Path, data: bytes) -> UsersFile:
    """The accounts in the content of a users file.

    Raises:
      AuthFilesError: it is no UTF-8, or names every line that is wrong.
    """
    try:
        return parse_users(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AuthFilesError(path, f":{line}: is not UTF-8") from None
    except UsersSyntaxError as error:
        raise AuthFilesError(path, *(f":{line}: {reason}" for line, reason in error.problems)) from None


def _stamp(facts: os.stat_result) -> _Stamp:
    """Changes whenever the file does, its mode included."""
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@attrs.frozen(eq=False)
class _Content:
    """The file as it was read at one moment."""

    users: UsersFile
    stamp: _Stamp
    cost: Cost
    """Of an unknown name: that of most accounts."""
    iterations: int


def _load(path: Path, default_cost: Cost, default_iterations: int) -> _Content:
    """Everything that takes time with many accounts."""
    data, facts = read_private(path, MAX_FILE)
    users = parse_content(path, data)
    iterations = users.usual_iterations(default_iterations)
    return _Content(users, _stamp(facts), users.usual_cost(default_cost), iterations)


class FileStore(RecordStore):
    """A users file.

    A changed file that has a mistake, or is open to others, changes nothing and is told once in the log.

    Raises:
      AuthFilesError: of the constructor, which reads the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        hashing: HashingPool,
        recent: RecentChecks,
        random: Random,
        cost: Cost,
        iterations: int,
        sealer: Sealer | None = None,
    ) -> None:
        super().__init__(hashing, recent, random, sealer)
        self._path = path
        self._defaults = (cost, iterations)
        self._reading = ThreadPool("users-file", 1)
        self._turn = trio.Lock()
        self.problem = ""
        """Why the file as it is now is not in use; empty where it is."""
        self._use(_load(path, *self._defaults))

    def _use(self, content: _Content) -> None:
        self._users = content.users
        self._seen = content.stamp
        self._liken(content.cost, content.iterations)

    def known(self, name: str) -> Account | None:
        record = self._users.records.get(name)
        return record.account if record is not None and not record.disabled else None

    async def _record(self, name: str) -> UserRecord | None:
        await self.refresh()
        return self._users.records.get(name)

    async def refresh(self) -> None:
        """Read the file again if it has changed. Those who come meanwhile wait for the new content."""
        async with self._turn:
            # two microseconds; a thread for it would cost fifty times as much
            if self._current_stamp() == self._seen:
                return
            try:
                content = await run_in_thread(self._reading, _load, self._path, *self._defaults)
            except AuthFilesError as error:
                self._seen = self._current_stamp()
                self.problem = str(error)
                for line in self.problem.splitlines():
                    _log.error(f"the users file is not in use as it is now: {line}")
            else:
                self.problem = ""
                self._use(content)
                _log.info("read the users file again", accounts=len(content.users.records))

    def _current_stamp(self) -> _Stamp:
        try:
            return _stamp(os.stat(self._path))
        except OSError as error:
            return (error.errno or 0,)
