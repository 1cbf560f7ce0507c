"""Delivery status notifications as bytes (RFC 3461 §6, RFC 3464, RFC 6522, RFC 6533).

A notice has three parts: text for people, status fields for programs, and the original or its
header. Two kinds of strangers' text go into it and are made harmless first: what the next hop replied
(in fields and text), and the original (a part of its own, which a boundary that occurs nowhere in it
keeps apart). When to send a notice, and to whom, is decided by the queue.
"""

from __future__ import annotations

import enum
import re

import attrs

from .address import NULL_PATH, Mailbox
from .envelope import BodyType, DsnOptions, Envelope, Notify, Recipient, Ret
from .header import HeaderBlock, split_header
from .ids import MessageId
from .reply import Reply
from .trace import date

MAX_LINE = 998
"""Octets of a line without its CR LF (RFC 5322 §2.1.1)."""
WIDTH = 76
"""Characters per line where this module chooses the line ends."""
MAX_WORD = 900
"""Octets of a word before it is cut, and of a value that is never folded: below MAX_LINE with its name."""
MAX_QUOTED = 1000
"""Characters that are quoted of one reply; a notice about many recipients stays bounded."""

# RFC 5322 §3.6.4 without its obsolete forms.
_MESSAGE_ID = re.compile(
    rb"<[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,300}@[][A-Za-z0-9!#$%&'*+/=?^_`{|}~.:-]{1,300}>"
)
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_LITERAL = re.compile(r"\[[0-9A-Za-z.:]+\]")
_IPV4 = re.compile(r"[0-9.]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")
_REMOTE = re.compile(r"([^\[\]]*)(\[[^\[\]]*\])?(?::[0-9]+)?")


class Action(enum.StrEnum):
    """What was done for a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    """Given up. With a 4yz reply: tried until the time was over (RFC 3463 §2, class 4)."""
    DELAYED = "delayed"
    """Still being tried."""
    DELIVERED = "delivered"
    """In the mailbox, or taken by a next hop that the sender's request ends at."""
    RELAYED = "relayed"
    """Passed on to a server that sends no notices (RFC 3461 §5.2.2)."""
    EXPANDED = "expanded"
    """Passed on to several addresses (RFC 3461 §5.2.7.2)."""


@attrs.frozen
class DsnRecipient:
    """One recipient of the original and what became of it."""

    recipient: Recipient
    action: Action
    reply: Reply
    """The remote's reply, or ours in the same form."""
    remote: str = ""
    """Who gave the reply, as `host[address]:port`; shown only with `from_remote`."""
    from_remote: bool = False
    """Whether `reply` is the next hop's own word: only then is there a Diagnostic-Code."""
    last_attempt: float | None = None
    retry_until: float | None = None
    """When it will be given up; for DELAYED."""


@attrs.frozen
class DsnReport:
    """All that goes into one notice."""

    hostname: str
    """Of this server."""
    message: MessageId
    """Of the notice: it makes the Message-ID and the boundary, so that equal reports are equal bytes."""
    time: float
    """Of the notice."""
    original: MessageId
    envelope: Envelope
    """Of the original. Its reverse path is whom the notice is for."""
    arrival: float
    """When the original was received."""
    recipients: tuple[DsnRecipient, ...]
    """Those the notice is about."""
    content: bytes = b""
    """The original as stored: its header at least, and all of it where `complete`."""
    complete: bool = False
    """`content` is the whole message and may be returned, if the sender asked for that."""
    to: Mailbox | None = None
    """Whom it is for instead of the sender: the postmaster, where a notice found nobody."""

    @property
    def reader(self) -> Mailbox | None:
        """Whom it is for."""
        return self.to or self.envelope.reverse_path.mailbox


