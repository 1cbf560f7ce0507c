"""The next hop that a plugin names for a recipient. Pure."""

from __future__ import annotations

import re

from elemta.config import parse_next_hop

SMTP_PORT = 25
_WITH_PORT = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})")


def parse_hop(text: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `address` or `[address]:port`.

    Raises:
      ValueError: it is no next hop.
    """
    port = SMTP_PORT
    if match := _WITH_PORT.fullmatch(text):
        text, port = match[1] or match[2], int(match[3])
        if not 1 <= port <= 65535:
            raise ValueError(f"there is no port {port}")
    return parse_next_hop(text), port
