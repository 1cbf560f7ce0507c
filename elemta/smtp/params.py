"""Parameters of MAIL and RCPT as typed values, from text and to text (RFC 5321 §4.1.1.11)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from elemta.mail import BodyType, DeliverByMode, MailSyntaxError, Notify, Reply, Ret, replies

from .extensions import Capabilities, format_date_time, parse_date_time
from .xtext import decode_xtext, encode_xtext

MAX_ENVELOPE_ID = 100
"""Characters of xtext, RFC 3461 §4.4."""
MAX_ORIGINAL_RECIPIENT = 500
"""Characters with the type, RFC 3461 §4.2."""


class CommandRefused(Exception):
    """The text is no acceptable command; `reply` says why. Stays within this package."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@attrs.frozen(slots=True)
class ByTime:
    """BY= of MAIL (RFC 2852 §4)."""

    seconds: int
    """From the command on. Above zero with the mode RETURN; with NOTIFY it may be over already."""
    mode: DeliverByMode
    trace: bool = False


@attrs.frozen(slots=True)
class MailParams:
    """What MAIL asks for besides the path. None: not given."""

    size: int | None = None
    """RFC 1870: octets of the message, as the client estimates them."""
    body_type: BodyType | None = None
    smtputf8: bool = False
    ret: Ret | None = None
    envelope_id: str | None = None
    """ENVID, decoded: printable ASCII (RFC 3461 §4.4)."""
    auth: str | None = None
    """AUTH= decoded, empty for `<>` (RFC 4954 §5). Only a claim, until the client is trusted."""
    require_tls: bool = False
    priority: int | None = None
    """MT-PRIORITY, -9 to 9 (RFC 6710)."""
    deliver_by: ByTime | None = None
    hold_for: int | None = None
    """HOLDFOR in seconds (RFC 4865)."""
    hold_until: int | None = None
    """HOLDUNTIL, seconds since the epoch; maybe over already. Never both."""


@attrs.frozen(slots=True)
class RcptParams:
    """What RCPT asks for besides the path. None: not given."""

    notify: Notify | None = None
    original_recipient: str | None = None
    """ORCPT as `type;address`, decoded (RFC 3461 §4.2)."""


NO_MAIL_PARAMS = MailParams()
NO_RCPT_PARAMS = RcptParams()

# --- From text ----------------------------------------------------------------------------------

# RFC 5321 §4.1.2: esmtp-value is any CHAR but "=", SP and control; RFC 6531 §3.3 adds UTF-8
_PARAMETER = re.compile("([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 §5
_PRIORITY = re.compile(r"0|-?[1-9]")  # RFC 6710 §3: -9 to 9
# RFC 2852 §4: by-time, by-mode, by-trace
_BY = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE | re.ASCII)
_HOLD_FOR = re.compile(r"[1-9][0-9]{0,8}")  # RFC 4865 §4
# RFC 6533 §3: a backslash only begins \x{...}, a code point without zeros before it
_EMBEDDED = re.compile(r"\\(?:x\{([1-9A-Fa-f][0-9A-Fa-f]{1,5})\})?")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]+")
_BODY_TYPES = {item.value: item for item in BodyType}
_RETS = {item.value: item for item in Ret}
_NOTIFY_WORDS = {"SUCCESS": Notify.SUCCESS, "FAILURE": Notify.FAILURE, "DELAY": Notify.DELAY}


def _size(value: str) -> int:
    if not _SIZE.fullmatch(value):
        raise MailSyntaxError("not a size")
    return int(value)


def _body_type(value: str) -> BodyType:
    body_type = _BODY_TYPES.get(value.upper() if value.isascii() else value)
    if body_type is None:
        raise MailSyntaxError("not a body type")
    return body_type


def _ret(value: str) -> Ret:
    ret = _RETS.get(value.upper() if value.isascii() else value)
    if ret is None:
        raise MailSyntaxError("not a value of RET")
    return ret


def _envelope_id(value: str) -> str:
    if len(value) > MAX_ENVELOPE_ID:
        raise MailSyntaxError("ENVID is too long")
    return decode_xtext(value)


def _auth(value: str) -> str:
    return "" if value == "<>" else decode_xtext(value, any_case=True)


def _priority(value: str) -> int:
    if not _PRIORITY.fullmatch(value):
        raise MailSyntaxError("not a priority")
    return int(value)


