"""DNS for tests: a resolver that answers from a dict, and a name server on loopback that errs as told."""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

from elemta.config import HostPort
from elemta.dns import Answer, MxRecord, Record, RecordKind, Resolver, Status, normalize_name

RecordLike: TypeAlias = Record | tuple[int, str]
"""A record, or for short `(10, "mx.example.org")` for an MX; `str` does for TXT too."""
Zone: TypeAlias = Mapping[str, Mapping[str, Sequence[RecordLike]]]
"""`{"example.org": {"MX": [(10, "mx.example.org")]}, "mx.example.org": {"A": ["192.0.2.1"]}}`."""

MAX_CHAIN = 16


class FakeResolver(Resolver):
    """Answers from a zone that a test may change at any time.

    A name in the zone without the kind asked for is NODATA, one that is not there NXDOMAIN. CNAMEs
    are followed. `failing` holds names, or pairs of name and kind, that answer FAILED; `delays` the
    seconds (of Trio's clock) that a name takes; `authentic` the names with the AD bit. `queries` is
    what was asked, in order.
    """

    def __init__(
        self,
        zone: Zone | None = None,
        *,
        failing: Collection[str | tuple[str, str]] = (),
        delays: Mapping[str, float] | None = None,
        authentic: Collection[str] = (),
        ttl: float = 300.0,
    ) -> None:
        self.zone: dict[str, dict[str, Sequence[RecordLike]]] = {
            _key(name): dict(kinds) for name, kinds in (zone or {}).items()
        }
        self.failing = set(failing)
        self.delays = dict(delays or {})
        self.authentic = set(authentic)
        self.ttl = ttl
        self.queries: list[tuple[str, RecordKind]] = []

    def add(self, name: str, kind: RecordKind | str, *records: RecordLike) -> None:
        """Put these records there instead of what was there of that kind."""
        self.zone.setdefault(_key(name), {})[str(kind)] = records

    async def query(self, name: str, kind: RecordKind) -> Answer:
        key = normalize_name(name)
        await trio.lowlevel.checkpoint()
        if key is None:
            return Answer(Status.NXDOMAIN, detail="not a name that DNS can hold")
        self.queries.append((key, kind))
        if key in self.delays:
            await trio.sleep(self.delays[key])
        if key in self.failing or (key, str(kind)) in self.failing:
            return Answer(Status.FAILED, canonical=key, detail=f"{key} {kind}: SERVFAIL")
        return attrs.evolve(self._find(key, kind), authentic=key in self.authentic)

    def _find(self, key: str, kind: RecordKind) -> Answer:
        for _ in range(MAX_CHAIN):
            kinds = self.zone.get(key)
            if kinds is None:
                return Answer(Status.NXDOMAIN, ttl=self.ttl, canonical=key)
            if kinds.get(str(kind)):
                records = tuple(_record(record, kind) for record in kinds[str(kind)])
                return Answer(Status.OK, records, self.ttl, canonical=key)
            alias = kinds.get("CNAME")
            if not alias:
                return Answer(Status.NODATA, ttl=self.ttl, canonical=key)
            key = _key(str(alias[0]))
        return Answer(Status.FAILED, canonical=key, detail="CNAME chain is too long")


def _key(name: str) -> str:
    key = normalize_name(name)
    if key is None:
        raise ValueError(f"{name!r} is not a name that DNS can hold")
    return key


def _record(record: RecordLike, kind: RecordKind) -> Record:
    if isinstance(record, tuple | MxRecord):
        preference, host = record if isinstance(record, tuple) else (record.preference, record.host)
        return MxRecord(preference, host.lower().removesuffix("."))
    if kind is RecordKind.TXT and isinstance(record, str):
        return record.encode()
    if isinstance(record, str) and kind in (RecordKind.CNAME, RecordKind.PTR):
        return record.lower().removesuffix(".")
    return record


