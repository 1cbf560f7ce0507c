"""One command line into a typed command (RFC 5321 §4.1.1, §4.1.2)."""

from __future__ import annotations

import binascii
import ipaddress
import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import attrs

from elemta.mail import (
    Domain,
    MailSyntaxError,
    PathTooLong,
    Reply,
    parse_domain,
    parse_forward_path,
    parse_reverse_path,
    replies,
)

from .commands import (
    Auth,
    AuthResponse,
    BadCommand,
    Bdat,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
    Xforward,
)
from .extensions import Capabilities
from .params import CommandRefused, parse_mail_params, parse_rcpt_params
from .states import Verb
from .xtext import decode_xtext

MAX_ATTRIBUTE: Final = 255
"""Characters of an XCLIENT or XFORWARD value (Postfix, XCLIENT_README, note 1)."""


@attrs.frozen(slots=True)
class Dialect:
    """How command lines are read where that is a choice."""

    blank_before_path: bool = False
    """Whether one blank behind `FROM:` and `TO:` is let pass. RFC 5321 §3.3 forbids it in so many words;
    Postfix, Exim and sendmail take it, and old programs send it."""
    default_domain: Domain | None = None
    """What stands for the domain that a path lacks, for submission only (RFC 6409 §4.2). Without it such a
    path is refused; `<postmaster>` never gets one."""


_STRICT: Final = Dialect()


class Line(NamedTuple):
    """A command line, split but not yet parsed: the verb is known and offered, the argument is raw text."""

    verb: str
    argument: str


_Parser: TypeAlias = Callable[[str, Capabilities, bool, Dialect], Command]
"""From the argument, what is offered, whether the transaction has SMTPUTF8, and the dialect."""

# --- Arguments of each command ------------------------------------------------------------------

_PATH = re.compile(r'<(?:"(?:[^"\\]|\\.)*+"|[^"<>])*+>')
_CHUNK = re.compile(r" *0*([0-9]{1,18})(?: +(LAST))?", re.IGNORECASE | re.ASCII)
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")  # RFC 4422 §3.1
_ATTRIBUTE = re.compile(r"([A-Za-z]+)=(.+)")


