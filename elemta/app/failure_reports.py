"""Sends the reports on single messages that domains want and DMARC has failed (RFC 9991)."""

from __future__ import annotations

from random import Random

import trio

from elemta.config import Config
from elemta.dns import RecordKind, Resolver
from elemta.mail import NULL_PATH, Envelope, MessageId, Origin, Recipient, make_id, parse_mailbox
from elemta.policy import Failure, Notary, mail_addresses, write_failure_report
from elemta.runtime import WallClock, get_logger
from elemta.spool import Spool, SpoolError

from .reporting import consenting

RECORD_SECONDS = 20.0
_RANDOM_BITS = 35

_log = get_logger(__name__)


class FailureReporting:
    """Between the checks, which must not wait, and the spool."""

    def __init__(
        self,
        config: Config,
        notary: Notary,
        spool: Spool,
        resolver: Resolver,
        clock: WallClock,
        random: Random,
    ) -> None:
        self._config = config
        self._notary = notary
        self._spool = spool
        self._resolver = resolver
        self._clock = clock
        self._random = random

    def replace(self, config: Config) -> None:
        """Work by another configuration from now on (reload)."""
        self._config = config

    async def run(self) -> None:
        """Store reports until cancelled. Run it supervised."""
        while True:
            failure = await self._notary.failures.take()
            try:
                await self.send(failure)
            except SpoolError as error:
                _log.warning("a report cannot be stored", domain=failure.owner, error=str(error))

    async def send(self, failure: Failure) -> None:
        """Store the reports on one message. Cancelled, some may not be."""
        result = failure.result
        assert result.record is not None
        organization = "" if result.organization is None else result.organization.text
        addresses = await consenting(
            self._resolver, mail_addresses(result.record.failure), failure.owner, organization
        )
        if not addresses:
            return
        record = await self._spf_record(failure)
        for address in addresses:
            await self._store(failure, address, record)

    async def _spf_record(self, failure: Failure) -> str:
        """What the domain publishes, from the cache most of the time; empty: nothing, or not in time."""
        if failure.spf is None:
            return ""
        with trio.move_on_after(RECORD_SECONDS):
            answer = await self._resolver.query(failure.spf.domain, RecordKind.TXT)
            texts = (text.decode("ascii", "replace") for text in answer.strings)
            return next((text for text in texts if text.lower().startswith("v=spf1")), "")
        return ""

    async def _store(self, failure: Failure, address: str, record: str) -> None:
        config, now = self._config, self._clock.time()
        message = MessageId(make_id(int(now * 1000), self._random.getrandbits(_RANDOM_BITS)))
        text = write_failure_report(
            failure,
            address,
            hostname=config.hostname,
            contact=config.policy.dmarc.reports_from or f"postmaster@{config.hostname}",
            authserv_id=self._notary.checks.authserv_id,
            message=message,
            spf_record=record,
            now=now,
        )
        draft = self._spool.new_draft(message)
        try:
            await draft.write(text)
            await self._spool.commit(
                draft,
                message=message,
                # Nobody is told of a report that does not arrive: so there is no loop (RFC 9991 §5.1)
                envelope=Envelope(NULL_PATH, (Recipient(parse_mailbox(address)),)),
                origin=Origin(session="", peer="local", hello=config.hostname, protocol="LOCAL"),
                prefix=self._notary.sign_own(text),
            )
        finally:
            draft.discard()
