"""The errors inside an exception group, for people and logs."""

from __future__ import annotations

from .text import escape_text

_SHOWN = 5
"""Errors that a summary names one by one."""


def leaves(error: BaseException) -> list[BaseException]:
    """The errors that are no groups themselves, in order; the error itself where it is no group."""
    found = []
    pending = [error]
    while pending:
        current = pending.pop()
        if isinstance(current, BaseExceptionGroup):
            pending.extend(reversed(current.exceptions))
        else:
            found.append(current)
    return found


def summarize(error: BaseException, limit: int = 300) -> str:
    """One line that names the errors: type and text, escaped, equal ones once, at most `limit` characters."""
    found = leaves(error)
    counts: dict[str, int] = {}
    for leaf in found:
        line = _describe(leaf, limit)
        counts[line] = counts.get(line, 0) + 1
    parts = [line if count == 1 else f"{line} ({count} times)" for line, count in counts.items()]
    if len(parts) > _SHOWN:
        parts[_SHOWN:] = [f"and {len(parts) - _SHOWN} more"]
    return escape_text("; ".join(parts), limit)


def _describe(error: BaseException, limit: int) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except Exception as failure:
        text = f"<its text raises {type(failure).__name__}>"
    return f"{name}: {escape_text(text, limit)}" if text else name
