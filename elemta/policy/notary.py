"""Who checks messages and who signs them, by the configuration in effect; a reload swaps all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from elemta.config import Config
from elemta.dns import Resolver
from elemta.runtime import ThreadPool, WallClock, get_logger, run_in_thread

from .checks import MessageChecks
from .dmarc_report import ReportCollector
from .failure_report import FailureReports
from .sealing import ArcSealer, SealingKey, load_sealing_key
from .signing import DkimSigner, SigningEntry, load_entries

_log = get_logger(__name__)

CHECKING_THREADS = 2
SIGNING_THREADS = 2
"""The arithmetic of keys holds the interpreter only for a part of its time, so more than one gains."""


@attrs.frozen
class NotaryStatistics:
    """Since the start."""

    checked: int = 0
    refused: int = 0
    """Messages, for good or for now."""
    quarantined: int = 0
    signed: int = 0
    sealed: int = 0
    results: tuple[tuple[str, int], ...] = ()
    """How often each result was found, as `method=result`, in the order of their names."""


@attrs.frozen(eq=False)
class PrivateKeys:
    """Private keys as the configuration names them."""

    entries: tuple[SigningEntry, ...] = ()
    sealing: SealingKey | None = None


def load_keys(config: Config, credentials: Path | None) -> PrivateKeys:
    """Read them. Use a thread: some 40 ms for each RSA key.

    Raises:
      SigningError: some cannot be used.
    """
    return PrivateKeys(
        load_entries(config.signing, credentials, config.domains.local),
        load_sealing_key(config.policy.arc, credentials),
    )


class Notary:
    """What sessions let messages be checked, signed and sealed by. One for the whole server.

    Args:
      keys: what `load_keys` read for the same configuration.
    """

    def __init__(self, config: Config, keys: PrivateKeys, resolver: Resolver, clock: WallClock) -> None:
        self._resolver = resolver
        self._clock = clock
        self._checking_pool = ThreadPool("checks", CHECKING_THREADS)
        self._signing_pool = ThreadPool("signing", SIGNING_THREADS)
        self.checks = MessageChecks(config, resolver, clock, self._checking_pool)
        """Another one after each reload: what has hashed a message by one is to check it by the same."""
        self.signer: DkimSigner | None = None
        """None: no key is configured."""
        self.sealer: ArcSealer | None = None
        self.reports: ReportCollector | None = None
        """Takes what DMARC found; None: nobody is told."""
        self.failures = FailureReports(config.policy.dmarc, clock)
        self._counts: dict[str, int] = {}
        self._results: dict[str, int] = {}
        self.replace(config, keys)

    async def prepare(self, config: Config, credentials: Path | None) -> Callable[[], None]:
        """Read the keys of another configuration; what puts it to use, which is sync and cannot fail.

        Raises:
          SigningError: a key cannot be used; nothing has changed.
        """
        keys = await run_in_thread(self._signing_pool, load_keys, config, credentials)
        return lambda: self.replace(config, keys)

    def replace(self, config: Config, keys: PrivateKeys) -> None:
        """Work by another configuration from now on; messages under way keep what they began with."""
        self.checks = MessageChecks(config, self._resolver, self._clock, self._checking_pool)
        self.failures.replace(config.policy.dmarc)
        pool, clock = self._signing_pool, self._clock
        self.signer = DkimSigner(keys.entries, clock, pool) if keys.entries else None
        self.sealer = ArcSealer(keys.sealing, self.checks.authserv_id, clock, pool) if keys.sealing else None

    def sign_own(self, message: bytes) -> bytes:
        """The signatures to put before a notice or another message of this server; empty where there is no
        key for its domain. Sync, never raises: what cannot be signed goes out without."""
        if self.signer is None:
            return b""
        try:
            fields = self.signer.sign_own(message)
        except Exception:
            _log.exception("a message of our own could not be signed")
            return b""
        if fields:
            self.count("signed")
        return fields

    def count(self, what: str, results: tuple[str, ...] = ()) -> None:
        """Count a message for `statistics`, by the name of one of its fields."""
        self._counts[what] = self._counts.get(what, 0) + 1
        for each in results:
            self._results[each] = self._results.get(each, 0) + 1

    def statistics(self) -> NotaryStatistics:
        """How many messages had what done to them."""
        return NotaryStatistics(**self._counts, results=tuple(sorted(self._results.items())))
