"""One command line into a typed command, and back (RFC 5321 §4.1.1, §4.1.2)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import ClassVar, Final, TypeAlias

import attrs

from elemta.mail import (
    ForwardPath,
    MailSyntaxError,
    Reply,
    ReversePath,
    parse_forward_path,
    parse_reverse_path,
    replies,
)

from .errors import LocalProtocolError
from .extensions import Capabilities
from .params import (
    NO_MAIL_PARAMS,
    NO_RCPT_PARAMS,
    CommandRefused,
    MailParams,
    RcptParams,
    format_mail_params,
    format_rcpt_params,
    parse_mail_params,
    parse_rcpt_params,
)
from .states import Verb

# --- Values -------------------------------------------------------------------------------------


@attrs.frozen(slots=True)
class Helo:
    hello: str
    """Printable ASCII without blanks, otherwise as the client wrote it; not checked against anything."""
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
    verb: ClassVar[str] = Verb.VRFY


@attrs.frozen(slots=True)
class Expn:
    argument: str
    verb: ClassVar[str] = Verb.EXPN


@attrs.frozen(slots=True)
class Help:
    argument: str = ""
    verb: ClassVar[str] = Verb.HELP


@attrs.frozen(slots=True)
class Etrn:
    argument: str
    verb: ClassVar[str] = Verb.ETRN


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
class BadCommand:
    """A line that is no acceptable command: syntax, unknown, not offered, out of sequence."""

    verb: str
    """The first word in upper case where it is harmless text, else empty."""
    reply: Reply
    """What to answer; another 4yz or 5yz may be given instead."""


@attrs.frozen(slots=True)
class EndOfBody:
    """Client: what the reply after a message answers. Made by `end_body()`, never sent by `send()`."""

    recipient: Rcpt | None = None
    """LMTP: the accepted recipient that the reply is for (RFC 2033 §4.2). SMTP: None."""
    verb: ClassVar[str] = Verb.BODY


Command: TypeAlias = (
    Helo | Ehlo | Lhlo | Mail | Rcpt | Data | Rset | Noop | Quit | Vrfy | Expn | Help | Etrn | StartTls
    | Auth | AuthResponse
)  # fmt: skip

# --- From text ----------------------------------------------------------------------------------

BAD_BASE64 = Reply.of(501, "5.5.2", "cannot decode the response")
"""RFC 4954 §4."""
UNKNOWN_MECHANISM = Reply.of(504, "5.5.4", "unrecognized authentication type")
"""RFC 4954 §4."""

# Known to the registry and never offered by this machine: 502, not 500 (RFC 5321 §4.2.4)
_NEVER_OFFERED = frozenset({"SEND", "SOML", "SAML", "TURN", "ATRN", "BDAT", "BURL"})

# RFC 5321 §4.1.1.1 wants a domain or an address literal. Many clients that mean no harm say their
# bare, odd or underscored name, so any printable word is taken, without the characters that have a
# meaning in a trace field (§4.4).
_HELLO = re.compile(r"[A-Za-z0-9!#$%&'*+./:=?@\[\]^_`{|}~-]{1,255}")
_PATH = re.compile(r'<(?:"(?:[^"\\]|\\.)*+"|[^"<>])*+>')
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")  # RFC 4422 §3.1
_WORD = re.compile(r"[A-Za-z0-9-]{1,20}")

_Parser: TypeAlias = Callable[[str, Capabilities, bool], Command]


def _no_argument(command: Command) -> _Parser:
    def parse(argument: str, offered: Capabilities, utf8: bool) -> Command:
        if argument:  # RFC 5321 §4.1.1.4, §4.1.1.5, §4.1.1.10; RFC 3207 §4
            raise CommandRefused(replies.ARGUMENT_SYNTAX)
        return command

    return parse


def _with_hello(make: type[Ehlo | Helo | Lhlo]) -> _Parser:
    def parse(argument: str, offered: Capabilities, utf8: bool) -> Command:
        if not _HELLO.fullmatch(argument):
            raise CommandRefused(replies.BAD_HELLO)
        return make(argument)

    return parse


def _with_text(make: type[Vrfy | Expn | Etrn]) -> _Parser:
    def parse(argument: str, offered: Capabilities, utf8: bool) -> Command:
        if not argument or not argument.isascii():
            raise CommandRefused(replies.ARGUMENT_SYNTAX)
        return make(argument)

    return parse


def _noop(argument: str, offered: Capabilities, utf8: bool) -> Command:
    return _NOOP  # RFC 5321 §4.1.1.9: a parameter is allowed, and ignored


def _help(argument: str, offered: Capabilities, utf8: bool) -> Command:
    if not argument.isascii():
        raise CommandRefused(replies.ARGUMENT_SYNTAX)
    return Help(argument)


def _split_path(argument: str, prefix: str, refusal: Reply) -> tuple[str, list[str]]:
    """The path with its brackets, and the words behind it."""
    size = len(prefix)
    if argument[:size].upper() != prefix:
        raise CommandRefused(refusal)
    # RFC 5321 §3.3 forbids a blank behind the colon. One is sent so widely that it is taken.
    start = size + 1 if argument.startswith(" ", size) else size
    if '"' in argument:
        # A quoted local part may have ">" and blanks in it (RFC 5321 §4.1.2)
        match = _PATH.match(argument, start)
        end = match.end() if match else 0
    else:
        end = argument.find(">", start) + 1
    if not end:
        raise CommandRefused(refusal)
    rest = argument[end:]
    if not rest:
        return argument[start:end], []
    if not rest.startswith(" "):
        raise CommandRefused(refusal)
    return argument[start:end], [word for word in rest.split(" ") if word]


def _address_refusal(path: str, offered: Capabilities, *, utf8: bool, otherwise: Reply) -> Reply:
    # RFC 6531 §3.5: tell the client that the parameter is what is missing, where it could have used it
    return replies.SMTPUTF8_NEEDED if offered.smtputf8 and not utf8 and not path.isascii() else otherwise


def _mail(argument: str, offered: Capabilities, utf8: bool) -> Command:
    text, words = _split_path(argument, "FROM:", replies.BAD_SENDER_SYNTAX)
    params = parse_mail_params(words, offered)  # first: SMTPUTF8 decides how the path is read
    try:
        return Mail(parse_reverse_path(text, utf8=params.smtputf8), params)
    except MailSyntaxError as cause:
        refusal = _address_refusal(text, offered, utf8=params.smtputf8, otherwise=replies.BAD_SENDER_SYNTAX)
        raise CommandRefused(refusal) from cause


def _rcpt(argument: str, offered: Capabilities, utf8: bool) -> Command:
    text, words = _split_path(argument, "TO:", replies.BAD_RECIPIENT_SYNTAX)
    params = parse_rcpt_params(words, offered, utf8=utf8)
    try:
        return Rcpt(parse_forward_path(text, utf8=utf8), params)
    except MailSyntaxError as cause:
        refusal = _address_refusal(text, offered, utf8=utf8, otherwise=replies.BAD_RECIPIENT_SYNTAX)
        raise CommandRefused(refusal) from cause


def _decode_base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as cause:
        raise CommandRefused(BAD_BASE64) from cause


def _auth(argument: str, offered: Capabilities, utf8: bool) -> Command:
    mechanism, _, initial = argument.partition(" ")
    if not _MECHANISM.fullmatch(mechanism):
        raise CommandRefused(replies.ARGUMENT_SYNTAX)
    mechanism = mechanism.upper()
    if mechanism not in offered.auth:
        raise CommandRefused(UNKNOWN_MECHANISM)
    if not initial:
        return Auth(mechanism)
    # RFC 4954 §4: "=" is the empty response
    return Auth(mechanism, b"" if initial == "=" else _decode_base64(initial))


_NOOP: Final = Noop()

_PARSERS: Final[dict[str, _Parser]] = {
    "EHLO": _with_hello(Ehlo),
    "HELO": _with_hello(Helo),
    "LHLO": _with_hello(Lhlo),
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _no_argument(Data()),
    "RSET": _no_argument(Rset()),
    "NOOP": _noop,
    "QUIT": _no_argument(Quit()),
    "VRFY": _with_text(Vrfy),
    "EXPN": _with_text(Expn),
    "HELP": _help,
    "ETRN": _with_text(Etrn),
    "STARTTLS": _no_argument(StartTls()),
    "AUTH": _auth,
}
_OFFERED: Final[dict[str, Callable[[Capabilities], bool]]] = {
    "EXPN": lambda offered: offered.expn,
    "ETRN": lambda offered: offered.etrn,
    "STARTTLS": lambda offered: offered.starttls,
    "AUTH": lambda offered: bool(offered.auth),
}


@attrs.frozen(slots=True)
class Line:
    """A command line, split but not yet parsed: the verb is known and offered, the argument is raw text."""

    verb: str
    argument: str


def split_line(line: bytes, offered: Capabilities, *, lmtp: bool = False) -> Line | BadCommand:
    """Recognize the verb of a line without its CRLF."""
    # RFC 5321 §4.1.1: trailing white space SHOULD be tolerated
    line = line.rstrip(b" \t")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return BadCommand("", replies.SYNTAX_ERROR)
    verb, _, argument = text.partition(" ")
    # The pattern first: upper() of some other letters is an ASCII letter
    if not _WORD.fullmatch(verb):
        return BadCommand("", replies.SYNTAX_ERROR)
    verb = verb.upper()  # RFC 5321 §2.4
    # RFC 5321 §2.3.8: CR and LF only together, as the line's end; NUL nowhere
    if not argument.isprintable() and ("\r" in argument or "\n" in argument or "\0" in argument):
        return BadCommand(verb, replies.SYNTAX_ERROR)
    # RFC 2033 §4.1: LHLO in the place of HELO and EHLO, which are unknown then, and the reverse
    wrong_hello = verb in ("HELO", "EHLO") if lmtp else verb == "LHLO"
    if verb not in _PARSERS or wrong_hello:
        unknown = verb not in _NEVER_OFFERED
        return BadCommand(verb, replies.UNKNOWN_COMMAND if unknown else replies.NOT_IMPLEMENTED)
    if verb in _OFFERED and not _OFFERED[verb](offered):
        return BadCommand(verb, replies.NOT_IMPLEMENTED)
    return Line(verb, argument)


def parse_line(line: Line, offered: Capabilities, *, utf8: bool = False) -> Command | BadCommand:
    """Read the argument; `utf8`: the transaction has SMTPUTF8."""
    argument = line.argument
    if not argument.isprintable() and _CONTROL.search(argument):
        hello = line.verb in ("EHLO", "HELO", "LHLO")
        return BadCommand(line.verb, replies.BAD_HELLO if hello else replies.ARGUMENT_SYNTAX)
    try:
        return _PARSERS[line.verb](argument, offered, utf8)
    except CommandRefused as refused:
        return BadCommand(line.verb, refused.reply)


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def parse_command(
    line: bytes, offered: Capabilities, *, lmtp: bool = False, utf8: bool = False
) -> Command | BadCommand:
    """Read one command line without its CRLF, whatever the state of the session. Never raises."""
    split = split_line(line, offered, lmtp=lmtp)
    return split if isinstance(split, BadCommand) else parse_line(split, offered, utf8=utf8)


def parse_auth_response(line: bytes) -> AuthResponse | BadCommand:
    """Read the client's line after a 334 reply (RFC 4954 §4)."""
    if line == b"*":
        return AuthResponse(None)
    try:
        return AuthResponse(_decode_base64(line.decode("ascii")))
    except (CommandRefused, UnicodeDecodeError):
        return BadCommand(Verb.AUTH, BAD_BASE64)


