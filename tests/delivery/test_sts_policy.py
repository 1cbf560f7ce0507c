"""MTA-STS records and policy files: what is taken, what is not, and which hosts are allowed."""

import pytest

from elemta.delivery import StsMode, StsPolicy
from elemta.delivery.sts_policy import LONGEST, parse_policy, parse_record

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.example.net\r\nmax_age: 86400\r\n"


@pytest.mark.parametrize(
    ("texts", "identifier"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=spf1 -all", b"v=STSv1; id=1;"], "1"),
        ([b"v=STSv1; ext=yes; id=1;"], "1"),
        ([], None),
        ([b"v=STSv1; id=1;", b"v=STSv1; id=2;"], None),  # RFC 8461 §3.1: as if there were none
        ([b"v=STSv2; id=1;"], None),
        ([b"id=1; v=STSv1;"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; id=;"], None),
        ([b"v=STSv1; id=" + b"a" * 33 + b";"], None),
        ([b"v=STSv1; id=a-b;"], None),
        ([b"v=STSv1x; id=1;"], None),
    ],
)
def test_record_gives_its_id_if_it_is_the_only_one(texts, identifier):
    assert parse_record(texts) == identifier


def test_policy_is_read_whichever_line_ends_it_has():
    expected = StsPolicy(StsMode.ENFORCE, 86400, ("mx.example.org", "*.example.net"))
    assert parse_policy(POLICY) == expected
    assert parse_policy(POLICY.replace(b"\r\n", b"\n")) == expected
    assert parse_policy(POLICY.removesuffix(b"\r\n")) == expected
    assert parse_policy(POLICY + b"some_thing.new: value with blanks\r\n") == expected
    assert parse_policy(POLICY + b"mode: none\r\n") == expected  # the first counts
    assert parse_policy("\r\n".join(expected.lines).encode()) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"STSv1", b"STSv2"),
        (b"version: STSv1\r\n", b""),
        (b"enforce", b"Enforce"),
        (b"mode: enforce\r\n", b""),
        (b"86400", b"-1"),
        (b"86400", b"1e3"),
        (b"86400", b"12345678901"),
        (b"max_age: 86400\r\n", b""),
        (b"mx: mx.example.org\r\nmx: *.example.net\r\n", b""),
        (b"mode", b"<html>mode"),
        (b"enforce", b"\xff"),
    ],
)
def test_what_is_no_policy_is_refused(old, new):
    with pytest.raises(ValueError, match="policy"):
        parse_policy(POLICY.replace(old, new))


def test_policy_none_needs_no_hosts_and_no_age_is_beyond_a_year():
    assert parse_policy(b"version: STSv1\nmode: none\nmax_age: 9999999999\n") == StsPolicy(
        StsMode.NONE, LONGEST
    )


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mx.example.org", True),
        ("MX.example.org.", True),
        ("a.example.net", True),
        ("a.b.example.net", False),
        ("example.net", False),
        ("mx2.example.org", False),
    ],
)
def test_hosts_match_whole_or_by_one_label(host, allowed):
    assert parse_policy(POLICY).allows(host) == allowed