def build_dsn(report: DsnReport) -> bytes:
    """The notice as a message, with CR LF line ends.

    Raises:
      ValueError: there is nobody to tell, or nothing (RFC 5321 §4.5.5: never about a null sender).
    """
    sender = report.reader
    if sender is None or not report.recipients:
        raise ValueError("a notice needs a sender to tell and a recipient to tell about")
    parts = (_text_part(report), _status_part(report), _original_part(report))
    boundary = _boundary(report.message, parts)
    actions = {each.action for each in report.recipients}
    fields = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.hostname}>",
        f"To: <{sender}>",
        f"Subject: {'Undelivered notice' if report.to else _subject(actions)}",
        f"Date: {date(report.time)}",
        f"Message-ID: <{report.message}@{report.hostname}>",
        *_references(report.content),
        "Auto-Submitted: auto-replied",  # RFC 3834 §5
        "X-Auto-Response-Suppress: All",  # what Exchange goes by
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",  # RFC 6522 §3
        f'\tboundary="{boundary}"',
    ]
    head = "".join(f"{line}\r\n" for line in fields).encode()
    if not all(part.isascii() for part in parts):
        # RFC 2045 §6.4: a multipart says so where one of its parts is 8bit.
        head += b"Content-Transfer-Encoding: 8bit\r\n"
    delimiter = b"--" + boundary.encode()
    pieces = [head]
    for part in parts:
        pieces += (b"\r\n", delimiter, b"\r\n", part)
    pieces += (b"\r\n", delimiter, b"--\r\n")
    return b"".join(pieces)


def needs_8bit(notice: bytes) -> bool:
    """Whether the envelope of the notice needs BODY=8BITMIME (RFC 6152)."""
    return not notice.isascii()


def notice_envelope(report: DsnReport, notice: bytes) -> Envelope:
    """The envelope of a built notice: from nobody, to whom it is for (RFC 3461 §6.1).

    Raises:
      ValueError: the original's sender is null.
    """
    sender = report.reader
    if sender is None:
        raise ValueError("a notice needs a sender to tell")
    return Envelope(
        NULL_PATH,
        (Recipient(sender, DsnOptions(notify=Notify.NEVER)),),
        body_type=BodyType.EIGHT_BIT_MIME if needs_8bit(notice) else BodyType.SEVEN_BIT,
        # RFC 6531 §3.5: only our To and the recipient's address are non-ASCII in the header proper; an
        # internationalized original is inside a part, which 8BITMIME carries.
        smtputf8=not sender.is_ascii,
        require_tls=report.envelope.require_tls,  # RFC 8689 §5
        priority=report.envelope.priority,  # RFC 6710 §4.6
    )


def _boundary(message: MessageId, parts: tuple[bytes, ...]) -> str:
    # RFC 2046 §5.1.1: it must not occur in what it encloses. The original may hold any text, even
    # an older notice with a boundary like this one.
    number = 0
    while True:
        boundary = f"elemta={message}={number}"
        if not any(boundary.encode() in part for part in parts):
            return boundary
        number += 1


def _subject(actions: set[Action]) -> str:
    if Action.FAILED in actions:
        return "Undelivered mail"
    if Action.DELAYED in actions:
        return "Delayed mail (still being tried)"
    return "Delivered mail"


def _references(content: bytes) -> list[str]:
    """RFC 3834 §3.1.5: what the notice answers, so that mail readers show both together."""
    field = HeaderBlock(content).find(b"Message-ID")
    if field is None or not _MESSAGE_ID.fullmatch(field.value):
        return []
    message_id = field.value.decode("ascii")
    return [f"In-Reply-To: {message_id}", f"References: {message_id}"]


# --- Text for people (RFC 6522 §3, first part) --------------------------------------------------------

_OPENING = {
    Action.FAILED: "Your message could not be delivered to the addresses below. It will not be tried again.",
    Action.DELAYED: (
        "Your message could not be delivered yet to the addresses below. It is still being tried; "
        "there is no need to send it again."
    ),
    Action.DELIVERED: "Your message was delivered to the addresses below.",
    Action.RELAYED: (
        "Your message was passed on for the addresses below, to servers that may not tell you "
        "whether it is delivered."
    ),
    Action.EXPANDED: "Your message was delivered to the lists or aliases below, which pass it on.",
}
_FOR_POSTMASTER = (
    "Postmaster: the notice below could not be delivered to the one whom it was for, who therefore does not "
    "know what became of the mail that it is about."
)


def _text_part(report: DsnReport) -> bytes:
    utf8 = report.envelope.smtputf8
    lines = _wrap(f"This is the mail server at {report.hostname}.")
    for action in Action:
        chosen = [each for each in report.recipients if each.action is action]
        if not chosen:
            continue
        lines += ["", *_wrap(_FOR_POSTMASTER if report.to else _OPENING[action])]
        for each in chosen:
            lines += ["", f"<{_visible(str(each.recipient.mailbox), utf8)}>"]
            lines += (f"    {line}" for line in _wrap(_reason(each, utf8)))
    lines += [
        "",
        f"The message arrived here on {date(report.arrival)}",
        f"and is known to the postmaster as {report.original}.",
    ]
    text = "".join(f"{line}\r\n" for line in lines).encode()
    charset, encoding = ("us-ascii", "7bit") if text.isascii() else ("utf-8", "8bit")
    head = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + text


