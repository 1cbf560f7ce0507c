"""Small Trio tools: supervision, draining, limits, threads, clocks, streams, logs.

Not here: anything about mail. Nothing in this package knows a message, a session or a setting.
"""

from .alarms import Alarm
from .blocks import address_block
from .clock import SystemClock, TrioWallClock, WallClock, rfc3339
from .drain import Drain
from .files import write_private
from .framing import (
    Texts,
    console_text,
    fields_of_journal,
    json_text,
    lines_of_file,
    lines_of_syslog,
)
from .groups import leaves, summarize
from .hardening import harden, is_cut_off
from .histogram import Histogram, HistogramStatistics
from .limits import KeyedLimiter, KeyedLimiterStatistics, RateLimiter, RateLimiterStatistics, take_from_all
from .load import LoadGauge, LoadStatistics
from .log import LEVELS, Logger, Logging, RecordSink, bind, get_logger, logging_to
from .memo import Memo
from .outlets import DatagramOutlet, FileOutlet, Outlet, StreamOutlet
from .pump import LogPump, LogStatistics
from .render import ConsoleRenderer, Record, Renderer, render_json
from .sockets import QuickSocketStream, quick
from .streams import (
    UNIX_PEER,
    Network,
    ReplayStream,
    SocketAddress,
    SourceUnusable,
    SystemNetwork,
    is_own_address,
    local_address,
    peer_address,
    plain_address,
)
from .supervise import Backoff, OnCrash, Restart, contain, supervise
from .text import escape_text
from .threads import ThreadPool, ThreadPools, ThreadPoolStatistics, pool_statistics, run_in_thread
from .tree import TaskNote, TaskView, noted, noting_births, view_tasks

__all__ = [
    "LEVELS",
    "UNIX_PEER",
    "Alarm",
    "Backoff",
    "ConsoleRenderer",
    "DatagramOutlet",
    "Drain",
    "FileOutlet",
    "Histogram",
    "HistogramStatistics",
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
    "Outlet",
    "QuickSocketStream",
    "RateLimiter",
    "RateLimiterStatistics",
    "Record",
    "RecordSink",
    "Renderer",
    "ReplayStream",
    "Restart",
    "SocketAddress",
    "SourceUnusable",
    "StreamOutlet",
    "SystemClock",
    "SystemNetwork",
    "TaskNote",
    "TaskView",
    "Texts",
    "ThreadPool",
    "ThreadPoolStatistics",
    "ThreadPools",
    "TrioWallClock",
    "WallClock",
    "address_block",
    "bind",
    "console_text",
    "contain",
    "escape_text",
    "fields_of_journal",
    "get_logger",
    "harden",
    "is_cut_off",
    "is_own_address",
    "json_text",
    "leaves",
    "lines_of_file",
    "lines_of_syslog",
    "local_address",
    "logging_to",
    "noted",
    "noting_births",
    "peer_address",
    "plain_address",
    "pool_statistics",
    "quick",
    "render_json",
    "rfc3339",
    "run_in_thread",
    "summarize",
    "supervise",
    "take_from_all",
    "view_tasks",
    "write_private",
]
