"""Asks the plugins about one session, and turns what they say into replies.

Made only where a plugin has a hook of sessions: without one, a session pays for nothing.
"""

from __future__ import annotations

import re

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
)
from elemta.policy import Refusal
from elemta.runtime import escape_text

HOOKS = frozenset(
    {"connect", "tls", "hello", "auth", "mail", "rcpt", "data", "headers", "body", "message", "enqueued"}
)
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_MOST_TEXT = 400
"""Characters of a plugin's text in a reply (RFC 5321 §4.5.3.1.5: 512 octets of a line in all)."""


def concerns(host: PluginHost | None) -> bool:
    """Whether sessions have to ask plugins at all."""
    return host is not None and any(host.has(hook) for hook in HOOKS)


class Panel:
    """The plugins before one session. Cancelling a question leaves nothing behind."""

    __slots__ = ("_host", "hold", "notes")

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self.notes: dict[str, NoteValue] = {}
        """The results store: what plugins noted of this session."""
        self.hold = ""
        """Why the next message is to be held: a check could not be made, and its plugin wants that."""

    def has(self, hook: str) -> bool:
        """Whether anyone is to be asked."""
        return self._host.has(hook)

    async def ask(self, hook: str, arguments: HookArguments) -> Refusal | None:
        """What to refuse with; None: go on."""
        verdict = await self.judge(hook, arguments)
        decision = verdict.decision
        if isinstance(decision, Defer | Reject):
            return refusal_of(verdict, decision)
        if isinstance(decision, Hold):
            self.hold = verdict.reason
        return None

    async def judge(self, hook: str, arguments: HookArguments) -> Verdict:
        """All that the plugins say."""
        return await self._host.ask(hook, arguments, self.notes)

    def tell(self, hook: str, arguments: HookArguments) -> None:
        """Let observers know."""
        if self._host.has(hook):
            if self.notes:
                arguments = attrs.evolve(arguments, notes=dict(self.notes))
            self._host.tell(hook, arguments)


def refusal_of(verdict: Verdict, decision: Defer | Reject) -> Refusal:
    """The reply that a plugin wants."""
    text = _NOT_PRINTABLE.sub("?", decision.text)[:_MOST_TEXT]
    return Refusal(Reply.of(decision.code, decision.enhanced, text), escape_text(verdict.reason, 300))


def message_view(
    head: bytes, size: int, content: bytes | None, path: str | None, message: str = ""
) -> MessageView:
    """A message as plugins see it."""
    headers = tuple(
        HeaderView(field.name.decode("ascii"), field.raw.partition(b":")[2].removesuffix(b"\r\n"))
        for field in HeaderBlock(head).fields()
    )
    return MessageView(size, headers, content, path, message)
