"""Structured logging: our loggers, other structlog users and stdlib logging end as records in one sink.

A record says `time`, `level`, `type` ("log"), `logger`, `text`, then what the context says
(`bind(session=…, message=…)`) and the values of the call. Things that happen to mail are events
(`elemta.events`), which go to the same sink with their own type; loggers are for diagnostics.
Where no sink is set, warnings and errors go to standard error.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol, cast

import structlog

from .clock import SystemClock, WallClock
from .render import ConsoleRenderer, Record

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""Level names and their order, as in the standard library."""

_LONGEST_TRACE = 16_000
_HIDDEN = "(hidden)"
_SECRET_KEYS = frozenset(
    {"password", "passwd", "secret", "token", "authorization", "private_key", "credentials"}
)
"""A net under the rule that secrets are never given to a logger."""


class RecordSink(Protocol):
    """Takes records; a `LogPump`, or a list with a method in tests."""

    def put(self, record: Record) -> None:
        """Take a record. Sync; never raises, never waits."""


class _StandardError:
    """The sink where none is set."""

    _render = ConsoleRenderer(colour=False)

    def put(self, record: Record) -> None:
        try:
            sys.stderr.write(self._render(record).decode())
        except Exception:  # noqa: S110 - closed or broken, and there is nobody else to tell
            pass


class _Route:
    """Where records go now. Read at each call, so that loggers made at import follow it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sink: RecordSink = _StandardError()
        self.threshold = LEVELS["warning"]
        self.clock: WallClock = SystemClock()


_route = _Route()


class Logger(structlog.BoundLoggerBase):
    """A logger. A level that is off costs one comparison."""

    def debug(self, text: str, **values: object) -> None:
        if _route.threshold <= 10:
            self._proxy_to_logger("debug", text, **values)

    def info(self, text: str, **values: object) -> None:
        if _route.threshold <= 20:
            self._proxy_to_logger("info", text, **values)

    def warning(self, text: str, **values: object) -> None:
        if _route.threshold <= 30:
            self._proxy_to_logger("warning", text, **values)

    def error(self, text: str, **values: object) -> None:
        """Never off."""
        self._proxy_to_logger("error", text, **values)

    critical = error

    def exception(self, text: str, **values: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self.error(text, **{"exc_info": True, **values})


class _Outlet:
    """What structlog calls at the end of its chain: one per logger name, one method per level."""

    def __init__(self, name: str = "", *_: object) -> None:
        self.name = name

    def _put(self, record: Record) -> None:
        _route.sink.put(record)

    debug = info = warning = error = _put


def get_logger(name: str) -> Logger:
    """The logger of a module: `get_logger(__name__)`. May be made at import."""
    return Logger(_Outlet(name), _PROCESSORS, {})


def bind(**values: object) -> AbstractContextManager[None]:
    """In a `with` block: values (`session`, `message`) for all records of this task and those it starts."""
    return structlog.contextvars.bound_contextvars(**values)


class Logging:
    """Handle on the logging that `logging_to` has set up."""

    def set_level(self, level: str) -> None:
        """Change the level at once, for all loggers.

        Libraries' debug records are never taken: some print what they send, and that may be a secret.
        """
        _route.threshold = LEVELS[level]
        logging.getLogger().setLevel(max(_route.threshold, logging.INFO))


@contextmanager
def logging_to(sink: RecordSink, level: str = "info", *, clock: WallClock | None = None) -> Iterator[Logging]:
    """Send the records of all loggers of the process to the sink; what was before comes back at the end.

    `clock` must tell the time outside of a Trio run too, if anything is logged there.
    """
    root = logging.getLogger()
    before = (_route.sink, _route.threshold, _route.clock, root.handlers[:], root.level)
    structlog_before = structlog.get_config() if structlog.is_configured() else None
    _route.sink, _route.clock = sink, clock or SystemClock()
    root.handlers[:] = [_StdlibHandler()]
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=Logger,
        context_class=dict,
        logger_factory=_Outlet,
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    handle = Logging()
    handle.set_level(level)
    try:
        yield handle
    finally:
        logging.captureWarnings(False)
        _route.sink, _route.threshold, _route.clock, root.handlers[:], root_level = before
        root.setLevel(root_level)
        structlog.reset_defaults()
        if structlog_before is not None:
            structlog.configure(**structlog_before)


class _StdlibHandler(logging.Handler):
    """Takes what libraries log through the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            # The arguments do not fit the format: show what is there.
            text = str(record.msg)
        level = next((name for name, number in _DESCENDING if record.levelno >= number), "debug")
        values: dict[str, Any] = structlog.contextvars.get_contextvars()
        if record.exc_info:
            values["exc_info"] = record.exc_info
        _route.sink.put(_record(record.created, level, record.name, text, values))


_DESCENDING = sorted(LEVELS.items(), key=lambda item: -item[1])


def _record(time: float, level: str, logger: str, text: str, values: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {"time": time, "level": level, "type": "log", "logger": logger, "text": text}
    exc_info = values.pop("exc_info", None)
    for key, value in values.items():
        name = key if key not in record else f"{key}_"
        if key.lower() in _SECRET_KEYS:
            record[name] = _HIDDEN
        elif isinstance(value, bytes):
            record[name] = value.decode("ascii", "backslashreplace")
        elif isinstance(value, (str, int, float, list, tuple)) or value is None:
            record[name] = value
        else:
            record[name] = _text(value)
    if exc_info:
        record["exception"] = _trace(exc_info)
    return record


def _text(value: object) -> str:
    """Made at once: what the object says later may be different."""
    try:
        return str(value)
    except Exception as failure:
        return f"<{type(value).__name__}: its text raises {type(failure).__name__}>"


def _trace(exc_info: object) -> str:
    error: object = exc_info
    if isinstance(exc_info, tuple):
        error = cast("tuple[type[BaseException], BaseException, TracebackType]", exc_info)[1]
    elif exc_info is True:
        error = sys.exc_info()[1]
    if not isinstance(error, BaseException):
        return "no exception is being handled"
    trace = "".join(traceback.format_exception(error))
    if len(trace) > _LONGEST_TRACE:
        trace = f"{trace[: _LONGEST_TRACE // 2]}\n…\n{trace[-_LONGEST_TRACE // 2 :]}"
    return trace


def _make_record(logger: _Outlet, method: str, values: Any) -> Any:  # Any: structlog's processor types
    text = values.pop("event", "")
    return (_record(_route.clock.time(), method, logger.name, str(text), values),), {}


_PROCESSORS = [structlog.contextvars.merge_contextvars, _make_record]
