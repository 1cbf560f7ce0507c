"""What is kept about one message, and its journal report: the message unchanged inside another one. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from elemta.mail.trace import date
from elemta.plugin.api import EnvelopeView, MessageView, SessionView

MARK: Final = "X-Elemta-Journal"
"""The field by which a journal report is known again: it has an HMAC of its Message-ID."""
_LONGEST_LINE: Final = 998
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BETWEEN: Final = re.compile(r"[\s,;:<>()]+")
"""What stands between addresses and other words of a field."""
_BASE64_PIECE: Final = 57 * 1000
"""Octets that become whole lines of 76 characters."""


@attrs.frozen
class Record:
    """One message that was accepted."""

    id: str
    """Of the queue."""
    time: float
    """Seconds since 1970."""
    direction: str
    """`incoming` or `outgoing`."""
    sender: str
    recipients: tuple[str, ...]
    bcc: tuple[str, ...]
    """Those of the recipients whom the header does not name."""
    message_id: str
    """The field Message-ID, empty where there is none."""
    subject: str
    account: str
    client: str
    session: str
    size: int


def record_of(
    session: SessionView | None, envelope: EnvelopeView, message: MessageView, time: float
) -> Record:
    """What is to be kept. Text of strangers comes without control characters, in one line each."""
    # By words, not by syntax: strangers write it, and a parser could give up or take its time
    fields = " ".join(each.value for each in message.headers if each.name.lower() in ("to", "cc")).lower()
    named = frozenset(_BETWEEN.split(fields))
    return Record(
        id=message.id,
        time=time,
        direction="outgoing" if is_ours(session) else "incoming",
        sender=envelope.sender,
        recipients=envelope.recipients,
        bcc=tuple(each for each in envelope.recipients if not _is_named(each.lower(), named, fields)),
        message_id=_line(message.header("Message-ID")),
        subject=_line(message.header("Subject")),
        account=session.identity.name if session is not None and session.identity is not None else "",
        client=session.peer if session is not None else "",
        session=session.id if session is not None else "",
        size=message.size,
    )


def _is_named(address: str, words: frozenset[str], fields: str) -> bool:
    # A quoted local part may have blanks in it
    return address in words or (address.startswith('"') and address in fields)


def is_ours(session: SessionView | None) -> bool:
    """Whether the message is from a client that may send anywhere, or from the server itself."""
    return session is None or session.trusted or session.identity is not None


def _line(text: str | None) -> str:
    return _CONTROL.sub(" ", text or "")[:2000]


# --- The report ---------------------------------------------------------------------------------------------


def sign(key: bytes, identity: str) -> str:
    """The value of the field by which the report of that Message-ID is known."""
    return hmac.new(key, identity.encode(), hashlib.sha256).hexdigest()


def is_report(key: bytes, message: MessageView) -> bool:
    """Whether the message is a journal report that was made with the key."""
    mark, identity = message.header(MARK), message.header("Message-ID")
    if mark is None or identity is None:
        return False
    return hmac.compare_digest(mark.encode(), sign(key, identity).encode())


@attrs.frozen
class Form:
    """What the octets of a message allow."""

    eight_bit: bool
    as_it_is: bool
    """It can be a part of type message/rfc822. RFC 2046 §5.2.1 allows no encoding of such a part, and what
    has octets or lines that DATA cannot carry is attached as an encoded file."""


def form_of(pieces: Iterable[bytes]) -> Form:
    """Look through a message."""
    eight_bit, fits, length, last = False, True, 0, b""
    for piece in pieces:
        eight_bit = eight_bit or not piece.isascii()
        if not fits:
            continue
        joined = last + piece
        last = b""
        if joined.endswith(b"\r"):  # is the line end cut in two?
            joined, last = joined[:-1], b"\r"
        lines = joined.split(b"\r\n")
        if b"\0" in joined or any(b"\r" in line or b"\n" in line for line in lines):
            fits = False
        longest = max(length + len(lines[0]), *(len(line) for line in lines[1:]), 0)
        length = length + len(lines[0]) if len(lines) == 1 else len(lines[-1])
        fits = fits and longest <= _LONGEST_LINE
    return Form(eight_bit, fits and not last)


def report(
    record: Record, form: Form, message: Iterable[bytes], *, hostname: str, to: str, key: bytes
) -> Iterator[bytes]:
    """The journal report in pieces, with CR LF line ends."""
    identity = f"<{record.id}.{secrets.token_hex(8)}.journal@{hostname}>"
    boundary = f"journal-{secrets.token_hex(16)}"
    text = _text(record)
    encoding = "8bit" if needs_eight_bit(record, form) else "7bit"
    head = [
        f"From: Journal <MAILER-DAEMON@{hostname}>",
        f"To: <{to}>",
        f"Subject: Journal report {record.id}",
        f"Date: {date(record.time)}",
        f"Message-ID: {identity}",
        f"{MARK}: {sign(key, identity)}",
        "Auto-Submitted: auto-generated",  # RFC 3834 §5
        "MIME-Version: 1.0",
        f'Content-Type: multipart/mixed; boundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Transfer-Encoding: {'7bit' if text.isascii() else '8bit'}",
        "",
    ]
    attached = (
        [
            "Content-Type: message/rfc822",
            f"Content-Transfer-Encoding: {'8bit' if form.eight_bit else '7bit'}",
        ]
        if form.as_it_is
        else [
            'Content-Type: application/octet-stream; name="message.eml"',
            "Content-Transfer-Encoding: base64",
        ]
    )
    yield _lines(head) + text.encode() + _lines([f"--{boundary}", *attached, ""])
    yield from message if form.as_it_is else _encoded(message)
    yield _lines(["", f"--{boundary}--"])


def needs_eight_bit(record: Record, form: Form) -> bool:
    """Whether the report has octets beyond ASCII."""
    return not _text(record).isascii() or (form.eight_bit and form.as_it_is)


def _text(record: Record) -> str:
    """As the journals of other servers have it: a name and a value in each line."""
    lines = [
        f"Sender: {record.sender or '<>'}",
        f"Message-ID: {record.message_id}",
        f"Direction: {record.direction}",
        f"Queue-ID: {record.id}",
        f"Session: {record.session}",
        f"Client: {record.client}",
    ]
    if record.account:
        lines.append(f"Account: {_line(record.account)}")
    hidden = set(record.bcc)
    lines += [f"{'Bcc' if each in hidden else 'Recipient'}: {each}" for each in record.recipients]
    # No line grows beyond what DATA carries (RFC 5321 §4.5.3.1.6)
    return "".join(f"{line.encode()[:900].decode('utf-8', 'ignore')}\r\n" for line in lines)


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def _encoded(message: Iterable[bytes]) -> Iterator[bytes]:
    waiting = b""
    for piece in message:
        waiting += piece
        while len(waiting) >= _BASE64_PIECE:
            yield base64.encodebytes(waiting[:_BASE64_PIECE]).replace(b"\n", b"\r\n")
            waiting = waiting[_BASE64_PIECE:]
    yield base64.encodebytes(waiting).replace(b"\n", b"\r\n")
