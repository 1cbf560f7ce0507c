"""Questions and responses as octets: what we send, what of the peer's octets we believe. No I/O."""

from __future__ import annotations

import enum
import struct

import attrs
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TLSA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.nsbase

from .answers import Answer, MxRecord, Record, RecordKind, Status, TlsaRecord

EDNS_PAYLOAD = 1232
"""Octets of a UDP response: fits in every path without fragments (DNS Flag Day 2020; RFC 9715 §3.2)."""
MAX_MESSAGE = 32 * 1024
"""Octets of a response over TCP that we are willing to parse; real answers stay far below."""
MAX_RECORDS = 128
"""Of one answer; the rest is dropped. Consumers have far lower limits (RFC 7208 §4.6.4)."""

MAX_SECTIONS = 512
"""Records of all sections together that we parse: some 20 ms of the loop at worst."""

_HEADER = struct.Struct("!HHHHHH")  # RFC 1035 §4.1.1
_PERMANENT_RCODES = {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
_NO_EDNS_RCODES = {dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS}


@attrs.frozen
class Question:
    """One question as it goes out."""

    message: dns.message.QueryMessage
    wire: bytes
    edns: bool


class Verdict(enum.Enum):
    """What some octets are, seen from a question."""

    UNRELATED = "unrelated"
    """Not a response to it: another id, another name, not even DNS. Wait on."""
    TRUNCATED = "truncated"
    """Ask again over TCP (RFC 7766 §5)."""
    NO_EDNS = "no-edns"
    """The server does not understand EDNS: ask again without (RFC 6891 §7)."""
    ANSWERED = "answered"


@attrs.frozen
class Response:
    verdict: Verdict
    answer: Answer | None = None
    """With ANSWERED only. FAILED means that this server has none."""
    refused: bool = False
    """Whether the server as such is of no use to us (REFUSED, nonsense), rather than this name."""


UNRELATED = Response(Verdict.UNRELATED)


def make_question(name: str, kind: RecordKind, message_id: int, *, edns: bool) -> Question:
    """A recursive question for a normalized name."""
    # Built from labels, not parsed from text: a backslash in a name is just a character.
    labels = [label.encode("ascii") for label in name.split(".")]
    message = dns.message.make_query(
        dns.name.Name([*labels, b""]),
        dns.rdatatype.from_text(kind),
        use_edns=0 if edns else False,
        payload=EDNS_PAYLOAD if edns else None,
        # RFC 6840 §5.7: AD in a query asks for AD in the answer, without the weight of DO
        flags=dns.flags.RD | dns.flags.AD,
        id=message_id,
    )
    return Question(message, message.to_wire(), edns)


def read_response(question: Question, data: bytes, *, trust_ad: bool) -> Response:
    """What the octets say. Never raises, whatever they are."""
    if len(data) < _HEADER.size:
        return UNRELATED
    message_id, flags, _, answers, authorities, additional = _HEADER.unpack_from(data)
    # RFC 5452 §9.1: id and question must match. The id is compared before anything is parsed.
    if message_id != question.message.id or not flags & dns.flags.QR:
        return UNRELATED
    if answers + authorities + additional > MAX_SECTIONS:
        return _failed("a response of too many records", refused=True)
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        if flags & dns.flags.TC:  # cut in the middle of a record
            return Response(Verdict.TRUNCATED)
        return _failed(f"unreadable response ({type(error).__name__})", refused=True)
    if not question.message.is_response(message):
        return UNRELATED
    if flags & dns.flags.TC:
        return Response(Verdict.TRUNCATED)
    rcode = message.rcode()
    if question.edns and rcode in _NO_EDNS_RCODES:
        return Response(Verdict.NO_EDNS)
    if rcode not in _PERMANENT_RCODES:
        return _failed(dns.rcode.to_text(rcode), refused=rcode != dns.rcode.SERVFAIL)
    try:
        answer = _read_answer(message, trust_ad=trust_ad)
    except dns.exception.DNSException as error:  # CNAME loop or chain too long, NXDOMAIN with records …
        return _failed(f"contradictory response ({type(error).__name__})", refused=False)
    return Response(Verdict.ANSWERED, answer)


def _failed(detail: str, *, refused: bool) -> Response:
    return Response(Verdict.ANSWERED, Answer(Status.FAILED, detail=detail), refused)


def _read_answer(message: dns.message.Message, *, trust_ad: bool) -> Answer:
    assert isinstance(message, dns.message.QueryMessage)  # its operation code is that of the question
    chain = message.resolve_chaining()
    authentic = trust_ad and bool(message.flags & dns.flags.AD)
    ttl = float(chain.minimum_ttl)
    canonical = _name_text(chain.canonical_name)
    if chain.answer is None:
        missing = Status.NXDOMAIN if message.rcode() == dns.rcode.NXDOMAIN else Status.NODATA
        return Answer(missing, (), ttl, authentic, canonical)
    records = tuple(_record(rdata) for rdata in list(chain.answer)[:MAX_RECORDS])
    return Answer(Status.OK, records, ttl, authentic, canonical)


def _record(rdata: dns.rdata.Rdata) -> Record:
    match rdata:
        case dns.rdtypes.ANY.MX.MX():
            return MxRecord(rdata.preference, _name_text(rdata.exchange))
        case dns.rdtypes.ANY.TXT.TXT():
            return b"".join(rdata.strings)  # RFC 7208 §3.3: joined without blanks
        case dns.rdtypes.ANY.TLSA.TLSA():
            return TlsaRecord(rdata.usage, rdata.selector, rdata.mtype, bytes(rdata.cert))
        case dns.rdtypes.nsbase.NSBase():
            return _name_text(rdata.target)
        case _:
            return rdata.to_text()


def _name_text(name: dns.name.Name) -> str:
    # Octets that are not printable ASCII come out escaped (`\032`); the root becomes "".
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")
