"""W3C Trace Context: the header by which a program lets its trace go on through us."""

from __future__ import annotations

import re

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def parse_traceparent(text: str | None) -> str:
    """The header as it is carried on; empty where there is none that is right, as a wrong one is to be
    ignored (Trace Context 3.2.2: restart the trace)."""
    match = _FORM.fullmatch(text.strip()) if text else None
    if match is None or not match[1].strip("0") or not match[2].strip("0"):
        return ""
    return match[0]
