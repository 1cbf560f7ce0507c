"""The AUTH of one session: takes an exchange step by step (RFC 4954 §4)."""

from __future__ import annotations

import binascii

from elemta import smtp
from elemta.auth import Accepted, Challenge, SaslExchange, StoreUnavailable
from elemta.mail import Reply, replies

from .context import SessionContext
from .deadlines import Deadlines, Phase
from .dialogue import Dialogue


class Login:
    """Carries one exchange after the other; a cancel leaves none."""

    __slots__ = ("_context", "_deadlines", "_dialogue", "_exchange")

    def __init__(self, context: SessionContext, dialogue: Dialogue, deadlines: Deadlines) -> None:
        self._context = context
        self._dialogue = dialogue
        self._deadlines = deadlines
        self._exchange: SaslExchange | None = None
        """The one that is under way."""

    async def answer(self, command: smtp.Auth | smtp.AuthResponse) -> Reply:
        """The reply to a line of the client: a challenge, or what came of it."""
        if isinstance(command, smtp.Auth):
            authenticator = self._context.authenticator
            assert authenticator is not None, "AUTH was not offered"
            exchange = authenticator.begin(command.mechanism, self._dialogue.visitor.auth_client())
            response = command.initial
        else:
            assert self._exchange is not None
            exchange = self._exchange
            response = command.data
        self._exchange = None
        self._deadlines.enter(Phase.AUTH, self._context.config.timeouts.auth)
        step = await exchange.step(response)
        if isinstance(step, Challenge):
            self._exchange = exchange
            return Reply.of(334, None, binascii.b2a_base64(step.data, newline=False).decode("ascii"))
        if isinstance(step, Accepted):
            self._dialogue.authenticated(step.identity, step.credential)
            return replies.AUTHENTICATED
        self._dialogue.reason = f"{step.reason} ({step.account})" if step.account else step.reason
        return step.reply

    async def look_up(self) -> str:
        """Let the accounts know of the one that XCLIENT vouches for; why they could not, else empty.

        One that is not there may use no sender address, as one that was removed in the middle of a session.
        """
        identity, authenticator = self._dialogue.visitor.identity, self._context.authenticator
        if identity is not None and authenticator is not None:
            self._deadlines.enter(Phase.AUTH, self._context.config.timeouts.auth)
            try:
                await authenticator.look_up(identity)
            except StoreUnavailable as error:
                return str(error)
        return ""
