"""Octets to answers: what is believed, what is passed over, what is never raised."""

import random

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.dns import Answer, MxRecord, RecordKind, Status, TlsaRecord
from elemta.dns.wire import MAX_RECORDS, Verdict, make_question, read_response

NAME = "a.test"


def question(kind=RecordKind.A, name=NAME, *, edns=True):
    return make_question(name, kind, 4711, edns=edns)


def respond(to, *answer, rcode=dns.rcode.NOERROR, authority=(), flags=0):
    response = dns.message.make_response(to.message)
    response.set_rcode(rcode)
    response.flags |= flags
    response.answer.extend(dns.rrset.from_text(*words) for words in answer)
    response.authority.extend(dns.rrset.from_text(*words) for words in authority)
    return response.to_wire(max_size=65535)


def read(to, data, *, trust_ad=False):
    return read_response(to, data, trust_ad=trust_ad)


def answer_to(kind, *answer, **more):
    asked = question(kind)
    response = read(asked, respond(asked, *answer, **more))
    assert response.verdict is Verdict.ANSWERED
    return response.answer


SOA = ("test.", 900, "IN", "SOA", "ns.test. hostmaster.test. 1 2 3 4 120")


def test_question_asks_for_recursion_authentication_and_a_small_datagram():
    message = dns.message.from_wire(question(RecordKind.MX).wire)
    assert message.id == 4711
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert (message.edns, message.payload) == (0, 1232)
    assert message.question[0].to_text() == "a.test. IN MX"


def test_question_without_edns():
    assert dns.message.from_wire(question(edns=False).wire).edns == -1


def test_backslash_in_a_name_is_a_character():
    asked = dns.message.from_wire(question(name="a\\046b c.test").wire)
    assert asked.question[0].name.labels == (b"a\\046b c", b"test", b"")


@pytest.mark.parametrize(
    ("kind", "texts", "records"),
    [
        ("A", ["192.0.2.1", "192.0.2.2"], ("192.0.2.1", "192.0.2.2")),
        ("AAAA", ["2001:DB8:0:0::1"], ("2001:db8::1",)),
        ("MX", ["10 MX.A.test.", "0 ."], (MxRecord(10, "mx.a.test"), MxRecord(0, ""))),
        ("TXT", ['"v=spf1 " "-all"', r'"\000\255"'], (b"v=spf1 -all", b"\x00\xff")),
        ("PTR", ["Host.test."], ("host.test",)),
        ("CNAME", ["b.test."], ("b.test",)),
        ("TLSA", ["3 1 1 " + "ab" * 32], (TlsaRecord(3, 1, 1, b"\xab" * 32),)),
    ],
)
def test_records_of_each_kind(kind, texts, records):
    answer = answer_to(RecordKind(kind), ("a.test.", 60, "IN", kind, *texts))
    assert set(answer.records) == set(records)
    assert answer == Answer(Status.OK, answer.records, 60.0, canonical="a.test")


def test_strange_octets_in_names_come_out_escaped():
    answer = answer_to(RecordKind.PTR, ("a.test.", 60, "IN", "PTR", r"b\000\010\255.test."))
    assert answer.texts == (r"b\000\010\255.test",)


def test_cname_chain_is_followed_with_its_least_ttl():
    answer = answer_to(
        RecordKind.A,
        ("a.test.", 50, "IN", "CNAME", "b.test."),
        ("b.test.", 20, "IN", "CNAME", "C.test."),
        ("c.test.", 90, "IN", "A", "192.0.2.1"),
        ("unasked.test.", 90, "IN", "A", "203.0.113.66"),
    )
    assert answer == Answer(Status.OK, ("192.0.2.1",), 20.0, canonical="c.test")


def test_chain_to_nothing_is_no_such_name_with_the_canonical_one():
    chain = ("a.test.", 50, "IN", "CNAME", "b.test.")
    answer = answer_to(RecordKind.A, chain, rcode=dns.rcode.NXDOMAIN, authority=[SOA])
    assert answer == Answer(Status.NXDOMAIN, ttl=50.0, canonical="b.test")


@pytest.mark.parametrize("length", [2, 40])
def test_cname_loop_or_endless_chain_is_a_failure(length):
    chain = [
        (f"{'a' if not at else f'n{at}'}.test.", 9, "IN", "CNAME", f"n{at + 1}.test.") for at in range(length)
    ]
    if length == 2:
        chain[1] = ("n1.test.", 9, "IN", "CNAME", "a.test.")
    answer = answer_to(RecordKind.A, *chain)
    assert answer.status is Status.FAILED
    assert "ChainTooLong" in answer.detail


@pytest.mark.parametrize(
    ("rcode", "status"), [(dns.rcode.NXDOMAIN, Status.NXDOMAIN), (dns.rcode.NOERROR, Status.NODATA)]
)
def test_negative_answers_hold_for_the_soa_minimum(rcode, status):
    assert answer_to(RecordKind.A, rcode=rcode, authority=[SOA]).ttl == 120.0
    assert answer_to(RecordKind.A, rcode=rcode, authority=[SOA]).status is status
    assert 0 < answer_to(RecordKind.A, rcode=rcode).ttl <= 300.0


def test_no_such_name_with_records_is_a_contradiction():
    answer = answer_to(RecordKind.A, ("a.test.", 9, "IN", "A", "192.0.2.1"), rcode=dns.rcode.NXDOMAIN)
    assert answer.status is Status.FAILED


