"""One exchange, from the mechanism to the verdict: asks the stores, keeps the brakes, chooses the reply."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio

from elemta.config import AuthConfig, AuthMechanism
from elemta.mail import Identity, Reply, replies
from elemta.runtime import escape_text, get_logger

from .actions import (
    Action,
    Ask,
    CheckPassword,
    CheckToken,
    Disproved,
    FindScram,
    FindSecrets,
    Malformed,
    Proved,
    Situation,
)
from .mechanisms import MECHANISMS
from .prepare import NotPrepared, prepare_name
from .scram import fake_keys
from .store import Account, CredentialStore, StoreUnavailable
from .throttle import Attempt, Blocked, Throttle
from .values import Accepted, AuthClient, Challenge, Refused, Step

MAX_RESPONSE = 9216
"""Octets of one response: what 12288 octets of base64 hold (RFC 4954 §4)."""

_SHOWN_NAME = 64
_log = get_logger(__name__)


@attrs.frozen(slots=True)
class TokenOwner:
    """What the authorization server says about a token that is valid now."""

    name: str
    """Whose it is: an account has that name."""


class TokensUnavailable(Exception):
    """The authorization server cannot be asked now; the text is for the operator and has no token in it."""


Introspect: TypeAlias = Callable[[str], Awaitable[TokenOwner | None]]
"""Asks whose token it is (RFC 7662); None: nobody's, expired, or not for mail. Raises TokensUnavailable."""

_Claim: TypeAlias = CheckPassword | CheckToken | Proved | Disproved


@attrs.define(eq=False)
class Judge:
    """What all exchanges of a server share."""

    config: AuthConfig
    accounts: CredentialStore
    throttle: Throttle
    introspect: Introspect | None
    secret: bytes = attrs.field(repr=False)
    """Makes up the salts of unknown accounts."""
    guess_key: bytes = attrs.field(repr=False)
    accepted: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)
    """By reason."""

    def guess(self, name: str, secret: str) -> bytes:
        """Tells equal guesses from others, without keeping them."""
        return hmac.digest(self.guess_key, f"{name}\0{secret}".encode(), "sha256")


