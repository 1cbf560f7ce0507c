"""Does an account send like itself? If not, its mail is held until somebody has looked (a stolen password).

What an account usually sends in an hour is learnt from its own past; a burst is many times that. Other signs
are recipients that next hops or we ourselves refuse, and networks that it was never seen in. What is learnt
lives in the memo and may be lost; that an account is held is a file in the state folder, which an operator's
command removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from elemta.config import BreakerAction, BreakerConfig
from elemta.runtime import Memo, WallClock, get_logger

_log = get_logger(__name__)

HOUR = 3600.0
KEEP = 60 * 86400.0
"""How long it is remembered what an account usually does, counted from its last message."""
MOST_ACCOUNTS = 10_000
MOST_MESSAGES = 20_000
"""Messages whose refusals can still be told to an account."""
MOST_NETWORKS = 24
"""Networks that an account is known in; the one seen longest ago is forgotten."""
READ_SECONDS = 2.0
_WEIGHT = 0.25
"""Of the last hour in what is usual."""
_HEAD = struct.Struct(">dd")
_NETWORK = 8
FOLDER = "held-accounts"


@attrs.define
class _Habits:
    usual: float = 0.0
    """Recipients in an hour in which it sends."""
    since: float = 0.0
    """When this hour of it began."""
    networks: OrderedDict[bytes, None] = attrs.field(factory=OrderedDict)
    recipients: int = 0
    refused: int = 0
    strange: set[bytes] = attrs.field(factory=set)
    """Networks that are new in this hour."""

    def roll(self, now: float) -> None:
        """Learn from an hour that is over."""
        if self.since <= now < self.since + HOUR:
            return
        if self.recipients:
            self.usual += _WEIGHT * (self.recipients - self.usual)
        self.since, self.recipients, self.refused = now, 0, 0
        self.strange.clear()

    def pack(self) -> bytes:
        return _HEAD.pack(self.usual, self.since) + b"".join(self.networks)


@attrs.frozen
class Habits:
    """What an account does, as far as the breaker knows it."""

    usual: float
    """Recipients in an hour in which it sends."""
    recipients: int
    """In this hour of it."""
    refused: int
    """Of these, by whomever."""
    networks: int
    """In which it is known."""
    new_networks: int
    """Among them, in this hour."""


@attrs.frozen
class BreakerStatistics:
    accounts: int
    """That are watched now."""
    held: tuple[str, ...]
    """Accounts whose mail is held."""


def hold_reason(account: str, finding: str = "") -> str:
    """Why messages are held; without a finding, how all such reasons of the account begin."""
    return f"account {account}: {finding}"


class Breaker:
    """Watches all accounts.

    Args:
      folder: the state folder; None: what is held is forgotten at the end.
      tell: called with account and finding when the breaker has tripped. Sync, must not raise.
    """

    def __init__(
        self,
        config: BreakerConfig,
        memo: Memo,
        clock: WallClock,
        folder: Path | None,
        tell: Callable[[str, str], None],
    ) -> None:
        self.config = config
        """May be replaced at any time."""
        self._memo = memo
        self._clock = clock
        self._folder = None if folder is None else folder / FOLDER
        self._tell = tell
        self._habits: OrderedDict[str, _Habits] = OrderedDict()
        self._messages: OrderedDict[str, str] = OrderedDict()
        self._held = read_held(folder) if folder is not None else {}
        self._written = set(self._held)
        """Held accounts that have a file: where that is gone they were released."""

    @property
    def active(self) -> bool:
        return self.config.action is not BreakerAction.OFF

    async def seen(self, account: str, network: str) -> None:
        """The account begins a message, from a client in that network."""
        habits = await self._find(account)
        habits.roll(self._clock.time())
        key = hashlib.blake2b(network.encode(), digest_size=_NETWORK).digest()
        if key in habits.networks:
            habits.networks.move_to_end(key)
            return
        if habits.networks or habits.usual:  # the first one of a new account is not strange
            habits.strange.add(key)
        habits.networks[key] = None
        while len(habits.networks) > MOST_NETWORKS:
            habits.networks.popitem(last=False)

    def hold(self, account: str, message: str, recipients: int) -> str | None:
        """A message of the account is about to be stored: why it is to be held, or None. Sync."""
        habits = self._habits.get(account)
        if habits is None:
            habits = self._habits[account] = _Habits(since=self._clock.time())
        habits.roll(self._clock.time())
        habits.recipients += recipients
        self._messages[message] = account
        while len(self._messages) > MOST_MESSAGES:
            self._messages.popitem(last=False)
        held = self._held_for(account)
        if held is None and (finding := self._judge(habits)):
            self._trip(account, habits, finding)
            held = self._held_for(account)
        self._memo.put(_key(account), habits.pack(), self._clock.time() + KEEP)
        return None if held is None else hold_reason(account, held)

    def refused(self, message: str) -> None:
        """A next hop has refused a recipient of this message for good. Sync."""
        account = self._messages.get(message)
        if account is not None:
            self.refused_for(account)

    def refused_for(self, account: str) -> None:
        """A recipient of this account's is refused, by whomever. Sync."""
        habits = self._habits.get(account)
        if habits is None:
            return  # it has not begun a message: nothing to learn, and nobody to be held
        habits.roll(self._clock.time())
        habits.refused += 1
        if self.active and self._held_for(account) is None and (finding := self._judge(habits)):
            self._trip(account, habits, finding)

    def statistics(self) -> BreakerStatistics:
        return BreakerStatistics(len(self._habits), tuple(self.held()))

    def held(self) -> dict[str, str]:
        """The accounts whose mail is held, by name, and why."""
        found = {account: self._held_for(account) for account in sorted(self._held)}
        return {account: finding for account, finding in found.items() if finding is not None}

    async def habits(self, account: str) -> Habits:
        """What the account does. Cancelling is safe."""
        found = self._habits.get(account)
        if found is None:
            with trio.move_on_after(READ_SECONDS):
                found = _read(await self._memo.get(_key(account)), self._clock.time())
        if found is None:
            return Habits(0.0, 0, 0, 0, 0)
        found.roll(self._clock.time())
        return Habits(found.usual, found.recipients, found.refused, len(found.networks), len(found.strange))

    def release(self, account: str) -> bool:
        """Let the account send again; whether it was held. What is held of its mail stays so. Sync.

        Raises:
          OSError: what was written down cannot be removed; it stays held.
        """
        if self._held_for(account) is None:
            return False
        if self._folder is not None:
            (self._folder / _name(account)).unlink(missing_ok=True)
        self._written.discard(account)
        del self._held[account]
        return True

    def _judge(self, habits: _Habits) -> str:
        config = self.config
        most = max(float(config.recipients), config.factor * habits.usual)
        if habits.recipients > most:
            return f"{habits.recipients} recipients in this hour, usual are {habits.usual:.0f}"
        if config.refused and habits.refused >= config.refused:
            return f"{habits.refused} recipients refused in this hour"
        if config.networks and len(habits.strange) >= config.networks:
            return f"{len(habits.strange)} new networks in this hour"
        return ""

    def _trip(self, account: str, habits: _Habits, finding: str) -> None:
        # What tripped it must not trip it again once it is released
        habits.recipients = habits.refused = 0
        habits.strange.clear()
        if self.config.action is BreakerAction.HOLD:
            self._held[account] = finding
            if self._folder is not None and _write_held(self._folder, account, finding):
                self._written.add(account)
        self._tell(account, finding)

    def _held_for(self, account: str) -> str | None:
        """Why, as long as nobody has released it."""
        finding = self._held.get(account)
        if finding is None or self._folder is None or account not in self._written:
            return finding
        if not (self._folder / _name(account)).exists():
            self._written.discard(account)
            del self._held[account]
            return None
        return finding

    async def _find(self, account: str) -> _Habits:
        habits = self._habits.get(account)
        if habits is not None:
            self._habits.move_to_end(account)
            await trio.lowlevel.checkpoint_if_cancelled()
            return habits
        found: bytes | None = None
        with trio.move_on_after(READ_SECONDS):
            found = await self._memo.get(_key(account))
        habits = self._habits.setdefault(account, _read(found, self._clock.time()))
        while len(self._habits) > MOST_ACCOUNTS:
            self._habits.popitem(last=False)
        return habits


