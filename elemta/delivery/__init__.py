"""Carry one message to one next hop.

Not here: when, how often, what becomes of the result (`elemta.queue`).
"""

from .transport import (
    ConnectFailed,
    Connection,
    ConnectionStale,
    Content,
    ContentReader,
    Parcel,
    Transport,
)

__all__ = [
    "ConnectFailed",
    "Connection",
    "ConnectionStale",
    "Content",
    "ContentReader",
    "Parcel",
    "Transport",
]