def _notify(value: str) -> Notify:
    words = value.upper().split(",") if value.isascii() else [value]
    if words == ["NEVER"]:
        return Notify.NEVER
    notify = Notify.NEVER
    for word in words:
        # RFC 3461 §4.1: NEVER stands alone, so within a list it is as wrong as any other word
        if word not in _NOTIFY_WORDS:
            raise MailSyntaxError("not a value of NOTIFY")
        notify |= _NOTIFY_WORDS[word]
    return notify


def _original_recipient(value: str, *, utf8: bool) -> str:
    if len(value) > MAX_ORIGINAL_RECIPIENT:
        raise MailSyntaxError("ORCPT is too long")
    kind, semicolon, address = value.partition(";")
    if not semicolon or not _ADDRESS_TYPE.fullmatch(kind):
        raise MailSyntaxError("ORCPT without an address type")
    # RFC 6533 §3: only the type utf-8 may go beyond ASCII, and only in an SMTPUTF8 transaction
    international = kind.lower() == "utf-8"
    if international:
        for match in _EMBEDDED.finditer(address):
            if not match[1] or not _is_scalar(int(match[1], 16)):
                raise MailSyntaxError("a backslash that begins no code point")
    return f"{kind};{decode_xtext(address, utf8=utf8 and international)}"


def _is_scalar(code: int) -> bool:
    return code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF


def _by_time(value: str) -> ByTime:
    match = _BY.fullmatch(value)
    if not match:
        raise MailSyntaxError("not a time to deliver by")
    seconds, mode = int(match[1]), DeliverByMode(match[2].upper())
    if mode is DeliverByMode.RETURN and seconds <= 0:  # RFC 2852 §4
        raise MailSyntaxError("no time left to deliver by")
    return ByTime(seconds, mode, bool(match[3]))


def _hold_for(value: str) -> int:
    if not _HOLD_FOR.fullmatch(value):
        raise MailSyntaxError("not a number of seconds")
    return int(value)


def _hold_until(value: str) -> int:
    seconds = parse_date_time(value)
    if seconds is None:
        raise MailSyntaxError("not a time")
    return seconds


_Field = tuple[str, Callable[[str], Any] | None, Callable[[Capabilities], bool]]

_MAIL: dict[str, _Field] = {
    # keyword: field, how to read the value (None: it has none), when it is offered
    "SIZE": ("size", _size, lambda offered: offered.size is not None),
    "BODY": ("body_type", _body_type, lambda offered: offered.eight_bit_mime or offered.binary_mime),
    "SMTPUTF8": ("smtputf8", None, lambda offered: offered.smtputf8),
    "RET": ("ret", _ret, lambda offered: offered.dsn),
    "ENVID": ("envelope_id", _envelope_id, lambda offered: offered.dsn),
    "AUTH": ("auth", _auth, lambda offered: bool(offered.auth)),
    "REQUIRETLS": ("require_tls", None, lambda offered: offered.require_tls),
    "MT-PRIORITY": ("priority", _priority, lambda offered: offered.mt_priority),
    "BY": ("deliver_by", _by_time, lambda offered: offered.deliver_by is not None),
    "HOLDFOR": ("hold_for", _hold_for, lambda offered: offered.future_release is not None),
    "HOLDUNTIL": ("hold_until", _hold_until, lambda offered: offered.future_release is not None),
}


def _rcpt_fields(*, utf8: bool) -> dict[str, _Field]:
    return {
        "NOTIFY": ("notify", _notify, lambda offered: offered.dsn),
        "ORCPT": (
            "original_recipient",
            lambda value: _original_recipient(value, utf8=utf8),
            lambda offered: offered.dsn,
        ),
    }


_RCPT = {utf8: _rcpt_fields(utf8=utf8) for utf8 in (False, True)}


def _parse(words: Iterable[str], fields: dict[str, _Field], offered: Capabilities) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for word in words:
        match = _PARAMETER.fullmatch(word)
        if not match:
            raise CommandRefused(replies.BAD_PARAMETER_VALUE)
        keyword, value = match[1].upper(), match[2]
        # RFC 5321 §4.1.1.11: 555 for what is not recognized or cannot be implemented
        if keyword not in fields:
            raise CommandRefused(replies.UNKNOWN_PARAMETER)
        name, read, is_offered = fields[keyword]
        if not is_offered(offered):
            raise CommandRefused(replies.UNKNOWN_PARAMETER)
        if name in values or (value is None) is not (read is None):
            raise CommandRefused(replies.BAD_PARAMETER_VALUE)
        try:
            values[name] = True if read is None else read(value)
        except MailSyntaxError as cause:
            raise CommandRefused(replies.BAD_PARAMETER_VALUE) from cause
    return values


