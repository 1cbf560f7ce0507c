"""Where the log goes: standard error, files, the journal, syslog; each takes what it should, in its form."""

from __future__ import annotations

import functools
import ssl
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs
import trio

from elemta.config import (
    Config,
    LogFormat,
    LoggingConfig,
    LogLevel,
    LogOutputConfig,
    LogTarget,
    SyslogProtocol,
)
from elemta.events import Event, EventBus, MailLines, log_record
from elemta.runtime import (
    LEVELS,
    ConsoleRenderer,
    DatagramOutlet,
    FileOutlet,
    Logging,
    LogPump,
    LogStatistics,
    Outlet,
    Record,
    Renderer,
    StreamOutlet,
    Texts,
    WallClock,
    console_text,
    fields_of_journal,
    get_logger,
    harden,
    json_text,
    lines_of_file,
    lines_of_syslog,
    logging_to,
    render_json,
)

from .reload import Part, Prepared

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
_WARNING = LEVELS["warning"]

_log = get_logger(__name__)


@attrs.frozen
class Wanted:
    """Which records and events go one way."""

    threshold: int = LEVELS["info"]
    types: tuple[str, ...] = ()
    """`recipient.*` or whole names; empty: all."""
    sample: float = 1.0
    """Share of sessions and messages; what is a warning, or about neither, is always taken."""

    def takes(self, level: int, kind: str, key: str) -> bool:
        if level < self.threshold:
            return False
        if self.types and not any(_fits(kind, pattern) for pattern in self.types):
            return False
        if self.sample < 1.0 and key and level < _WARNING:
            # By the id, so that of a session or message all is told or nothing, here and in other logs
            return zlib.crc32(key.encode()) < self.sample * 2**32
        return True


