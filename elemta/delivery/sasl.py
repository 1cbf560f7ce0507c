"""The client's side of SASL: what to answer to each challenge of a next hop that wants a login. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from abc import ABC, abstractmethod
from typing import Final, final

MOST_ITERATIONS: Final = 1_000_000
"""Of SCRAM: a hostile next hop may not keep us computing (RFC 7677 §4 asks for 4 096 at least)."""
_FEWEST_ITERATIONS: Final = 4096


class LoginProblem(Exception):
    """The next hop did not keep to the mechanism, or could not prove that it knows the password."""


class ClientMechanism(ABC):
    """One exchange, used once."""

    name: str
    secret_in_clear: bool
    """Whether the next hop, or whoever listens, learns the password."""

    def __init__(self, username: str, password: str) -> None:
        self._username = username
        self._password = password

    def initial(self) -> bytes | None:
        """What goes with AUTH itself (RFC 4954 §4), if anything."""
        return None

    @abstractmethod
    def step(self, challenge: bytes) -> bytes:
        """The answer to a challenge.

        Raises:
          LoginProblem: to be cancelled with `*`.
        """

    def finish(self) -> None:
        """The next hop said that all is well.

        Raises:
          LoginProblem: it may not say so yet.
        """
        self._password = ""


@final
class Plain(ClientMechanism):
    """RFC 4616."""

    name = "PLAIN"
    secret_in_clear = True

    def initial(self) -> bytes:
        return f"\0{self._username}\0{self._password}".encode()

    def step(self, challenge: bytes) -> bytes:
        raise LoginProblem("a challenge where none belongs")


@final
class Login(ClientMechanism):
    """The two questions of old (draft-murchison-sasl-login); what they say is not looked at."""

    name = "LOGIN"
    secret_in_clear = True

    def __init__(self, username: str, password: str) -> None:
        super().__init__(username, password)
        self._answers = [username, password]

    def step(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise LoginProblem("a third question")
        return self._answers.pop(0).encode()


@final
class CramMd5(ClientMechanism):
    """RFC 2195."""

    name = "CRAM-MD5"
    secret_in_clear = False

    def step(self, challenge: bytes) -> bytes:
        digest = hmac.new(self._password.encode(), challenge, hashlib.md5).hexdigest()
        return f"{self._username} {digest}".encode()


@final
class ScramSha256(ClientMechanism):
    """RFC 5802, RFC 7677; without channel binding."""

    name = "SCRAM-SHA-256"
    secret_in_clear = False

    def __init__(self, username: str, password: str, nonce: str) -> None:
        """`nonce`: printable ASCII without a comma, not to be guessed."""
        super().__init__(username, password)
        self._nonce = nonce
        # RFC 5802 §5.1
        name = username.replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={name},r={nonce}"
        self._signature: bytes | None = None
        self._proved = False

    def initial(self) -> bytes:
        return f"n,,{self._first_bare}".encode()

    def step(self, challenge: bytes) -> bytes:
        try:
            text = challenge.decode("ascii")
            values = dict(part.split("=", 1) for part in text.split(","))
        except ValueError as cause:
            raise LoginProblem("a challenge that is no SCRAM") from cause
        return self._prove(text, values) if self._signature is None else self._verify(values)

    def _prove(self, server_first: str, values: dict[str, str]) -> bytes:
        """The client-final-message (RFC 5802 §3, §7)."""
        try:
            nonce, salt = values["r"], base64.b64decode(values["s"], validate=True)
            iterations = int(values["i"])
        except (KeyError, ValueError) as cause:
            raise LoginProblem("a challenge that lacks a part") from cause
        if "m" in values:  # §5.1: an extension that must be understood
            raise LoginProblem("an extension that is not known")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise LoginProblem("a nonce that is not ours")
        if not _FEWEST_ITERATIONS <= iterations <= MOST_ITERATIONS:
            raise LoginProblem(f"{iterations} iterations")
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        without_proof = f"c=biws,r={nonce}"
        message = f"{self._first_bare},{server_first},{without_proof}".encode()
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._signature = _hmac(_hmac(salted, b"Server Key"), message)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def _verify(self, values: dict[str, str]) -> bytes:
        """RFC 5802 §3: the server proves that it knows the password, too."""
        assert self._signature is not None
        try:
            given = base64.b64decode(values.get("v", ""), validate=True)
        except binascii.Error as cause:
            raise LoginProblem("a signature that is none") from cause
        if not hmac.compare_digest(given, self._signature):
            raise LoginProblem("the next hop does not know the password")
        self._proved = True
        return b""

    def finish(self) -> None:
        if not self._proved:
            raise LoginProblem("the next hop did not prove that it knows the password")


def choose(
    offered: tuple[str, ...], username: str, password: str, *, nonce: str, secret_may_be_seen: bool
) -> ClientMechanism | None:
    """The best mechanism that both sides have; None: there is none, or none that keeps the secret."""
    mechanisms: tuple[ClientMechanism, ...] = (
        ScramSha256(username, password, nonce),
        Plain(username, password),
        Login(username, password),
        CramMd5(username, password),
    )
    # Over TLS the next hop may see the password: CRAM-MD5 would make it keep the password readable.
    names = {name.upper() for name in offered}
    for mechanism in mechanisms:
        if mechanism.name in names and (secret_may_be_seen or not mechanism.secret_in_clear):
            return mechanism
    return None


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
