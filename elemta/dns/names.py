"""Names as DNS can carry them, in the one form used as key, in queries and in answers."""

from __future__ import annotations

import re

MAX_NAME = 253
"""Characters without the final dot: 255 octets on the wire (RFC 1035 §2.3.4)."""

# RFC 2181 §11: a label may hold any octet. Control characters and 8-bit are left out, since names come
# from strangers and go to logs; odd but printable ones are asked for (SPF macros make them, RFC 7208 §7).
# RFC 1035 §2.3.4: 63 octets a label.
_NAME = re.compile(r"[\x20-\x2d\x2f-\x7e]{1,63}(?:\.[\x20-\x2d\x2f-\x7e]{1,63})*")


def normalize_name(name: str) -> str | None:
    """The name in lower case without its final dot, or `None` where DNS cannot hold it."""
    name = name.removesuffix(".")
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        return None
    return name.lower()
