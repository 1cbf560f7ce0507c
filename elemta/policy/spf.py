"""Was this client allowed to send as that domain? (RFC 7208)

Both identities are checked at the same time: the domain of the reverse path, and the name of the host
itself, by which mail without a reverse path is judged.
"""

from __future__ import annotations

import enum

import attrs
import trio

from elemta.config import MessageAction, SpfConfig
from elemta.dns import AsksDns
from elemta.mail import AuthResult, Domain, MailSyntaxError, Property, Result, ReversePath, parse_domain
from elemta.runtime import escape_text

from .client import IpAddress
from .lookups import TooManyLookups, evaluate
from .spf_query import SpfAnswer, SpfEvaluation, SpfQuestion

_SHOWN = 300
"""Characters of a stranger's text that are shown."""


class SpfIdentity(enum.Enum):
    """What is checked (RFC 7208 §2.3, §2.4)."""

    MAIL = "mailfrom"
    HELLO = "helo"


@attrs.frozen
class SpfResult:
    """The result for one identity. Its texts are safe for logs."""

    identity: SpfIdentity
    result: Result
    subject: str
    """The mailbox or the name that was checked."""
    domain: str = ""
    """Whose record was asked; empty where the subject has none."""
    reason: str = ""
    mechanism: str = ""
    """The term that matched."""
    explanation: str = ""
    """What the domain says about a failure: for the log, never for replies (RFC 7208 §11.5)."""

    @property
    def passed(self) -> bool:
        return self.result is Result.PASS

    def auth_result(self) -> AuthResult:
        """As Authentication-Results says it (RFC 8601 §2.7.2: without the local part, which is not what
        nearly every record is about)."""
        subject = (Property("smtp", self.identity.value, self.subject.rpartition("@")[2]),)
        return AuthResult("spf", self.result, self.reason, subject)


@attrs.frozen
class SpfResults:
    """What SPF says about a transaction."""

    sender: SpfResult
    """What counts: of the reverse path, and where that is null of the name of the host (RFC 7208 §2.4)."""
    hello: SpfResult | None = None
    """Of the name of the host, where that was checked beside."""


async def check_spf(
    address: IpAddress,
    reverse_path: ReversePath,
    hello: str,
    config: SpfConfig,
    *,
    resolver: AsksDns,
    receiver: str,
) -> SpfResults:
    """Check both identities; what is not known within `config.timeout` is TEMPERROR.

    Never raises for what is in DNS or in the names. Cancelled, it leaves nothing behind.

    Args:
      hello: what the client said in HELO or EHLO.
      receiver: our name, which records may ask for.
    """
    checks_hello = config.hello_action is not MessageAction.OFF
    host = _as_domain(hello)
    mailbox = reverse_path.mailbox
    by_host = SpfResult(SpfIdentity.HELLO, Result.NONE, escape_text(hello, _SHOWN))
    sender = by_host if mailbox is None else SpfResult(SpfIdentity.MAIL, Result.NONE, str(mailbox))
    hello_result: SpfResult | None = None

    async def check_hello() -> None:
        nonlocal by_host
        if host:
            question = SpfQuestion(address, host, hello=host, receiver=receiver)
            by_host = await _check(by_host, question, config, resolver)

    async def check_sender() -> None:
        nonlocal sender
        domain = mailbox.domain if mailbox is not None else None
        if mailbox is not None and isinstance(domain, Domain) and "." in domain.text:
            # RFC 7208 §4.3: a local part that is empty is taken for postmaster
            question = SpfQuestion(
                address,
                domain.text,
                mailbox.local_part or "postmaster",
                hello=host or hello,
                receiver=receiver,
            )
            sender = await _check(sender, question, config, resolver)

    async with trio.open_nursery() as nursery:
        if mailbox is None or checks_hello:
            nursery.start_soon(check_hello)
        if mailbox is not None:
            nursery.start_soon(check_sender)
    if mailbox is None:
        return SpfResults(by_host)
    if checks_hello:
        hello_result = by_host
    return SpfResults(sender, hello_result)


async def _check(blank: SpfResult, question: SpfQuestion, config: SpfConfig, resolver: AsksDns) -> SpfResult:
    answer = SpfAnswer(Result.TEMPERROR, "not finished in time")  # RFC 7208 §4.6.4
    with trio.move_on_after(config.timeout):
        try:
            answer = await evaluate(SpfEvaluation(question).run, resolver)
        except TooManyLookups:
            answer = SpfAnswer(Result.PERMERROR, "too many DNS lookups")
    return attrs.evolve(
        blank,
        result=answer.result,
        domain=question.domain,
        reason=escape_text(answer.reason, _SHOWN),
        mechanism=escape_text(answer.mechanism, _SHOWN),
        explanation=escape_text(answer.explanation, _SHOWN),
    )


def _as_domain(hello: str) -> str:
    """The name of a host with a domain; empty for literals, bare names and whatever else (RFC 7208 §2.3)."""
    try:
        domain = parse_domain(hello.removesuffix("."), utf8=True)
    except MailSyntaxError:
        return ""
    return domain.text if isinstance(domain, Domain) and "." in domain.text else ""
