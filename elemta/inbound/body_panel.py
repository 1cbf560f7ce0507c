"""Asks the plugins about one message: its header, its pieces, the whole of it."""

from __future__ import annotations

import attrs

from elemta.mail import AuthResults, Deed, MessageId
from elemta.plugin import (
    Changes,
    Defer,
    Discard,
    EnvelopeView,
    Hold,
    HookArguments,
    MessageView,
    Quarantine,
    RecipientAction,
    RecipientChange,
    Redirect,
    Reject,
    SessionView,
    Verdict,
    deeds_of,
)
from elemta.policy import Refusal
from elemta.runtime import escape_text
from elemta.spool import Draft

from .panel import Panel, message_view, refusal_of


@attrs.frozen
class MessageVerdict:
    """What is to become of a message."""

    refusal: Refusal | None = None
    discard: str = ""
    """Say yes and forget it, for this reason."""
    hold: str | None = None
    """Keep it for an operator, for this reason."""
    changes: tuple[tuple[str, Changes], ...] = ()
    deeds: tuple[Deed, ...] = ()
    """What is told of it in the story of the message."""


class BodyPanel:
    """The plugins before the message of one transaction."""

    __slots__ = ("_header_seen", "_panel", "_session")

    def __init__(self, panel: Panel, session: SessionView) -> None:
        panel.begin_message()
        self._panel = panel
        self._session = session
        self._header_seen = not panel.has("headers")

    async def piece(self, envelope: EnvelopeView, draft: Draft, data: bytes) -> Refusal | None:
        """Ask about a piece of the message, and about its header as soon as that is whole."""
        refusal = None
        if not self._header_seen and _is_whole(draft.head):
            refusal = await self._ask_header(envelope, draft)
        if data and refusal is None and self._panel.has("body"):
            arguments = HookArguments(session=self._session, envelope=envelope, chunk=data)
            refusal = await self._panel.ask("body", arguments)
        return refusal

    async def _ask_header(self, envelope: EnvelopeView, draft: Draft) -> Refusal | None:
        self._header_seen = True
        view = message_view(draft.head, draft.size, None, None)
        return await self._panel.ask(
            "headers", HookArguments(session=self._session, envelope=envelope, message=view)
        )

    async def whole(
        self, envelope: EnvelopeView, draft: Draft, results: AuthResults | None
    ) -> MessageVerdict:
        """Ask about the message, of which the checks have found the `results`.

        Raises:
          SpoolFull, SpoolUnavailable: a large one could not be written to where plugins can read it.
        """
        panel = self._panel
        if not self._header_seen:  # a header without an end
            refusal = await self._ask_header(envelope, draft)
            if refusal is not None:
                return MessageVerdict(refusal)
        hold = panel.hold or None
        if not panel.has("message"):
            return MessageVerdict(hold=hold)
        view = await _whole_view(draft)
        arguments = HookArguments(session=self._session, envelope=envelope, message=view, results=results)
        verdict = await panel.judge("message", arguments)
        return _meaning("message", verdict, envelope, hold)

    async def before_queue(
        self, envelope: EnvelopeView, draft: Draft, message: MessageId, results: AuthResults | None
    ) -> MessageVerdict:
        """Ask for the last time, about the message as it is to be stored.

        Raises:
          SpoolFull, SpoolUnavailable: as `whole`.
        """
        panel = self._panel
        if not panel.has("enqueue"):
            return NOTHING_SAID
        view = await _whole_view(draft, message)
        arguments = HookArguments(session=self._session, envelope=envelope, message=view, results=results)
        return _meaning("enqueue", await panel.judge("enqueue", arguments), envelope, None)

    def stored(self, envelope: EnvelopeView, head: bytes, size: int, message: MessageId) -> None:
        """Tell that it is ours now."""
        if self._panel.has("enqueued"):
            view = message_view(head, size, None, None, message)
            self._panel.tell(
                "enqueued", HookArguments(session=self._session, envelope=envelope, message=view)
            )


async def _whole_view(draft: Draft, message: str = "") -> MessageView:
    path = await draft.written()
    # A worker has another working directory
    where = None if path is None else str(path.absolute())
    return message_view(draft.head, draft.size, draft.body, where, message)


NOTHING_SAID = MessageVerdict()


def _meaning(hook: str, verdict: Verdict, envelope: EnvelopeView, hold: str | None) -> MessageVerdict:
    """What follows from what all plugins together say; `hold` is what was wanted before."""
    decision, changes, deeds = verdict.decision, verdict.changes, deeds_of(hook, verdict)
    reason = escape_text(verdict.reason, 300)
    match decision:
        case Defer() | Reject():
            return MessageVerdict(refusal_of(verdict, decision))
        case Discard():
            return MessageVerdict(discard=reason)
        case Hold():
            return MessageVerdict(hold=reason, changes=changes, deeds=deeds)
        case Quarantine():
            return MessageVerdict(hold=f"quarantine: {reason}", changes=changes, deeds=deeds)
        case Redirect():
            old = [RecipientChange(RecipientAction.REMOVE, each) for each in envelope.recipients]
            new = [RecipientChange(RecipientAction.ADD, each) for each in decision.recipients]
            redirect = Changes(recipients=(*old, *new))
            changes = (*changes, (verdict.plugin, redirect))
    return MessageVerdict(hold=hold, changes=changes, deeds=deeds)


def _is_whole(head: bytes) -> bool:
    return head == b"\r\n" or head.endswith(b"\r\n\r\n")
