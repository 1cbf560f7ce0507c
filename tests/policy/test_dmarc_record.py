"""DMARC records as domains publish them, and as they should not."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.policy.dmarc_record import (
    MAX_ADDRESSES,
    MAX_RECORD,
    DmarcPolicy,
    DmarcRecord,
    SuffixFlag,
    find_record,
    parse_record,
)

NONE, QUARANTINE, REJECT = DmarcPolicy.NONE, DmarcPolicy.QUARANTINE, DmarcPolicy.REJECT


def test_a_record_with_everything():
    text = (
        b"v=DMARC1; p=reject; sp=quarantine; np=reject; adkim=s; aspf=s; psd=n; t=y; fo=1:d:s; "
        b"rua=mailto:a@x.example,mailto:b@y.example!10m; ruf=mailto:c@x.example; ri=3600; pct=50; rf=afrf"
    )
    assert parse_record(text) == DmarcRecord(
        policy=REJECT,
        subdomains=QUARANTINE,
        missing=REJECT,
        strict_dkim=True,
        strict_spf=True,
        suffix=SuffixFlag.NO,
        testing=True,
        aggregate=("mailto:a@x.example", "mailto:b@y.example"),
        failure=("mailto:c@x.example",),
        failure_options=frozenset("1ds"),
    )


@pytest.mark.parametrize(
    "text",
    [
        b"v=DMARC1",
        b"v=DMARC1;",
        b"v=DMARC1; ",
        b"v=DMARC1;;;",
        b"V = DMARC1 ; x=y; nonsense; =; p",
        b"v=DMARC1; adkim=x; aspf=; psd=z; t=yes; fo=q",
        b"v=DMARC1; pct=0; rf=afrf; ri=1",
        b"v=DMARC1; fo=1",  # without ruf= it is ignored
        b"v=DMARC1; \xc3\xa9=reject",
        b"v=DMARC1; p.x=reject",
    ],
)
def test_what_cannot_be_read_is_as_if_it_were_not_there(text: bytes):
    assert parse_record(text) == DmarcRecord()


@pytest.mark.parametrize(
    "text", [b"v=DMARC1;p=REJECT", b"v=DMARC1 ;\tP\t=\treject ;x", b"v=DMARC1;p=reject;p=none"]
)
def test_case_and_blanks_do_not_matter_and_the_first_tag_counts(text: bytes):
    assert parse_record(text).policy is REJECT


@pytest.mark.parametrize("tag", [b"p=junk", b"p=", b"p=reject; sp=junk", b"p=reject; np=junk"])
def test_a_policy_that_cannot_be_read_counts_only_for_the_sake_of_reports(tag: bytes):
    assert not parse_record(b"v=DMARC1; " + tag).usable
    assert not parse_record(b"v=DMARC1; rua=nonsense; " + tag).usable
    wanted = parse_record(b"v=DMARC1; rua=mailto:a@x.example; " + tag)
    assert wanted.usable
    assert (wanted.policy, wanted.subdomains, wanted.missing) == (NONE, None, None)


def test_without_a_policy_it_is_none():
    assert parse_record(b"v=DMARC1; sp=reject") == DmarcRecord(policy=NONE, subdomains=REJECT)


@pytest.mark.parametrize(
    ("record", "own", "exists", "expected"),
    [
        ("p=reject", True, True, REJECT),
        ("p=reject", False, True, REJECT),
        ("p=reject", False, False, REJECT),
        ("p=reject; sp=none", True, True, REJECT),
        ("p=reject; sp=none", False, True, NONE),
        ("p=reject; sp=none", False, False, NONE),
        ("p=none; np=reject", False, True, NONE),
        ("p=none; np=reject", False, False, REJECT),
        ("p=none; np=reject", True, False, NONE),
        ("p=none; sp=quarantine; np=reject", False, False, REJECT),
        ("p=none; sp=quarantine; np=reject", False, True, QUARANTINE),
        ("p=reject; t=y", True, True, QUARANTINE),
        ("p=quarantine; t=y", True, True, NONE),
        ("p=none; t=y", True, True, NONE),
        ("p=none; np=reject; t=y", False, False, QUARANTINE),
    ],
)
def test_which_policy_holds(record: str, own: bool, exists: bool, expected: DmarcPolicy):
    assert parse_record(f"v=DMARC1; {record}".encode()).policy_for(own=own, exists=exists) is expected


GOOD = b"v=DMARC1; p=reject"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], False),
        ([GOOD], True),
        ([b"v=spf1 -all", GOOD, b"verification"], True),
        ([GOOD, GOOD], False),
        ([GOOD, b"v=DMARC1"], False),
        ([b"p=reject; v=DMARC1"], False),
        ([b"v=dmarc1; p=reject"], False),
        ([b"v=DMARC2; p=reject"], False),
        ([b"v=DMARC1p=reject"], False),
        ([b"v=DMARC1, p=reject"], False),
        ([b" v=DMARC1; p=reject"], False),
        ([GOOD + b";" + b" " * MAX_RECORD], False),
    ],
)
def test_there_must_be_one_record_with_the_version_first(texts: list[bytes], found: bool):
    record = find_record(texts)
    assert record == (DmarcRecord(policy=REJECT) if found else None)


def test_addresses_are_few_and_different():
    many = ",".join(f"mailto:a{number % 20}@x.example" for number in range(100))
    assert len(parse_record(f"v=DMARC1; rua={many}".encode()).aggregate) == MAX_ADDRESSES


@given(st.binary(max_size=300))
def test_whatever_stands_behind_the_version_nothing_breaks(text: bytes):
    record = parse_record(b"v=DMARC1;" + text)
    assert attrs.has(type(record))
