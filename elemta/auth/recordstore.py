"""What stores that have the accounts' own records share: verdicts on passwords, SCRAM, secrets."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from random import Random

from elemta.runtime import get_logger

from .hashing import HashingPool
from .passwords import SALT_OCTETS, Cost, PasswordHash, Recipe, find_match
from .recent import RecentChecks, Verdict
from .sealing import SealBroken, Sealer
from .store import Account, CredentialStore, Proved, ScramAccount
from .users import UserRecord

_NOBODY = b"\0" * 16
_log = get_logger(__name__)


class RecordStore(CredentialStore):
    """A store that gives a record for a name; what is asked of stores is worked out from it here."""

    def __init__(
        self, hashing: HashingPool, recent: RecentChecks, random: Random, sealer: Sealer | None = None
    ) -> None:
        self._hashing = hashing
        self._recent = recent
        self._random = random
        self._sealer = sealer
        self._iterations = 0
        self._nobody: PasswordHash | None = None

    @abstractmethod
    async def _record(self, name: str) -> UserRecord | None:
        """What the store has of the name now, disabled or not. Raises StoreUnavailable."""

    def _liken(self, cost: Cost, iterations: int) -> None:
        """Let unknown names cost, and be told, what most accounts do."""
        self._iterations = iterations
        if self._nobody is None or self._nobody.recipe.cost != cost:
            # no password has this hash: it was not computed from one
            recipe = Recipe(cost, self._random.randbytes(SALT_OCTETS))
            self._nobody = PasswordHash(recipe, self._random.randbytes(recipe.octets))

    async def _usable(self, name: str) -> UserRecord | None:
        """The account's record, if it may be used."""
        record = await self._record(name)
        return record if record is not None and not record.disabled else None

    def scram_iterations(self) -> int:
        return self._iterations

    async def find(self, name: str) -> Account | None:
        record = await self._usable(name)
        return record.account if record else None

    async def check_password(self, name: str, password: str) -> Proved | None:
        record = await self._usable(name)
        state = _state(record)
        verdict = self._recent.find(name, state, password)
        if verdict is None:
            hashes = record.hashes() if record else ()
            assert self._nobody is not None, "it was said what unknown names cost"
            computed = hashes or (("password", self._nobody),)
            credential = await self._hashing.run(find_match, password, computed)
            verdict = Verdict(credential if hashes else None)
            self._recent.remember(name, state, password, verdict)
        if record is None or verdict.credential is None:
            return None
        return Proved(record.account, verdict.credential)

    async def scram(self, name: str) -> ScramAccount | None:
        record = await self._usable(name)
        return record.scram() if record else None

    async def recoverable_secrets(self, name: str) -> tuple[tuple[str, bytes], ...]:
        record = await self._usable(name)
        if record is None or self._sealer is None:
            return ()
        found = []
        for secret in record.secrets:
            if secret.sealed is None:
                continue
            try:
                found.append((secret.credential, self._sealer.open(name, secret.credential, secret.sealed)))
            except SealBroken as error:
                _log.error(str(error))
        return tuple(found)


def _state(record: UserRecord | None) -> bytes:
    """Another one whenever the account's record is another one."""
    if record is None:
        return _NOBODY
    return hashlib.blake2b(record.format().encode(), digest_size=16).digest()
