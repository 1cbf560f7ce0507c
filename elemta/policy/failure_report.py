"""Failure reports of DMARC: which messages are told of, how many, and in what form (RFC 9991, RFC 6591).

A report shows a domain one message in its name that failed. Of the message it has the fields that say where
it comes from and how it was signed, and nothing that says to whom it went or what it is about.
"""

from __future__ import annotations

import attrs
import trio

from elemta.config import DmarcConfig, MessageAction
from elemta.mail import Domain, Result, authentication_results, date
from elemta.runtime import RateLimiter, WallClock

from .checks import Verdict
from .client import IpAddress
from .dkim import DkimResult
from .dmarc import DmarcResult, Mechanism
from .dmarc_record import SuffixFlag
from .head import MessageHead
from .spf import SpfResult

WAITING = 100
"""Failures that wait for their report; what is more is not told."""
ALL_DOMAINS = 10
"""Times what one domain gets is what all get together."""
MOST_OCTETS = 16 * 1024
"""Of the fields that are shown."""
_HOUR = 3600.0
_SHOWN = frozenset(
    {b"from", b"sender", b"date", b"message-id", b"list-id", b"mime-version", b"dkim-signature", b"arc-seal"}
)
# RFC 6591 §3.2.2
_DELIVERY = {
    MessageAction.NOTE: "delivered",
    MessageAction.QUARANTINE: "policy",
    MessageAction.DEFER: "other",
    MessageAction.REFUSE: "reject",
}


@attrs.frozen
class Failure:
    """One message that failed for the domain of one author. Texts are a stranger's."""

    address: IpAddress
    result: DmarcResult
    verdict: Verdict
    header: bytes
    """The fields that may be shown, with CR LF, in ASCII."""
    time: float

    @property
    def owner(self) -> str:
        """Whose record asks for the report."""
        assert self.result.policy_domain is not None
        return self.result.policy_domain.text

    @property
    def failed(self) -> tuple[Mechanism, ...]:
        """What vouches for nobody aligned."""
        aligned = {each.mechanism for each in self.result.aligned}
        return tuple(each for each in (Mechanism.DKIM, Mechanism.SPF) if each not in aligned)

    @property
    def spf(self) -> SpfResult | None:
        """SPF of the author's organization, where that is what failed."""
        spf = self.verdict.findings.spf
        failed = spf is not None and not spf.sender.passed
        return spf.sender if spf is not None and failed and self._is_near(spf.sender.domain) else None

    @property
    def dkim(self) -> DkimResult | None:
        """A signature of the author's organization, where that is what failed."""
        signatures = (each for each in self.verdict.findings.dkim if not each.passed)
        return next((each for each in signatures if self._is_near(each.domain)), None)

    def _is_near(self, name: str) -> bool:
        homes = (self.result.domain, self.result.organization)
        return bool(name) and any(
            home is not None and f".{name.lower()}".endswith(f".{home.text}") for home in homes
        )


class FailureReports:
    """Takes what DMARC found and keeps what is to be told. Sync, bounded; off unless configured."""

    def __init__(self, config: DmarcConfig, clock: WallClock) -> None:
        self._clock = clock
        self._send, self._receive = trio.open_memory_channel[Failure](WAITING)
        self._each: RateLimiter[str] | None = None
        self._all: RateLimiter[None] | None = None
        self._hourly = 0
        self.replace(config)

    def replace(self, config: DmarcConfig) -> None:
        """Work by another configuration from now on (reload)."""
        hourly = config.failure_reports_hourly if config.failure_reports else 0
        if hourly != self._hourly and hourly:
            # RFC 9991 §2: so that nobody is flooded by what others send in his name
            self._each = RateLimiter(hourly / _HOUR, hourly, clock=self._clock, keys=10_000)
            self._all = RateLimiter(ALL_DOMAINS * hourly / _HOUR, ALL_DOMAINS * hourly, clock=self._clock)
        self._hourly = hourly

    def add(self, address: IpAddress, verdict: Verdict, head: MessageHead, *, notice: bool) -> None:
        """Keep a message for each domain that wants to know of it.

        Args:
          notice: it has no sender: a report or a bounce, of which a report could make another (§5.1).
        """
        if not self._hourly or notice or is_automatic(head):
            return
        assert self._each is not None
        assert self._all is not None
        for result in verdict.findings.dmarc:
            if not wants_failure(result):
                continue
            failure = Failure(address, result, verdict, shown_fields(head), self._clock.time())
            # the one that is common to all last: a domain that has had enough takes nothing from it
            if self._each.allow(failure.owner) and self._all.allow(None):
                try:
                    self._send.send_nowait(failure)
                except trio.WouldBlock:
                    return

    async def take(self) -> Failure:
        """The next one; waits for it."""
        return await self._receive.receive()