def _fits(kind: str, pattern: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern


@attrs.define(eq=False)
class Way:
    """One place that the log goes to."""

    name: str
    pump: LogPump
    wanted: Wanted = Wanted()
    outlet: Outlet | None = None

    def put(self, record: Record) -> None:
        if self.wanted.takes(LEVELS.get(str(record.get("level")), 40), str(record.get("type")), ""):
            self.pump.put(record)

    def observe(self, event: Event) -> None:
        wanted = self.wanted
        level = LEVELS[event.level]
        if level < wanted.threshold:
            return
        if wanted.types or wanted.sample < 1.0:
            key = getattr(event, "message", "") or getattr(event, "session", "")
            if not wanted.takes(level, event.type, key):
                return
        self.pump.put_lazy(log_record, event)


@attrs.define(eq=False)
class Logs:
    """All ways, as one sink. `run` writes them while the loop turns."""

    ways: Sequence[Way]
    shape: object = None
    _logging: Logging | None = attrs.field(default=None, init=False)

    def put(self, record: Record) -> None:
        """What loggers say. Sync, from any thread; never raises, never waits."""
        for way in self.ways:
            way.put(record)

    def follow(self, bus: EventBus) -> None:
        """Take the events of a bus, too."""
        for way in self.ways:
            bus.observe(way.name, way.observe)

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        async with trio.open_nursery() as nursery:
            for way in self.ways:
                nursery.start_soon(way.pump.run, name=way.name)

    def statistics(self) -> dict[str, LogStatistics]:
        """How each way does, by its name."""
        return {way.name: way.pump.statistics() for way in self.ways}

    @contextmanager
    def taking_all(self, clock: WallClock | None = None) -> Iterator[None]:
        """In the block all loggers of the process end here."""
        with logging_to(self, self._level(), clock=clock) as self._logging:
            yield

    def part(self) -> Part:
        """At a reload: files are opened again, levels and samples changed; other places need a restart."""

        async def prepare(fresh: Config) -> Prepared:  # noqa: ASYNC124 - others wait
            same = _shape(fresh.logging) == self.shape
            wishes = _wishes(fresh.logging)

            def commit() -> tuple[str, ...]:
                for way in self.ways:
                    if isinstance(way.outlet, FileOutlet):
                        way.outlet.reopen()
                if same:
                    for way, (_, wanted) in zip(self.ways, wishes, strict=True):
                        way.wanted = wanted
                    if self._logging is not None:
                        self._logging.set_level(self._level())
                return ()

            return Prepared(commit, restart=() if same else ("logging: places and forms",))

        return Part(frozenset({"logging"}), prepare, always=True)

    def _level(self) -> str:
        lowest = min((way.wanted.threshold for way in self.ways), default=LEVELS["error"])
        return next(name for name, number in LEVELS.items() if number == lowest)


def open_logs(config: Config, *, colour: bool) -> Logs:
    """The ways that the configuration wants; `colour`: standard error is a terminal.

    Raises:
      OSError: a file cannot be written.
    """
    found = []
    settings = config.logging
    outputs: list[LogOutputConfig | None] = [*settings.outputs]
    if settings.format is not LogFormat.OFF:
        outputs.insert(0, None)
    for output, (name, wanted) in zip(outputs, _wishes(settings), strict=True):
        if output is None:
            found.append(Way(name, LogPump(render=_on_standard_error(config, colour=colour)), wanted))
            continue
        outlet = _outlet(output)
        pump = LogPump(
            outlet, render=_renderer(output, config.hostname), on_trouble=functools.partial(_tell, name)
        )
        found.append(Way(name, pump, wanted, outlet))
    return Logs(tuple(found), _shape(settings))


def _wishes(settings: LoggingConfig) -> list[tuple[str, Wanted]]:
    """The names of all ways, and what they take."""
    found = []
    if settings.format is not LogFormat.OFF:
        found.append(("log", Wanted(LEVELS[settings.level], (), settings.sample)))
    for each in settings.outputs:
        place = each.path or (f"{each.address}/{each.protocol}" if each.address else None)
        name = f"log:{each.to}" if place is None else f"log:{each.to}:{place}"
        found.append((name, Wanted(LEVELS[each.level], each.types, each.sample)))
    return found


def _shape(settings: LoggingConfig) -> object:
    """What differs where more than what is taken was changed."""
    outputs = (attrs.evolve(each, level=LogLevel.INFO, types=(), sample=1.0) for each in settings.outputs)
    return settings.format, tuple(outputs)


def _on_standard_error(config: Config, *, colour: bool) -> Renderer:
    match config.logging.format:
        case LogFormat.CONSOLE:
            return ConsoleRenderer(colour=colour)
        case LogFormat.MAIL:
            return lines_of_file(MailLines(), hostname=config.hostname, tag="elemta")
        case _:
            return render_json


def _outlet(output: LogOutputConfig) -> Outlet:
    match output.to:
        case LogTarget.FILE:
            assert output.path is not None
            return FileOutlet(output.path)
        case LogTarget.JOURNAL:
            return DatagramOutlet(str(output.path or JOURNAL), end=b"\n\n")
        case LogTarget.SYSLOG:
            if output.address is None:
                return DatagramOutlet(str(output.path or SYSLOG))
            where = (output.address.host, output.address.port)
            if output.protocol is SyslogProtocol.UDP:
                return DatagramOutlet(where)
            tls = _context(output) if output.protocol is SyslogProtocol.TLS else None
            return StreamOutlet(where, tls=tls, name=output.name)


def _context(output: LogOutputConfig) -> ssl.SSLContext:
    """What verifies the receiver (RFC 5425 4.2.1, 5.1) and says who we are."""
    try:
        context = harden(ssl.create_default_context(cafile=output.authorities))
    except OSError as error:
        raise OSError(error.errno, f"no authorities: {error.strerror}", str(output.authorities)) from error
    if output.certificate is not None:
        try:
            context.load_cert_chain(output.certificate, output.key, password="")
        except OSError as error:
            raise OSError(
                error.errno, f"no certificate: {error.strerror}", str(output.certificate)
            ) from error
    return context


def _tell(name: str, error: OSError | None) -> None:
    if error is None:
        _log.info("the log is written again", place=name)
    else:
        _log.warning(
            "the log cannot be written, and is kept as far as there is room", place=name, error=str(error)
        )


def _renderer(output: LogOutputConfig, hostname: str) -> Renderer:
    texts: Texts = _TEXTS[output.format]()
    match output.to:
        case LogTarget.JOURNAL:
            return fields_of_journal(texts, tag=output.tag, facility=output.facility)
        case LogTarget.SYSLOG:
            return lines_of_syslog(texts, hostname=hostname, tag=output.tag, facility=output.facility)
        case LogTarget.FILE if output.format is LogFormat.JSON:
            return render_json
        case LogTarget.FILE if output.format is LogFormat.CONSOLE:
            return ConsoleRenderer(colour=False)
        case LogTarget.FILE:
            return lines_of_file(texts, hostname=hostname, tag=output.tag)


_TEXTS: dict[LogFormat, Callable[[], Texts]] = {
    LogFormat.JSON: lambda: json_text,
    LogFormat.CONSOLE: lambda: console_text,
    LogFormat.MAIL: MailLines,
}
