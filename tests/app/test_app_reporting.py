"""Reports about DMARC: what is counted, who gets a report, and what is in it."""

import email
import email.policy
import gzip
import json
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import attrs
import pytest

from elemta.app.reporting import DAY, Reporting
from elemta.config import Config, MessageAction, SpoolConfig
from elemta.mail import Domain, Result
from elemta.policy import (
    Disposition,
    DkimResult,
    DmarcPolicy,
    DmarcRecord,
    DmarcResult,
    Findings,
    Identifier,
    Mechanism,
    Notary,
    PrivateKeys,
    ReportCollector,
    SpfIdentity,
    SpfResult,
    SpfResults,
    Verdict,
    needs_consent,
)
from elemta.policy.dmarc_record import parse_record
from elemta.policy.dmarc_report import MOST_WAITING
from elemta.spool import MemoryStore, QueueFilter, Tally, open_spool
from elemta.testing.dns import FakeResolver

AUTHOR = Domain("mail.author.example")
OWNER = Domain("author.example")
NAMESPACE = "{urn:ietf:params:xml:ns:dmarc-2.0}"


class Clock:
    now = 20_000.0 * DAY

    def time(self) -> float:
        return self.now


def verdict(
    *,
    rua: tuple[str, ...] = ("mailto:reports@author.example",),
    result: Result = Result.FAIL,
    action: MessageAction = MessageAction.NOTE,
    selector: str = "s1",
) -> Verdict:
    record = DmarcRecord(policy=DmarcPolicy.REJECT, aggregate=rua)
    aligned = (Identifier(AUTHOR, Mechanism.DKIM),) if result is Result.PASS else ()
    found = DmarcResult(
        result,
        AUTHOR,
        policy=DmarcPolicy.REJECT,
        policy_domain=OWNER,
        record=record,
        organization=OWNER,
        aligned=aligned,
    )
    spf = SpfResults(SpfResult(SpfIdentity.MAIL, Result.PASS, "x@other.example", domain="other.example"))
    dkim = (DkimResult(result, domain="mail.author.example", selector=selector),)
    disposition = Disposition(action, None, "dmarc" if action is not MessageAction.NOTE else "")
    return Verdict(disposition=disposition, findings=Findings(spf, dkim, None, (found,)))


class Bed:
    def __init__(self, folder: Path, spool: object, store: MemoryStore) -> None:
        config = Config(hostname="mx.ours.example")
        self.clock, self.store, self.resolver = Clock(), store, FakeResolver()
        self.collector = ReportCollector()
        notary = Notary(config, PrivateKeys(), self.resolver, self.clock)
        tally = Tally(folder / "reports.sqlite", 1000)
        self.reporting = Reporting(
            config,
            tally,
            self.collector,
            notary,
            spool,
            self.resolver,
            self.clock,
            Random(1),  # type: ignore[arg-type]
        )

    def count(self, address: str = "192.0.2.7", found: Verdict | None = None) -> None:
        self.collector.add(ip_address(address), found or verdict())

    async def next_day(self) -> list[tuple[str, bytes]]:
        """To whom reports are in the queue once the day is over."""
        await self.reporting.flush()
        self.clock.now += DAY + 3600
        await self.reporting.send_due()
        found = []
        for entry in self.store.list(QueueFilter(), after=None, limit=1000):
            message, body = self.store.stored(entry.id), self.store.body(entry.id)
            assert message is not None
            assert body is not None
            assert message.envelope.reverse_path.is_null
            found.append((str(message.envelope.recipients[0].mailbox), body))
        return found


@asynccontextmanager
async def open_bed(folder: Path):
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
        yield Bed(folder, spool, store)


async def test_a_day_becomes_a_report(tmp_path: Path):
    async with open_bed(tmp_path) as bed:
        bed.count()
        bed.count()
        bed.count(found=verdict(result=Result.PASS))
        bed.count("2001:db8::1", verdict(action=MessageAction.REFUSE, selector="<&>\x01"))
        await bed.reporting.flush()
        bed.count()
        await bed.reporting.send_due()
        [(recipient, body)] = await bed.next_day()
        assert recipient == "reports@author.example"
        message = email.message_from_bytes(body, policy=email.policy.default)
        assert not message.defects
        begin = 20_000 * DAY
        assert " ".join(str(message["Subject"]).split()) == (
            f"Report Domain: author.example Submitter: mx.ours.example Report-ID: <author.example.{begin}@mx.ours.example>"
        )
        assert message["From"] == "postmaster@mx.ours.example"
        assert message.get_filename() == f"mx.ours.example!author.example!{begin}!{begin + 86399}.xml.gz"
        tree = ElementTree.fromstring(gzip.decompress(message.get_content()))
        text = {each.tag.removeprefix(NAMESPACE): each.text for each in tree.iter()}
        assert text["discovery_method"] == "treewalk"
        rows = {
            tuple(record.findtext(f".//{NAMESPACE}{name}") for name in ("source_ip", "count", "disposition"))
            for record in tree.iter(f"{NAMESPACE}record")
        }
        assert rows == {
            ("192.0.2.7", "3", "none"),
            ("192.0.2.7", "1", "pass"),
            ("2001:db8::1", "1", "reject"),
        }
        reasons = [
            (
                record.findtext(f".//{NAMESPACE}disposition"),
                record.findtext(f".//{NAMESPACE}reason/{NAMESPACE}type"),
            )
            for record in tree.iter(f"{NAMESPACE}record")
        ]
        assert sorted(reasons, key=str) == [("none", "local_policy"), ("pass", None), ("reject", None)]
        assert "<&>?" in {each.text for each in tree.iter(f"{NAMESPACE}selector")}
        assert len(await bed.next_day()) == 1  # it is forgotten once it is stored


