"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, server side, without I/O (RFC 5802, RFC 7677, RFC 9266)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import attrs

from .actions import Action, Ask, Disproved, FindScram, Malformed, Proved, Situation
from .prepare import NotPrepared, prepare_name
from .store import ScramKeys

SALT_OCTETS = 16
MIN_ITERATIONS = 4096
"""RFC 7677 §4."""
MAX_ITERATIONS = 10_000_000
MAX_MESSAGE = 4096
"""Octets of one message; a few hundred are usual."""

# RFC 5802 §7. Values have neither commas nor NUL. The letters m (a mandatory extension, which we cannot
# know) and p (the proof, which is last) are not among those that may be ignored.
_VALUE = r"[^\x00,]+"
_NONCE = r"[\x21-\x2b\x2d-\x7e]+"
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_EXTENSIONS = rf"(?:,[A-Za-lnoq-z]={_VALUE})*"
_CLIENT_FIRST = re.compile(
    rf"(?P<gs2>(?:[ny]|p=(?P<binding>[A-Za-z0-9.-]{{1,64}})),(?:a=(?P<authzid>{_VALUE}))?,)"
    rf"(?P<bare>n=(?P<name>{_VALUE}),r=(?P<nonce>{_NONCE}){_EXTENSIONS})"
)
_CLIENT_FINAL = re.compile(
    rf"(?P<unproved>c=(?P<binding>{_BASE64}),r=(?P<nonce>{_NONCE}){_EXTENSIONS}),p=(?P<proof>{_BASE64})"
)
_BAD_ESCAPE = re.compile("=(?!2C|3D)")


def derive_keys(password: str, salt: bytes, iterations: int, credential: str = "password") -> ScramKeys:
    """What is kept of a prepared password (RFC 5802 §3). Takes time by the iterations: for threads."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return ScramKeys(
        credential,
        stored_key=hashlib.sha256(client_key).digest(),
        server_key=hmac.digest(salted, b"Server Key", "sha256"),
    )


def fake_keys(name: str, secret: bytes) -> tuple[bytes, tuple[ScramKeys, ...]]:
    """Salt and keys for a name that is not there: always the same ones, and no password fits them.

    Without the server's secret the salt cannot be told from a real one.
    """
    salt = hmac.digest(secret, b"salt\0" + name.encode(), "sha256")[:SALT_OCTETS]
    key = hmac.digest(secret, b"key\0" + name.encode(), "sha256")
    return salt, (ScramKeys("password", stored_key=key, server_key=key),)


def scram_sha_256(situation: Situation, response: bytes | None) -> Action:
    """Begin an exchange without channel binding."""
    return _begin(situation, response, plus=False)


def scram_sha_256_plus(situation: Situation, response: bytes | None) -> Action:
    """Begin an exchange that is bound to its TLS connection."""
    return _begin(situation, response, plus=True)


@attrs.frozen(slots=True)
class _Opening:
    """What both sides have said before the proof."""

    name: str
    permitted: bool
    nonce: str
    client_first_bare: str = attrs.field(repr=False)
    server_first: str = attrs.field(repr=False)
    binding: bytes = attrs.field(repr=False)
    """What the client must repeat: its header, and where it chose one, the channel's own bytes."""
    keys: tuple[ScramKeys, ...]


def _begin(situation: Situation, response: bytes | None, *, plus: bool) -> Action:
    if response is None:
        return Ask(b"", lambda answer: _client_first(situation, answer, plus=plus))
    return _client_first(situation, response, plus=plus)


def _client_first(situation: Situation, message: bytes, *, plus: bool) -> Action:
    match = _match(_CLIENT_FIRST, message)
    if match is None:
        return Malformed("not the first message of SCRAM")
    name, authzid = _decode_name(match["name"]), _decode_name(match["authzid"] or match["name"])
    if name is None or authzid is None:
        return Malformed("a bad escape in a name")
    try:
        account, permitted = prepare_name(name), prepare_name(authzid) == prepare_name(name)
    except NotPrepared:
        return Disproved("", "no possible name")
    kind, binding = match["binding"], match["gs2"].encode()
    if plus:
        # RFC 5802 §6: with -PLUS the client must bind, in a way that this side can
        if kind is None:
            return Malformed("a -PLUS mechanism without channel binding")
        if kind not in situation.bindings:
            return Disproved(account, "a channel binding that is not offered")
        binding += situation.bindings[kind]
    elif kind is not None:
        return Malformed("channel binding without a -PLUS mechanism")
    elif match["gs2"].startswith("y") and situation.plus_offered:
        # RFC 5802 §6: the client could bind and saw no -PLUS announced, though one was: somebody cut it out
        return Disproved(account, "the list of mechanisms was changed on its way")

    def challenge(salt: bytes, iterations: int, keys: tuple[ScramKeys, ...]) -> Action:
        nonce = match["nonce"] + situation.nonce
        server_first = f"r={nonce},s={_base64(salt)},i={iterations}"
        opening = _Opening(account, permitted, nonce, match["bare"], server_first, binding, keys)
        return Ask(server_first.encode(), lambda answer: _client_final(opening, answer))

    return FindScram(account, challenge)


def _client_final(opening: _Opening, message: bytes) -> Action:
    match = _match(_CLIENT_FINAL, message)
    if match is None:
        return Malformed("not the final message of SCRAM")
    # RFC 5802 §5.1: the nonce must be ours, and the header and channel those of this connection
    if not hmac.compare_digest(match["nonce"].encode(), opening.nonce.encode()):
        return Disproved(opening.name, "another nonce")
    if not hmac.compare_digest(base64.b64decode(match["binding"]), opening.binding):
        return Disproved(opening.name, "another channel")
    auth_message = f"{opening.client_first_bare},{opening.server_first},{match['unproved']}".encode()
    proof = base64.b64decode(match["proof"])
    proved: ScramKeys | None = None
    for keys in opening.keys:
        if _is_proof(proof, keys.stored_key, auth_message):
            proved = keys
    if proved is None:
        return Disproved(opening.name, "wrong password")
    signature = hmac.digest(proved.server_key, auth_message, "sha256")
    # RFC 4954 §4: 235 carries no data, so the server's proof is a challenge, which the client answers with
    # nothing (RFC 4422 §3.7)
    return Proved(opening.name, proved.credential, opening.permitted, f"v={_base64(signature)}".encode())


def _is_proof(proof: bytes, stored_key: bytes, auth_message: bytes) -> bool:
    """RFC 5802 §3: the proof hides a key whose hash is kept."""
    signature = hmac.digest(stored_key, auth_message, "sha256")
    if len(proof) != len(signature):
        return False
    client_key = bytes(one ^ two for one, two in zip(proof, signature, strict=True))
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)


def _match(pattern: re.Pattern[str], message: bytes) -> re.Match[str] | None:
    if len(message) > MAX_MESSAGE:
        return None
    try:
        return pattern.fullmatch(message.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def _decode_name(text: str) -> str | None:
    """RFC 5802 §5.1: `=2C` is a comma, `=3D` an equals sign, and no other `=` may stand there."""
    if _BAD_ESCAPE.search(text):
        return None
    return text.replace("=2C", ",").replace("=3D", "=")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
