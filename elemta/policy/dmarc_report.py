"""Aggregate reports of DMARC: what was found about mail in whose name, as rows, then as XML (RFC 9990).

A row says how often the same was found about the same client and domains. Nothing of a message but the
domains that it claims is in it: no local part, no recipient, no subject.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

import attrs

from elemta.config import MessageAction
from elemta.mail import Domain, MailSyntaxError, Result, parse_mailbox

from .checks import Verdict
from .client import IpAddress
from .dmarc import DmarcResult, Mechanism
from .dmarc_record import DmarcPolicy, DmarcRecord

MOST_WAITING = 5000
"""Different rows that are kept until they are written; more is not counted."""
MOST_SIGNATURES = 5
"""Of one message, in a row."""
_MOST_TEXT = 255
_DISPOSITIONS = {MessageAction.QUARANTINE: "quarantine", MessageAction.REFUSE: "reject"}


@attrs.frozen
class ReportRow:
    """How often something was found about mail that claims to be of a domain."""

    domain: str
    """Whose record it is: who wants the report."""
    policy: str
    """What the record said, and where to send reports, as JSON."""
    found: str
    """Client, domains and results, as JSON."""
    count: int = 1


class ReportCollector:
    """Counts rows until somebody takes them. Sync, bounded."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, str, str]] = Counter()
        self.dropped = 0
        """Messages that no row was kept for."""

    def add(self, address: IpAddress, verdict: Verdict) -> None:
        """Count a message, for each domain in From that wants reports."""
        for result in verdict.findings.dmarc:
            if result.record is None or not result.record.aggregate or result.policy_domain is None:
                continue
            if result.result not in (Result.PASS, Result.FAIL):
                continue  # what DNS did not tell is no finding
            key = (
                result.policy_domain.text,
                _policy(result, result.record),
                _found(address, verdict, result),
            )
            if key not in self._rows and len(self._rows) >= MOST_WAITING:
                self.dropped += 1
                continue
            self._rows[key] += 1

    def take(self) -> list[ReportRow]:
        """The rows so far, which are no longer kept here."""
        rows, self._rows = self._rows, Counter()
        return [ReportRow(*key, count) for key, count in rows.items()]


def _policy(result: DmarcResult, record: DmarcRecord) -> str:
    organization = result.organization
    return json.dumps(
        {
            "adkim": "s" if record.strict_dkim else "r",
            "aspf": "s" if record.strict_spf else "r",
            "p": str(record.policy),
            "sp": str(record.subdomains or record.policy),
            "np": str(record.missing or record.subdomains or record.policy),
            "testing": "y" if record.testing else "n",
            "rua": record.aggregate,
            "organization": organization.text if organization else "",
        }
    )


def _found(address: IpAddress, verdict: Verdict, result: DmarcResult) -> str:
    aligned = {identifier.mechanism for identifier in result.aligned}
    disposition, reasons = _evaluated(verdict, result)
    spf = verdict.findings.spf
    return json.dumps(
        {
            "ip": str(address),
            "disposition": disposition,
            "reasons": reasons,
            "dkim": "pass" if Mechanism.DKIM in aligned else "fail",
            "spf": "pass" if Mechanism.SPF in aligned else "fail",
            "from": result.domain.text if result.domain else "",
            "dkims": [
                (each.domain[:_MOST_TEXT], each.selector[:_MOST_TEXT], str(each.result))
                for each in verdict.findings.dkim[:MOST_SIGNATURES]
                if each.domain
            ],
            "spfs": [] if spf is None else [(spf.sender.domain[:_MOST_TEXT], str(spf.sender.result))],
        }
    )


def _evaluated(verdict: Verdict, result: DmarcResult) -> tuple[str, list[str]]:
    """What was done with the message, and why that is not what its domain asks for (RFC 9990 §3.1.1.9)."""
    record = result.record
    assert record is not None
    meant = attrs.evolve(record, testing=False).policy_for(
        own=result.domain == result.policy_domain, exists=True
    )
    if result.passed:  # `pass`: nothing was done to it, though something would be done to one that fails
        return ("none" if meant is DmarcPolicy.NONE else "pass"), []
    action = verdict.action if verdict.disposition.check == "dmarc" else MessageAction.NOTE
    done = _DISPOSITIONS.get(action, "none")
    reasons = []
    if record.testing and meant is not DmarcPolicy.NONE:
        reasons.append("policy_test_mode")
    if done != result.policy:
        reasons.append("local_policy")
    return done, reasons


