"""Sends each domain that asks for it a daily report on TLS with its hosts, by mail or HTTPS (RFC 8460)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from random import Random

import attrs
import trio

from elemta.config import Config
from elemta.delivery import HttpsAddress, HttpsClient, HttpsFailed, TlsReport, TlsResults, parse_rua
from elemta.dns import RecordKind, Resolver, Status
from elemta.mail import (
    BodyType,
    Envelope,
    Mailbox,
    MessageId,
    Origin,
    Recipient,
    ReversePath,
    make_id,
    parse_domain,
    parse_mailbox,
)
from elemta.runtime import WallClock, get_logger
from elemta.spool import Spool, SpoolError

DAY = 86400
SPREAD = 4 * 3600.0
"""Seconds after midnight within which a day is reported, at random: not all the world at once (§4.1)."""
_MOST = 64 * 1024
"""Octets of an answer to a report that was posted."""
_log = get_logger(__name__)


@attrs.frozen(kw_only=True)
class TlsReporter:
    """Reports days that are over. A day is forgotten when all its domains had their turn: once each.

    A report that cannot be sent is lost, and the log says so; the domain gets the next.
    """

    config: Callable[[], Config]
    results: TlsResults
    resolver: Resolver
    client: HttpsClient
    spool: Spool
    wake: Callable[[], None]
    clock: WallClock
    random: Random
    sign: Callable[[bytes], bytes]
    """The signatures to put before a message of our own; empty where its domain has no key. Receivers want
    one of a report by mail (RFC 8460 §3)."""

    async def run(self) -> None:
        """Report what is left of former days, and each day some time after its end, until cancelled."""
        while True:
            today = int(self.clock.time() // DAY)
            for day in self.results.days():
                if day < today:
                    await self.report_day(day)
            await trio.sleep((today + 1) * DAY - self.clock.time() + self.random.uniform(0, SPREAD))

    async def report_day(self, day: int) -> None:
        """Send the reports of one day, domain by domain, and forget it."""
        for domain, found in groupby(self.results.of_day(day), lambda each: each.policy.domain):
            config = self.config()
            report = TlsReport(
                domain=domain,
                day=day,
                results=tuple(found),
                organization=config.tls_reports.organization or config.hostname,
                contact=_contact(config),
                hostname=config.hostname,
            )
            await self._send(report, config.timeouts.policy_fetch)
        self.results.forget(day)

    async def _send(self, report: TlsReport, seconds: float) -> None:
        answer = await self.resolver.query(f"_smtp._tls.{report.domain}", RecordKind.TXT)
        if answer.status is Status.FAILED:
            _log.warning("a TLS report was not sent", domain=report.domain, reason=answer.detail)
        if answer.status is not Status.OK:
            return
        for address in parse_rua(answer.strings):
            if isinstance(address, HttpsAddress):
                trouble = "no answer in time"
                with trio.move_on_after(seconds):
                    trouble = await self._post(report, address)
            else:
                trouble = await self._mail(report, address)
            if trouble:
                _log.warning("a TLS report was not sent", domain=report.domain, reason=trouble)
            else:
                _log.info("a TLS report was sent", domain=report.domain, report=report.id)

    async def _post(self, report: TlsReport, address: HttpsAddress) -> str:
        """Why it came to nothing, or nothing (§5.4)."""
        headers = (("Content-Type", "application/tlsrpt+gzip"),)
        try:
            answer = await self.client.request(
                "POST", address.host, address.path, headers=headers, body=report.compressed(), most=_MOST
            )
        except HttpsFailed as error:
            return str(error)
        return "" if 200 <= answer.status < 300 else f"HTTP status {answer.status}"

    async def _mail(self, report: TlsReport, to: Mailbox) -> str:
        now = self.clock.time()
        message = MessageId(make_id(int(now * 1000), self.random.getrandbits(35)))
        draft = self.spool.new_draft(message)
        try:
            text = f"To: <{to}>\r\n".encode() + report.message(now)
            await draft.write(text)
            await self.spool.commit(
                draft,
                message=message,
                envelope=Envelope(ReversePath(report.contact), (Recipient(to),), BodyType.SEVEN_BIT),
                origin=Origin(session="", peer="local"),
                prefix=self.sign(text),
            )
        except SpoolError as error:
            return str(error)
        finally:
            draft.discard()
        self.wake()
        return ""


def _contact(config: Config) -> Mailbox:
    """Who sends reports: an address that every server takes, for a report is not worth SMTPUTF8."""
    configured = config.tls_reports.contact or config.postmaster
    if configured is not None and configured.isascii():
        return parse_mailbox(configured)
    return Mailbox("postmaster", parse_domain(config.hostname))
