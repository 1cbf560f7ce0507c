"""Carry one message to one next hop.

Not here: when, how often, what becomes of the result (`elemta.queue`).
"""

from .transport import (
    ConnectFailed,
    Connection,
    Content,
    ContentReader,
    Parcel,
    Transport,
)

__all__ = [
    "ConnectFailed",
    "Connection",
    "Content",
    "ContentReader",
    "Parcel",
    "Transport",
]
