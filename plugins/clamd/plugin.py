"""Has ClamAV look at each message, while it is received.

The pieces go to clamd as they come (INSTREAM), so that its answer is there soon after the last one. That is a
favour, no need: where it is not possible (clamd is busy, a client is slow, the plugin was loaded anew in the
midst of a message), the whole message is sent once it is complete.
"""

from __future__ import annotations

import enum
import re
from fnmatch import fnmatchcase

import attrs
import trio

from elemta.plugin.api import (
    Answer,
    ByteSize,
    Changes,
    Context,
    Defer,
    Discard,
    Duration,
    HeaderAction,
    HeaderChange,
    Hold,
    MessageView,
    NoteValue,
    OutsideFailed,
    Plugin,
    Quarantine,
    Reject,
    SessionView,
    background,
    hook,
    periodic,
)

_BEGIN = b"zINSTREAM\0"
_END = bytes(4)
_LONGEST_REPLY = 4096
_FOUND = re.compile(r"stream: ([\x21-\x7e]{1,200}) FOUND")
_PATIENCE = 3.0
"""Seconds that a piece, or a connection for the first one, may take before the client waits no longer."""
_LOOK_EVERY = 5.0
"""Seconds between two looks for messages that come slowly."""


class Do(enum.StrEnum):
    """What becomes of a message with a virus."""

    REJECT = "reject"
    DEFER = "defer"
    QUARANTINE = "quarantine"
    HOLD = "hold"
    DISCARD = "discard"
    TAG = "tag"


@attrs.frozen
class Settings:
    address: str = "unix:/run/clamav/clamd.ctl"
    """Of clamd: `host:port`, or `unix:/path`."""
    found: Do = Do.REJECT
    text: str = "The message has a virus ({name})"
    """What the client reads then."""
    header: str = "X-Virus"
    """With `found = "tag"`: says the name; strangers' fields of that name are taken out. Empty: none."""
    ignore: tuple[str, ...] = ()
    """Names that are no reason, such as `PUA.*`; clamd stops at the first one that it finds."""
    max_size: ByteSize = 25 * 1024 * 1024
    """Larger messages are not looked at. At most StreamMaxLength of clamd."""
    streams: int = attrs.field(default=16, validator=attrs.validators.ge(1))
    """Messages that are sent while they are received, at most; the others go when they are complete."""
    slow: Duration = 20.0
    """A message without a piece for so long is sent when it is complete."""


@attrs.define(eq=False)
class Stream:
    """A message on its way to clamd."""

    stream: trio.abc.Stream
    over: trio.Event = attrs.field(factory=trio.Event)
    """Set when it is needed no more."""
    sent: int = 0
    last: float = attrs.field(factory=trio.current_time)

    async def send(self, piece: bytes) -> None:
        await self.stream.send_all(_framed(piece))
        # What was sent in part does not count, and so is never all of the message
        self.sent += len(piece)
        self.last = trio.current_time()