def parse_mail_params(words: list[str], offered: Capabilities) -> MailParams:
    """Read the words behind the path of MAIL.

    Raises:
      CommandRefused: with 555 for what is not offered, 501 for a wrong value or a duplicate.
    """
    if not words:
        return NO_MAIL_PARAMS
    params = MailParams(**_parse(words, _MAIL, offered))
    if params.body_type is BodyType.BINARY_MIME and not offered.binary_mime:  # RFC 3030 §3
        raise CommandRefused(replies.UNKNOWN_PARAMETER)
    if offered.deliver_by is not None or offered.future_release is not None:
        refusal = _beyond_limits(params, offered)
        if refusal is not None:
            raise CommandRefused(refusal)
    return params


def _beyond_limits(params: MailParams, offered: Capabilities) -> Reply | None:
    by, least = params.deliver_by, offered.deliver_by
    if by is not None and least is not None and by.mode is DeliverByMode.RETURN and by.seconds < least:
        return replies.DELIVER_BY_TOO_SOON  # RFC 2852 §3
    release = offered.future_release
    if release is not None:
        if params.hold_for is not None and params.hold_until is not None:
            return replies.BAD_PARAMETER_VALUE  # RFC 4865 §4: one of them
        if (params.hold_for or 0) > release.seconds or (params.hold_until or 0) > release.until:
            return replies.HOLD_TOO_LONG
    return None


def parse_rcpt_params(words: list[str], offered: Capabilities, *, utf8: bool = False) -> RcptParams:
    """Read the words behind the path of RCPT; `utf8`: the transaction has SMTPUTF8.

    Raises:
      CommandRefused: with 555 for what is not offered, 501 for a wrong value or a duplicate.
    """
    if not words:
        return NO_RCPT_PARAMS
    return RcptParams(**_parse(words, _RCPT[utf8], offered))


# --- To text ------------------------------------------------------------------------------------


def format_mail_params(params: MailParams) -> str:
    """The words behind the path, each with a blank before it."""
    if params is NO_MAIL_PARAMS:
        return ""
    words = ""
    if params.size is not None:
        words += f" SIZE={params.size}"
    if params.body_type is not None:
        words += f" BODY={params.body_type.value}"
    if params.smtputf8:
        words += " SMTPUTF8"
    if params.ret is not None:
        words += f" RET={params.ret.value}"
    if params.envelope_id is not None:
        words += f" ENVID={encode_xtext(params.envelope_id)}"
    if params.auth is not None:
        words += f" AUTH={encode_xtext(params.auth) or '<>'}"
    if params.require_tls:
        words += " REQUIRETLS"
    if params.priority is not None:
        words += f" MT-PRIORITY={params.priority}"
    if params.deliver_by is not None:
        by = params.deliver_by
        words += f" BY={by.seconds};{by.mode.value}{'T' if by.trace else ''}"
    if params.hold_for is not None:
        words += f" HOLDFOR={params.hold_for}"
    if params.hold_until is not None:
        words += f" HOLDUNTIL={format_date_time(params.hold_until)}"
    return words


def format_rcpt_params(params: RcptParams, *, utf8: bool = False) -> str:
    """The words behind the path, each with a blank before it; `utf8`: the transaction has SMTPUTF8."""
    words = ""
    if params.notify is not None:
        flags = [word for word, flag in _NOTIFY_WORDS.items() if flag in params.notify]
        words += f" NOTIFY={','.join(flags) or 'NEVER'}"
    if params.original_recipient is not None:
        kind, _, address = params.original_recipient.partition(";")
        words += f" ORCPT={kind};{encode_xtext(address, utf8=utf8)}"
    return words


def missing_extension(params: MailParams | RcptParams, offered: Capabilities) -> str | None:
    """The keyword of the first parameter in use that the server does not offer."""
    if params is NO_MAIL_PARAMS or params is NO_RCPT_PARAMS:
        return None
    fields = _MAIL if isinstance(params, MailParams) else _RCPT[False]
    for keyword, (name, _, is_offered) in fields.items():
        value = getattr(params, name)
        if value is not None and value is not False and not is_offered(offered):
            return keyword
    if (
        isinstance(params, MailParams)
        and params.body_type is BodyType.BINARY_MIME
        and not offered.binary_mime
    ):
        return "BODY"
    return None