async def test_addresses_elsewhere_must_have_agreed(tmp_path: Path):
    rua = (
        "mailto:a@yes.example",
        "mailto:b@no.example",
        "mailto:c@late.example",
        "https://x.example/",
        "mailto:junk",
        "mailto:r@[192.0.2.1]",
    )
    async with open_bed(tmp_path) as bed:
        bed.resolver.add("author.example._report._dmarc.yes.example", "TXT", "v=DMARC1")
        bed.resolver.add("author.example._report._dmarc.no.example", "TXT", "v=spf1 -all")
        bed.resolver.failing.add("author.example._report._dmarc.late.example")
        bed.count(found=verdict(rua=rua))
        assert [recipient for recipient, _ in await bed.next_day()] == ["a@yes.example"]


@pytest.mark.parametrize("result", [Result.TEMPERROR, Result.PERMERROR, Result.NONE])
async def test_what_is_no_finding_is_not_told(tmp_path: Path, result: Result):
    async with open_bed(tmp_path) as bed:
        bed.count(found=verdict(result=result))
        bed.count(found=verdict(rua=()))
        assert await bed.next_day() == []


def test_the_collector_is_bounded():
    collector = ReportCollector()
    for number in range(MOST_WAITING + 3):
        collector.add(ip_address(number), verdict())
    assert collector.dropped == 3
    assert len(collector.take()) == MOST_WAITING
    assert collector.take() == []


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("r@author.example", None),
        ("r@Reports.author.example", None),
        ("r@notauthor.example", "mail.author.example._report._dmarc.notauthor.example"),
        ("r@example", "mail.author.example._report._dmarc.example"),
    ],
)
def test_where_consent_is_looked_for(address: str, name: str | None):
    assert needs_consent(address, "mail.author.example", "author.example") == name


@pytest.mark.parametrize(
    ("record", "result", "asked", "action", "told"),
    [
        # RFC 9990 3.1.1.9: `reason` where what is done is not what the domain asks for
        ("p=reject", Result.FAIL, "reject", MessageAction.REFUSE, ("reject", [])),
        ("p=reject", Result.FAIL, "reject", MessageAction.NOTE, ("none", ["local_policy"])),
        ("p=reject", Result.FAIL, "reject", MessageAction.QUARANTINE, ("quarantine", ["local_policy"])),
        ("p=quarantine", Result.FAIL, "quarantine", MessageAction.QUARANTINE, ("quarantine", [])),
        ("p=none", Result.FAIL, "none", MessageAction.NOTE, ("none", [])),
        (
            "p=reject; t=y",
            Result.FAIL,
            "quarantine",
            MessageAction.QUARANTINE,
            ("quarantine", ["policy_test_mode"]),
        ),
        (
            "p=reject; t=y",
            Result.FAIL,
            "quarantine",
            MessageAction.NOTE,
            ("none", ["policy_test_mode", "local_policy"]),
        ),
        ("p=none; t=y", Result.FAIL, "none", MessageAction.NOTE, ("none", [])),
        ("p=reject", Result.PASS, "none", MessageAction.NOTE, ("pass", [])),
        ("p=none; sp=reject", Result.PASS, "none", MessageAction.NOTE, ("pass", [])),
        ("p=none", Result.PASS, "none", MessageAction.NOTE, ("none", [])),
    ],
)
def test_what_was_done_and_why(
    record: str, result: Result, asked: str, action: MessageAction, told: tuple[str, list[str]]
):
    collector = ReportCollector()
    found = verdict(result=result, action=action)
    (dmarc,) = found.findings.dmarc
    read = parse_record(f"v=DMARC1; {record}; rua=mailto:r@author.example".encode())
    dmarc = attrs.evolve(dmarc, record=read, policy=DmarcPolicy(asked))
    collector.add(
        ip_address("192.0.2.7"), attrs.evolve(found, findings=attrs.evolve(found.findings, dmarc=(dmarc,)))
    )
    [row] = collector.take()
    facts = json.loads(row.found)
    assert (facts["disposition"], facts["reasons"]) == told