# --- To text ------------------------------------------------------------------------------------


def _encode_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def format_command(command: Command, *, utf8: bool = False) -> bytes:
    """The line with its CRLF; `utf8`: the transaction has SMTPUTF8.

    Raises:
      LocalProtocolError: a value does not fit into a line.
    """
    match command:
        case Mail(path, params):
            text = f"MAIL FROM:{path}{format_mail_params(params)}"
        case Rcpt(forward_path, rcpt_params):
            text = f"RCPT TO:{forward_path}{format_rcpt_params(rcpt_params, utf8=utf8)}"
        case Ehlo(hello) | Helo(hello) | Lhlo(hello):
            text = f"{command.verb} {hello}"
        case Vrfy(argument) | Expn(argument) | Etrn(argument):
            text = f"{command.verb} {argument}"
        case Help(argument):
            text = f"HELP {argument}" if argument else "HELP"
        case Auth(mechanism, initial):
            text = f"AUTH {mechanism}"
            if initial is not None:
                text += f" {_encode_base64(initial) or '='}"  # RFC 4954 §4
        case AuthResponse(data):
            text = "*" if data is None else _encode_base64(data)
        case _:
            text = command.verb
    if not text.isprintable() and _CONTROL.search(text):
        raise LocalProtocolError(f"a control character in {command.verb}")
    try:
        return text.encode("utf-8" if utf8 else "ascii") + b"\r\n"
    except UnicodeEncodeError as cause:
        raise LocalProtocolError(f"{command.verb} has characters that need SMTPUTF8") from cause
