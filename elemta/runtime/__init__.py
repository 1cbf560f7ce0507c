"""Small Trio tools: supervision, draining, limits, threads, clocks, streams, logs.

Not here: anything about mail. Nothing in this package knows a message, a session or a setting.
"""

from .clock import SystemClock, TrioWallClock, WallClock, rfc3339
from .drain import Drain
from .streams import (
    Network,
    ReplayStream,
    SocketAddress,
    SystemNetwork,
    is_own_address,
    local_address,
    peer_address,
    plain_address,
)
from .threads import ThreadPool, ThreadPools, ThreadPoolStatistics, run_in_thread

__all__ = [
    "Drain",
    "Network",
    "ReplayStream",
    "SocketAddress",
    "SystemClock",
    "SystemNetwork",
    "ThreadPool",
    "ThreadPoolStatistics",
    "ThreadPools",
    "TrioWallClock",
    "WallClock",
    "is_own_address",
    "local_address",
    "peer_address",
    "plain_address",
    "rfc3339",
    "run_in_thread",
]