class SaslExchange:
    """One AUTH command from its mechanism to the verdict (RFC 4954 §4). Made by `Authenticator.begin`.

    `step` is called with the initial response first (None: the AUTH command had none), then with each
    answer to a challenge (None: the client cancelled with `*`), until it returns Accepted or Refused.
    It bounds lengths itself and never raises for what a client, a store or a token server does.

    A refusal of credentials takes `failure_delay`, whatever the reason, so that its time tells nothing;
    one of what is no message of the mechanism comes at once. Open a deadline around it; cancelled while
    a secret is being checked, the attempt counts as a failure.
    """

    def __init__(
        self, judge: Judge, mechanism: AuthMechanism | None, client: AuthClient, situation: Situation | Reply
    ) -> None:
        self._judge = judge
        self._mechanism = mechanism
        self._client = client
        self._situation = situation
        """Or the reply that refuses the mechanism."""
        self._begun = False
        self._over = False
        self._then: Callable[[bytes], Action] | None = None
        self._verdict: Accepted | Refused | None = None
        """What follows the client's answer to the last challenge."""
        self._name = ""
        self._slow = False

    @property
    def mechanism(self) -> str:
        """Its name; empty for one that is not known."""
        return str(self._mechanism or "")

    async def step(self, response: bytes | None) -> Step:
        """Take the client's next message.

        Raises:
          RuntimeError: the exchange is over.
        """
        if self._over:
            raise RuntimeError("the exchange is over")
        started = trio.current_time()
        step = await self._step(response)
        if isinstance(step, Challenge):
            return step
        self._over = True
        if isinstance(step, Accepted):
            self._judge.accepted += 1
            return step
        self._judge.refused[step.reason] += 1
        if self._slow:
            await trio.sleep_until(started + self._judge.config.failure_delay)
        return step

    async def _step(self, response: bytes | None) -> Step:
        first, self._begun = not self._begun, True
        if response is None and not first:
            return self._refuse(replies.AUTH_CANCELLED, "cancelled by the client")
        if response is not None and len(response) > MAX_RESPONSE:
            return self._refuse(replies.AUTH_TOO_LONG, "response too long")
        if isinstance(self._situation, Reply) or self._mechanism is None:
            assert isinstance(self._situation, Reply)
            return self._refuse(self._situation, "mechanism not offered")
        if self._verdict is not None:
            # RFC 4422 §3.7: the answer to the last data is empty. RFC 7628 §3.2.3: that to a failure is not.
            if isinstance(self._verdict, Accepted) and response:
                return self._refuse(replies.AUTH_MALFORMED, "data behind the proof")
            return self._verdict
        if first:
            action = MECHANISMS[self._mechanism].begin(self._situation, response)
        else:
            assert self._then is not None
            assert response is not None
            action = self._then(response)
        try:
            return await self._follow(action)
        except (StoreUnavailable, TokensUnavailable) as error:
            _log.warning("a login could not be checked", reason=str(error))
            self._slow = True
            return self._refuse(replies.AUTH_LATER, "cannot be checked now")

    async def _follow(self, action: Action) -> Step:
        accounts = self._judge.accounts
        while True:
            match action:
                case Ask(challenge, then):
                    self._then = then
                    return Challenge(challenge)
                case Malformed(reason):
                    return self._refuse(replies.AUTH_MALFORMED, reason)
                case FindScram(name, with_keys):
                    self._name = name
                    found = await accounts.scram(name)
                    if found is None:
                        salt, keys = fake_keys(name, self._judge.secret)
                        action = with_keys(salt, accounts.scram_iterations(), keys)
                    else:
                        action = with_keys(found.salt, found.iterations, found.keys)
                case FindSecrets(name, with_secrets):
                    self._name = name
                    action = with_secrets(await accounts.recoverable_secrets(name))
                case CheckPassword() | CheckToken() | Proved() | Disproved():
                    return await self._decide(action)

    async def _decide(self, claim: _Claim) -> Step:
        """Let the claim through the brakes and judge it."""
        self._slow = True
        self._name = claim.name or ""
        attempt = await self._judge.throttle.enter(self._name, self._client.peer)
        if isinstance(attempt, Blocked):
            # Whether the secret was right is not said: it was not looked at, or what was seen is kept back.
            return self._refuse(replies.AUTH_LATER, f"too many failures ({attempt.by})")
        with attempt:
            try:
                return await self._judge_claim(claim, attempt)
            except (StoreUnavailable, TokensUnavailable):
                attempt.withdrawn()
                raise

    async def _judge_claim(self, claim: _Claim, attempt: Attempt) -> Step:
        accounts = self._judge.accounts
        match claim:
            case CheckPassword(name, password, permitted):
                proved = await accounts.check_password(name, password)
                if proved is None:
                    attempt.failed(self._judge.guess(name, password))
                    return self._refuse(replies.AUTH_FAILED, "wrong password or no such account")
                return self._accept(attempt, proved.account, proved.credential, permitted)
            case Proved(name, credential, permitted, final):
                account = await accounts.find(name)
                if account is None:
                    attempt.failed()
                    return self._refuse(replies.AUTH_FAILED, "no such account")
                verdict = self._accept(attempt, account, credential, permitted)
                if final is None or isinstance(verdict, Refused):
                    return verdict
                self._verdict = verdict
                return Challenge(final)
            case CheckToken(name_or_none, token, failure):
                account = await self._owner(name_or_none, token)
                if account is None:
                    if token:
                        attempt.failed(self._judge.guess(self._name, token))
                    else:  # RFC 7628 §4.3: the client asks how to get one
                        attempt.withdrawn()
                    self._verdict = self._refuse(replies.AUTH_FAILED, "token not valid for an account")
                    return Challenge(failure)
                return self._accept(attempt, account, "token", True)
            case Disproved(_, reason):
                attempt.failed()
                return self._refuse(replies.AUTH_FAILED, reason)

    async def _owner(self, name: str | None, token: str) -> Account | None:
        """The account that the token is for."""
        introspect = self._judge.introspect
        assert introspect is not None, "without it no token mechanism is offered"
        owner = await introspect(token) if token else None
        if owner is None:
            return None
        try:
            owner_name = prepare_name(owner.name)
        except NotPrepared:
            _log.warning("the authorization server gave a name that no account can have")
            return None
        if name is not None and name != owner_name:
            return None
        return await self._judge.accounts.find(owner_name)

    def _accept(
        self, attempt: Attempt, account: Account, credential: str, permitted: bool
    ) -> Accepted | Refused:
        if not permitted:
            # RFC 4954 §6 has no reply of its own for it: insufficient credentials
            attempt.failed()
            return self._refuse(replies.AUTH_FAILED, "may not act as another account")
        attempt.succeeded()
        self._name = account.name
        return Accepted(Identity(account.name, self.mechanism), credential)

    def _refuse(self, reply: Reply, reason: str) -> Refused:
        # People type their password where the name belongs: what is neither an account nor looks like an
        # address is not repeated.
        told = "@" in self._name or self._judge.accounts.known(self._name) is not None
        return Refused(reply, reason, escape_text(self._name, _SHOWN_NAME) if told else "")
