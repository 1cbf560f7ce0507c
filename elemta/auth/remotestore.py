"""What stores that are asked over the network share: deadlines, a bound on questions, what is remembered."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from elemta.runtime import get_logger

from .recent import RecentChecks, Verdict
from .seen import SeenAccounts
from .store import Account, CredentialStore, Proved, StoreUnavailable

T = TypeVar("T")

CONNECTIONS = 20
"""Questions at once; a connection each."""
WAITING = 100
"""Most questions that wait for one of those; more means that the store is slow or somebody floods us."""
RECHECK = 60.0
"""Seconds after which it is asked again whether an account that is in use still is one."""

_REMOTE = b"remote"
_log = get_logger(__name__)


class RemoteStore(CredentialStore):
    """A store in another process or on another machine.

    A password that was right is known for a while (`RecentChecks`) without a question; one that was wrong is
    asked about each time, as it may be right by now. A store that is late, gone, or gives an answer that
    makes no sense is `StoreUnavailable`, whatever it was asked.
    """

    has_recoverable_secrets = False

    def __init__(self, what: str, timeout: float, recent: RecentChecks) -> None:
        self._what = what
        self._seconds = timeout
        self._recent = recent
        self._seen = SeenAccounts()
        self._limiter = trio.CapacityLimiter(CONNECTIONS)

    @abstractmethod
    async def _look_up(self, name: str) -> Account | None:
        """Ask who that is. Raises StoreUnavailable; a deadline is around it."""

    @abstractmethod
    async def _verify(self, name: str, password: str) -> Proved | None:
        """Ask whether that is the password. A name that is unknown costs the same questions."""

    def known(self, name: str) -> Account | None:
        return self._seen.get(name)

    async def find(self, name: str) -> Account | None:
        account = await self._asking(lambda: self._look_up(name))
        self._seen.put(name, account)
        return account

    async def check_password(self, name: str, password: str) -> Proved | None:
        account = self._seen.get(name)
        verdict = self._recent.find(name, _REMOTE, password)
        if account is not None and verdict is not None and verdict.credential is not None:
            return Proved(account, verdict.credential)
        proved = await self._asking(lambda: self._verify(name, password))
        if proved is not None:
            self._seen.put(name, proved.account)
            self._recent.remember(name, _REMOTE, password, Verdict(proved.credential))
        return proved

    async def recoverable_secrets(self, name: str) -> tuple[tuple[str, bytes], ...]:
        await trio.lowlevel.checkpoint()
        return ()

    async def refresh(self) -> None:
        """Ask again about accounts in use; one question at a time, as nobody waits for it."""
        try:
            for name in self._seen.due(RECHECK):
                await self.find(name)
        except StoreUnavailable as error:
            _log.warning("accounts are as they were", reason=str(error))

    async def _asking(self, question: Callable[[], Awaitable[T]]) -> T:
        if self._limiter.statistics().tasks_waiting >= WAITING:
            raise StoreUnavailable(f"{self._what}: too many questions wait for an answer")
        with trio.move_on_after(self._seconds):
            async with self._limiter:
                return await question()
        raise StoreUnavailable(f"{self._what}: no answer in time")