def _reason(each: DsnRecipient, utf8: bool) -> str:
    said = _quoted(each.reply, utf8)
    if each.from_remote:
        host = " ".join(filter(None, _remote(each.remote)))
        return f"{host or 'The next server'} said: {said}"
    if each.action is Action.FAILED and each.reply.code < 500:
        return f"Given up after many attempts: {said}"
    return f"Reason: {said}" if each.action in (Action.FAILED, Action.DELAYED) else said


# --- Fields for programs (RFC 3464 §2) --------------------------------------------------------------------


def _status_part(report: DsnReport) -> bytes:
    utf8 = report.envelope.smtputf8
    groups = [_message_fields(report), *(_recipient_fields(report, each) for each in report.recipients)]
    body = "\r\n".join("".join(f"{line}\r\n" for line in group) for group in groups).encode()
    # RFC 6533 §3: UTF-8 in the fields only in the global form, and only for one who used SMTPUTF8.
    kind = "global-delivery-status" if utf8 else "delivery-status"
    return _part_head(f"message/{kind}", body) + body


def _message_fields(report: DsnReport) -> list[str]:
    fields = []
    if report.envelope.envelope_id is not None:
        # RFC 3461 §6.3 (a): the value of ENVID, and not in xtext here.
        fields.append(f"Original-Envelope-Id: {_visible(report.envelope.envelope_id, utf8=False)}")
    fields.append(f"Reporting-MTA: dns; {report.hostname}")  # RFC 3464 §2.2.2
    fields.append(f"Arrival-Date: {date(report.arrival)}")
    if report.envelope.deliver_by is not None:
        fields.append(f"Deliver-By-Date: {date(report.envelope.deliver_by.deadline)}")  # RFC 2852 §5
    if report.envelope.hold_request is not None:
        fields.append(f"Future-Release-Request: {report.envelope.hold_request}")  # RFC 4865 §5.1.2
    return fields


def _recipient_fields(report: DsnReport, each: DsnRecipient) -> list[str]:
    utf8 = report.envelope.smtputf8
    mailbox = each.recipient.mailbox
    fields = []
    original = each.recipient.dsn.original_recipient
    if original is not None:  # RFC 3461 §6.3 (d): there if and only if ORCPT was
        kind, _, address = _visible(_spelled_out(original) if utf8 else original, utf8).partition(";")
        fields.append(f"Original-Recipient: {kind}; {address}")
    # RFC 6533 §3: the type utf-8 is for addresses that need it.
    address_type = "rfc822" if mailbox.is_ascii else "utf-8"
    fields.append(f"Final-Recipient: {address_type}; {_visible(str(mailbox), utf8)}")
    fields.append(f"Action: {each.action}")
    fields.append(f"Status: {_status(each)}")
    if each.from_remote:
        host, literal = _remote(each.remote)
        if host or literal:
            fields.append(f"Remote-MTA: dns; {host or literal}")  # RFC 3464 §2.3.5
        # RFC 3464 §2.3.6: what the remote said, never our own words.
        fields += _wrap(f"Diagnostic-Code: smtp; {_quoted(each.reply, utf8)}", indent=" ")
    if each.last_attempt is not None:
        fields.append(f"Last-Attempt-Date: {date(each.last_attempt)}")
    fields.append(f"Final-Log-ID: {report.original}")  # RFC 3464 §2.3.8
    if each.action is Action.DELAYED and each.retry_until is not None:
        fields.append(f"Will-Retry-Until: {date(each.retry_until)}")  # RFC 3464 §2.3.9: for delayed only
    return fields


def _spelled_out(original: str) -> str:
    """An original recipient of the type utf-8 with the characters that it names by number (RFC 6533 §3: where
    UTF-8 may stand, it is to stand there)."""
    if original[:6].lower() != "utf-8;":
        return original
    return _EMBEDDED.sub(_character, original)


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)


def _status(each: DsnRecipient) -> str:
    """RFC 3464 §2.3.4: the enhanced code, or what its class alone can say."""
    if each.reply.code // 100 in (2, 4, 5):
        return each.reply.enhanced_text or f"{each.reply.code // 100}.0.0"
    return "4.5.0"  # a reply of a class that has no place here: a protocol error (RFC 3463 §3.6)


