"""xtext: any printable text as a word of a command (RFC 3461 §4, RFC 6533 §3)."""

from __future__ import annotations

import re

from elemta.mail import MailSyntaxError

# RFC 3461 §4: xchar is "!" to "~" without "+" and "="; hexchar is "+" and two digits in upper case
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_UTF8_XTEXT = re.compile("(?:[!-*,-<>-~\u00a0-\ud7ff\ue000-\U0010ffff]|\\+[0-9A-F]{2})+")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_ANY_HEXCHAR = re.compile(r"\+[0-9A-Fa-f]{2}")
_TO_ENCODE = re.compile(r"[^!-*,-<>-~]")
_PRINTABLE = re.compile("[ -~\u00a0-\ud7ff\ue000-\U0010ffff]+")


def decode_xtext(text: str, *, utf8: bool = False, any_case: bool = False) -> str:
    """Read xtext; with `utf8` characters beyond ASCII may stand as they are (RFC 6533 §3), with `any_case`
    its digits may be small letters as well (RFC 4954 §8: HEXDIG).

    Raises:
      MailSyntaxError: it is no xtext, or means something that is not printable (RFC 3461 §4.4, §4.2).
    """
    if any_case and "+" in text:
        text = _ANY_HEXCHAR.sub(lambda match: match[0].upper(), text)
    if not (_UTF8_XTEXT if utf8 else _XTEXT).fullmatch(text):
        raise MailSyntaxError("not xtext")
    if "+" not in text:
        return text
    decoded = _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text)
    # A "+80" to "+FF" would be an octet of no known character set, "+0D" an injection
    if not (decoded.isascii() or utf8) or not _PRINTABLE.fullmatch(decoded):
        raise MailSyntaxError("xtext that is not printable")
    return decoded


def encode_xtext(text: str, *, utf8: bool = False) -> str:
    """Write xtext. Beyond ASCII: as it is with `utf8`, else as `\\x{...}` (RFC 6533 §3)."""

    def encode(match: re.Match[str]) -> str:
        character = match[0]
        if character.isascii():
            return f"+{ord(character):02X}"
        return character if utf8 else f"\\x{{{ord(character):X}}}"

    return _TO_ENCODE.sub(encode, text)
