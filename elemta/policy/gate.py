"""Who may go on: asks every check that is configured at each step of a session. See `Gate`."""

from __future__ import annotations

from collections import Counter
from random import Random

import attrs
import trio

from elemta.config import (
    CheckAction,
    Config,
    GreylistAction,
    ListenerRole,
    RateOf,
    RefuseAt,
    ReverseDnsNeed,
)
from elemta.dns import Iprev, Resolver, ReverseName, look_up_reverse
from elemta.mail import Domain, Mailbox, ReversePath, replies
from elemta.runtime import Memo, WallClock

from .allowance import AccountUse, Allowance
from .breaker import Breaker, BreakerStatistics
from .client import Client, IpAddress, Refusal
from .greylist import Greylist, Standing
from .hello import HelloCheck
from .lists import DnsLists, Listing, ListStatistics
from .networks import network_of
from .quotas import QuotaStatistics
from .rates import Occasion, RateStatistics
from .verdict import as_greeting, verdict

EARLY_TALKER = "early-talker"
DNS_LISTS = "dns-lists"
DOMAIN_LISTS = "domain-lists"
REVERSE_DNS = "reverse-dns"
HELLO = "hello"
GREYLIST = "greylist"

_MOST_EXTRA_DELAY = 0.2
"""Part of the greeting delay that is added at random: a delay that is known can be waited for."""


@attrs.frozen
class GateStatistics:
    """Since the start, by the name of the check."""

    noted: dict[str, int]
    """Findings."""
    refused: dict[str, int]
    """Refusals that were handed out."""
    rates: tuple[RateStatistics, ...]
    quotas: QuotaStatistics
    breaker: BreakerStatistics | None
    """None: nobody watches the accounts."""
    lists: tuple[ListStatistics, ...]
    """Of addresses, then of domains."""


