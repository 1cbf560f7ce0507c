"""Reports on TLS as octets: to whom they go, the JSON, and the message around it (RFC 8460). Pure."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from urllib.parse import unquote, urlsplit

import attrs

from elemta.mail import Mailbox, MailSyntaxError, date, parse_mailbox

from .tls_results import DAY, PolicyResults

MAX_ADDRESSES = 4
"""To which one domain gets its report."""
_VERSION = re.compile(rb"v=TLSRPTv1[ \t]*;")
_RUA = re.compile(rb"[ \t]*rua[ \t]*=[ \t]*(.+?)[ \t]*")
MEDIA_TYPE = "application/tlsrpt+gzip"
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")


@attrs.frozen
class HttpsAddress:
    """Where a report is posted to."""

    host: str
    path: str


def parse_rua(texts: Iterable[bytes]) -> tuple[Mailbox | HttpsAddress, ...]:
    """Who wants reports, from the TXT records at `_smtp._tls` of the domain (§3). What is no address we know
    how to use is passed over; several records are none."""
    records = [text for text in texts if _VERSION.match(text)]
    if len(records) != 1:
        return ()
    found: list[Mailbox | HttpsAddress] = []
    for field in records[0].split(b";")[1:]:
        matched = _RUA.fullmatch(field)
        if matched is None:
            continue
        for text in matched[1].decode("latin-1").split(","):
            address = _address(text.strip(" \t!"))
            if address is not None and address not in found:
                found.append(address)
    return tuple(found[:MAX_ADDRESSES])


def _address(text: str) -> Mailbox | HttpsAddress | None:
    if not (text.isascii() and text.isprintable()) or " " in text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme == "mailto":
        try:
            return parse_mailbox(unquote(parts.path))
        except MailSyntaxError:
            return None
    host = parts.hostname or ""
    if parts.scheme != "https" or port not in (None, 443) or not _HOST.fullmatch(host):
        return None
    return HttpsAddress(host, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


@attrs.frozen
class TlsReport:
    """What one domain is told of one day."""

    domain: str
    day: int
    """Days since 1970, UTC."""
    results: Sequence[PolicyResults]
    organization: str
    contact: Mailbox
    hostname: str

    @property
    def id(self) -> str:
        """The same for the same day and domain, so that a report that comes twice is seen as one."""
        return f"{_day(self.day)}.{self.domain}@{self.hostname}"

    def compressed(self) -> bytes:
        """The JSON (§4.4), gzipped without a time, so that it is always the same."""
        return gzip.compress(json.dumps(self.as_json(), ensure_ascii=True).encode(), mtime=0)

    def as_json(self) -> dict[str, object]:
        return {
            "organization-name": self.organization,
            "date-range": {
                "start-datetime": f"{_day(self.day)}T00:00:00Z",
                "end-datetime": f"{_day(self.day)}T23:59:59Z",
            },
            "contact-info": str(self.contact),
            "report-id": self.id,
            "policies": [_policy(each) for each in self.results],
        }

    def message(self, time: float) -> bytes:
        """A mail with the report (§5.3), without its To field."""
        content = self.compressed()
        start = self.day * DAY
        name = f"{self.hostname}!{self.domain}!{start}!{start + DAY - 1}.json.gz"
        boundary = f"tlsrpt-{start}-{len(content)}"  # neither text nor base64 has a line that begins so
        lines = [
            f"From: <{self.contact}>",
            f"Date: {date(time)}",
            f"Subject: Report Domain: {self.domain}",
            f" Submitter: {self.hostname}",
            f" Report-ID: <{self.id}>",
            f"Message-ID: <tlsrpt.{int(time)}.{self.id}>",
            f"TLS-Report-Domain: {self.domain}",
            f"TLS-Report-Submitter: {self.hostname}",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            'Content-Type: multipart/report; report-type="tlsrpt";',
            f'\tboundary="{boundary}"',
            "",
            f"--{boundary}",
            "Content-Type: text/plain; charset=us-ascii",
            "",
            f"How TLS between {self.hostname} and the mail hosts of",
            f"{self.domain} went on {_day(self.day)} (UTC), as RFC 8460 describes it.",
            "",
            f"--{boundary}",
            f"Content-Type: {MEDIA_TYPE}",
            "Content-Transfer-Encoding: base64",
            "Content-Disposition: attachment;",
            f'\tfilename="{name}"',
            "",
            *textwrap.wrap(base64.b64encode(content).decode("ascii"), 76),
            f"--{boundary}--",
        ]
        return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _policy(results: PolicyResults) -> dict[str, object]:
    used = results.policy
    policy: dict[str, object] = {"policy-type": used.kind, "policy-domain": used.domain}
    if used.lines:
        policy["policy-string"] = list(used.lines)
    if used.hosts:
        policy["mx-host"] = list(used.hosts)
    details = []
    for each in results.failures:
        failure = each.failure
        detail: dict[str, object] = {
            "result-type": failure.result.value,
            "receiving-mx-hostname": failure.host,
            "failed-session-count": each.count,
        }
        if failure.address:
            detail["receiving-ip"] = failure.address
        if failure.reason:
            detail["failure-reason-code"] = failure.reason
        details.append(detail)
    found: dict[str, object] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": results.successes,
            "total-failure-session-count": results.failed,
        },
    }
    if details:
        found["failure-details"] = details
    return found


def _day(day: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