def _read(found: bytes | None, now: float) -> _Habits:
    if found is None or len(found) < _HEAD.size or (len(found) - _HEAD.size) % _NETWORK:
        return _Habits(since=now)
    usual, _ = _HEAD.unpack_from(found)
    if not (math.isfinite(usual) and usual >= 0):
        return _Habits(since=now)
    parts = range(_HEAD.size, len(found), _NETWORK)
    return _Habits(usual, now, OrderedDict((found[start : start + _NETWORK], None) for start in parts))


def _name(account: str) -> str:
    return hashlib.blake2b(account.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _key(account: str) -> str:
    return f"habits/{_name(account)}"


def _write_held(folder: Path, account: str, finding: str) -> bool:
    """Small, rare, and wanted before the message is stored: so in the loop."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = folder / f".{_name(account)}"
        temporary.write_text(json.dumps({"account": account, "finding": finding}), encoding="utf-8")
        os.replace(temporary, folder / _name(account))
    except OSError as error:
        _log.error("a held account cannot be written down", account=account, error=str(error))
        return False
    return True


def read_held(state: Path) -> dict[str, str]:
    """The accounts that are held, with the findings; what cannot be read is left out."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for path in sorted((state / FOLDER).iterdir()):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                account, finding = str(record["account"]), str(record["finding"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if path.name == _name(account):
                found[account] = finding
    return found


def let_go(state: Path, account: str) -> bool:
    """Let the account send again; whether it was held. For commands beside the server."""
    try:
        (state / FOLDER / _name(account)).unlink()
    except FileNotFoundError:
        return False
    return True
