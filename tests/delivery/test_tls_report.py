"""Reports on TLS: who wants them, what is in them, and that any parser can read the mail."""

import email
import email.policy
import gzip
import json

import pytest

from elemta.delivery import (
    Failure,
    HttpsAddress,
    PolicyResults,
    PolicyUsed,
    TlsReport,
    TlsResult,
    parse_rua,
)
from elemta.delivery.tls_results import FailureCount
from elemta.mail import parse_mailbox

DAY = 20_000  # 2024-10-04
STS = PolicyUsed("example.org", "sts", ("version: STSv1", "mode: enforce"), ("mx.example.org",))
FAILURE = Failure(TlsResult.EXPIRED, "mx.example.org", "192.0.2.1", "certificate: expired é")
RESULTS = (
    PolicyResults(PolicyUsed("example.org"), 7),
    PolicyResults(STS, 5, [FailureCount(FAILURE, 3)]),
)
REPORT = TlsReport(
    domain="example.org",
    day=DAY,
    results=RESULTS,
    organization="Ours",
    contact=parse_mailbox("tls@ours.example"),
    hostname="mx.ours.example",
)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"v=TLSRPTv1; rua=mailto:r@example.org", [parse_mailbox("r@example.org")]),
        (b"v=TLSRPTv1;rua=https://r.example.org/a?b=c;", [HttpsAddress("r.example.org", "/a?b=c")]),
        (b"v=TLSRPTv1; rua=https://r.example.org", [HttpsAddress("r.example.org", "/")]),
        (
            b"v=TLSRPTv1; rua=mailto:r@example.org,https://r.example.org:443/x",
            [parse_mailbox("r@example.org"), HttpsAddress("r.example.org", "/x")],
        ),
        (b"v=TLSRPTv1; rua=mailto:r%2Bx@example.org?subject=x", [parse_mailbox("r+x@example.org")]),
        (b"v=TLSRPTv1; rua=http://r.example.org/", []),
        (b"v=TLSRPTv1; rua=https://r.example.org:8443/", []),
        (b"v=TLSRPTv1; rua=https://[::1]/", []),
        (b"v=TLSRPTv1; rua=https://r.example.org:x/", []),
        (b"v=TLSRPTv1; rua=mailto:nobody", []),
        (b"v=TLSRPTv1; rua=mailto:a@b.example%0D%0ABcc:%20c@d.example", []),
        (b"v=TLSRPTv1; rua=mailto:\xff@example.org", []),
        (b"v=TLSRPTv2; rua=mailto:r@example.org", []),
        (b"v=TLSRPTv1;", []),
    ],
)
def test_record_says_who_wants_reports(record, expected):
    assert parse_rua([b"something else", record]) == tuple(expected)


def test_several_records_are_none_and_addresses_are_few():
    assert parse_rua([b"v=TLSRPTv1; rua=mailto:r@example.org"] * 2) == ()
    many = ",".join(f"mailto:r{number}@example.org" for number in range(50))
    assert len(parse_rua([f"v=TLSRPTv1; rua={many}".encode()])) == 4


def test_report_has_the_fields_of_the_standard():
    assert REPORT.as_json() == {
        "organization-name": "Ours",
        "date-range": {"start-datetime": "2024-10-04T00:00:00Z", "end-datetime": "2024-10-04T23:59:59Z"},
        "contact-info": "tls@ours.example",
        "report-id": "2024-10-04.example.org@mx.ours.example",
        "policies": [
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "example.org"},
                "summary": {"total-successful-session-count": 7, "total-failure-session-count": 0},
            },
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-domain": "example.org",
                    "policy-string": ["version: STSv1", "mode: enforce"],
                    "mx-host": ["mx.example.org"],
                },
                "summary": {"total-successful-session-count": 5, "total-failure-session-count": 3},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "receiving-mx-hostname": "mx.example.org",
                        "failed-session-count": 3,
                        "receiving-ip": "192.0.2.1",
                        "failure-reason-code": "certificate: expired é",
                    }
                ],
            },
        ],
    }
    assert REPORT.compressed() == REPORT.compressed()


def test_mail_is_a_report_that_any_parser_reads():
    data = REPORT.message(DAY * 86400 + 90_000.0)
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 78
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert message["TLS-Report-Domain"] == "example.org"
    assert message["TLS-Report-Submitter"] == "mx.ours.example"
    assert message["Subject"] == (
        "Report Domain: example.org Submitter: mx.ours.example"
        " Report-ID: <2024-10-04.example.org@mx.ours.example>"
    )
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "tlsrpt"
    text, attached = message.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    assert attached.get_filename() == "mx.ours.example!example.org!1728000000!1728086399.json.gz"
    assert json.loads(gzip.decompress(attached.get_content())) == REPORT.as_json()
