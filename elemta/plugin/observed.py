"""Which hooks an event is for, and what they are given. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from elemta.events import (
    Event,
    NoticeQueued,
    QueueChanged,
    RecipientDeferred,
    RecipientDelivered,
    RecipientFailed,
    RecipientHeld,
    ServerReloaded,
    as_dict,
)

from .decisions import NoteValue
from .views import HookArguments, OutcomeView

_OUTCOMES = {
    RecipientDelivered: "delivered",
    RecipientDeferred: "deferred",
    RecipientFailed: "failed",
}


def arguments_of(event: Event) -> list[tuple[str, Callable[[], HookArguments]]]:
    """Hooks that hear of the event, each with what makes its arguments where anyone wants them."""
    hooks: list[tuple[str, Callable[[], HookArguments]]] = [("event", partial(_plain, event))]
    if isinstance(event, RecipientDelivered | RecipientDeferred | RecipientFailed):
        made = partial(_outcome, event)
        hooks.append((_OUTCOMES[type(event)], made))
        if isinstance(event, RecipientFailed) and event.expired:
            hooks.append(("expire", made))
    elif isinstance(event, NoticeQueued):
        hooks.append(("bounce", partial(_plain, event)))
    elif isinstance(event, RecipientHeld) or (isinstance(event, QueueChanged) and event.action == "hold"):
        hooks.append(("hold", partial(_plain, event)))
    elif isinstance(event, QueueChanged) and event.action == "release":
        hooks.append(("release", partial(_plain, event)))
    elif isinstance(event, ServerReloaded):
        hooks.append(("reload", partial(_plain, event)))
    return hooks


def _plain(event: Event) -> HookArguments:
    fields: dict[str, NoteValue] = {}
    for name, value in as_dict(event).items():
        if isinstance(value, dict):
            fields |= {f"{name}.{part}": each for part, each in value.items()}
        else:
            fields[name] = " ".join(map(str, value)) if isinstance(value, list) else value
    return HookArguments(event=fields)


def _outcome(event: RecipientDelivered | RecipientDeferred | RecipientFailed) -> HookArguments:
    outcome = OutcomeView(
        message=event.message,
        recipient=event.recipient,
        result=_OUTCOMES[type(event)],
        reply=event.reply,
        cause="" if isinstance(event, RecipientDelivered) else event.cause,
        remote=event.remote,
        expired=isinstance(event, RecipientFailed) and event.expired,
    )
    return HookArguments(outcome=outcome)
