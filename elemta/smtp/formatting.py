"""A typed command into its line (RFC 5321 §4.1.1)."""

from __future__ import annotations

import binascii
import re

from .commands import (
    Auth,
    AuthResponse,
    Bdat,
    Command,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Rcpt,
    Vrfy,
    Xclient,
    Xforward,
)
from .errors import LocalProtocolError
from .params import format_mail_params, format_rcpt_params
from .xtext import encode_xtext

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


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
        case Bdat(size, last):
            text = f"BDAT {size} LAST" if last else f"BDAT {size}"
        case Ehlo(hello) | Helo(hello) | Lhlo(hello):
            text = f"{command.verb} {hello}"
        case Vrfy(argument, smtputf8) | Expn(argument, smtputf8):
            text = f"{command.verb} {argument}"
            if smtputf8:  # RFC 6531 §3.7.4
                text += " SMTPUTF8"
                utf8 = True
        case Help(argument):
            text = f"HELP {argument}" if argument else "HELP"
        case Auth(mechanism, initial):
            text = f"AUTH {mechanism}"
            if initial is not None:
                text += f" {_encode_base64(initial) or '='}"  # RFC 4954 §4
        case AuthResponse(data):
            text = "*" if data is None else _encode_base64(data)
        case Xclient(attributes) | Xforward(attributes):
            pairs = [f" {name}={encode_xtext(value)}" for name, value in attributes.items()]
            text = command.verb + "".join(pairs)
        case _:
            text = command.verb
    if not text.isprintable() and _CONTROL.search(text):
        raise LocalProtocolError(f"a control character in {command.verb}")
    try:
        return text.encode("utf-8" if utf8 else "ascii") + b"\r\n"
    except UnicodeEncodeError as cause:
        raise LocalProtocolError(f"{command.verb} has characters that need SMTPUTF8") from cause


def _encode_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")