class Fault(enum.Enum):
    """What the test server does wrong with a name."""

    DROP = "drop"
    """No response at all."""
    SERVFAIL = "servfail"
    REFUSED = "refused"
    TRUNCATE = "truncate"
    """Over UDP only the TC bit; TCP has the answer."""
    CUT = "cut"
    """Over UDP the TC bit and a response that ends in the middle of a record."""
    TRUNCATE_ALWAYS = "truncate-always"
    """The TC bit over TCP, too."""
    WRONG_ID = "wrong-id"
    WRONG_QUESTION = "wrong-question"
    NOT_A_RESPONSE = "not-a-response"
    """The question itself, sent back."""
    GARBAGE = "garbage"
    """Octets that are no DNS at all."""
    GARBLED = "garbled"
    """The right header, then nonsense."""
    FLOOD = "flood"
    """Wrong ids, more of them than anybody should read."""
    FORGED_FIRST = "forged-first"
    """A wrong id and a wrong question, then the right response."""
    NO_EDNS = "no-edns"
    """FORMERR for a question with EDNS, the answer without."""
    HANG_UP = "hang-up"
    """The TC bit over UDP, and the connection is closed in mid response over TCP."""
    RESET = "reset"
    """The same with a reset."""
    HUGE = "huge"
    """The TC bit over UDP, and a response longer than anybody needs announced over TCP."""


@attrs.frozen
class ServerQuery:
    """One question as the test server saw it."""

    name: str
    kind: str
    tcp: bool
    edns_payload: int
    """0 without EDNS."""
    flags: int


