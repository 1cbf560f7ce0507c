"""A message as a program describes it in JSON, made into one of MIME (RFC 5322, RFC 2045). Pure."""

from __future__ import annotations

import email.policy
import re
from email.errors import HeaderParseError
from email.message import EmailMessage

import msgspec

from elemta.mail import Mailbox, MailSyntaxError, parse_mailbox

from .problems import BadRequest
from .shapes import Shape

MOST_ATTACHMENTS = 100
MOST_FIELDS = 100
_FIELD_NAME = re.compile(r"[A-Za-z0-9-]{1,70}")
_MEDIA_TYPE = re.compile(r"([a-z0-9][a-z0-9.+-]{0,60})/([a-z0-9][a-z0-9.+-]{0,80})", re.IGNORECASE)
_CONTENT_ID = re.compile(r"[A-Za-z0-9._@-]{1,100}")
_OURS = frozenset(
    {"from", "to", "cc", "bcc", "subject", "reply-to", "sender", "mime-version", "received", "return-path"}
    | {"dkim-signature", "authentication-results", "delivered-to"}
)
"""Fields that have a member of their own, or are made by the server."""


class Attachment(Shape):
    """A file in a message."""

    name: str
    content: bytes
    """In base64."""
    type: str = "application/octet-stream"
    content_id: str | None = None
    """For an image that the HTML shows as `cid:ID`."""


class NewMessage(Shape):
    """A message to be sent."""

    sender: str = msgspec.field(name="from")
    """`anna@example.org` or `Anna <anna@example.org>`."""
    to: list[str]
    """One at least, among `to`, `cc` and `bcc`; with names or without."""
    subject: str = ""
    text: str | None = None
    html: str | None = None
    cc: list[str] = msgspec.field(default_factory=list)
    bcc: list[str] = msgspec.field(default_factory=list)
    """Get it too, and stand nowhere in it."""
    reply_to: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Further fields, such as `List-Unsubscribe`."""
    attachments: list[Attachment] = msgspec.field(default_factory=list)
    envelope_from: str | None = None
    """Where notices go, if not to `from`; empty: nowhere."""
    priority: int = 0
    """-9 to 9 (RFC 6710)."""
    not_before: float | None = None
    """Seconds since the epoch (RFC 4865)."""
    deliver_by: float | None = None
    """Seconds since the epoch, after which it is returned as undeliverable (RFC 2852)."""
    envelope_id: str | None = None
    """Comes back in notices (RFC 3461)."""
    require_tls: bool = False
    """Never send it on without TLS (RFC 8689)."""


def compose(new: NewMessage) -> bytes:
    """The message as octets, Date and Message-ID left to the server.

    Raises:
      BadRequest: something in it can be in no message.
    """
    if new.text is None and new.html is None and not new.attachments:
        raise BadRequest("give text, html or attachments")
    if len(new.attachments) > MOST_ATTACHMENTS or len(new.headers) > MOST_FIELDS:
        raise BadRequest(f"at most {MOST_ATTACHMENTS} attachments and {MOST_FIELDS} headers")
    addresses = [new.sender, *new.to, *new.cc, *([new.reply_to] if new.reply_to else ())]
    policy = (
        email.policy.SMTP if all(each.isascii() for each in map(_bare, addresses)) else email.policy.SMTPUTF8
    )
    message = EmailMessage(policy)
    try:
        _put_fields(message, new)
        _put_parts(message, new)
        return message.as_bytes()
    except (ValueError, HeaderParseError, IndexError, LookupError, UnicodeError) as error:
        raise BadRequest(f"this can be no message: {error}") from error


def _put_fields(message: EmailMessage, new: NewMessage) -> None:
    message["From"] = new.sender
    for name, addresses in (("To", new.to), ("Cc", new.cc)):
        if addresses:
            message[name] = ", ".join(addresses)
    if new.reply_to:
        message["Reply-To"] = new.reply_to
    message["Subject"] = new.subject
    for name, value in new.headers.items():
        lower = name.lower()
        if not _FIELD_NAME.fullmatch(name) or lower in _OURS or lower.startswith("content-"):
            raise BadRequest(f"headers cannot have {name[:40]!r}")
        message[name] = value


def _put_parts(message: EmailMessage, new: NewMessage) -> None:
    message.set_content(new.text or "")
    if new.html is not None:
        if new.text is None:
            message.set_content(new.html, subtype="html")
        else:
            message.add_alternative(new.html, subtype="html")
    for attachment in new.attachments:
        media_type = _MEDIA_TYPE.fullmatch(attachment.type)
        if media_type is None or media_type[1].lower() in ("multipart", "message"):
            raise BadRequest(f"{attachment.type[:40]!r} is not the type of a file")
        if attachment.content_id is None:
            message.add_attachment(attachment.content, media_type[1], media_type[2], filename=attachment.name)
            continue
        if not _CONTENT_ID.fullmatch(attachment.content_id) or new.html is None:
            raise BadRequest("a content_id has letters, digits or . _ @ -, and goes with html")
        _html_part(message).add_related(
            attachment.content,
            media_type[1],
            media_type[2],
            cid=f"<{attachment.content_id}>",
            filename=attachment.name,
            disposition="inline",
        )


def _html_part(message: EmailMessage) -> EmailMessage:
    part = message.get_body(("html",))
    related = message.get_body(("related",))
    found = related if related is not None else part
    assert isinstance(found, EmailMessage)
    return found


def address_of(text: str, name: str) -> Mailbox:
    """The address in `Anna <anna@example.org>`, or alone.

    Raises:
      BadRequest: it is none.
    """
    try:
        return parse_mailbox(_bare(text), utf8=True)
    except MailSyntaxError as error:
        raise BadRequest(f"{name}: {text[:80]!r} is no address: {error}") from None


def _bare(text: str) -> str:
    text = text.strip()
    if text.endswith(">") and "<" in text:
        return text[text.rindex("<") + 1 : -1]
    return text
