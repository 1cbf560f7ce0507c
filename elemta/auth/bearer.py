"""OAUTHBEARER (RFC 7628) and XOAUTH2, server side, without I/O: the token is for others to judge."""

from __future__ import annotations

import json
import re

from .actions import Action, Ask, CheckToken, Disproved, Malformed, Situation
from .prepare import NotPrepared, prepare_name

MAX_MESSAGE = 9216
"""Octets: what 12288 octets of base64 hold (RFC 4954 §4)."""

_PAIR = r"[A-Za-z]+=[\x09\x0a\x0d\x20-\x7e]*"
# RFC 7628 §3.1; a channel binding flag is refused, as there is no -PLUS variant
_OAUTHBEARER = re.compile(rf"[ny],(?:a=(?P<name>[^\x00\x01,]+))?,\x01(?P<pairs>(?:{_PAIR}\x01)*)\x01")
_XOAUTH2 = re.compile(r"user=(?P<name>[^\x00\x01]+)\x01auth=(?P<auth>[^\x00\x01]+)\x01\x01")
# RFC 6750 §2.1: credentials = "Bearer" 1*SP b64token; the scheme in any case (RFC 9110 §11.1)
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_BAD_ESCAPE = re.compile("=(?!2C|3D)")

OAUTHBEARER_FAILURE = json.dumps({"status": "invalid_token", "schemes": "bearer"}).encode()
"""RFC 7628 §3.2.2."""
XOAUTH2_FAILURE = json.dumps({"status": "401", "schemes": "bearer", "scope": "mail"}).encode()
"""The error form of the mechanism's description, for clients that know HTTP's numbers."""


def oauthbearer(situation: Situation, response: bytes | None) -> Action:
    """Begin OAUTHBEARER."""
    if response is None:
        return Ask(b"", lambda answer: oauthbearer(situation, answer))
    match = _match(_OAUTHBEARER, response)
    if match is None:
        return Malformed("not a message of OAUTHBEARER")
    pairs: dict[str, str] = {}
    for pair in match["pairs"].split("\x01")[:-1]:
        key, _, value = pair.partition("=")
        if key.lower() in pairs:
            return Malformed("a key that occurs twice")
        pairs[key.lower()] = value
    name = match["name"]
    if name is not None:
        if _BAD_ESCAPE.search(name):  # RFC 5801 §4: saslname
            return Malformed("a bad escape in a name")
        name = name.replace("=2C", ",").replace("=3D", "=")
    return _token(name, pairs.get("auth", ""), OAUTHBEARER_FAILURE)


def xoauth2(situation: Situation, response: bytes | None) -> Action:
    """Begin XOAUTH2."""
    if response is None:
        return Ask(b"", lambda answer: xoauth2(situation, answer))
    match = _match(_XOAUTH2, response)
    if match is None:
        return Malformed("not a message of XOAUTH2")
    return _token(match["name"], match["auth"], XOAUTH2_FAILURE)


def _token(name: str | None, authorization: str, failure: bytes) -> Action:
    bearer = _BEARER.fullmatch(authorization)
    # RFC 7628 §4.3: an empty one asks how to get a token, and is told by the failure
    token = bearer[1] if bearer else ""
    try:
        return CheckToken(None if name is None else prepare_name(name), token, failure)
    except NotPrepared:
        return Disproved("", "no possible name")


def _match(pattern: re.Pattern[str], message: bytes) -> re.Match[str] | None:
    if len(message) > MAX_MESSAGE:
        return None
    try:
        return pattern.fullmatch(message.decode("utf-8"))
    except UnicodeDecodeError:
        return None
