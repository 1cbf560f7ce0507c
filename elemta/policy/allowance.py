"""How much a client may send: rates for all; quotas and the breaker for accounts and trusted clients.

A client in relay.networks is a stranger to nobody, but it may be broken into like any account. So it has
rates and quotas of its own, and the breaker watches it under its address, `[192.0.2.1]`.
"""

from __future__ import annotations

import attrs

from elemta.config import PolicyConfig, QuotaAction, QuotaOf, RateOf
from elemta.mail import Reply, replies
from elemta.runtime import Memo, WallClock

from .breaker import Breaker, BreakerStatistics, Habits
from .client import Client
from .networks import network_of
from .quotas import Quotas, QuotaStatistics, QuotaUse
from .rates import Occasion, Rates, RateStatistics

RATES = "rates"
QUOTA = "quota"

_TOO_MUCH = {
    RateOf.CONNECTIONS: replies.TOO_FAST,
    RateOf.MESSAGES: replies.TOO_MUCH_MAIL,
    RateOf.RECIPIENTS: replies.TOO_MANY_RECIPIENTS_FOR_NOW,
}
_QUOTA_OF = {RateOf.MESSAGES: QuotaOf.MESSAGES, RateOf.RECIPIENTS: QuotaOf.RECIPIENTS}


@attrs.frozen
class Excess:
    """What a client has had enough of."""

    check: str
    reply: Reply
    finding: str


@attrs.frozen
class AccountUse:
    """How much an account sends."""

    quotas: tuple[QuotaUse, ...]
    habits: Habits | None
    """None: nobody watches the accounts."""
    held: str | None
    """Why its mail is held; None: it is not."""


class Allowance:
    """The counts of all clients. Which of them are exempt altogether is the caller's to judge."""

    def __init__(self, policy: PolicyConfig, memo: Memo, clock: WallClock, breaker: Breaker | None) -> None:
        self._memo = memo
        self._clock = clock
        self._breaker = breaker
        self._quotas = Quotas(policy.quota, memo, clock)
        self._relay_quotas = Quotas(policy.relay_quota, memo, clock)
        self._rates: Rates | None = None
        self.replace(policy)

    def replace(self, policy: PolicyConfig) -> None:
        """Count by another configuration from now on; rates that stay the same keep what they know."""
        self._policy = policy
        self._quotas.config = policy.quota
        self._relay_quotas.config = policy.relay_quota
        if self._breaker is not None:
            self._breaker.config = policy.breaker
        self._rates = Rates(policy, self._clock, self._memo, self._rates)

    @property
    def by_route(self) -> bool:
        """Whether any rate wants to know where a recipient's mail goes."""
        assert self._rates is not None
        return self._rates.by_route

    async def take_rates(self, occasion: Occasion) -> Excess | None:
        """Count it by the rates, or say for which it is too much. Cancelled, nothing was counted."""
        assert self._rates is not None
        rate = await self._rates.take(occasion)
        return None if rate is None else Excess(RATES, _TOO_MUCH[occasion.what], f"more than {rate}")

    async def take_quota(self, occasion: Occasion) -> Excess | None:
        """The same for the quota of the account, or of the address that stands for one."""
        what, quotas = _QUOTA_OF.get(occasion.what), self._quotas_of(occasion.client)
        name = whose(occasion.client)
        if what is None or name is None or not quotas.active:
            return None
        finding = await quotas.take(name, what)
        if finding is None:
            return None
        refuse = quotas.config.action is QuotaAction.REFUSE
        return Excess(QUOTA, replies.QUOTA_USED_UP if refuse else replies.QUOTA_USED_UP_FOR_NOW, finding)

    async def begin(self, client: Client) -> None:
        """A message of the client begins: let the breaker know what is usual. Cancelling is safe."""
        breaker, name = self._watching(client), whose(client)
        if breaker is not None and name is not None and client.address is not None:
            network = network_of(client.address, self._policy.ipv4_network, self._policy.ipv6_network)
            await breaker.seen(name, network)

    def stored(self, client: Client, octets: int) -> None:
        """A message of this client was stored."""
        quotas, name = self._quotas_of(client), whose(client)
        if name is not None and quotas.active:
            quotas.stored(name, octets)

    def hold(self, client: Client, message: str, recipients: int) -> str | None:
        """A message of this client is about to be stored: why it is to be held, or None. Sync."""
        breaker, name = self._watching(client), whose(client)
        if breaker is None or name is None:
            return None
        return breaker.hold(name, message, recipients)

    def rates(self) -> tuple[RateStatistics, ...]:
        assert self._rates is not None
        return self._rates.statistics()

    def quotas(self) -> QuotaStatistics:
        return self._quotas.statistics() + self._relay_quotas.statistics()

    def breaker(self) -> BreakerStatistics | None:
        return None if self._breaker is None else self._breaker.statistics()

    async def account(self, name: str) -> AccountUse:
        """How much an account sends, or an address that stands for one. Cancelling is safe."""
        quotas = self._relay_quotas if name.startswith("[") else self._quotas
        used = await quotas.use(name)
        if self._breaker is None:
            return AccountUse(used, None, None)
        return AccountUse(used, await self._breaker.habits(name), self._breaker.held().get(name))

    def held(self) -> dict[str, str]:
        """The accounts whose mail is held, by name, and why."""
        return {} if self._breaker is None else self._breaker.held()

    def release(self, name: str) -> bool:
        """Let a held account send again; whether it was held. Raises as `Breaker.release`."""
        return self._breaker is not None and self._breaker.release(name)

    def _quotas_of(self, client: Client) -> Quotas:
        return self._quotas if client.identity is not None else self._relay_quotas

    def _watching(self, client: Client) -> Breaker | None:
        """Who watches it."""
        breaker = self._breaker
        if breaker is None or not breaker.active:
            return None
        return breaker if client.identity is not None or breaker.config.trusted else None


def whose(client: Client) -> str | None:
    """The account of a client, or the address that stands for one where it is trusted."""
    if client.identity is not None:
        return client.identity.name
    return f"[{client.address}]" if client.trusted and client.address is not None else None
