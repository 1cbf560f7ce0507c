"""What the tests of accounts and exchanges share: a store in a dict, a memo in a dict, quick hashes."""

from __future__ import annotations

import hmac
import random
from collections import Counter

from elemta.auth import (
    Accepted,
    Account,
    AuthClient,
    Authenticator,
    Challenge,
    CredentialStore,
    Introspect,
    Proved,
    Refused,
    ScramAccount,
    StoreUnavailable,
    parse_sender_pattern,
)
from elemta.auth.passwords import Cost
from elemta.auth.scram import derive_keys
from elemta.config import AuthConfig, AuthMechanism
from elemta.runtime import TrioWallClock

QUICK = Cost(memory=8, passes=1)
"""The least that argon2 takes: microseconds."""
SALT = b"sixteen octets.."
PEER = "203.0.113.5"
SECRET = b"S" * 32

PRIVATE = AuthClient(peer=PEER, tls=True)
OPEN = AuthClient(peer=PEER, tls=False)
LOCAL = AuthClient(peer="127.0.0.1", tls=False, loopback=True)

ALL = tuple(AuthMechanism)


def no_delay(**settings: object) -> AuthConfig:
    """Settings for tests: every mechanism, refusals at once."""
    defaults: dict[str, object] = {"mechanisms": ALL, "failure_delay": 0.0}
    return AuthConfig(**{**defaults, **settings})  # type: ignore[arg-type]


class SteadyClock:
    """Stands still until it is moved."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


class DictStore(CredentialStore):
    """Accounts with their passwords in the clear; counts what it was asked."""

    def __init__(self, **passwords: str) -> None:
        self.passwords = passwords
        self.send_as: dict[str, tuple[str, ...]] = {}
        self.asked: Counter[str] = Counter()
        self.down = False

    async def refresh(self) -> None:
        self.asked["refresh"] += 1

    def _account(self, name: str) -> Account | None:
        if self.down:
            raise StoreUnavailable("the store is down")
        return self.known(name)

    def known(self, name: str) -> Account | None:
        if name not in self.passwords:
            return None
        return Account(name, tuple(parse_sender_pattern(each) for each in self.send_as.get(name, ())))

    async def find(self, name: str) -> Account | None:
        self.asked["find"] += 1
        return self._account(name)

    async def check_password(self, name: str, password: str) -> Proved | None:
        self.asked["check"] += 1
        account = self._account(name)
        if account is None or not hmac.compare_digest(self.passwords[name].encode(), password.encode()):
            return None
        return Proved(account, "password")

    async def scram(self, name: str) -> ScramAccount | None:
        self.asked["scram"] += 1
        account = self._account(name)
        if account is None:
            return None
        return ScramAccount(account, SALT, 4096, (derive_keys(self.passwords[name], SALT, 4096),))

    async def recoverable_secrets(self, name: str) -> tuple[tuple[str, bytes], ...]:
        self.asked["recoverable"] += 1
        account = self._account(name)
        return () if account is None else (("password", self.passwords[name].encode()),)

    def scram_iterations(self) -> int:
        return 4096


class DictMemo:
    """A memo in a dict; with `slow`, an answer never comes."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, float]] = {}
        self.slow = False

    async def get(self, key: str) -> bytes | None:
        if self.slow:
            import trio

            await trio.sleep_forever()
        return self.values[key][0] if key in self.values else None

    def put(self, key: str, value: bytes, expires: float) -> None:
        self.values[key] = (value, expires)

    def forget(self, key: str) -> None:
        self.values.pop(key, None)


def authenticator(
    store: CredentialStore | None = None,
    config: AuthConfig | None = None,
    *,
    introspect: Introspect | None = None,
    memo: DictMemo | None = None,
) -> Authenticator:
    return Authenticator(
        config or no_delay(),
        store or DictStore(tim="tanstaaftanstaaf"),
        random.Random(1),
        TrioWallClock(),
        hostname="mx.example.org",
        secret=SECRET,
        memo=memo,
        introspect=introspect,
    )


async def talk(
    auth: Authenticator, mechanism: str, *responses: bytes | None, client: AuthClient = PRIVATE
) -> Challenge | Accepted | Refused:
    """The answer to the last message of a new exchange; those before it must be challenged."""
    exchange = auth.begin(mechanism, client)
    *first, last = responses
    for response in first:
        assert isinstance(await exchange.step(response), Challenge)
    return await exchange.step(last)


async def log_in(
    auth: Authenticator, name: str, password: str, client: AuthClient = PRIVATE
) -> Challenge | Accepted | Refused:
    """One PLAIN exchange."""
    return await auth.begin("PLAIN", client).step(f"\0{name}\0{password}".encode())


async def code(auth: Authenticator, name: str, password: str, client: AuthClient = PRIVATE) -> int:
    """235 or the code of the refusal."""
    step = await log_in(auth, name, password, client)
    if isinstance(step, Accepted):
        return 235
    assert isinstance(step, Refused)
    return step.reply.code
