"""Log in at a next hop that wants it: a provider's relay, a smarthost (RFC 4954)."""

from __future__ import annotations

import base64
import binascii
import secrets
from pathlib import Path

import attrs

from elemta.mail import Reply, Severity
from elemta.runtime import ThreadPool, ThreadPools, run_in_thread
from elemta.smtp import Auth, AuthResponse

from .sasl import ClientMechanism, LoginProblem, ScramSha256, choose
from .wire import Wire

_THREADS = 2
_MOST_STEPS = 8
"""Challenges of one exchange; the longest mechanism has two."""


class LoginFailed(Exception):
    """It was refused, or there is no way to try; `reply` is what the next hop said, if it did."""

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reply = reply


@attrs.frozen
class Login:
    """An account at a next hop."""

    username: str
    password_file: Path

    def password(self) -> str:
        """Read anew for each session, so that a changed one needs no restart; a line end behind it is not
        part of it.

        Raises:
          LoginFailed: the file cannot be read.
        """
        try:
            text = self.password_file.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as cause:
            reason = cause.strerror if isinstance(cause, OSError) else "it is not UTF-8"
            raise LoginFailed(f"{self.password_file}: {reason}") from cause
        return text.removesuffix("\n").removesuffix("\r")


async def log_in(wire: Wire, login: Login, pools: ThreadPools, *, secret_may_be_seen: bool) -> None:
    """Authenticate the session, each step within `timeouts.login`.

    `secret_may_be_seen`: there is TLS, or the next hop is this machine.

    Raises:
      LoginFailed: the session stands, without a login.
    """
    mechanism = choose(
        wire.machine.capabilities.auth,
        login.username,
        login.password(),
        nonce=secrets.token_urlsafe(24),
        secret_may_be_seen=secret_may_be_seen,
    )
    if mechanism is None:
        raise LoginFailed("the next hop offers no mechanism that we have and that keeps the password")
    wire.begin("login", wire.timeouts.login)
    reply = await wire.ask(Auth(mechanism.name, mechanism.initial()))
    for _ in range(_MOST_STEPS):
        if reply.severity is not Severity.INTERMEDIATE:
            break
        answer = await _step(mechanism, reply, pools)
        wire.begin("login", wire.timeouts.login)
        # RFC 4954 §4: what is no answer cancels, and is answered 501
        reply = await wire.ask(AuthResponse(None if isinstance(answer, LoginProblem) else answer))
        if isinstance(answer, LoginProblem):
            raise LoginFailed(f"{mechanism.name}: {answer}")
    if reply.severity is not Severity.POSITIVE:
        if reply.severity is Severity.INTERMEDIATE:
            await _cancel(wire)
        raise LoginFailed(f"{mechanism.name} as {login.username}: {reply}", reply)
    try:
        mechanism.finish()
    except LoginProblem as problem:
        raise LoginFailed(f"{mechanism.name}: {problem}") from problem


async def _step(mechanism: ClientMechanism, reply: Reply, pools: ThreadPools) -> bytes | LoginProblem:
    try:
        challenge = base64.b64decode(reply.text, validate=True)
    except binascii.Error:
        return LoginProblem("a challenge that is not base64")
    try:
        if isinstance(mechanism, ScramSha256):  # derives a key, which takes its time
            return await run_in_thread(_pool(pools), mechanism.step, challenge)
        return mechanism.step(challenge)
    except LoginProblem as problem:
        return problem


async def _cancel(wire: Wire) -> None:
    wire.begin("login", wire.timeouts.login)
    await wire.ask(AuthResponse(None))  # RFC 4954 §4: answered 501


def _pool(pools: ThreadPools) -> ThreadPool:
    try:
        return pools["login"]
    except KeyError:
        return pools.open("login", _THREADS)
