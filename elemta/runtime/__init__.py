"""Small Trio tools: supervision, draining, limits, threads, clocks, streams, logs.

Not here: anything about mail. Nothing in this package knows a message, a session or a setting.
"""

from .alarms import Alarm
from .blocks import address_block
from .clock import SystemClock, TrioWallClock, WallClock, rfc3339
from .drain import Drain
from .groups import leaves, summarize
from .limits import KeyedLimiter, KeyedLimiterStatistics, RateLimiter, RateLimiterStatistics, take_from_all
from .load import LoadGauge, LoadStatistics
from .log import LEVELS, Logger, Logging, RecordSink, bind, get_logger, logging_to
from .memo import Memo
from .pump import LogPump, LogStatistics
from .render import ConsoleRenderer, Record, Renderer, render_json
from .sockets import QuickSocketStream, quick
from .streams import (
    UNIX_PEER,
    Network,
    ReplayStream,
    SocketAddress,
    SystemNetwork,
    is_own_address,
    local_address,
    peer_address,
    plain_address,
)
from .supervise import Backoff, OnCrash, Restart, contain, supervise
from .text import escape_text
from .threads import ThreadPool, ThreadPools, ThreadPoolStatistics, run_in_thread

__all__ = [
    "LEVELS",
    "UNIX_PEER",
    "Alarm",
    "Backoff",
    "ConsoleRenderer",
    "Drain",
    "KeyedLimiter",
    "KeyedLimiterStatistics",
    "LoadGauge",
    "LoadStatistics",
    "LogPump",
    "LogStatistics",
    "Logger",
    "Logging",
    "Memo",
    "Network",
    "OnCrash",
    "QuickSocketStream",
    "RateLimiter",
    "RateLimiterStatistics",
    "Record",
    "RecordSink",
    "Renderer",
    "ReplayStream",
    "Restart",
    "SocketAddress",
    "SystemClock",
    "SystemNetwork",
    "ThreadPool",
    "ThreadPoolStatistics",
    "ThreadPools",
    "TrioWallClock",
    "WallClock",
    "address_block",
    "bind",
    "contain",
    "escape_text",
    "get_logger",
    "is_own_address",
    "leaves",
    "local_address",
    "logging_to",
    "peer_address",
    "plain_address",
    "quick",
    "render_json",
    "rfc3339",
    "run_in_thread",
    "summarize",
    "supervise",
    "take_from_all",
]
