"""One stream with its protocol machine and its deadline: send commands, wait for replies.

A conversation runs in one cancel scope whose deadline is moved when a phase begins (PERFORMANCE, rule
2). `begin` only notes the phase; the deadline moves when there is really something to wait for, so a
batch of pipelined replies costs one move. It counts from the beginning of the phase, not from the last
octet: a reply that drips does not prolong it.
"""

from __future__ import annotations

import math
import select
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from elemta.config import TimeoutsConfig
from elemta.events import Transcript
from elemta.mail import Reply
from elemta.runtime import Alarm, QuickSocketStream
from elemta.smtp import NEED_DATA, ClientConnection, Command, Quit, RemoteProtocolError, ReplyReceived, State

from .course import Course

RECEIVE_SIZE = 64 * 1024
SURE_TO_FIT = 4096
"""Octets of commands that the buffers on the way always have room for, as they have for the replies."""
MOST_HEARD = 1024 * 1024
"""Octets of replies that are read while commands are written; who says more to them is not to be kept."""
LAST_WORD_SECONDS = 1.0
"""How long the end of a reply is waited for whose beginning came from a peer that takes no more."""

_STEPS = {
    "greeting": "greeting",
    "hello": "greeting",
    "login": "greeting",
    "starttls": "tls",
    "rset": "envelope",
    "mail": "envelope",
    "rcpt": "envelope",
    "data": "envelope",
    "body": "data",
    "final-dot": "reply",
}
"""To which phase of the attempt each of ours belongs."""
_MAY_QUIT = frozenset((State.REJECTED, State.HELLO, State.READY, State.MAIL, State.REFUSED, State.RCPT))


class PeerGone(Exception):
    """The session is over: end of file, reset, or 421, which is `reply` (RFC 5321 §3.8)."""

    def __init__(self, detail: str, reply: Reply | None = None) -> None:
        super().__init__(detail)
        self.reply = reply