def wants_failure(result: DmarcResult) -> bool:
    """Whether the record asks to be told of this one (RFC 9989 §4.7, fo=).

    `d` and `s` ask for reports of DKIM and SPF by themselves (RFC 6651, 6652), which we do not make.
    """
    record = result.record
    if record is None or not record.failure or result.policy_domain is None:
        return False
    if record.suffix is SuffixFlag.YES:
        return False  # RFC 9991 §2: whoever registers names is not told of the mail of those who hold them
    if result.result is Result.FAIL:
        return bool(record.failure_options & {"0", "1"})
    every = {each.mechanism for each in result.aligned} == set(Mechanism)
    return result.result is Result.PASS and "1" in record.failure_options and not every


def is_automatic(head: MessageHead) -> bool:
    """Whether a program sent it by itself (RFC 3834 §5)."""
    return any(
        (field.name == b"auto-submitted" and field.unfolded.lower() != b"no")
        or (field.name == b"content-type" and field.unfolded.lower().startswith(b"multipart/report"))
        for field in head.fields
    )  # fmt: skip


def shown_fields(head: MessageHead) -> bytes:
    """The fields of a message that a report has."""
    found, size = [], 0
    for field in head.fields:
        if field.name not in _SHOWN:
            continue
        size += len(field.raw) + 2
        if size > MOST_OCTETS:
            break
        found.append(bytes(octet if octet < 128 else 0x3F for octet in field.raw) + b"\r\n")
    return b"".join(found)


def write_failure_report(
    failure: Failure,
    address: str,
    *,
    hostname: str,
    contact: str,
    authserv_id: str,
    message: str,
    spf_record: str,
    now: float,
) -> bytes:
    """The message with the report, in ASCII (RFC 6591 §3, RFC 9991 §4).

    Args:
      spf_record: what the domain of `failure.spf` publishes; empty where it has none.
    """
    domain = failure.result.domain
    assert isinstance(domain, Domain)
    boundary = f"=_{message}"
    lines = (
        f"From: <{contact}>",
        f"To: <{address}>",
        f"Date: {date(now)}",
        f"Message-ID: <{message}@{hostname}>",
        f"Subject: A message in the name of {domain.text} failed",
        "Auto-Submitted: auto-generated",  # RFC 3834 §5
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=feedback-report;",
        f' boundary="{boundary}"',
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"This is an authentication failure report for a message that was received from {failure.address}",
        f"on {date(failure.time)}.",
        "",
        f"--{boundary}",
        "Content-Type: message/feedback-report",
        "",
        *_feedback(failure, hostname, authserv_id, spf_record),
        "",
        f"--{boundary}",
        "Content-Type: text/rfc822-headers",
        "",
        failure.header.decode("ascii"),
        f"--{boundary}--",
        "",
    )
    return "\r\n".join(lines).encode("ascii", "replace")


def _feedback(failure: Failure, hostname: str, authserv_id: str, spf_record: str) -> list[str]:
    domain = failure.result.domain
    assert domain is not None
    results = authentication_results(failure.verdict.results, authserv_id, smtputf8=False)
    found = [
        "Feedback-Type: auth-failure",
        "Version: 1",
        f"User-Agent: elemta ({hostname})",
        "Auth-Failure: dmarc",
        results.decode("ascii", "replace").removesuffix("\r\n"),
        f"Identity-Alignment: {', '.join(each.value for each in failure.failed) or 'none'}",
        f"Delivery-Result: {_DELIVERY.get(failure.verdict.action, 'other')}",
        f"Arrival-Date: {date(failure.time)}",
        f"Source-IP: {failure.address}",
        f"Reported-Domain: {domain.text}",
    ]
    signature, spf = failure.dkim, failure.spf
    if signature is not None and Mechanism.DKIM in failure.failed:
        found += (
            f"DKIM-Domain: {_plain(signature.domain)}",
            f"DKIM-Identity: {_plain(signature.identity)}",
            f"DKIM-Selector: {_plain(signature.selector)}",
        )
    if spf is not None and Mechanism.SPF in failure.failed:
        text = _plain(spf_record).replace("\\", "\\\\").replace('"', '\\"')
        found.append(f'SPF-DNS: txt : {_plain(spf.domain)} : "{text}"')
    return found


def _plain(text: str) -> str:
    """A stranger's text in one line of ASCII, not too long for one (RFC 5322 §2.1.1)."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)[:800]
