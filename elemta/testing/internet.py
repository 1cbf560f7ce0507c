"""The rest of the world for tests: every domain has a server that takes mail, unless it is told otherwise."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from functools import cached_property
from typing import Final, Literal

import attrs

from elemta.dns import Answer, RecordKind, Status
from elemta.mail import Reply
from elemta.smtp import Command

from .dns import FakeResolver, Zone
from .network import MemoryNetwork
from .peers import Received, SinkPeer

_FIRST: Final = 1
_LAST: Final = 254
_ADDRESS: Final = "198.18.{}.25"
"""Where the servers are: addresses for tests of networks (RFC 2544)."""
_NOTHING: Final = (Status.NXDOMAIN, Status.NODATA)


@attrs.frozen(slots=False)
class Letter:
    """A message that was delivered to somebody's server."""

    domain: str
    """Whose server it was."""
    sender: str
    """Empty: the null path, as of a bounce."""
    recipients: tuple[str, ...]
    content: bytes = attrs.field(repr=False)
    """As it came, header included."""

    @cached_property
    def message(self) -> EmailMessage:
        """It as the standard library reads it."""
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    def header(self, name: str) -> str | None:
        """The value of the first field of that name, unfolded; None where there is none."""
        value = self.message[name]
        return None if value is None else str(value)

    def headers(self, name: str) -> list[str]:
        """The values of all fields of that name, from the top."""
        return [str(each) for each in self.message.get_all(name, [])]

    @property
    def body(self) -> bytes:
        """What stands behind the header."""
        return self.content.partition(b"\r\n\r\n")[2]


class Remote(SinkPeer):
    """The server of one domain. `messages` has what it took."""

    def __init__(
        self, domain: str, address: str, network: MemoryNetwork, keep: Callable[[Letter], None]
    ) -> None:
        super().__init__(hostname=f"mx.{domain}")
        self.domain = domain
        self.address = address
        self._network = network
        self._keep = keep
        self.up()

    def reply(self, stage: str, reply: str | Callable[[Command], Reply] | None) -> None:
        """Say that instead of the usual at a stage, from now on; None: the usual again.

        `remote.reply("RCPT", "452 4.2.2 mailbox full")`. Stages are the verbs, `greeting`, and `BODY`,
        the reply to a message.
        """
        if reply is None:
            self.answers.pop(stage, None)
        else:
            self.answers[stage] = parse_reply(reply) if isinstance(reply, str) else reply

    def down(self, how: Literal["refuse", "unreachable", "hang"] = "refuse") -> None:
        """Connections come to nothing from now on."""
        getattr(self._network, how)(self.address, 25)

    def up(self) -> None:
        """Answer again."""
        self._network.listen(self.address, 25, self.serve)

    def take(self, message: Received) -> None:
        super().take(message)
        sender = message.mail.path.mailbox
        recipients = tuple(str(each.path)[1:-1] for each in message.recipients)
        self._keep(Letter(self.domain, str(sender) if sender else "", recipients, message.content))


class Internet(FakeResolver):
    """DNS in which every domain has an MX that works: the server is there when it is asked for.

    What a test put into the zone goes before that, and so does a domain that is `missing`. All other names,
    such as those of block lists, do not exist.
    """

    def __init__(self, zone: Zone | None = None) -> None:
        super().__init__(zone)
        self.remotes: dict[str, Remote] = {}
        self.letters: list[Letter] = []
        """All that was delivered, in order."""
        self.missing: set[str] = set()
        """Domains that do not exist."""
        self.network: MemoryNetwork | None = None
        """Has to be there before anybody is asked for."""
        self._next = _FIRST

    def remote(self, domain: str) -> Remote:
        """The server of a domain."""
        domain = domain.lower()
        if domain not in self.remotes:
            assert self.network is not None
            address = self.host(f"mx.{domain}")
            self.remotes[domain] = Remote(domain, address, self.network, self.letters.append)
            self.add(domain, "MX", (10, f"mx.{domain}"))
        return self.remotes[domain]

    def host(self, name: str) -> str:
        """The address of a host, which gets one if it has none."""
        known = self.zone.get(name.lower(), {}).get("A")
        if known:
            return str(known[0])
        assert self._next <= _LAST, f"a test has at most {_LAST} hosts"
        address = _ADDRESS.format(self._next)
        self._next += 1
        self.add(name, "A", address)
        return address

    async def query(self, name: str, kind: RecordKind) -> Answer:
        answer = await super().query(name, kind)
        domain = answer.canonical or name
        if kind is RecordKind.MX and answer.status in _NOTHING and domain not in self.missing:
            self.remote(domain)
            return await super().query(name, kind)
        return answer


def parse_reply(text: str) -> Reply:
    """A reply from a line such as `550 5.1.1 unknown user`; the enhanced code may be left out."""
    code, _, rest = text.partition(" ")
    enhanced, _, words = rest.partition(" ")
    if enhanced.count(".") == 2 and enhanced.replace(".", "").isdigit():
        return Reply.of(int(code), enhanced, words)
    return Reply.of(int(code), None, rest)
