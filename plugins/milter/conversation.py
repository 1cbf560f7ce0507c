"""One conversation with a filter about one message: in the order of the protocol, whatever is asked first."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs
import trio

from elemta.plugin.api import (
    Changes,
    Decision,
    Defer,
    Discard,
    EnvelopeView,
    HeaderAction,
    HeaderChange,
    MessageView,
    OutsideFailed,
    Quarantine,
    RecipientAction,
    RecipientChange,
    Reject,
    SessionView,
    field_value,
)

from .wire import (
    LONGEST_CHUNK,
    NO,
    NO_REPLY,
    Command,
    PacketReader,
    Reply,
    Step,
    Terms,
    pack,
    pack_macros,
    pack_offer,
    pack_texts,
    read_terms,
    split_number,
    split_texts,
)

MOST_CHANGES, MOST_OCTETS = 1000, 1 << 20
"""Of what a filter wants changed in one message; more is an error."""
_CODE = re.compile(r"([45][0-9]{2})(?:[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3}))?[ -]?(.*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MACROS = {
    Command.CONNECT: ("j", "daemon_name", "v", "_", "client_addr", "client_name", "client_port"),
    Command.HELLO: ("tls_version", "cipher"),
    Command.MAIL: ("i", "auth_type", "auth_authen", "mail_addr"),
    Command.RCPT: ("rcpt_addr",),
    Command.DATA: ("i",),
    Command.END_OF_HEADER: ("i",),
    Command.END_OF_BODY: ("i",),
}
"""Those that Sendmail sends, where a filter does not say which it wants."""


@attrs.frozen
class Client:
    """What a filter hears of the session."""

    session: SessionView
    server: str
    """Our name."""
    name: str
    """Of the client in DNS; empty: it has none."""

    def macros(self) -> dict[str, str]:
        session = self.session
        shown = f"{self.name} [{session.peer}]" if self.name else f"[{session.peer}]"
        found = {
            "j": self.server, "v": "elemta", "_": shown, "daemon_name": session.listener, "i": session.id,
            "client_addr": session.peer, "client_name": self.name or "unknown",
            "client_port": str(session.port),
        }  # fmt: skip
        if session.tls is not None:
            found |= {"tls_version": session.tls.version, "cipher": session.tls.cipher}
        if session.identity is not None:
            found |= {"auth_type": session.identity.mechanism, "auth_authen": session.identity.name}
        return found


@attrs.define(eq=False)
class Conversation:
    """One connection to a filter. A method that raises, or is cancelled, leaves it unusable."""

    stream: trio.abc.Stream
    over: trio.Event = attrs.field(factory=trio.Event)
    """Set when it is needed no more."""
    last: float = attrs.field(factory=trio.current_time)
    busy: bool = False
    is_settled: bool = False
    """The filter wants to hear no more of this message."""
    discards: bool = False
    told: dict[str, None] = attrs.field(factory=dict)
    """Recipients."""
    _macros: dict[str, str] = attrs.field(factory=dict)
    _terms: Terms | None = None
    _reader: PacketReader = attrs.field(factory=PacketReader)
    _heard_data: bool = False

    # --- Stages -------------------------------------------------------------------------------------------

    async def begin(self, client: Client, envelope: EnvelopeView) -> Decision | None:
        """Up to the sender; what to refuse with."""
        await self.stream.send_all(pack_offer())
        reply, data = await self._receive()
        if reply is not Reply.NEGOTIATE:
            raise OutsideFailed(f"the filter answers the offer with {reply.name}")
        self._terms = read_terms(data)
        session = client.session
        self._macros = client.macros() | {"mail_addr": envelope.sender}
        for command, told in (
            (Command.CONNECT, _connect(client)),
            (Command.HELLO, pack_texts(session.hello)),
            (Command.MAIL, pack_texts(f"<{envelope.sender}>", *_parameters(envelope))),
        ):
            decision = await self._say(command, told)
            if decision is not None or self.is_settled:
                return decision
        return None

    async def recipient(self, address: str) -> Decision | None:
        """One recipient more; what to refuse it with."""
        if self.is_settled or address in self.told:
            return None
        self.told[address] = None
        self._macros["rcpt_addr"] = address
        decision = await self._say(Command.RCPT, pack_texts(f"<{address}>"))
        if decision is not None:
            del self.told[address]
        return decision

    async def data(self) -> Decision | None:
        """The recipients are complete."""
        if self.is_settled or self._heard_data or (self._terms is not None and self._terms.version < 4):
            return None
        self._heard_data = True
        return await self._say(Command.DATA)

    async def message(self, message: MessageView) -> tuple[Decision | None, Changes]:
        """The whole message; what is to become of it."""
        decision = None if self.is_settled else await self._header(message)
        if decision is None and not self.is_settled:
            decision = await self._body(message)
        if decision is not None or self.is_settled:
            return self._or_discard(decision), Changes()
        await self._send_macros(Command.END_OF_BODY)
        await self.stream.send_all(pack(Command.END_OF_BODY))
        decision, changes = await self._end()
        await self.stream.send_all(pack(Command.QUIT))
        return self._or_discard(decision), changes

    def _or_discard(self, decision: Decision | None) -> Decision | None:
        return Discard("the filter wants it discarded") if decision is None and self.discards else decision

    async def _header(self, message: MessageView) -> Decision | None:
        if not self._wants(Command.HEADER):
            return await self._say(Command.END_OF_HEADER)
        for field in message.headers:
            value = field.raw.replace(b"\r\n", b"\n").decode("utf-8", "surrogateescape")
            if not self._agreed(Step.LEADING_SPACE):
                value = value.removeprefix(" ")
            decision = await self._say(Command.HEADER, pack_texts(field.name, value))
            if decision is not None or self.is_settled:
                return decision
        return await self._say(Command.END_OF_HEADER)

    async def _body(self, message: MessageView) -> Decision | None:
        if not self._wants(Command.BODY):
            return None
        for piece in body_of(message):
            await self.stream.send_all(pack(Command.BODY, piece))
            if self._agreed(NO_REPLY[Command.BODY]):
                continue
            reply, data = await self._answer()
            if reply is Reply.SKIP:
                return None
            decision = self._meaning(Command.BODY, reply, data)
            if decision is not None or self.is_settled:
                return decision
        return None

    async def _end(self) -> tuple[Decision | None, Changes]:
        headers: list[HeaderChange] = []
        recipients: list[RecipientChange] = []
        sender: str | None = None
        quarantine: str | None = None
        octets = 0
        while len(headers) + len(recipients) < MOST_CHANGES and octets < MOST_OCTETS:
            reply, data = await self._answer()
            octets += len(data) + 1
            match reply:
                case Reply.ADD_HEADER | Reply.INSERT_HEADER | Reply.CHANGE_HEADER:
                    headers.append(_header_change(reply, data))
                case Reply.ADD_RECIPIENT | Reply.ADD_RECIPIENT_WITH:
                    recipients.append(RecipientChange(RecipientAction.ADD, _address(data)))
                case Reply.REMOVE_RECIPIENT:
                    recipients.append(RecipientChange(RecipientAction.REMOVE, _address(data)))
                case Reply.CHANGE_SENDER:
                    sender = _address(data)
                case Reply.QUARANTINE:
                    quarantine = _clean(split_texts(data, 1)[0]) or "the filter wants it"
                case _:
                    decision = self._meaning(Command.END_OF_BODY, reply, data)
                    if decision is None and quarantine is not None:
                        decision = Quarantine(quarantine)
                    return decision, Changes(tuple(headers), tuple(recipients), sender)
        raise OutsideFailed("the filter wants too many changes")

    # --- Packets ------------------------------------------------------------------------------------------

    def _agreed(self, step: Step) -> bool:
        return self._terms is not None and bool(self._terms.steps & step)

    def _wants(self, command: Command) -> bool:
        return not self._agreed(NO[command])

    async def _say(self, command: Command, data: bytes = b"") -> Decision | None:
        if not self._wants(command):
            return None
        await self._send_macros(command)
        await self.stream.send_all(pack(command, data))
        if self._agreed(NO_REPLY[command]):
            return None
        return self._meaning(command, *await self._answer())

    async def _send_macros(self, command: Command) -> None:
        assert self._terms is not None
        names = self._terms.macros.get(command, _MACROS.get(command, ()))
        macros = [(name, self._macros[name]) for name in names if self._macros.get(name)]
        if macros:
            await self.stream.send_all(pack_macros(command, macros))

    async def _answer(self) -> tuple[Reply, bytes]:
        while True:
            reply, data = await self._receive()
            if reply is not Reply.PROGRESS:
                return reply, data

    async def _receive(self) -> tuple[Reply, bytes]:
        while (packet := self._reader.next_packet()) is None:
            piece = await self.stream.receive_some(65_536)
            if not piece:
                raise OutsideFailed("the filter hung up")
            self._reader.feed(bytes(piece))
        self.last = trio.current_time()
        return packet

    def _meaning(self, command: Command, reply: Reply, data: bytes) -> Decision | None:
        reason = f"the filter says {reply.name.lower().replace('_', ' ')} to {command.name.lower()}"
        match reply:
            case Reply.CONTINUE:
                return None
            case Reply.ACCEPT:
                self.is_settled = True
                return None
            case Reply.DISCARD:
                self.is_settled = self.discards = True
                return None
            case Reply.REJECT:
                return Reject("Refused by local policy", reason=reason)
            case Reply.DEFER:
                return Defer(reason=reason)
            case Reply.FAIL_CONNECTION | Reply.SHUTDOWN:
                return Defer("Service not available", code=421, enhanced="4.3.0", reason=reason)
            case Reply.REPLY_CODE:
                return _with_code(split_texts(data, 1)[0], reason)
            case _:
                raise OutsideFailed(f"{reason}, which is no answer there")


def body_of(message: MessageView) -> Iterator[bytes]:
    """What is behind the header, in pieces that a packet can hold."""
    head: bytes | None = b""
    for piece in message.chunks(LONGEST_CHUNK):
        if head is not None:
            # The header begins with its end where it has no field
            head += piece
            start = 2 if head.startswith(b"\r\n") else head.find(b"\r\n\r\n") + 4
            if start < 4 and not head.startswith(b"\r\n"):
                continue
            piece, head = head[start:], None
        for begin in range(0, len(piece), LONGEST_CHUNK):
            yield piece[begin : begin + LONGEST_CHUNK]


def _connect(client: Client) -> bytes:
    peer, port = client.session.peer, client.session.port
    family = b"6" if ":" in peer else b"4" if "." in peer else b"U"
    named = pack_texts(client.name or f"[{peer}]") + family
    return named if family == b"U" else named + port.to_bytes(2, "big") + pack_texts(peer)


def _parameters(envelope: EnvelopeView) -> list[str]:
    parameters = [] if envelope.size is None else [f"SIZE={envelope.size}"]
    if envelope.body_type != "7BIT":
        parameters.append(f"BODY={envelope.body_type}")
    return [*parameters, "SMTPUTF8"] if envelope.smtputf8 else parameters


def _header_change(reply: Reply, data: bytes) -> HeaderChange:
    index = 0
    if reply is not Reply.ADD_HEADER:
        index, data = split_number(data)
    name, value = split_texts(data, 2)
    if reply is Reply.ADD_HEADER:
        return HeaderChange(HeaderAction.ADD, name, field_value(value))
    if reply is Reply.INSERT_HEADER:
        return HeaderChange(HeaderAction.INSERT, name, field_value(value))
    if not value:
        return HeaderChange(HeaderAction.REMOVE, name, index=max(index, 1))
    return HeaderChange(HeaderAction.REPLACE, name, field_value(value), index=max(index, 1))


def _address(data: bytes) -> str:
    return split_texts(data, 1)[0].strip().removeprefix("<").removesuffix(">")


def _clean(text: str) -> str:
    return _CONTROL.sub("?", text).strip()[:300]


def _with_code(text: str, reason: str) -> Decision:
    first, *others = (line for line in re.split(r"[\r\n]+", text) if line) if text else [""]
    found = _CODE.fullmatch(_clean(first))
    if found is None:
        raise OutsideFailed(f"{reason}: {_clean(text)!r} is no reply")
    code, enhanced = int(found[1]), found[2]
    # Its other lines begin with the same codes
    more = [each[3] for each in map(_CODE.fullmatch, map(_clean, others)) if each is not None]
    words = " ".join([found[3], *more]).strip()
    kind = str(code // 100)
    if enhanced is None or enhanced[0] != kind:
        enhanced = f"{kind}.7.1"
    if code < 500:
        return Defer(words or "Try again later", code=code, enhanced=enhanced, reason=reason)
    return Reject(words or "Refused by local policy", code=code, enhanced=enhanced, reason=reason)
