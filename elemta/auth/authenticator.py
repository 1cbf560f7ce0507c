"""What a server offers to which client, and as whom its accounts may send; the face of the package."""

from __future__ import annotations

import base64
from random import Random

import attrs

from elemta.config import AuthConfig, AuthMechanism, Config
from elemta.mail import Identity, Mailbox, Reply, replies
from elemta.runtime import Memo, ThreadPools, ThreadPoolStatistics, WallClock

from .actions import Situation
from .exchange import Introspect, Judge, SaslExchange
from .hashing import HashingPool
from .introspection import make_introspection
from .keyfile import KEY_OCTETS, load_or_make_key
from .mechanisms import MECHANISMS
from .senders import may_send_as
from .store import CredentialStore
from .stores import make_store
from .throttle import Throttle, ThrottleStatistics
from .values import AuthClient

SECRET_FILE = "auth.secret"  # noqa: S105 - its name
"""In the state folder: what the salts of unknown accounts are made from. Losing it is harmless."""
NONCE_OCTETS = 18
REFRESH = 5.0
"""Seconds between two looks at the accounts."""


@attrs.frozen
class AuthStatistics:
    accepted: int
    refused: dict[str, int]
    """By reason."""
    throttle: ThrottleStatistics
    hashing: ThreadPoolStatistics | None


class Authenticator:
    """Who may log in, how, and as whom they may send.

    `random` must be `random.SystemRandom()` outside of tests: nonces come from it. `secret` makes up
    the salts of unknown accounts and should be the same after a restart. Without `introspect` no token
    mechanism is offered.
    """

    def __init__(
        self,
        config: AuthConfig,
        accounts: CredentialStore,
        random: Random,
        clock: WallClock,
        *,
        hostname: str,
        secret: bytes,
        memo: Memo | None = None,
        introspect: Introspect | None = None,
        hashing: HashingPool | None = None,
    ) -> None:
        self.accounts = accounts
        self._config = config
        self._hostname = hostname
        self._random = random
        self._hashing = hashing
        self._judge = Judge(
            config,
            accounts,
            Throttle(config, clock, memo),
            introspect,
            secret=secret,
            guess_key=random.randbytes(KEY_OCTETS),
        )

    def mechanisms(self, client: AuthClient) -> tuple[str, ...]:
        """What to announce now, the best first; empty: announce no AUTH."""
        return tuple(str(each) for each in self._config.mechanisms if self._refusal(each, client) is None)

    def mechanisms_under_tls(self, client: AuthClient) -> tuple[str, ...]:
        """What this client could use if only its session were private: to be answered with 538."""
        return tuple(
            str(each)
            for each in self._config.mechanisms
            if self._refusal(each, client) is replies.AUTH_NEEDS_TLS
        )

    def begin(self, mechanism: str, client: AuthClient) -> SaslExchange:
        """Begin an exchange.

        A mechanism that is unknown, or not offered to this client now, is refused by the first step (504,
        534, 538).
        """
        try:
            kind = AuthMechanism(mechanism.upper())
        except ValueError:
            return SaslExchange(self._judge, None, client, replies.AUTH_UNKNOWN_MECHANISM)
        return SaslExchange(self._judge, kind, client, self._refusal(kind, client) or self._situation(client))

    def may_send_as(self, identity: Identity, mailbox: Mailbox) -> bool:
        """Whether the account may use this sender address: its own name, or one of its list.

        Sync, from memory; accounts that are gone or disabled may use none, see `refresh`. The null
        sender is the caller's to judge.
        """
        account = self.accounts.known(identity.name)
        return account is not None and may_send_as(account.name, account.send_as, mailbox)

    async def look_up(self, identity: Identity) -> None:
        """Ask the store about an account that somebody else has let in, so that `may_send_as` knows it.

        Raises:
          StoreUnavailable: it cannot be asked now.
        """
        await self.accounts.find(identity.name)

    async def refresh(self) -> None:
        """Look for changes of the accounts; called every `REFRESH` seconds, so that what sessions may do
        follows. Logins see changes at once without it. Cancelled, nothing is left behind.
        """
        await self.accounts.refresh()

    def statistics(self) -> AuthStatistics:
        judge = self._judge
        return AuthStatistics(
            judge.accepted,
            dict(judge.refused),
            judge.throttle.statistics(),
            self._hashing.statistics() if self._hashing else None,
        )

    def _situation(self, client: AuthClient) -> Situation:
        return Situation(
            hostname=self._hostname,
            nonce=base64.b64encode(self._random.randbytes(NONCE_OCTETS)).decode("ascii"),
            bindings=_bindings(client),
            plus_offered=AuthMechanism.SCRAM_SHA_256_PLUS in self.mechanisms(client),
            certificate=client.certificate,
        )

    def _refusal(self, mechanism: AuthMechanism, client: AuthClient) -> Reply | None:
        """Why this client may not use the mechanism now."""
        kind = MECHANISMS[mechanism]
        if mechanism not in self._config.mechanisms:
            return replies.AUTH_TOO_WEAK if kind.weak else replies.AUTH_UNKNOWN_MECHANISM
        if kind.token and self._judge.introspect is None:
            return replies.AUTH_UNKNOWN_MECHANISM
        accounts = self.accounts
        if (kind.scram and not accounts.has_scram) or (
            kind.recoverable and not accounts.has_recoverable_secrets
        ):
            return replies.AUTH_UNKNOWN_MECHANISM
        if kind.shows_secret and not client.tls:
            # RFC 4954 §4, §6; a token opens more than mail, so loopback is no excuse for it
            local = client.loopback and self._config.loopback_without_tls and not kind.token
            if not local:
                return replies.AUTH_NEEDS_TLS
        if mechanism is AuthMechanism.EXTERNAL and not (client.tls and client.certificate):
            return replies.AUTH_UNKNOWN_MECHANISM
        if mechanism is AuthMechanism.SCRAM_SHA_256_PLUS and not _bindings(client):
            return replies.AUTH_UNKNOWN_MECHANISM
        return None


def _bindings(client: AuthClient) -> dict[str, bytes]:
    """The channel bindings of the connection by their registered names (RFC 5929 §3, §4, RFC 9266)."""
    if not client.tls:
        return {}
    known = {
        "tls-server-end-point": client.channel_binding,
        "tls-exporter": client.tls_exporter,
        "tls-unique": client.tls_unique,
    }
    return {kind: data for kind, data in known.items() if data}


def make_authenticator(
    config: Config,
    *,
    random: Random,
    clock: WallClock,
    memo: Memo | None = None,
    introspect: Introspect | None = None,
    pools: ThreadPools | None = None,
) -> Authenticator:
    """The authenticator of a configuration with accounts. Blocking; the state folder must be there.

    `pools` gets a pool `passwords`, which it must not have yet.

    Raises:
      AuthFilesError: the accounts or a key file cannot be used; `str()` has a line for each problem.
    """
    auth = config.auth
    hashing = HashingPool(auth.hash_threads, auth.hash_waiting, pools)
    return Authenticator(
        auth,
        make_store(auth, hashing, random, clock),
        random,
        clock,
        hostname=config.hostname,
        secret=load_or_make_key(config.state_dir / SECRET_FILE),
        memo=memo,
        introspect=introspect or make_introspection(auth),
        hashing=hashing,
    )