class Clamd(Plugin[Settings]):
    Config = Settings

    def __init__(self, config: Settings, context: Context) -> None:
        super().__init__(config, context)
        self._places = trio.CapacityLimiter(config.streams)
        self._streams: dict[str, Stream | None] = {}
        """By session; None: its message is sent when it is complete."""
        self._nursery: trio.Nursery | None = None

    @background
    async def keep_streams(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await trio.sleep_forever()

    @hook("mail")
    async def begin(self, session: SessionView) -> None:
        _close(self._streams.pop(session.id, None))

    @hook("disconnect")
    async def end(self, session: SessionView) -> None:
        _close(self._streams.pop(session.id, None))

    @hook("body")
    async def piece(self, session: SessionView, chunk: bytes) -> None:
        key = session.id
        if key not in self._streams:
            self._streams[key] = None
            self._streams[key] = await self._begin()
        stream = self._streams[key]
        if stream is None or not chunk:  # one without octets would be the end
            return
        if stream.sent + len(chunk) <= self.config.max_size:
            with trio.move_on_after(_PATIENCE):
                try:
                    await stream.send(chunk)
                    return
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # why, is told where it is asked again
        self._give_up(key)

    @hook("message")
    async def check(self, session: SessionView | None, message: MessageView) -> Answer | None:
        stream = None if session is None else self._streams.pop(session.id, None)
        if message.size > self.config.max_size:
            self.context.metrics.count("too large")
            _close(stream)
            return None
        said = None
        if stream is not None:
            try:
                said = await _finish(stream, message)
            finally:
                _close(stream)
        if said is None:
            said = await self._ask_at_once(message)
        return self._meaning(said, message)

    @periodic(_LOOK_EVERY)
    async def let_slow_ones_go(self) -> None:
        """A client that sends a piece now and then must not keep a thread of clamd."""
        late = trio.current_time() - self.config.slow
        for key, stream in tuple(self._streams.items()):
            if stream is not None and stream.last < late:
                self._give_up(key)

    def _give_up(self, key: str) -> None:
        """Send this message when it is complete."""
        self.context.metrics.count("not streamed")
        stream, self._streams[key] = self._streams[key], None
        _close(stream)

    async def _begin(self) -> Stream | None:
        try:
            if self._nursery is not None:
                with trio.move_on_after(_PATIENCE):
                    stream: Stream = await self._nursery.start(self._hold)
                    return stream
        except (OutsideFailed, trio.WouldBlock):
            pass  # why it cannot be reached is told where it is asked again
        self.context.metrics.count("not streamed")
        return None

    async def _hold(self, *, task_status: trio.TaskStatus[Stream]) -> None:
        """Keep a connection for one message open, until it is over."""
        self._places.acquire_on_behalf_of_nowait(borrower := object())
        try:
            async with self.context.connect(self.config.address) as stream:
                await stream.send_all(_BEGIN)
                task_status.started(held := Stream(stream))
                await held.over.wait()
        finally:
            self._places.release_on_behalf_of(borrower)

    async def _ask_at_once(self, message: MessageView) -> str:
        async with self.context.connect(self.config.address) as stream:
            await stream.send_all(_BEGIN)
            for piece in message.chunks():
                await stream.send_all(_framed(piece))
            await stream.send_all(_END)
            return await _reply(stream)

    def _meaning(self, said: str, message: MessageView) -> Answer:
        found = _FOUND.fullmatch(said)
        if found is None and said != "stream: OK":
            raise OutsideFailed(f"clamd says: {said!r}")
        name = found[1] if found is not None else ""
        ignored = any(fnmatchcase(name, each) for each in self.config.ignore)
        self.context.metrics.count("clean" if not name else "ignored" if ignored else "found")
        notes: dict[str, NoteValue] = {"virus": name}
        if not name or ignored:
            return Answer(changes=self._without_header(message), notes=notes)
        text, reason = self.config.text.replace("{name}", name), f"virus {name}"
        match self.config.found:
            case Do.REJECT:
                return Answer(Reject(text, code=554, reason=reason), notes=notes)
            case Do.DEFER:
                return Answer(Defer(text, reason=reason), notes=notes)
            case Do.DISCARD:
                return Answer(Discard(reason), notes=notes)
            case Do.QUARANTINE:
                return Answer(Quarantine(reason), self._with_header(name), notes)
            case Do.HOLD:
                return Answer(Hold(reason), self._with_header(name), notes)
            case Do.TAG:
                return Answer(changes=self._with_header(name), notes=notes)

    def _with_header(self, name: str) -> Changes:
        if not self.config.header:
            return Changes()
        return Changes(headers=(HeaderChange(HeaderAction.REPLACE, self.config.header, name),))

    def _without_header(self, message: MessageView) -> Changes:
        if not self.config.header or message.header(self.config.header) is None:
            return Changes()
        return Changes(headers=(HeaderChange(HeaderAction.REMOVE, self.config.header),))


def _framed(piece: bytes) -> bytes:
    return len(piece).to_bytes(4, "big") + piece


def _close(stream: Stream | None) -> None:
    if stream is not None:
        stream.over.set()


async def _finish(stream: Stream, message: MessageView) -> str | None:
    """What clamd says of a message that it has; None: it does not have the whole of it, or lost it."""
    if stream.sent != message.size:
        return None
    try:
        await stream.stream.send_all(_END)
        return await _reply(stream.stream)
    except (OutsideFailed, trio.BrokenResourceError):
        return None


async def _reply(stream: trio.abc.Stream) -> str:
    received = b""
    while not received.endswith(b"\0"):
        piece = await stream.receive_some(_LONGEST_REPLY)
        received += bytes(piece)
        if not piece or len(received) > _LONGEST_REPLY:
            raise OutsideFailed(f"clamd answers with {received[:100]!r}, which is no answer")
    return received[:-1].decode("utf-8", "replace")