def _no_argument(command: Command) -> _Parser:
    def parse(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
        if argument:  # RFC 5321 §4.1.1.4, §4.1.1.5, §4.1.1.10; RFC 3207 §4
            raise CommandRefused(replies.ARGUMENT_SYNTAX)
        return command

    return parse


def _with_hello(make: type[Ehlo | Helo | Lhlo]) -> _Parser:
    def parse(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
        if not _is_hello(argument):
            raise CommandRefused(replies.BAD_HELLO)
        return make(argument)

    return parse


def _is_hello(text: str) -> bool:
    """Whether it is a domain or an address literal (RFC 5321 §4.1.1.1), or an address that lacks its brackets
    and tag, or a domain with the final dot of DNS, as clients say that mean no harm."""
    # RFC 6531 §3.7.1: A-labels, also with SMTPUTF8
    try:
        parse_domain(text.removesuffix("."))
    except MailSyntaxError:
        return _is_bare_address(text)
    return True


def _is_bare_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _with_string(make: type[Vrfy | Expn]) -> _Parser:
    def parse(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
        text, _, keyword = argument.rpartition(" ")
        # RFC 6531 §3.7.4: VRFY and EXPN have one parameter
        smtputf8 = offered.smtputf8 and keyword.isascii() and keyword.upper() == "SMTPUTF8"
        if smtputf8:
            argument = text.rstrip(" ")
        if not argument:
            raise CommandRefused(replies.ARGUMENT_SYNTAX)
        if not argument.isascii() and not smtputf8:
            raise CommandRefused(replies.SMTPUTF8_NEEDED if offered.smtputf8 else replies.ARGUMENT_SYNTAX)
        return make(argument, smtputf8)

    return parse


def _with_attributes(
    make: type[Xclient | Xforward], names: Callable[[Capabilities], tuple[str, ...]]
) -> _Parser:
    def parse(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
        attributes: dict[str, str] = {}
        for word in argument.split():
            match = _ATTRIBUTE.fullmatch(word)
            name = match[1].upper() if match else ""
            if not match or name not in names(offered) or name in attributes:
                raise CommandRefused(replies.ARGUMENT_SYNTAX)
            attributes[name] = _attribute(match[2])
        if not attributes:
            raise CommandRefused(replies.ARGUMENT_SYNTAX)
        return make(attributes)

    return parse


def _attribute(text: str) -> str:
    try:
        value = decode_xtext(text, any_case=True)
    except MailSyntaxError as cause:
        raise CommandRefused(replies.ARGUMENT_SYNTAX) from cause
    if len(value) > MAX_ATTRIBUTE:
        raise CommandRefused(replies.ARGUMENT_SYNTAX)
    return value


def _noop(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
    return _NOOP  # RFC 5321 §4.1.1.9: a parameter is allowed, and ignored


def _help(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
    if not argument.isascii():
        raise CommandRefused(replies.ARGUMENT_SYNTAX)
    return Help(argument)


def _bdat(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
    if not offered.chunking:
        raise CommandRefused(replies.NOT_IMPLEMENTED)
    # RFC 3030 §2: 1*DIGIT. What has more digits than this can not be sent in a thousand years.
    match = _CHUNK.fullmatch(argument)
    if not match:
        raise CommandRefused(replies.BAD_CHUNK_SIZE)
    return Bdat(int(match[1]), match[2] is not None)


def _split_path(argument: str, prefix: str, refusal: Reply, dialect: Dialect) -> tuple[str, list[str]]:
    """The path with its brackets, and the words behind it."""
    start = len(prefix)
    if argument[:start].upper() != prefix:
        raise CommandRefused(refusal)
    if dialect.blank_before_path and argument.startswith(" ", start):
        start += 1
    if not argument.startswith("<", start):  # RFC 5321 §3.3: no blank on either side of the colon
        raise CommandRefused(refusal)
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


def _path_refusal(
    path: str, offered: Capabilities, cause: MailSyntaxError, *, sender: bool, utf8: bool
) -> Reply:
    # RFC 6531 §3.5: tell the client that the parameter is what is missing, where it could have used it
    if offered.smtputf8 and not utf8 and not path.isascii():
        return replies.SMTPUTF8_NEEDED
    if isinstance(cause, PathTooLong):  # RFC 5321 §4.5.3.1.10
        return replies.SENDER_TOO_LONG if sender else replies.RECIPIENT_TOO_LONG
    return replies.BAD_SENDER_SYNTAX if sender else replies.BAD_RECIPIENT_SYNTAX


def _mail(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
    text, words = _split_path(argument, "FROM:", replies.BAD_SENDER_SYNTAX, dialect)
    params = parse_mail_params(words, offered)  # first: SMTPUTF8 decides how the path is read
    utf8 = params.smtputf8
    try:
        path = parse_reverse_path(text, utf8=utf8, default_domain=dialect.default_domain)
    except MailSyntaxError as cause:
        raise CommandRefused(_path_refusal(text, offered, cause, sender=True, utf8=utf8)) from cause
    return Mail(path, params)


def _rcpt(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
    text, words = _split_path(argument, "TO:", replies.BAD_RECIPIENT_SYNTAX, dialect)
    params = parse_rcpt_params(words, offered, utf8=utf8)
    try:
        path = parse_forward_path(text, utf8=utf8, default_domain=dialect.default_domain)
    except MailSyntaxError as cause:
        raise CommandRefused(_path_refusal(text, offered, cause, sender=False, utf8=utf8)) from cause
    return Rcpt(path, params)


def _decode_base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as cause:
        raise CommandRefused(replies.AUTH_MALFORMED) from cause


def _auth(argument: str, offered: Capabilities, utf8: bool, dialect: Dialect) -> Command:
    mechanism, _, initial = argument.partition(" ")
    if not _MECHANISM.fullmatch(mechanism):
        raise CommandRefused(replies.ARGUMENT_SYNTAX)
    mechanism = mechanism.upper()
    if mechanism not in offered.auth:
        under_tls = mechanism in offered.auth_under_tls
        # RFC 4954 §4, §6
        raise CommandRefused(replies.AUTH_NEEDS_TLS if under_tls else replies.AUTH_UNKNOWN_MECHANISM)
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
    "BDAT": _bdat,
    "RSET": _no_argument(Rset()),
    "NOOP": _noop,
    "QUIT": _no_argument(Quit()),
    "VRFY": _with_string(Vrfy),
    "EXPN": _with_string(Expn),
    "HELP": _help,
    "STARTTLS": _no_argument(StartTls()),
    "AUTH": _auth,
    "XCLIENT": _with_attributes(Xclient, lambda offered: offered.xclient),
    "XFORWARD": _with_attributes(Xforward, lambda offered: offered.xforward),
}

# --- Lines --------------------------------------------------------------------------------------

_OFFERED: Final[dict[str, Callable[[Capabilities], object]]] = {
    "EXPN": lambda offered: offered.expn,
    "STARTTLS": lambda offered: offered.starttls,
    "AUTH": lambda offered: offered.auth,
    "XCLIENT": lambda offered: offered.xclient,
    "XFORWARD": lambda offered: offered.xforward,
}
"""When a command is offered."""

_HELLOS: Final = frozenset({"EHLO", "HELO", "LHLO"})
_ALWAYS_OFFERED: Final = _PARSERS.keys() - _OFFERED.keys() - _HELLOS
"""BDAT is one of them: its parser asks, since its octets follow all the same."""

_NOT_OFFERED: Final = {"XCLIENT": replies.NOT_A_PROXY, "XFORWARD": replies.NOT_A_PROXY}

# Known to the registry and never offered by this machine: 502, not 500 (RFC 5321 §4.2.4)
_NEVER_OFFERED = frozenset({"SEND", "SOML", "SAML", "TURN", "ATRN", "ETRN", "BURL"})

_BAD_ARGUMENT: Final = {
    "EHLO": replies.BAD_HELLO,
    "HELO": replies.BAD_HELLO,
    "LHLO": replies.BAD_HELLO,
    "MAIL": replies.BAD_SENDER_SYNTAX,
    "RCPT": replies.BAD_RECIPIENT_SYNTAX,
}
"""The reply to octets that no argument may have, where it is not the general one."""

_WORD = re.compile(r"[A-Za-z0-9-]{1,20}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def split_line(line: bytes, offered: Capabilities, *, lmtp: bool = False) -> Line | BadCommand:
    """Recognize the verb of a line without its CRLF."""
    # RFC 5321 §4.1.1: trailing white space SHOULD be tolerated
    line = line.rstrip(b" \t")
    # What is no UTF-8 is kept as surrogates, so that it is refused as the argument that it is in
    text = line.decode("utf-8", "surrogateescape")
    verb, _, argument = text.partition(" ")
    # The pattern first: upper() of some other letters is an ASCII letter
    if not _WORD.fullmatch(verb):
        return BadCommand("", replies.SYNTAX_ERROR)
    verb = verb.upper()  # RFC 5321 §2.4
    # RFC 5321 §2.3.8: CR and LF only together, as the line's end; NUL nowhere
    if not argument.isprintable() and ("\r" in argument or "\n" in argument or "\0" in argument):
        return BadCommand(verb, replies.SYNTAX_ERROR)
    if verb not in _ALWAYS_OFFERED:
        refusal = _not_offered(verb, offered, lmtp=lmtp)
        if refusal is not None:
            return BadCommand(verb, refusal)
    return Line(verb, argument)


def _not_offered(verb: str, offered: Capabilities, *, lmtp: bool) -> Reply | None:
    # RFC 2033 §4.1: LHLO in the place of HELO and EHLO, which are unknown then, and the reverse
    if verb in _HELLOS:
        return None if (verb == "LHLO") is lmtp else replies.UNKNOWN_COMMAND
    if verb in _NEVER_OFFERED:
        return replies.NOT_IMPLEMENTED
    is_offered = _OFFERED.get(verb)
    if is_offered is None:
        return replies.UNKNOWN_COMMAND
    return None if is_offered(offered) else _NOT_OFFERED.get(verb, replies.NOT_IMPLEMENTED)


def parse_line(
    line: Line, offered: Capabilities, *, utf8: bool = False, dialect: Dialect = _STRICT
) -> Command | BadCommand:
    """Read the argument; `utf8`: the transaction has SMTPUTF8."""
    verb, argument = line.verb, line.argument
    # RFC 5321 §4.1.2: no control characters, and beyond ASCII only UTF-8 (RFC 6531 §3.3)
    if not argument.isprintable() and _CONTROL.search(argument):
        return BadCommand(verb, _BAD_ARGUMENT.get(verb, replies.ARGUMENT_SYNTAX))
    try:
        return _PARSERS[verb](argument, offered, utf8, dialect)
    except CommandRefused as refused:
        return BadCommand(verb, refused.reply)


def parse_command(
    line: bytes,
    offered: Capabilities,
    *,
    lmtp: bool = False,
    utf8: bool = False,
    dialect: Dialect = _STRICT,
) -> Command | BadCommand:
    """Read one command line without its CRLF, whatever the state of the session. Never raises."""
    split = split_line(line, offered, lmtp=lmtp)
    if isinstance(split, BadCommand):
        return split
    return parse_line(split, offered, utf8=utf8, dialect=dialect)


def parse_auth_response(line: bytes) -> AuthResponse | BadCommand:
    """Read the client's line after a 334 reply (RFC 4954 §4)."""
    if line == b"*":
        return AuthResponse(None)
    try:
        return AuthResponse(_decode_base64(line.decode("ascii")))
    except (CommandRefused, UnicodeDecodeError):
        return BadCommand(Verb.AUTH, replies.AUTH_MALFORMED)