def _remote(remote: str) -> tuple[str, str]:
    """Host name and address literal (RFC 5321 §4.1.3) of a remote, each empty where it is no such thing."""
    parts = _REMOTE.fullmatch(remote)
    if parts is None:
        return "", ""
    host, literal = parts[1], parts[2] or ""
    if not literal:
        host = host.partition(":")[0]
    if ":" in literal and not literal.startswith("[IPv6:"):
        literal = literal.replace("[", "[IPv6:")
    return (
        # A next hop that is known by its address has no name
        host if _HOST_NAME.fullmatch(host) and not (literal and _IPV4.fullmatch(host)) else "",
        literal if _LITERAL.fullmatch(literal) else "",
    )


# --- The original (RFC 6522 §3, third part) -----------------------------------------------------------


def _original_part(report: DsnReport) -> bytes:
    failed = any(each.action is Action.FAILED for each in report.recipients)
    # RFC 3461 §4.3: RET is about failures; any other notice returns the header alone.
    wanted = report.to is not None or report.envelope.ret is Ret.FULL
    full = report.complete and failed and wanted
    international = report.envelope.smtputf8
    if full and _fits(report.content):
        # RFC 6533 §3: message/global for a message that may have UTF-8 in its header.
        kind = "message/global" if international else "message/rfc822"
        return _part_head(kind, report.content) + report.content
    header = _mend(report.content[: split_header(report.content)])
    kind = "message/global-headers" if international else "text/rfc822-headers"
    return _part_head(kind, header) + header


def _part_head(kind: str, body: bytes) -> bytes:
    encoding = "7bit" if body.isascii() else "8bit"
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()


def _fits(content: bytes) -> bool:
    """Whether it can travel as 8bit (RFC 2045 §2.8). What cannot is returned as its header only."""
    ends = content.count(b"\r\n")
    return (
        b"\0" not in content
        and content.count(b"\r") == ends == content.count(b"\n")
        and max(map(len, content.split(b"\r\n"))) <= MAX_LINE
    )


_STRAY = bytes.maketrans(b"\0\r\n", b"???")


def _mend(header: bytes) -> bytes:
    """The header without its empty line, made to fit: no stray NUL, CR and LF, endless lines folded."""
    mended = []
    for line in header.rstrip(b"\r\n").split(b"\r\n"):
        line = line.translate(_STRAY)
        start, fold = 0, b""
        while len(line) - start + len(fold) > MAX_LINE:
            end = start + MAX_LINE - len(fold)
            lowest = end - 3
            while line[end] & 0xC0 == 0x80 and end > lowest:  # not inside a character of UTF-8
                end -= 1
            mended.append(fold + line[start:end])
            start, fold = end, b" "
        mended.append(fold + line[start:])
    return b"\r\n".join(mended) + b"\r\n" if mended != [b""] else b""


# --- Strangers' text -----------------------------------------------------------------------------------


def _quoted(reply: Reply, utf8: bool) -> str:
    """A reply in one line."""
    return _visible(" ".join(str(reply)[:MAX_QUOTED].split()), utf8, limit=None)


def _visible(text: str, utf8: bool, *, limit: int | None = MAX_WORD) -> str:
    """Text without controls or changes of direction, in ASCII unless `utf8`.

    What may not stand in it is written as `\\x{E9}`: for addresses that is utf-8-addr-xtext (RFC 6533 §3).
    """
    text = "".join(
        character
        if character.isprintable() and (utf8 or character.isascii())
        else f"\\x{{{ord(character):X}}}"
        for character in text[:limit]
    )
    return text.encode()[:limit].decode("utf-8", "ignore")


def _wrap(text: str, *, indent: str = "") -> list[str]:
    """Lines of at most WIDTH characters, broken at blanks; a longer word has a line alone, or is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        for piece in _pieces(word):
            if not line:
                line = piece
            elif len(line) + len(piece) < WIDTH:
                line += " " + piece
            else:
                lines.append(line)
                line = indent + piece
    lines.append(line)
    return lines


def _pieces(word: str) -> list[str]:
    if len(word.encode()) <= MAX_WORD:
        return [word]
    step = MAX_WORD // 4  # characters: each has at most four octets
    return [word[start : start + step] for start in range(0, len(word), step)]