@attrs.frozen
class ReportDay:
    """What goes into one report."""

    domain: str
    begin: int
    """Of the day, in seconds of Unix."""
    rows: tuple[ReportRow, ...]

    @property
    def policy(self) -> dict[str, object]:
        """What the record said at last."""
        found: dict[str, object] = json.loads(self.rows[-1].policy)
        return found

    @property
    def recipients(self) -> tuple[str, ...]:
        """The addresses of the record that mail can be sent to."""
        rua = self.policy.get("rua")
        return mail_addresses(map(str, rua if isinstance(rua, list) else ()))


def mail_addresses(uris: Iterable[str]) -> tuple[str, ...]:
    """Those of a record's URIs that mail can be sent to, as addresses."""
    found = []
    for uri in uris:
        scheme, _, address = uri.partition(":")
        if scheme.lower() != "mailto":
            continue  # RFC 9990 §3.5.3: others need not be supported
        try:
            mailbox = parse_mailbox(address)
        except MailSyntaxError:
            continue
        if isinstance(mailbox.domain, Domain):  # else nobody could consent for it
            found.append(str(mailbox))
    return tuple(dict.fromkeys(found))


def needs_consent(address: str, domain: str, organization: str) -> str | None:
    """The name in DNS that must allow reports to an address elsewhere (RFC 9990 §4); None: it is at home."""
    host = address.rpartition("@")[2].lower()
    for home in filter(None, (domain, organization)):
        if host == home or host.endswith(f".{home}"):
            return None
    return f"{domain}._report._dmarc.{host}"


def consents(texts: Iterable[bytes]) -> bool:
    """Whether the TXT records at that name allow it."""
    return any(text.replace(b" ", b"").startswith(b"v=DMARC1") for text in texts)


def report_id(day: ReportDay, hostname: str) -> str:
    """The same for the same day, so that a report which is sent twice counts once (RFC 9990 §3.5.1)."""
    return f"{day.domain}.{day.begin}@{hostname}"


def report_name(day: ReportDay, hostname: str) -> str:
    """The file name (RFC 9990 §3.5.2)."""
    return f"{hostname}!{day.domain}!{day.begin}!{day.begin + 86399}.xml.gz"


def report_xml(day: ReportDay, *, hostname: str, contact: str) -> bytes:
    """The report, packed; equal rows are equal octets."""
    policy = day.policy
    published = "".join(
        _element(name, str(policy.get(name, ""))) for name in ("p", "sp", "np", "adkim", "aspf", "testing")
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">'
        "<version>1.0</version>\n<report_metadata>"
        + _element("org_name", hostname)
        + _element("email", contact)
        + _element("report_id", report_id(day, hostname))
        + f"<date_range><begin>{day.begin}</begin><end>{day.begin + 86399}</end></date_range>"
        + "</report_metadata>\n<policy_published>"
        + _element("domain", day.domain)
        + published
        + "<discovery_method>treewalk</discovery_method></policy_published>\n"
        + "".join(map(_record, day.rows))
        + "</feedback>\n"
    )
    return gzip.compress(text.encode("utf-8"), mtime=0)


def _record(row: ReportRow) -> str:
    found = json.loads(row.found)
    signatures = "".join(
        f"<dkim>{_element('domain', domain)}{_element('selector', selector)}"
        f"{_element('result', result)}</dkim>"
        for domain, selector, result in found["dkims"]
    )
    senders = "".join(
        f"<spf>{_element('domain', domain)}<scope>mfrom</scope>{_element('result', result)}</spf>"
        for domain, result in found["spfs"]
    )
    reasons = "".join(f"<reason>{_element('type', each)}</reason>" for each in found.get("reasons", ()))
    return (
        f"<record><row>{_element('source_ip', found['ip'])}<count>{row.count}</count><policy_evaluated>"
        f"{_element('disposition', found['disposition'])}{_element('dkim', found['dkim'])}"
        f"{_element('spf', found['spf'])}{reasons}</policy_evaluated></row>"
        f"<identifiers>{_element('header_from', found['from'])}</identifiers>"
        f"<auth_results>{signatures}{senders}</auth_results></record>\n"
    )


def _element(name: str, text: str) -> str:
    # A stranger's, some of it: XML has no form for controls
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return f"<{name}>{escape(clean)}</{name}>"


def group_days(rows: Sequence[tuple[int, ReportRow]]) -> list[ReportDay]:
    """Rows with their days, sorted by day and domain, as reports."""
    groups: dict[tuple[int, str], list[ReportRow]] = {}
    for begin, row in rows:
        groups.setdefault((begin, row.domain), []).append(row)
    return [ReportDay(domain, begin, tuple(found)) for (begin, domain), found in groups.items()]
