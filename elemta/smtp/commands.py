"""The commands as typed values (RFC 5321 §4.1.1). From and to text: `parsing`, `formatting`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeAlias

import attrs

from elemta.mail import ForwardPath, Reply, ReversePath

from .params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, MailParams, RcptParams
from .states import Verb


@attrs.frozen(slots=True)
class Helo:
    hello: str
    """A domain or an address in ASCII, as the client wrote it; not checked against anything."""
    verb: ClassVar[str] = Verb.HELO


@attrs.frozen(slots=True)
class Ehlo:
    hello: str
    """As in `Helo`."""
    verb: ClassVar[str] = Verb.EHLO


@attrs.frozen(slots=True)
class Lhlo:
    hello: str
    """As in `Helo`."""
    verb: ClassVar[str] = Verb.LHLO


@attrs.frozen(slots=True)
class Mail:
    path: ReversePath
    params: MailParams = NO_MAIL_PARAMS
    verb: ClassVar[str] = Verb.MAIL


@attrs.frozen(slots=True)
class Rcpt:
    path: ForwardPath
    params: RcptParams = NO_RCPT_PARAMS
    verb: ClassVar[str] = Verb.RCPT


@attrs.frozen(slots=True)
class Data:
    verb: ClassVar[str] = Verb.DATA


@attrs.frozen(slots=True)
class Bdat:
    """The line before a chunk of the message (RFC 3030 §2)."""

    size: int
    """Octets of the chunk, which follow the line at once."""
    last: bool = False
    verb: ClassVar[str] = Verb.BDAT


@attrs.frozen(slots=True)
class Rset:
    verb: ClassVar[str] = Verb.RSET


@attrs.frozen(slots=True)
class Noop:
    verb: ClassVar[str] = Verb.NOOP


@attrs.frozen(slots=True)
class Quit:
    verb: ClassVar[str] = Verb.QUIT


@attrs.frozen(slots=True)
class Vrfy:
    argument: str
    """Printable; beyond ASCII only with `smtputf8`."""
    smtputf8: bool = False
    """The client reads replies beyond ASCII (RFC 6531 §3.7.4)."""
    verb: ClassVar[str] = Verb.VRFY


@attrs.frozen(slots=True)
class Expn:
    argument: str
    """As in `Vrfy`."""
    smtputf8: bool = False
    """As in `Vrfy`."""
    verb: ClassVar[str] = Verb.EXPN


@attrs.frozen(slots=True)
class Help:
    argument: str = ""
    verb: ClassVar[str] = Verb.HELP


@attrs.frozen(slots=True)
class StartTls:
    verb: ClassVar[str] = Verb.STARTTLS


@attrs.frozen(slots=True)
class Auth:
    """The begin of a SASL exchange (RFC 4954 §4)."""

    mechanism: str
    """In upper case; one of those announced."""
    initial: bytes | None = attrs.field(default=None, repr=False)
    """Initial response, decoded; None where there is none, which is not the same as an empty one."""
    verb: ClassVar[str] = Verb.AUTH


@attrs.frozen(slots=True)
class AuthResponse:
    """A line of a SASL exchange after a 334 reply (RFC 4954 §4)."""

    data: bytes | None = attrs.field(default=None, repr=False)
    """Decoded; None: the client cancels with `*`, to be answered 501."""
    verb: ClassVar[str] = Verb.AUTH


@attrs.frozen(slots=True)
class Xclient:
    """What a trusted peer says of the client that it speaks for (Postfix, XCLIENT_README)."""

    attributes: Mapping[str, str]
    """By name in upper case, decoded: printable ASCII of at most 255 characters, not checked further.
    `[UNAVAILABLE]` and `[TEMPUNAVAIL]`, in any case, as they were given."""
    verb: ClassVar[str] = Verb.XCLIENT


@attrs.frozen(slots=True)
class Xforward:
    """What a trusted peer says of the origin of the next message (Postfix, XFORWARD_README)."""

    attributes: Mapping[str, str]
    """As in `Xclient`."""
    verb: ClassVar[str] = Verb.XFORWARD


@attrs.frozen(slots=True)
class BadCommand:
    """A line that is no acceptable command: syntax, unknown, not offered, out of sequence."""

    verb: str
    """The first word in upper case where it is harmless text, else empty."""
    reply: Reply
    """What to answer; another 4yz or 5yz may be given instead."""


@attrs.frozen(slots=True)
class EndOfBody:
    """Client: what the reply after a message answers. Made by `end_body()` and `send_chunk()`."""

    recipient: Rcpt | None = None
    """LMTP: the accepted recipient that the reply is for (RFC 2033 §4.2). SMTP: None."""
    verb: ClassVar[str] = Verb.BODY


Command: TypeAlias = (
    Helo | Ehlo | Lhlo | Mail | Rcpt | Data | Bdat | Rset | Noop | Quit | Vrfy | Expn | Help | StartTls
    | Auth | AuthResponse | Xclient | Xforward
)  # fmt: skip