class Gate:
    """Judges clients, step by step. A session calls one method at each step, in this order.

    | step | method | what a refusal means |
    | --- | --- | --- |
    | before the banner | `await connected(client)` | send it (421 or 554) in place of the banner, close |
    | before the banner | `greeting_delay(client)` | seconds to wait, watching for octets of the client |
    | octets came before the banner | `early_talker(client)` | as above; None: go on as usual |
    | HELO, EHLO, LHLO | `await hello(client, name)` | the answer to the command |
    | MAIL | `await sender(client, path)` | the answer to the command |
    | RCPT that the relay rules allow | `await recipient(client, path, mailbox)` | the answer to the command |
    | a message was stored | `accepted(client, recipients)` | |

    Refusals for what the client is (lists, reverse DNS, the name it gave) are kept until RCPT unless
    `policy.refuse_at` says otherwise: so a client may still authenticate, the postmaster can be
    reached (RFC 5321 §4.5.1), and the log says whom the mail was for.

    Who is exempt: clients in `policy.exempt` from everything; trusted ones from everything but the rates,
    quotas and breaker that are for them; authenticated ones from everything but rates (of which those per
    address and network do not count them), quotas and the breaker. What is not about how much is sent or
    early talkers is asked of clients of `mx` listeners only.

    No call raises for what DNS or the memo do, and each has its deadline inside: a look-up that is
    late never lets a client be refused for good. Cancelling a call leaves nothing half done. A call
    that has nothing to look up can be cancelled, but does not give other tasks their turn. After each,
    `client.take_fresh_notes()` has what is new.
    """

    def __init__(
        self,
        config: Config,
        resolver: Resolver,
        clock: WallClock,
        random: Random,
        memo: Memo,
        breaker: Breaker | None = None,
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._random = random
        self._memo = memo
        self._noted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._address_lists: DnsLists | None = None
        self._domain_lists: DnsLists | None = None
        self._allowance = Allowance(config.policy, memo, clock, breaker)
        self._use(config)

    def replace(self, config: Config) -> None:
        """Judge by another configuration from now on (reload). Rates and lists that stay the same keep
        what they know."""
        self._use(config)

    def _use(self, config: Config) -> None:
        policy = config.policy
        self._policy = policy
        self._postmaster = (config.postmaster or f"postmaster@{config.hostname}").lower()
        self._exempt = policy.exempt
        self._allowance.replace(policy)
        self._hello = HelloCheck(policy.hello, config.hostname, self._resolver)
        self._greylist = Greylist(policy.greylist, self._memo, self._clock)
        if self._address_lists is None or self._address_lists.config != policy.dns_lists:
            self._address_lists = DnsLists(policy.dns_lists, self._resolver)
        if self._domain_lists is None or self._domain_lists.config != policy.domain_lists:
            self._domain_lists = DnsLists(policy.domain_lists, self._resolver, domains=True)

    # --- The steps --------------------------------------------------------------------------------------

    async def connected(self, client: Client) -> Refusal | None:
        """Connection rates; then reverse DNS and the DNS lists, at the same time."""
        refusal = await self._count(Occasion(RateOf.CONNECTIONS, client))
        address = self._judged_address(client)
        lists = self._address_lists
        assert lists is not None
        wants_name = self._policy.reverse_dns.action is not CheckAction.OFF
        wants_lists = lists.config.action is not CheckAction.OFF
        if refusal is not None or address is None or not (wants_name or wants_lists):
            await trio.lowlevel.checkpoint_if_cancelled()
            return refusal
        reverse: ReverseName | None = None
        listing: Listing | None = None

        async def look_up_reverse_name() -> None:
            nonlocal reverse
            seconds = self._policy.reverse_dns.timeout
            reverse = await look_up_reverse(self._resolver, address, seconds=seconds)

        async def look_up_lists() -> None:
            nonlocal listing
            listing = await lists.look_up_address(address)

        async with trio.open_nursery() as nursery:
            if wants_name:
                nursery.start_soon(look_up_reverse_name)
            if wants_lists:
                nursery.start_soon(look_up_lists)
        found = None
        if reverse is not None:
            found = self._judge_reverse(client, reverse)
        if listing is not None:
            client.listed_score = listing.score
            found = self._judge_lists(client, DNS_LISTS, lists, listing, "your address") or found
        return None if found is None else as_greeting(found)

    def greeting_delay(self, client: Client) -> float:
        """Seconds to hold the banner back; 0 for those who are exempt."""
        if self._policy.greeting_delay == 0 or self._judged_address(client) is None:
            return 0.0
        return self._policy.greeting_delay * self._random.uniform(1.0, 1.0 + _MOST_EXTRA_DELAY)

    def early_talker(self, client: Client) -> Refusal | None:
        """The client sent octets before the banner (RFC 5321 §4.3.1). Not for implicit TLS, where it must."""
        action = self._policy.early_talkers
        if action is CheckAction.OFF or self._is_exempt(client):
            return None
        reason = self._find(client, EARLY_TALKER, "it sent before it was greeted")
        refusal = verdict(
            action, reason, permanent=replies.EARLY_TALKER, temporary=replies.EARLY_TALKER_DEFERRED
        )
        return self._hand_out(EARLY_TALKER, refusal)

    async def hello(self, client: Client, name: str) -> Refusal | None:
        """What the client calls itself. Sets `client.hello`, and forgets what an earlier name was worth."""
        client.hello = name
        client.pending.pop(HELLO, None)
        address = self._judged_address(client)
        await trio.lowlevel.checkpoint_if_cancelled()
        if address is None:
            return None
        finding = await self._hello.judge(name, address)
        if finding is None:
            return None
        refusal = verdict(
            finding.action,
            self._find(client, HELLO, finding.text),
            permanent=replies.HELLO_REFUSED,
            temporary=replies.HELLO_DEFERRED,
            finished=finding.finished,
        )
        return self._settle(client, HELLO, refusal)

    async def sender(self, client: Client, reverse_path: ReversePath) -> Refusal | None:
        """Message rates; then the lists of the sender's domain."""
        client.pending.pop(DOMAIN_LISTS, None)
        client.times_come_again = None
        refusal = await self._count(Occasion(RateOf.MESSAGES, client, reverse_path.mailbox))
        await self._allowance.begin(client)
        lists = self._domain_lists
        assert lists is not None
        domain = reverse_path.mailbox.domain if reverse_path.mailbox is not None else None
        if (
            refusal is not None
            or lists.config.action is CheckAction.OFF
            or not isinstance(domain, Domain)
            or self._judged_address(client) is None
        ):
            await trio.lowlevel.checkpoint_if_cancelled()
            return refusal
        listing = await lists.look_up_domain(domain)
        return self._judge_lists(client, DOMAIN_LISTS, lists, listing, "the domain of the sender")

    async def recipient(
        self, client: Client, reverse_path: ReversePath, mailbox: Mailbox | None, route: str = ""
    ) -> Refusal | None:
        """Recipient rates; what was kept until now; greylisting. No mailbox: the bare `<postmaster>`.

        `route` is where its mail goes, as text; needed only where `by_route`.
        """
        occasion = Occasion(RateOf.RECIPIENTS, client, reverse_path.mailbox, mailbox, route)
        refusal = await self._count(occasion)
        address = self._judged_address(client)
        # RFC 5321 §4.5.1: the postmaster is to be reached by all who were refused by mistake
        if (
            refusal is None
            and address is not None
            and mailbox is not None
            and not self._is_postmaster(mailbox)
        ):
            if client.pending:
                check, kept = next(iter(client.pending.items()))
                refusal = self._hand_out(check, kept)
            elif self._is_greylisting(client):
                return await self._judge_greylist(client, address, reverse_path, mailbox)
        await trio.lowlevel.checkpoint_if_cancelled()
        return refusal

    def accepted(self, client: Client, recipients: int, octets: int = 0) -> None:
        """A message of this client was stored, for so many recipients and of that size."""
        self._allowance.stored(client, octets)
        if client.times_come_again is not None and client.address is not None and recipients:
            self._greylist.came_again(self._network(client.address), client.times_come_again)
        client.times_come_again = None

    def hold(self, client: Client, message: str, recipients: int) -> str | None:
        """A message of this client is about to be stored: why it is to be held, or None. Sync."""
        return self._allowance.hold(client, message, recipients)

    async def account(self, name: str) -> AccountUse:
        """How much an account sends, or an address that stands for one: `[192.0.2.1]`."""
        return await self._allowance.account(name)

    def held(self) -> dict[str, str]:
        """The accounts whose mail is held, by name, and why."""
        return self._allowance.held()

    def release(self, name: str) -> bool:
        """Let a held account send again; whether it was held.

        Raises:
          OSError: what was written down cannot be removed; it stays held.
        """
        return self._allowance.release(name)

    @property
    def by_route(self) -> bool:
        """Whether any rate wants to know where a recipient's mail goes."""
        return self._allowance.by_route

    def statistics(self) -> GateStatistics:
        assert self._address_lists is not None
        assert self._domain_lists is not None
        return GateStatistics(
            dict(self._noted),
            dict(self._refused),
            self._allowance.rates(),
            self._allowance.quotas(),
            self._allowance.breaker(),
            self._address_lists.statistics() + self._domain_lists.statistics(),
        )

    # --- What they have in common -----------------------------------------------------------------------

    def _is_exempt(self, client: Client) -> bool:
        return client.trusted or self._is_listed_exempt(client)

    def _is_listed_exempt(self, client: Client) -> bool:
        address = client.address
        return address is None or any(address in network for network in self._exempt)

    def _judged_address(self, client: Client) -> IpAddress | None:
        """The address of a client that is judged by more than its rates."""
        if client.role is not ListenerRole.MX or client.identity is not None or self._is_exempt(client):
            return None
        return client.address

    def _is_postmaster(self, mailbox: Mailbox) -> bool:
        return mailbox.local_part.lower() == "postmaster" or str(mailbox).lower() == self._postmaster

    def _network(self, address: IpAddress) -> str:
        return network_of(address, self._policy.ipv4_network, self._policy.ipv6_network)

    def _find(self, client: Client, check: str, finding: str) -> str:
        """Write down what a check found; the reason of a refusal for it."""
        self._noted[check] += 1
        client.note(check, finding)
        return f"{check}: {client.notes[check]}"

    def _hand_out(self, check: str, refusal: Refusal | None) -> Refusal | None:
        if refusal is not None:
            self._refused[check] += 1
        return refusal

    def _settle(self, client: Client, check: str, refusal: Refusal | None) -> Refusal | None:
        """Hand a refusal out now, or keep it until the first recipient."""
        if refusal is None or self._policy.refuse_at is RefuseAt.ONCE:
            return self._hand_out(check, refusal)
        client.pending[check] = refusal
        return None

    async def _count(self, occasion: Occasion) -> Refusal | None:
        client, excess = occasion.client, None
        if not self._is_listed_exempt(client):
            excess = await self._allowance.take_rates(occasion)
        if excess is None:
            excess = await self._allowance.take_quota(occasion)
        if excess is None:
            return None
        reason = self._find(client, excess.check, excess.finding)
        return self._hand_out(excess.check, Refusal(excess.reply, reason))

    def _judge_reverse(self, client: Client, found: ReverseName) -> Refusal | None:
        client.reverse_name = found.name
        if found.result is Iprev.PASS:
            client.record(REVERSE_DNS, found.finding())
            return None
        reason = self._find(client, REVERSE_DNS, found.finding())
        if found.unconfirmed and self._policy.reverse_dns.require is ReverseDnsNeed.NAME:
            return None
        refusal = verdict(
            self._policy.reverse_dns.action,
            reason,
            permanent=replies.NO_REVERSE_DNS,
            temporary=replies.NO_REVERSE_DNS_FOR_NOW,
            finished=found.result is not Iprev.TEMPERROR,
        )
        return self._settle(client, REVERSE_DNS, refusal)

    def _judge_lists(
        self, client: Client, check: str, lists: DnsLists, listing: Listing, what: str
    ) -> Refusal | None:
        if not listing.hits:
            # That a list does not answer speaks against no client: it is in the statistics.
            client.record(check, listing.finding())
            return None
        reason = self._find(client, check, listing.finding())
        if listing.score < lists.config.threshold:
            return None
        refusal = verdict(
            lists.config.action,
            reason,
            permanent=replies.listed(what, listing.blamed(), permanent=True),
            temporary=replies.listed(what, listing.blamed(), permanent=False),
        )
        return self._settle(client, check, refusal)

    def _is_greylisting(self, client: Client) -> bool:
        return self._policy.greylist.action is not GreylistAction.OFF and client.listed_score >= 0

    async def _judge_greylist(
        self, client: Client, address: IpAddress, sender: ReversePath, recipient: Mailbox
    ) -> Refusal | None:
        result = await self._greylist.judge(self._network(address), sender, recipient)
        if result.standing is Standing.KNOWN:
            return None
        if result.standing is Standing.UNKNOWN:
            self._find(client, GREYLIST, "what is known could not be looked up in time")
            return None
        if result.standing is Standing.PASSED:
            client.times_come_again = result.times
            self._find(client, GREYLIST, f"came again after {result.seconds} s")
            return None
        reason = self._find(client, GREYLIST, f"may come again in {result.seconds} s")
        if self._policy.greylist.action is GreylistAction.NOTE:
            return None
        return self._hand_out(GREYLIST, Refusal(replies.greylisted(result.seconds), reason))
