"""Asks the plugins about one session, and turns what they say into replies.

Made only where a plugin has a hook of sessions: without one, a session pays for nothing.
"""

from __future__ import annotations

import attrs

from elemta.mail import HeaderBlock, Reply
from elemta.plugin import (
    Defer,
    HeaderView,
    Hold,
    HookArguments,
    MessageView,
    NoteValue,
    PluginHost,
    Reject,
    Verdict,
    line_of,
)
from elemta.policy import Refusal
from elemta.runtime import escape_text

HOOKS = frozenset(
    {"connect", "tls", "hello", "auth", "mail", "rcpt", "data", "headers", "body", "message"}
    | {"enqueue", "enqueued", "disconnect"}
)
_OF_SESSION = frozenset({"connect", "hello"})
"""Hooks whose notes are there for each message of the session."""


def concerns(host: PluginHost) -> bool:
    """Whether a session that begins has to ask plugins at all."""
    return not host.is_idle and any(host.has(hook) for hook in HOOKS)


class Panel:
    """The plugins before one session. Cancelling a question leaves nothing behind."""

    __slots__ = ("_host", "_session_hold", "_session_notes", "hold", "notes")

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self.notes: dict[str, NoteValue] = {}
        """The results store: what plugins noted of this session, and of the message that is under way."""
        self.hold = ""
        """Why the message is to be held: a check could not be made, and its plugin wants that."""
        self._session_notes: dict[str, NoteValue] = {}
        self._session_hold = ""

    def has(self, hook: str) -> bool:
        """Whether anyone is to be asked."""
        return self._host.has(hook)

    def begin_message(self) -> None:
        """What was noted of another message is over; what was noted of the session goes on. Sync."""
        self.notes = dict(self._session_notes)
        self.hold = self._session_hold

    async def ask(self, hook: str, arguments: HookArguments) -> Refusal | None:
        """What to refuse with; None: go on."""
        verdict = await self.judge(hook, arguments)
        decision = verdict.decision
        if isinstance(decision, Defer | Reject):
            return refusal_of(verdict, decision)
        if isinstance(decision, Hold):
            self.hold = verdict.reason
            if hook in _OF_SESSION:
                self._session_hold = verdict.reason
        return None

    async def judge(self, hook: str, arguments: HookArguments) -> Verdict:
        """All that the plugins say."""
        if hook not in _OF_SESSION:
            return await self._host.ask(hook, arguments, self.notes)
        try:
            return await self._host.ask(hook, arguments, self._session_notes)
        finally:  # RFC 5321 §4.1.4: with a hello, what was begun is over
            self.notes = dict(self._session_notes)

    def tell(self, hook: str, arguments: HookArguments) -> None:
        """Let observers know."""
        if self._host.has(hook):
            if self.notes:
                arguments = attrs.evolve(arguments, notes=dict(self.notes))
            self._host.tell(hook, arguments)


def refusal_of(verdict: Verdict, decision: Defer | Reject) -> Refusal:
    """The reply that a plugin wants."""
    return Refusal(
        Reply.of(decision.code, decision.enhanced, line_of(decision.text)), escape_text(verdict.reason, 300)
    )


def message_view(
    head: bytes, size: int, content: bytes | None, path: str | None, message: str = ""
) -> MessageView:
    """A message as plugins see it."""
    headers = tuple(
        HeaderView(field.name.decode("ascii"), field.raw.partition(b":")[2].removesuffix(b"\r\n"))
        for field in HeaderBlock(head).fields()
    )
    return MessageView(size, headers, content, path, message)
