"""What a client calls itself in HELO and EHLO: our own name, a foreign address, a name nobody has."""

from __future__ import annotations

import attrs
import trio

from elemta.config import CheckAction, HelloConfig
from elemta.dns import Answer, RecordKind, Resolver, Status
from elemta.mail import AddressLiteral, Domain, MailSyntaxError, parse_domain

from .client import IpAddress


@attrs.frozen
class HelloFinding:
    """Why the name is not what it should be."""

    action: CheckAction
    text: str
    finished: bool = True
    """False where DNS gave no answer."""


class HelloCheck:
    """Judges names. The syntax of RFC 5321 §4.1.1.1 is the protocol machine's."""

    def __init__(self, config: HelloConfig, hostname: str, resolver: Resolver) -> None:
        self._config = config
        self._hostname = hostname.lower()
        self._resolver = resolver

    async def judge(self, name: str, address: IpAddress) -> HelloFinding | None:
        """The first check that the name fails, within the configured time."""
        config = self._config
        try:
            parsed = parse_domain(name, utf8=True)
        except MailSyntaxError:
            return _finding(config.unqualified, "not a name")
        if isinstance(parsed, AddressLiteral):
            # RFC 5321 §4.1.4: a name need not fit the address, and mail must not be refused for that;
            # a literal is the address itself, but clients behind address translation do not know theirs.
            if _plain(parsed) == address:
                return None
            return _finding(config.address_literal, f"the address {parsed} is not the client's")
        if parsed.text == self._hostname:
            return _finding(config.own_name, "our own name")
        if "." not in parsed.text:
            return _finding(config.unqualified, f"{parsed} is not a full name")
        if config.unresolvable is CheckAction.OFF:
            return None
        return await self._resolve(parsed)

    async def _resolve(self, name: Domain) -> HelloFinding | None:
        """Whether the name has an address or an MX (RFC 5321 §2.3.5)."""
        answers: list[Answer] = []
        kinds = (RecordKind.A, RecordKind.AAAA, RecordKind.MX)
        found = False

        async def ask(kind: RecordKind) -> None:
            nonlocal found
            answer = await self._resolver.query(name.text, kind)
            answers.append(answer)
            if answer.status is Status.OK:
                found = True
                nursery.cancel_scope.cancel(reason="one record is enough")

        with trio.move_on_after(self._config.timeout):
            async with trio.open_nursery() as nursery:
                for kind in kinds:
                    nursery.start_soon(ask, kind)
        if found:
            return None
        finished = len(answers) == len(kinds) and all(
            answer.status is not Status.FAILED for answer in answers
        )
        text = f"{name} has no address and no MX" if finished else f"no answer about {name}"
        return HelloFinding(self._config.unresolvable, text, finished)


def _finding(action: CheckAction, text: str) -> HelloFinding | None:
    return None if action is CheckAction.OFF else HelloFinding(action, text)


def _plain(literal: AddressLiteral) -> IpAddress | None:
    """The address in brackets, IPv4-mapped IPv6 as the IPv4 it stands for."""
    address = literal.address
    if address is not None and address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
