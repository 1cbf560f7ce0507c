"""Failure reports of DMARC: who gets one, how many, and what is in it (RFC 9991)."""

import email
import email.policy
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from random import Random

import attrs
import pytest
import trio
from test_app_reporting import Clock, verdict

from elemta.app.failure_reports import FailureReporting
from elemta.config import Config, DmarcConfig, PolicyConfig, SpoolConfig
from elemta.mail import Result
from elemta.policy import Notary, PrivateKeys, SuffixFlag, Verdict
from elemta.policy.head import MessageHead
from elemta.spool import MemoryStore, QueueFilter, open_spool
from elemta.testing.dns import FakeResolver

HEADER = (
    b"From: Anna <a@mail.author.example>\r\nTo: secret@ours.example\r\nSubject: secret\r\n"
    b"Message-ID: <1@author.example>\r\nDKIM-Signature: v=1; d=mail.author.example;\r\n s=\xff\r\n\r\n"
)


def failing(
    ruf: tuple[str, ...] = ("mailto:f@author.example",),
    result: Result = Result.FAIL,
    options: str = "0",
    suffix: SuffixFlag = SuffixFlag.UNKNOWN,
) -> Verdict:
    found = verdict(result=result)
    [dmarc] = found.findings.dmarc
    assert dmarc.record is not None
    record = attrs.evolve(dmarc.record, failure=ruf, failure_options=frozenset(options), suffix=suffix)
    return attrs.evolve(
        found, findings=attrs.evolve(found.findings, dmarc=(attrs.evolve(dmarc, record=record),))
    )


class Bed:
    def __init__(self, spool: object, store: MemoryStore, **settings: object) -> None:
        dmarc = DmarcConfig(**{"failure_reports": True, **settings})  # type: ignore[arg-type]
        config = Config(hostname="mx.ours.example", policy=PolicyConfig(dmarc=dmarc))
        self.clock, self.store, self.resolver = Clock(), store, FakeResolver()
        self.notary = Notary(config, PrivateKeys(), self.resolver, self.clock)
        self.reporting = FailureReporting(
            config,
            self.notary,
            spool,  # type: ignore[arg-type]
            self.resolver,
            self.clock,
            Random(1),
        )

    async def add(self, found: Verdict, header: bytes = HEADER, *, notice: bool = False) -> list[bytes]:
        """All reports so far, once there is nothing more to do."""
        self.notary.failures.add(ip_address("192.0.2.7"), found, MessageHead(header), notice=notice)
        with trio.move_on_after(1):
            await self.reporting.run()
        ids = [entry.id for entry in self.store.list(QueueFilter(), after=None, limit=1000)]
        return [self.store.body(each) or b"" for each in ids]


@asynccontextmanager
async def open_bed(folder: Path, **settings: object):
    store = MemoryStore()
    async with open_spool(
        folder,
        SpoolConfig(),
        message_size=10**7,
        clock=Clock(),
        random=Random(2),
        on_trouble=lambda what, detail: None,
        store=store,
    ) as spool:
        yield Bed(spool, store, **settings)


async def test_a_report_has_what_helps_and_nothing_else(tmp_path: Path, autojump_clock: object):
    async with open_bed(tmp_path) as bed:
        [body] = await bed.add(failing())
        message = email.message_from_bytes(body, policy=email.policy.default)
        assert message["To"] == "f@author.example"
        assert message.get_param("report-type") == "feedback-report"
        _, feedback, header = message.iter_parts()
        assert feedback.get_content_type() == "message/feedback-report"
        assert header.get_content_type() == "text/rfc822-headers"
        text = body.decode("ascii")
        for line in (
            "Feedback-Type: auth-failure", "Auth-Failure: dmarc", "Identity-Alignment: dkim, spf",
            "Source-IP: 192.0.2.7", "Reported-Domain: mail.author.example", "DKIM-Domain: mail.author.example",
            "DKIM-Selector: s1", "Delivery-Result: delivered", "From: Anna <a@mail.author.example>",
        ):  # fmt: skip
            assert f"\r\n{line}\r\n" in text, line
        assert "secret" not in text


@pytest.mark.parametrize(
    ("found", "count"),
    [
        (failing(result=Result.PASS), 0),
        (failing(result=Result.PASS, options="1"), 1),
        (failing(options="ds"), 0),
        (failing(result=Result.TEMPERROR), 0),
        (failing(ruf=()), 0),
        (failing(suffix=SuffixFlag.YES), 0),
        (failing(ruf=("mailto:a@author.example", "mailto:b@mail.author.example", "https://x.example/")), 2),
        (failing(ruf=("mailto:a@elsewhere.example",)), 0),
        (failing(ruf=("mailto:a@agrees.example",)), 1),
    ],
    ids=range(9),
)
async def test_who_gets_one(tmp_path: Path, autojump_clock: object, found: Verdict, count: int):
    async with open_bed(tmp_path) as bed:
        bed.resolver.add("author.example._report._dmarc.agrees.example", "TXT", "v=DMARC1")
        assert len(await bed.add(found)) == count


async def test_what_is_automatic_is_not_reported_and_nothing_is_where_it_is_off(
    tmp_path: Path, autojump_clock: object
):
    async with open_bed(tmp_path) as bed:
        assert await bed.add(failing(), notice=True) == []
        assert await bed.add(failing(), b"Auto-Submitted: auto-generated\r\n" + HEADER) == []
        assert await bed.add(failing(), b"Content-Type: Multipart/Report; x=y\r\n" + HEADER) == []
        assert len(await bed.add(failing(), b"Auto-Submitted: no\r\n" + HEADER)) == 1
        bed.notary.failures.replace(DmarcConfig())
        assert len(await bed.add(failing())) == 1


async def test_a_domain_is_not_flooded(tmp_path: Path, autojump_clock: object):
    async with open_bed(tmp_path, failure_reports_hourly=2) as bed:
        for _ in range(5):
            found = await bed.add(failing())
        assert len(found) == 2
        bed.clock.now += 1800
        assert len(await bed.add(failing())) == 3