@pytest.mark.parametrize(
    ("rcode", "refused"),
    [
        (dns.rcode.SERVFAIL, False),
        (dns.rcode.REFUSED, True),
        (dns.rcode.NOTAUTH, True),
        (dns.rcode.YXDOMAIN, True),
    ],
)
def test_error_codes_are_failures(rcode, refused):
    asked = question()
    response = read(asked, respond(asked, rcode=rcode))
    assert response.answer == Answer(Status.FAILED, detail=dns.rcode.to_text(rcode))
    assert response.refused is refused


def test_error_without_question_section_is_accepted():
    asked = question()
    response = dns.message.make_response(asked.message)
    response.question.clear()
    response.set_rcode(dns.rcode.SERVFAIL)
    assert read(asked, response.to_wire()).answer.detail == "SERVFAIL"


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_server_without_edns_is_told_apart(rcode):
    asked, plain = question(), question(edns=False)
    assert read(asked, respond(asked, rcode=rcode)).verdict is Verdict.NO_EDNS
    assert read(plain, respond(plain, rcode=rcode)).answer.status is Status.FAILED


@pytest.mark.parametrize("kind", [RecordKind.A, RecordKind.TXT])
def test_answers_are_cut_in_number(kind):
    values = [f"192.0.2.{at}" if kind is RecordKind.A else f'"{at}"' for at in range(250)]
    assert len(answer_to(kind, ("a.test.", 9, "IN", kind, *values)).records) == MAX_RECORDS


def test_authentic_only_where_the_server_is_trusted_and_says_so():
    asked = question()
    vouched = respond(asked, ("a.test.", 9, "IN", "A", "192.0.2.1"), flags=dns.flags.AD)
    plain = respond(asked, ("a.test.", 9, "IN", "A", "192.0.2.1"))
    # make_response copies no AD: the flag in the first is the server's own
    assert read(asked, vouched, trust_ad=True).answer.authentic
    assert not read(asked, vouched, trust_ad=False).answer.authentic
    assert not read(asked, plain, trust_ad=True).answer.authentic


def test_negative_answers_can_be_authentic():
    asked = question()
    data = respond(asked, rcode=dns.rcode.NXDOMAIN, authority=[SOA], flags=dns.flags.AD)
    assert read(asked, data, trust_ad=True).answer.authentic


def test_what_is_no_response_to_the_question_is_passed_over():
    asked = question()
    good = respond(asked, ("a.test.", 9, "IN", "A", "192.0.2.1"))
    other_name = make_question("b.test", RecordKind.A, 4711, edns=True)
    other_kind = question(RecordKind.AAAA)
    for data in (
        b"",
        b"\x12",
        good[:3],
        bytes([good[0] ^ 1]) + good[1:],
        asked.wire,
        respond(other_name, ("b.test.", 9, "IN", "A", "203.0.113.66")),
        respond(other_kind),
        respond(other_name, rcode=dns.rcode.SERVFAIL),
    ):
        assert read(asked, data).verdict is Verdict.UNRELATED


def test_truncated_even_in_mid_record():
    asked = question()
    good = respond(asked, ("a.test.", 9, "IN", "A", "192.0.2.1"), flags=dns.flags.TC)
    assert read(asked, good).verdict is Verdict.TRUNCATED
    assert read(asked, good[:-15]).verdict is Verdict.TRUNCATED


def test_right_id_and_nonsense_is_the_servers_failure():
    asked = question()
    good = respond(asked, ("a.test.", 9, "IN", "A", "192.0.2.1"))
    response = read(asked, good[:-15])
    assert response.refused
    assert response.answer.status is Status.FAILED
    assert response.answer.detail.startswith("unreadable response")


@pytest.mark.parametrize("offset", [6, 8, 10])
def test_too_many_records_are_not_even_parsed(offset):
    asked = question()
    data = bytearray(respond(asked, ("a.test.", 9, "IN", "A", "192.0.2.1")))
    data[offset : offset + 2] = b"\xff\xff"
    response = read(asked, bytes(data))
    assert response.refused
    assert response.answer.detail == "a response of too many records"


def test_letter_case_of_the_question_is_the_servers_business():
    asked = question()
    wire = respond(asked, ("a.test.", 9, "IN", "A", "192.0.2.1")).replace(b"\x01a\x04test", b"\x01A\x04TesT")
    assert read(asked, wire).answer.texts == ("192.0.2.1",)


@given(st.binary(max_size=200))
def test_no_octets_raise(tail):
    asked = question()
    for data in (tail, asked.wire[:2] + tail, asked.wire[:2] + b"\x81\x80" + tail):
        response = read(asked, data)
        assert (response.answer is not None) is (response.verdict is Verdict.ANSWERED)


@given(st.integers(0, 2**32), st.sampled_from(list(RecordKind)))
def test_no_damage_to_a_response_raises(seed, kind):
    chance = random.Random(seed)
    texts = {"MX": "1 b.test.", "A": "192.0.2.1", "AAAA": "::1", "TXT": '"x"', "TLSA": "3 1 1 " + "ab" * 32}
    asked = question(kind)
    data = bytearray(
        respond(
            asked, ("a.test.", 9, "IN", kind, texts.get(kind, "b.test.")), authority=[SOA], flags=dns.flags.AD
        )
    )
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(2, len(data))] = chance.randrange(256)
    del data[chance.randrange(2, len(data)) :]
    response = read(asked, bytes(data))
    assert (response.answer is not None) is (response.verdict is Verdict.ANSWERED)
