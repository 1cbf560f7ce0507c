"""Writes down what DMARC found, and once a day sends the reports that domains want (RFC 9990)."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from random import Random

import trio

from elemta.config import Config
from elemta.dns import RecordKind, Resolver, Status
from elemta.mail import (
    NULL_PATH,
    Envelope,
    MessageId,
    Origin,
    Recipient,
    date,
    make_id,
    parse_mailbox,
)
from elemta.policy import (
    Notary,
    ReportCollector,
    ReportDay,
    ReportRow,
    consents,
    group_days,
    needs_consent,
    report_id,
    report_name,
    report_xml,
)
from elemta.runtime import ThreadPool, WallClock, get_logger, run_in_thread
from elemta.spool import Spool, SpoolError, Tally, TallyError

DAY = 86400
FLUSH = 60.0
"""Seconds between two writes; a crash loses what was counted since."""
CONSENT_SECONDS = 20.0
_RANDOM_BITS = 35
_WIDTH = 76

_log = get_logger(__name__)


class Reporting:
    """Between the collector, the file and the spool."""

    def __init__(
        self,
        config: Config,
        tally: Tally,
        collector: ReportCollector,
        notary: Notary,
        spool: Spool,
        resolver: Resolver,
        clock: WallClock,
        random: Random,
    ) -> None:
        self.config = config
        """May be replaced at any time (reload)."""
        self._tally = tally
        self._collector = collector
        self._notary = notary
        self._spool = spool
        self._resolver = resolver
        self._clock = clock
        self._random = random
        self._pool = ThreadPool("reports", 1)
        self._offset = random.uniform(0, 3600)
        """Seconds after midnight, so that not all servers report at the same moment."""

    async def run(self) -> None:
        """Write and report until cancelled. Run it supervised."""
        while True:
            await trio.sleep(FLUSH)
            try:
                await self.flush()
                await self.send_due()
            except TallyError as error:
                _log.warning("reports cannot be written down", error=str(error))

    async def flush(self) -> None:
        """Write down what was counted.

        Raises:
          TallyError: it is lost.
        """
        rows = self._collector.take()
        if not rows:
            return
        counts = [((row.domain, row.policy, row.found), row.count) for row in rows]
        day = int(self._clock.time()) // DAY
        dropped = await run_in_thread(self._pool, self._tally.add, day, counts)
        self._collector.dropped += dropped

    async def send_due(self) -> None:
        """Send the reports of days that are over; each is forgotten once it is stored.

        Raises:
          TallyError: see there; some may have been sent, and will be again with the same id.
        """
        today = int(self._clock.time() - self._offset) // DAY
        found = await run_in_thread(self._pool, self._tally.before, today)
        rows = [(day * DAY, ReportRow(*key, count)) for day, key, count in found]
        for report in group_days(rows):
            for address in await self._consenting(report):
                try:
                    await self._store(report, address)
                except SpoolError as error:
                    _log.warning("a report cannot be stored", domain=report.domain, error=str(error))
                    return
            await run_in_thread(self._pool, self._tally.forget, report.begin // DAY, report.domain)

    async def _consenting(self, report: ReportDay) -> list[str]:
        """To whom it goes: those elsewhere must have said that they want it (RFC 9990 §4)."""
        organization = str(report.policy.get("organization", ""))
        return await consenting(self._resolver, report.recipients, report.domain, organization)

    async def _store(self, report: ReportDay, address: str) -> None:
        config, now = self.config, self._clock.time()
        message = MessageId(make_id(int(now * 1000), self._random.getrandbits(_RANDOM_BITS)))
        packed = await run_in_thread(self._pool, self._pack, report)
        text = write_report(
            report, packed, address, hostname=config.hostname, contact=self._contact, message=message, now=now
        )
        draft = self._spool.new_draft(message)
        try:
            await draft.write(text)
            await self._spool.commit(
                draft,
                message=message,
                # Nobody is told of a report that does not arrive
                envelope=Envelope(NULL_PATH, (Recipient(parse_mailbox(address)),)),
                origin=Origin(session="", peer="local", hello=config.hostname, protocol="LOCAL"),
                prefix=self._notary.sign_own(text),
            )
        finally:
            draft.discard()

    @property
    def _contact(self) -> str:
        config = self.config
        return config.policy.dmarc.reports_from or f"postmaster@{config.hostname}"

    def _pack(self, report: ReportDay) -> bytes:
        return report_xml(report, hostname=self.config.hostname, contact=self._contact)


async def consenting(
    resolver: Resolver, addresses: Iterable[str], domain: str, organization: str
) -> list[str]:
    """Those of the addresses that a report about the domain may go to."""
    found = []
    for address in addresses:
        name = needs_consent(address, domain, organization)
        if name is not None:
            with trio.move_on_after(CONSENT_SECONDS) as scope:
                answer = await resolver.query(name, RecordKind.TXT)
            if scope.cancelled_caught or answer.status is Status.FAILED or not consents(answer.strings):
                continue
        found.append(address)
    return found


def write_report(
    report: ReportDay,
    packed: bytes,
    address: str,
    *,
    hostname: str,
    contact: str,
    message: MessageId,
    now: float,
) -> bytes:
    """The message with the report (RFC 9990 §3.5.2)."""
    name = report_name(report, hostname)
    coded = base64.b64encode(packed).decode("ascii")
    lines = (
        f"From: <{contact}>",
        f"To: <{address}>",
        f"Date: {date(now)}",
        f"Message-ID: <{message}@{hostname}>",
        f"Subject: Report Domain: {report.domain}",
        f" Submitter: {hostname}",
        f" Report-ID: <{report_id(report, hostname)}>",
        "Auto-Submitted: auto-generated",  # RFC 3834 §5
        "MIME-Version: 1.0",
        "Content-Type: application/gzip;",
        f' name="{name}"',
        "Content-Disposition: attachment;",
        f' filename="{name}"',
        "Content-Transfer-Encoding: base64",
        "",
        *(coded[start : start + _WIDTH] for start in range(0, len(coded), _WIDTH)),
        "",
    )
    return "\r\n".join(lines).encode("ascii")