class Wire:
    """Used by one task. After any error in a write, and after any cancel, it is `broken` for good."""

    def __init__(
        self, stream: trio.abc.Stream, timeouts: TimeoutsConfig, *, lmtp: bool, course: Course | None = None
    ) -> None:
        self.stream = stream
        self.timeouts = timeouts
        self.machine = ClientConnection(lmtp=lmtp)
        self.course = course
        """That of the attempt it works for now."""
        self.transcript = Transcript()
        self.machine.witness = self.transcript.note
        self.phase = "idle"
        self.progress = 0
        self.replies = 0
        """Replies since the conversation began."""
        self.broken = False
        self._seconds = math.inf
        self._moved = True
        self._scope = trio.CancelScope()
        self._alarm = Alarm(self._time_out)

    def converse(self, phase: str, seconds: float) -> trio.CancelScope:
        """The scope for a conversation, with its first phase begun; the caller's to enter and to look at."""
        self._enter(phase)
        self.replies = 0
        self._moved = True
        self._scope = trio.CancelScope()
        self._alarm.set(trio.current_time() + seconds)
        return self._scope

    def begin(self, phase: str, seconds: float) -> None:
        """Enter a phase, which may take so many seconds from its first wait on."""
        self._enter(phase)
        self._seconds = seconds
        self._moved = False

    def end(self) -> None:
        """The conversation is over; nothing is waited for."""
        self.phase = "idle"
        if self.course is not None:
            self.course.leave()
        self._moved = True
        self._alarm.close()

    def _enter(self, phase: str) -> None:
        self.phase = phase
        if self.course is not None:
            self.course.enter(_STEPS[phase])

    async def send(self, data: bytes) -> None:
        """Write everything.

        Cancelled or failed, an unknown part of it was sent: the wire is broken (TRIO 3.8).

        Raises:
          PeerGone: with its last word, if there is one.
        """
        self._move_deadline()
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            error = broken
        except BaseException:
            self._break_sending()
            raise
        else:
            self.progress += 1
            return
        await self._give_up(describe(error), error)

    def _break_sending(self) -> None:
        self.broken = True
        self.machine.send_failed()

    async def send_group(self, data: bytes) -> None:
        """The same for commands that are answered while they are still being written: each reply is read, as
        a peer that cannot get rid of its replies reads no more commands (RFC 2920 §3.1).

        Raises:
          PeerGone: with its last word, if there is one.
        """
        if len(data) <= SURE_TO_FIT:
            await self.send(data)
            return

        async def listen(_: trio.CancelScope) -> None:
            room = MOST_HEARD
            while room > 0:
                try:
                    piece = bytes(await self.stream.receive_some(RECEIVE_SIZE))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # the write or the next read tells of it
                self.machine.receive_data(piece)
                if not piece:
                    return
                room -= len(piece)

        _, error = await self._send_beside(data, listen)
        if error is not None:
            await self._give_up(describe(error), error)
        self.progress += 1

    async def _send_beside(
        self, data: bytes, listen: Callable[[trio.CancelScope], Awaitable[None]]
    ) -> tuple[bool, Exception | None]:
        """Send while `listen` reads, which may break it off by its argument: whether all was sent, and what
        the connection broke with."""
        sent, error = False, None
        self._move_deadline()
        try:
            async with trio.open_nursery() as sending:
                sending.start_soon(listen, sending.cancel_scope)
                try:
                    await self.stream.send_all(data)
                    sent = True
                except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
                    error = broken
                sending.cancel_scope.cancel(reason="it is sent")
        except BaseException:
            self._break_sending()
            raise
        return sent, error

    async def send_and_listen(self, data: bytes, *, answered: bool = False) -> None:
        """The same for a part of a message, which no reply may come to before it is sent; to one that is
        `answered` the reply may be there as soon as it is. One that comes too early ends the session.

        There are servers that say 552 as soon as it is too much, and others that say 421, and read no more.

        Raises:
          PeerGone: with what it said.
        """
        heard: list[bytes] = []

        async def listen(writing: trio.CancelScope) -> None:
            try:
                heard.append(bytes(await self.stream.receive_some(RECEIVE_SIZE)))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the write tells of it
            writing.cancel(reason="the peer spoke")

        sent, error = await self._send_beside(data, listen)
        for piece in heard:
            self.machine.receive_data(piece)
        if sent and (answered or not heard):
            self.progress += 1
            return
        if error is not None:
            await self._give_up(describe(error), error)
        await self._give_up("closed by the peer" if heard == [b""] else "spoke within the message")

    async def _give_up(self, detail: str, error: Exception | None = None) -> NoReturn:
        try:
            word = await self._last_word()
        finally:
            self._break_sending()
        raise PeerGone(detail, word) from error

    async def _last_word(self) -> Reply | None:
        """The refusal that is there from a peer that takes no more, if there is one."""
        with trio.move_on_after(LAST_WORD_SECONDS):
            try:
                while True:
                    event = self.machine.next_event()
                    if isinstance(event, ReplyReceived):
                        if event.reply.code >= 400:
                            return event.reply
                    elif event is NEED_DATA:
                        self.machine.receive_data(bytes(await self.stream.receive_some(RECEIVE_SIZE)))
                    else:
                        return None
            except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
                pass
        return None

    async def ask(self, command: Command) -> Reply:
        """Send one command and wait for its reply.

        Raises:
          PeerGone: also where something was said before it: that would count as the reply.
          RemoteProtocolError: what was said before it is none that may come unasked.
        """
        self.expect_silence()
        await self.send(self.machine.send(command))
        return await self.reply()

    async def reply(self) -> Reply:
        """The next reply. Cancelled: broken, as the reply would be taken for that to a later command.

        Raises:
          PeerGone: also for 421, whatever it answers.
          RemoteProtocolError: what came is no reply.
        """
        machine = self.machine
        while True:
            event = machine.next_event()
            if isinstance(event, ReplyReceived):
                self.progress += 1
                if machine.state is State.CLOSED:
                    # RFC 5321 §3.8, §4.2.2: 421 to any command, and what comes unasked, before closing
                    self.broken = True
                    raise PeerGone(str(event.reply), event.reply)
                self.replies += 1
                return event.reply
            if event is not NEED_DATA:
                self.broken = True
                raise PeerGone("closed by the peer")
            machine.receive_data(await self._receive())

    def expect_silence(self) -> None:
        """Make sure that no reply is there to what was not sent yet: it would count as the one to that.

        Raises:
          PeerGone: a negative one; the session is over.
          RemoteProtocolError: a positive one: the peer is out of step.
        """
        event = self.machine.next_event()
        if event is NEED_DATA:
            return
        self.broken = True
        if isinstance(event, ReplyReceived):
            raise PeerGone(str(event.reply), event.reply)
        raise PeerGone("closed by the peer")

    def expect_no_consent(self) -> None:
        """Make sure that no positive reply is there which answers nothing: those before it are shifted then.

        Raises:
          OutOfStep: there is one.
        """
        if self.machine.next_event() is not NEED_DATA:
            self.broken = True  # a last word, or the end

    def is_settled(self) -> bool:
        """Whether nothing came that was not asked for; it would be taken for the reply to a later command."""
        if self.broken:
            return False
        try:
            return self.machine.next_event() is NEED_DATA
        except RemoteProtocolError:
            return False

    async def _receive(self) -> bytes:
        self._move_deadline()
        try:
            return bytes(await self.stream.receive_some(RECEIVE_SIZE))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.broken = True
            raise PeerGone(describe(error)) from error
        except BaseException:
            self.broken = True
            raise

    def _time_out(self) -> None:
        self._scope.cancel(reason=f"no progress in {self.phase}")

    def _move_deadline(self) -> None:
        if not self._moved:
            self._moved = True
            self._alarm.set(trio.current_time() + self._seconds)

    @property
    def deadline(self) -> float:
        """When the present phase ends at the latest."""
        return self._alarm.time

    @property
    def quiet(self) -> bool:
        """Whether nothing has arrived unasked: end of file or a 421 while the connection was kept."""
        inner: object = self.stream
        while isinstance(inner, trio.SSLStream):
            inner = inner.transport_stream
        if not isinstance(inner, (QuickSocketStream, trio.SocketStream)):
            return True  # cannot be asked without waiting; the first write or read will tell
        poll = select.poll()
        try:
            poll.register(inner.socket.fileno(), select.POLLIN)
        except (ValueError, OSError):
            return False
        return not poll.poll(0)

    async def aclose(self) -> None:
        """Say QUIT where that has a meaning, and close; takes `timeouts.quit` at most, also when cancelled.

        RFC 5321 §4.1.1.10 would have us wait for the 221; a peer that is slow with it holds nothing up.
        """
        polite = not self.broken and self.machine.state in _MAY_QUIT and not self.machine.outstanding
        self.broken = True
        self.phase = "quit"
        self._alarm.close()
        with trio.move_on_after(self.timeouts.quit, shield=True):
            if polite:
                try:
                    await self.stream.send_all(self.machine.send(Quit()))
                    await self.stream.aclose()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
        # Also where the time ran out in the middle of QUIT. Forcefully means without waiting.
        with trio.move_on_after(self.timeouts.quit, shield=True):
            await trio.aclose_forcefully(self.stream)


def describe(error: BaseException) -> str:
    """The innermost cause, which has the system's own word."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
