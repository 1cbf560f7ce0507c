"""The mechanisms by name; PLAIN, LOGIN, CRAM-MD5 and EXTERNAL themselves, without I/O."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from elemta.config import AuthMechanism

from .actions import (
    Action,
    Ask,
    CheckPassword,
    Disproved,
    FindSecrets,
    Malformed,
    Mechanism,
    Proved,
    Situation,
)
from .bearer import oauthbearer, xoauth2
from .prepare import MAX_NAME, MAX_PASSWORD, NotPrepared, prepare_name, prepare_password
from .scram import scram_sha_256, scram_sha_256_plus

# What is prepared may become shorter, so the raw message has some room above the limits.
_MOST_NAME = 4 * MAX_NAME
_MOST_PASSWORD = 4 * MAX_PASSWORD

_CRAM = re.compile(r"(?P<name>.+) (?P<digest>[0-9a-f]{32})", re.DOTALL)


def plain(situation: Situation, response: bytes | None) -> Action:
    """RFC 4616: authorization identity, name and password in one message."""
    if response is None:
        return Ask(b"", lambda answer: plain(situation, answer))
    parts = _text(response, 2 * _MOST_NAME + _MOST_PASSWORD + 2).split("\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:  # RFC 4616 §2
        return Malformed("not a message of PLAIN")
    authzid, name, password = parts
    return _password(name, password, authzid)


def login(situation: Situation, response: bytes | None) -> Action:
    """The mechanism that never became a standard: name and password, each when asked for."""
    if response is None:
        return Ask(b"Username:", lambda answer: login(situation, answer))
    name = _text(response, _MOST_NAME)
    if not name or "\0" in name:
        return Malformed("not a name for LOGIN")

    def with_password(answer: bytes) -> Action:
        password = _text(answer, _MOST_PASSWORD)
        if not password or "\0" in password:
            return Malformed("not a password for LOGIN")
        return _password(name, password)

    return Ask(b"Password:", with_password)


def cram_md5(situation: Situation, response: bytes | None) -> Action:
    """RFC 2195: a keyed digest of our challenge."""
    if response is not None:  # RFC 4954 §4: this side begins
        return Malformed("an initial response to CRAM-MD5")
    challenge = f"<{situation.nonce}@{situation.hostname}>".encode()

    def with_answer(answer: bytes) -> Action:
        match = _CRAM.fullmatch(_text(answer, _MOST_NAME + 33))
        if match is None:
            return Malformed("not an answer of CRAM-MD5")
        try:
            name = prepare_name(match["name"])
        except NotPrepared:
            return Disproved("", "no possible name")
        digest = match["digest"]

        def with_secrets(secrets: tuple[tuple[str, bytes], ...]) -> Action:
            found = None
            for credential, secret in secrets:
                if hmac.compare_digest(hmac.new(secret, challenge, "md5").hexdigest(), digest):
                    found = credential
            return Proved(name, found) if found else Disproved(name, "wrong password")

        return FindSecrets(name, with_secrets)

    return Ask(challenge, with_answer)


def external(situation: Situation, response: bytes | None) -> Action:
    """RFC 4422 appendix A: who the client certificate says."""
    if response is None:
        return Ask(b"", lambda answer: external(situation, answer))
    authzid = _text(response, _MOST_NAME)
    if (response and not authzid) or "\0" in authzid:
        return Malformed("not a message of EXTERNAL")
    try:
        name = prepare_name(situation.certificate or "")
        permitted = not authzid or prepare_name(authzid) == name
    except NotPrepared:
        return Disproved("", "no possible name")
    return Proved(name, "certificate", permitted)


@attrs.frozen(slots=True)
class Kind:
    """A mechanism and what a connection needs for it."""

    begin: Mechanism
    shows_secret: bool = False
    """Whoever reads the connection learns the password or token."""
    token: bool = False
    """It needs somebody who knows whose token it is."""
    scram: bool = False
    """It needs keys for SCRAM."""
    recoverable: bool = False
    """It needs secrets in the clear."""
    weak: bool = False
    """Better mechanisms are always there."""


MECHANISMS: Mapping[AuthMechanism, Kind] = MappingProxyType(
    {
        AuthMechanism.SCRAM_SHA_256_PLUS: Kind(scram_sha_256_plus, scram=True),
        AuthMechanism.SCRAM_SHA_256: Kind(scram_sha_256, scram=True),
        AuthMechanism.PLAIN: Kind(plain, shows_secret=True, weak=True),
        AuthMechanism.LOGIN: Kind(login, shows_secret=True, weak=True),
        AuthMechanism.EXTERNAL: Kind(external),
        AuthMechanism.OAUTHBEARER: Kind(oauthbearer, shows_secret=True, token=True),
        AuthMechanism.XOAUTH2: Kind(xoauth2, shows_secret=True, token=True),
        AuthMechanism.CRAM_MD5: Kind(cram_md5, weak=True, recoverable=True),
    }
)


def _password(name: str, password: str, authzid: str = "") -> Action:
    try:
        account = prepare_name(name)
        # RFC 4616 §2: an account may act as itself only, and may say so
        permitted = not authzid or prepare_name(authzid) == account
    except NotPrepared:
        return Disproved("", "no possible name")
    try:
        return CheckPassword(account, prepare_password(password), permitted)
    except NotPrepared:
        return Disproved(account, "no possible password")


def _text(message: bytes, limit: int) -> str:
    """UTF-8 of bounded length (RFC 4616 §2, RFC 4422 §3.2); empty where it is not."""
    if len(message) > limit:
        return ""
    try:
        return message.decode("utf-8")
    except UnicodeDecodeError:
        return ""
