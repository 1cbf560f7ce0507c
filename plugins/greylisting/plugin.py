"""Lets those come again whom something speaks against: greylisting (RFC 6647) by a condition.

The server can greylist everybody (`[policy.greylist]`), which makes all new correspondents wait. This is the
same memory of triplets and clients, asked only where a note of another plugin, SPF, or the lack of a name in
DNS, gives a reason.
"""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

import attrs
import trio

from elemta.config import DomainPattern, Duration, GreylistConfig, MessageAction, Network, SpfConfig
from elemta.dns import AsksDns, Iprev, look_up_reverse
from elemta.mail import MailSyntaxError, ReversePath, parse_mailbox
from elemta.plugin.api import (
    Answer,
    Defer,
    EnvelopeView,
    NoteValue,
    Plugin,
    Result,
    SessionView,
    State,
    hook,
)
from elemta.policy import check_spf, parse_peer
from elemta.policy.greylist import Greylist, Standing
from elemta.policy.networks import network_of
from elemta.runtime import WallClock

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@attrs.frozen
class Reason:
    """A note of a plugin that was asked before."""

    note: str
    """Such as `dnslists.score`."""
    at_least: float = 1.0


@attrs.frozen
class Settings:
    reasons: tuple[Reason, ...] = ()
    """Notes, any of which is a reason to let a client come again."""
    no_name: bool = True
    """A client without a name in DNS that leads back to its address is a reason."""
    spf: tuple[Result, ...] = (Result.FAIL, Result.SOFTFAIL)
    """What SPF may say of the sender and the client to be a reason; empty: it is not asked. `none` would be
    one for all domains without a record."""
    everybody: bool = False
    """No reason is needed."""
    clients: tuple[Network, ...] = ()
    """Clients that never have to come again."""
    senders: tuple[DomainPattern, ...] = ()
    """Domains of senders that never have to; anybody can say to be one."""
    delay: Duration = 300.0
    window: Duration = 2 * 86400.0
    """How long they may take to come again."""
    lifetime: Duration = 36 * 86400.0
    """How long they are known afterwards."""
    clients_after: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    """A client network that came again for so many messages is no longer asked to; 0: always."""
    ipv4_network: int = attrs.field(default=24, validator=[attrs.validators.ge(8), attrs.validators.le(32)])
    ipv6_network: int = attrs.field(default=64, validator=[attrs.validators.ge(16), attrs.validators.le(128)])
    timeout: Duration = 3.0
    """For what DNS says and for what is remembered; what is not known then is no reason."""
    text: str = "Greylisted, come again in {seconds} seconds"


@attrs.frozen
class _Memory:
    """What a plugin remembers, as greylisting wants to be handed it."""

    state: State
    clock: WallClock

    async def get(self, key: str) -> bytes | None:
        return await self.state.get(key)

    def put(self, key: str, value: bytes, expires: float) -> None:
        self.state.put(key, value, max(1.0, expires - self.clock.time()))

    def forget(self, key: str) -> None:
        self.state.forget(key)


class Greylisting(Plugin[Settings]):
    Config = Settings
    _greylist: Greylist

    @hook("startup")
    async def prepare(self) -> None:
        given = self.config
        config = GreylistConfig(
            delay=given.delay,
            window=given.window,
            lifetime=given.lifetime,
            clients_after=given.clients_after,
            timeout=given.timeout,
        )
        clock = self.context.clock
        self._greylist = Greylist(config, _Memory(self.context.state, clock), clock)

    @hook("mail")
    async def look(
        self, session: SessionView, envelope: EnvelopeView, notes: dict[str, NoteValue]
    ) -> Answer | None:
        why = await self._why(session, envelope, notes)
        return Answer(notes={"why": why})

    @hook("rcpt")
    async def check(
        self, session: SessionView, envelope: EnvelopeView, recipient: str, notes: dict[str, NoteValue]
    ) -> Answer | None:
        why = notes.get(f"{self.context.name}.why")
        # RFC 5321 §4.5.1: postmaster is there for those who cannot get through
        if not why or recipient.partition("@")[0].lower() == "postmaster":
            return None
        try:
            sender = ReversePath(parse_mailbox(envelope.sender, utf8=True) if envelope.sender else None)
            mailbox = parse_mailbox(recipient, utf8=True)
        except MailSyntaxError:
            return None
        found = await self._greylist.judge(self._network(session), sender, mailbox)
        self.context.metrics.count(found.standing.value)
        if found.standing is Standing.WAITING:
            text = self.config.text.replace("{seconds}", str(found.seconds))
            return Answer(Defer(text, code=450, reason=f"greylisted: {why}"))
        if found.standing is Standing.PASSED:
            return Answer(notes={"again": True, "times": found.times})
        return None

    @hook("enqueued")
    async def accepted(self, session: SessionView | None, notes: dict[str, NoteValue]) -> None:
        name = self.context.name
        times = notes.get(f"{name}.times")
        if session is not None and notes.get(f"{name}.again") and isinstance(times, int):
            self._greylist.came_again(self._network(session), times)

    async def _why(self, session: SessionView, envelope: EnvelopeView, notes: dict[str, NoteValue]) -> str:
        """What is a reason to let it come again; empty where nothing is."""
        config = self.config
        address = parse_peer(session.peer)
        if session.trusted or session.identity is not None or address is None:
            return ""
        if any(address in network for network in config.clients if network.version == address.version):
            return ""
        domain = envelope.sender.rpartition("@")[2].lower()
        if any(pattern.covers(domain) for pattern in config.senders):
            return ""
        for reason in config.reasons:
            value = notes.get(reason.note)
            if isinstance(value, int | float) and value >= reason.at_least:
                return f"{reason.note} is {value:g}"
        resolver = self.context.resolver
        why = "" if resolver is None else await self._ask_dns(resolver, address, session, envelope)
        return why or ("everybody is" if config.everybody else "")

    async def _ask_dns(
        self, resolver: AsksDns, address: IpAddress, session: SessionView, envelope: EnvelopeView
    ) -> str:
        """The same of what only DNS knows, asked all at once."""
        nameless = unwanted = ""

        async def look_up_name() -> None:
            nonlocal nameless
            found = await look_up_reverse(resolver, address, seconds=self.config.timeout)
            if found.result in (Iprev.FAIL, Iprev.PERMERROR):
                nameless = "no name in DNS leads back to it"

        async def ask_spf() -> None:
            nonlocal unwanted
            try:
                path = ReversePath(parse_mailbox(envelope.sender, utf8=True) if envelope.sender else None)
            except MailSyntaxError:
                return
            config = SpfConfig(hello_action=MessageAction.OFF, timeout=self.config.timeout)
            found = await check_spf(
                address, path, session.hello, config, resolver=resolver, receiver=self.context.hostname
            )
            if found.sender.result in self.config.spf:
                unwanted = f"SPF says {found.sender.result.value}"

        async with trio.open_nursery() as nursery:
            if self.config.no_name:
                nursery.start_soon(look_up_name)
            if self.config.spf:
                nursery.start_soon(ask_spf)
        return nameless or unwanted

    def _network(self, session: SessionView) -> str:
        address = parse_peer(session.peer)
        if address is None:
            return session.peer
        return network_of(address, self.config.ipv4_network, self.config.ipv6_network)
