"""Accounts from a table in SQLite, of which each login reads its own row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar

from elemta.runtime import ThreadPool, get_logger, run_in_thread

from .hashing import HashingPool
from .keyfile import AuthFilesError
from .passwords import Cost
from .recent import RecentChecks
from .recordstore import RecordStore
from .sealing import Sealer
from .seen import SeenAccounts
from .store import Account, StoreUnavailable
from .users import UserRecord
from .usertable import TableUnusable, UserTable

T = TypeVar("T")

_log = get_logger(__name__)


class TableStore(RecordStore):
    """A table of accounts.

    A table that cannot be read lets nobody in (`StoreUnavailable`); sessions that are logged in go on with
    what was read last. A file that takes the place of the one at the path is used from the next question on.

    Raises:
      AuthFilesError: of the constructor, which opens the table.
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
        self._reading = ThreadPool("users-table", 1)
        self._seen = SeenAccounts()
        self._table: UserTable | None = UserTable(path)
        self._version = -1
        self._liken(*self._table.usual(*self._defaults))

    def known(self, name: str) -> Account | None:
        return self._seen.get(name)

    async def _record(self, name: str) -> UserRecord | None:
        record = await self._ask(lambda table: table.read(name))
        self._seen.put(name, record.account if record is not None and not record.disabled else None)
        return record

    async def refresh(self) -> None:
        try:
            version = await self._ask(lambda table: table.version())
            if version == self._version:
                return
            self._liken(*await self._ask(lambda table: table.usual(*self._defaults)))
            for name in self._seen.due():
                await self._record(name)
        except StoreUnavailable as error:
            _log.warning("accounts are as they were", reason=str(error))
        else:
            self._version = version

    async def _ask(self, question: Callable[[UserTable], T]) -> T:
        try:
            return await run_in_thread(self._reading, self._answer, question)
        except (TableUnusable, AuthFilesError) as error:
            raise StoreUnavailable(str(error)) from error

    def _answer(self, question: Callable[[UserTable], T]) -> T:
        """Blocking, one at a time. After an error the table is opened anew."""
        table = self._table
        if table is None or table.replaced:
            if table is not None:
                self._table = None
                table.close()
            self._version = -1
            table = self._table = UserTable(self._path)
        try:
            return question(table)
        except TableUnusable:
            self._table = None
            table.close()
            raise
