"""What Rspamd answered, read strictly: the JSON of /checkv2. Pure."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any  # JSON

import attrs

from elemta.plugin.api import (
    HeaderAction,
    HeaderChange,
    MessageView,
    RecipientAction,
    RecipientChange,
    field_value,
)


@attrs.frozen
class Scan:
    """What it found, and what it wants changed."""

    action: str
    score: float = 0.0
    required: float = 0.0
    """The score of the next worse action."""
    symbols: tuple[str, ...] = ()
    subject: str | None = None
    message: str = ""
    """For the client."""
    headers: tuple[HeaderChange, ...] = ()
    sender: str | None = None
    recipients: tuple[RecipientChange, ...] = ()


def read_answer(body: bytes, about: MessageView) -> Scan:
    """The body of an answer.

    Raises:
      ValueError: it is none.
    """
    try:
        answer = json.loads(body, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("an answer that is nested too deep") from error
    answer = _table("the answer", answer)
    if "error" in answer:
        raise ValueError(f"Rspamd says: {answer['error']}")
    wanted = _table("milter", answer.get("milter", {}))
    subject = answer.get("subject")
    return Scan(
        action=_text("action", answer.get("action")),
        score=_number("score", answer.get("score", 0)),
        required=_number("required_score", answer.get("required_score", 0)),
        symbols=tuple(sorted(_table("symbols", answer.get("symbols", {})))),
        subject=None if subject is None else field_value(_text("subject", subject)),
        message=_message(answer),
        headers=(*_removed(wanted, about), *_added(wanted), *_signatures(answer)),
        sender=_address(wanted["change_from"]) if "change_from" in wanted else None,
        recipients=(
            *_recipients(RecipientAction.REMOVE, wanted.get("del_rcpt")),
            *_recipients(RecipientAction.ADD, wanted.get("add_rcpt")),
        ),
    )


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} is no number")
    return float(value)


def _items(value: Any) -> list[Any]:
    """One or several: Rspamd writes a list only where there are several."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _message(answer: dict[str, Any]) -> str:
    # It used to be a list of texts
    messages = answer.get("messages", {})
    return messages["smtp_message"] if isinstance(messages, dict) and _has_message(messages) else ""


def _has_message(messages: dict[str, Any]) -> bool:
    return isinstance(messages.get("smtp_message"), str)


def _removed(wanted: dict[str, Any], about: MessageView) -> list[HeaderChange]:
    counts = Counter(each.name.lower() for each in about.headers)
    changes = []
    for name, places in _table("remove_headers", wanted.get("remove_headers", {})).items():
        there = counts[name.lower()]
        numbers = set()
        for place in _items(places):
            if type(place) is not int:
                raise ValueError(f"remove_headers: {name} has a place that is no number")
            # 0: all of them; below: counted from the last one
            numbers.add(place if place >= 0 else there + 1 + place)
        if 0 in numbers:
            changes.append(HeaderChange(HeaderAction.REMOVE, name))
            continue
        # The last one first: each removal moves those behind it
        changes += [
            HeaderChange(HeaderAction.REMOVE, name, index=number)
            for number in sorted(numbers, reverse=True)
            if 0 < number <= there
        ]
    return changes


def _added(wanted: dict[str, Any]) -> list[HeaderChange]:
    changes = []
    for name, values in _table("add_headers", wanted.get("add_headers", {})).items():
        for value in _items(values):
            action = HeaderAction.ADD
            if isinstance(value, dict):
                order = value.get("order", -1)
                action = HeaderAction.INSERT if type(order) is int and order >= 0 else action
                value = value.get("value")
            changes.append(HeaderChange(action, name, field_value(_text(f"header {name}", value))))
    return changes


def _signatures(answer: dict[str, Any]) -> list[HeaderChange]:
    return [
        HeaderChange(
            HeaderAction.INSERT, "DKIM-Signature", field_value(_text("dkim-signature", each))
        )
        for each in _items(answer.get("dkim-signature"))
    ]  # fmt: skip


def _address(value: Any) -> str:
    return _text("an address", value).strip().removeprefix("<").removesuffix(">")


def _recipients(action: RecipientAction, addresses: Any) -> list[RecipientChange]:
    return [RecipientChange(action, _address(each)) for each in _items(addresses)]