@attrs.define(eq=False)
class DnsServer:
    """A name server on loopback, UDP and TCP on one port, that answers from a zone and errs as told.

    Run `serve` in a nursery with `start`; it gives the address to put into `DnsConfig.nameservers`.
    All fields may be changed while it runs.
    """

    zone: dict[tuple[str, str], dns.rrset.RRset] = attrs.field(factory=dict)
    faults: dict[str, Fault] = attrs.field(factory=dict)
    delays: dict[str, float] = attrs.field(factory=dict)
    authentic: bool = False
    """Whether to set AD for those who ask for it."""
    soa_minimum: int | None = 60
    """Negative TTL; `None`: negative answers come without a SOA."""
    queries: list[ServerQuery] = attrs.field(factory=list)

    def add(self, name: str, kind: str, *values: str, ttl: int = 300) -> None:
        """Put these records there, in zone file form: `add("a.test", "MX", "10 mx.a.test.")`."""
        self.zone[name, kind] = dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *values)

    async def serve(
        self, *, host: str = "127.0.0.1", task_status: trio.TaskStatus[HostPort] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer until cancelled. Reports its address when it is ready."""
        family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
        listeners = await trio.open_tcp_listeners(0, host=host)
        port = listeners[0].socket.getsockname()[1]
        with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as udp:
            await udp.bind((host, port))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve_tcp, listeners)
                task_status.started(HostPort(host, port))
                while True:
                    data, peer = await udp.recvfrom(65535)
                    nursery.start_soon(self._answer_udp, udp, data, peer)

    async def _answer_udp(self, udp: trio.socket.SocketType, data: bytes, peer: Any) -> None:
        for response in await self._responses(data, tcp=False):
            await udp.sendto(response, peer)

    async def _serve_tcp(self, stream: trio.SocketStream) -> None:
        try:
            await self._answer_tcp(stream)
        except trio.BrokenResourceError:  # who asked has heard enough
            pass

    async def _answer_tcp(self, stream: trio.SocketStream) -> None:
        received = bytearray()
        async for piece in stream:
            received += piece
            while len(received) >= 2 and len(received) - 2 >= int.from_bytes(received[:2], "big"):
                end = 2 + int.from_bytes(received[:2], "big")
                question = bytes(received[2:end])
                del received[:end]
                fault = self._fault(dns.message.from_wire(question))
                if fault is Fault.HUGE:
                    await stream.send_all(b"\xff\xff")
                    continue
                for response in await self._responses(question, tcp=True):
                    framed = len(response).to_bytes(2, "big") + response
                    if fault is Fault.RESET:
                        # A linger time of zero turns the close into a reset.
                        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        stream.socket.close()
                        return
                    if fault is Fault.HANG_UP:
                        await stream.send_all(framed[:-1])
                        return
                    await stream.send_all(framed)

    def _fault(self, question: dns.message.Message) -> Fault | None:
        return self.faults.get(_question_name(question))

    async def _responses(self, data: bytes, *, tcp: bool) -> list[bytes]:
        question = dns.message.from_wire(data)
        name = _question_name(question)
        kind = dns.rdatatype.to_text(question.question[0].rdtype)
        payload = question.payload if question.edns >= 0 else 0
        self.queries.append(ServerQuery(name, kind, tcp, payload, int(question.flags)))
        if name in self.delays:
            await trio.sleep(self.delays[name])
        response = self._response(question, name, kind)
        wire = response.to_wire(max_size=65535)
        match self.faults.get(name):
            case Fault.DROP:
                return []
            case Fault.SERVFAIL:
                return [_error(question, dns.rcode.SERVFAIL)]
            case Fault.REFUSED:
                return [_error(question, dns.rcode.REFUSED)]
            case Fault.NO_EDNS if question.edns >= 0:
                return [_error(question, dns.rcode.FORMERR)]
            case Fault.TRUNCATE | Fault.HANG_UP | Fault.RESET | Fault.HUGE if not tcp:
                return [_truncated(question)]
            case Fault.TRUNCATE_ALWAYS:
                return [_truncated(question)]
            case Fault.CUT if not tcp:
                response.flags |= dns.flags.TC
                return [response.to_wire(max_size=65535)[:-14]]
            case Fault.NOT_A_RESPONSE:
                return [data]
            case Fault.GARBAGE:
                return [b"", b"\x00", b"not DNS at all"]
            case Fault.GARBLED:
                return [wire[:12] + b"\xff" * 40]
            case Fault.WRONG_ID:
                return [_other_id(wire)]
            case Fault.FLOOD:
                return [_other_id(wire)] * 1000
            case Fault.WRONG_QUESTION:
                return [self._about_another_name(question)]
            case Fault.FORGED_FIRST:
                return [_other_id(wire), self._about_another_name(question), wire]
            case _:
                return [wire]

    def _about_another_name(self, question: dns.message.Message) -> bytes:
        kind = dns.rdatatype.to_text(question.question[0].rdtype)
        other = dns.message.make_query("somebody.else.test.", kind, id=question.id)
        response = dns.message.make_response(other)
        if kind == "A":
            response.answer.append(dns.rrset.from_text("somebody.else.test.", 60, "IN", "A", "203.0.113.66"))
        return response.to_wire()

    def _response(self, question: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        response = dns.message.make_response(question)
        response.flags |= dns.flags.RA
        if self.authentic and question.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        seen: set[str] = set()
        while (name, kind) not in self.zone and (name, "CNAME") in self.zone and name not in seen:
            seen.add(name)
            alias = self.zone[name, "CNAME"]
            response.answer.append(alias)
            name = alias[0].target.to_text(omit_final_dot=True).lower()
        if (name, kind) in self.zone:
            response.answer.append(self.zone[name, kind])
        elif name not in seen:
            if not any(owner == name for owner, _ in self.zone):
                response.set_rcode(dns.rcode.NXDOMAIN)
            if self.soa_minimum is not None:
                soa = f"ns.test. hostmaster.test. 1 3600 600 86400 {self.soa_minimum}"
                response.authority.append(dns.rrset.from_text("test.", 3600, "IN", "SOA", soa))
        return response


def _question_name(question: dns.message.Message) -> str:
    return question.question[0].name.to_text(omit_final_dot=True).lower()


def _error(question: dns.message.Message, rcode: dns.rcode.Rcode) -> bytes:
    response = dns.message.make_response(question)
    response.set_rcode(rcode)
    return response.to_wire()


def _truncated(question: dns.message.Message) -> bytes:
    response = dns.message.make_response(question)
    response.flags |= dns.flags.TC
    return response.to_wire()


def _other_id(wire: bytes) -> bytes:
    return bytes([wire[0] ^ 0x55]) + wire[1:]
