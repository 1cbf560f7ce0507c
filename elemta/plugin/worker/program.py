"""The program of a worker process: confine itself, load the plugin, serve calls until told to stop.

Nothing here is trusted by the server, which watches from outside (`child`). This end only tries to fail
in good order: what a hook raises is told, whatever it is; an answer that is too large is its error.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any  # JSON

import trio

from .confine import Limits, confine, die_with
from .frames import (
    FROM_SERVER,
    Frame,
    FrameDecoder,
    Kind,
    encode_frame,
    named,
    split_named,
)
from .page import PageInstrument, current_call

_LONGEST_ERROR = 2_000
_FROM_SERVER_LIMIT = 1 << 30
"""Of a frame of the server, which is believed."""


class Link:
    """What a plugin has of the server: its log, and questions that only the server can answer."""

    def __init__(self) -> None:
        self._outbox: list[bytes] = []
        self._wake = trio.Event()
        self._questions: dict[int, trio.Event] = {}
        self._replies: dict[int, bytes] = {}
        self._last = 0
        self._finishing = False
        self._written = trio.Event()

    def send(self, kind: Kind, call: int, content: bytes = b"") -> None:
        self._outbox.append(encode_frame(kind, call, content))
        self._wake.set()

    def log(self, level: str, text: str, values: dict[str, object]) -> None:
        """One record of the server's log."""
        words = {
            name: value if isinstance(value, int | float | str) else repr(value)
            for name, value in values.items()
        }
        self.send(Kind.LOG, 0, json.dumps([level, text[:_LONGEST_ERROR], words]).encode())

    async def ask(self, name: str, content: bytes) -> bytes:
        """Ask the server.

        Raises:
          OSError: it could not answer; the text says why.
        """
        self._last += 1
        number = self._last
        self._questions[number] = event = trio.Event()
        try:
            self.send(Kind.QUESTION, number, named(name, content))
            await event.wait()
            reply = self._replies.pop(number)
        finally:
            self._questions.pop(number, None)
            self._replies.pop(number, None)
        if not reply.startswith(b"+"):
            raise OSError(reply[1:].decode("utf-8", "replace"))
        return reply[1:]

    def take_reply(self, frame: Frame) -> None:
        event = self._questions.get(frame.call)
        if event is not None:
            self._replies[frame.call] = frame.content
            event.set()

    async def write(self, stream: trio.SocketStream) -> None:
        """Send what there is, until `finish`."""
        while self._outbox or not self._finishing:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._outbox = b"".join(self._outbox), []
            if data:
                await stream.send_all(data)
        self._written.set()

    async def finish(self) -> None:
        """Have the rest sent. The writer does it: two tasks must not send at the same moment."""
        self._finishing = True
        self._wake.set()
        await self._written.wait()


class Served(ABC):
    """A plugin in its worker."""

    @abstractmethod
    async def run(self, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114 - the program starts it
        """Its background tasks, for as long as the worker lives. `started()` when it can be called;
        an error before that is told as the reason why the plugin cannot be loaded."""

    @abstractmethod
    async def call(self, hook: str, content: bytes) -> bytes:
        """One hook. Whatever it raises is told to the caller."""


Loader = Callable[[dict[str, Any], Link], Served]
"""What `entry` of the setup names: given the setup and the link, it loads the plugin."""


class _Program:
    def __init__(self, link: Link, served: Served, largest: int) -> None:
        self._link = link
        self._served = served
        self._largest = largest
        self._scopes: dict[int, trio.CancelScope] = {}
        self._starting = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._stopping = False

    async def run(self, stream: trio.SocketStream, decoder: FrameDecoder, missing: tuple[str, ...]) -> None:
        async with trio.open_nursery() as outer:
            outer.start_soon(self._link.write, stream)
            async with trio.open_nursery() as calls:
                # From the first moment: what is asked in `startup` is answered by frames.
                calls.start_soon(self._read, stream, decoder, calls)
                await self._start(outer, missing)
            await self._link.finish()
            outer.cancel_scope.cancel()

    async def _start(self, nursery: trio.Nursery, missing: tuple[str, ...]) -> None:
        """Have the plugin started, and tell what came of it; told to stop meanwhile: neither."""
        with self._starting:
            try:
                await nursery.start(self._served.run)
            except BaseException as error:  # noqa: ASYNC103 - whatever a plugin raises; Cancelled goes on
                if isinstance(error, trio.Cancelled):
                    raise
                self._link.send(Kind.BROKEN, 0, _describe(error))
                self._reading.cancel()
            else:
                self._link.send(Kind.READY, 0, json.dumps(missing).encode())
                nursery.start_soon(self._tell_when_used_up)

    async def _read(self, stream: trio.SocketStream, decoder: FrameDecoder, calls: trio.Nursery) -> None:
        """Take frames until told to stop and the last call is done."""
        data = b""
        with self._reading:
            while True:
                for frame in decoder.feed(data):
                    self._take(frame, calls)
                data = await stream.receive_some(65_536)
                if not data:
                    raise SystemExit(0)  # the server is gone

    def _take(self, frame: Frame, calls: trio.Nursery) -> None:
        if frame.kind is Kind.CALL:
            self._scopes[frame.call] = scope = trio.CancelScope()
            token = current_call.set(frame.call)
            calls.start_soon(self._call, frame, scope)  # takes a copy of the context
            current_call.reset(token)
        elif frame.kind is Kind.CANCEL:
            if scope_of_call := self._scopes.get(frame.call):
                scope_of_call.cancel()
        elif frame.kind is Kind.REPLY:
            self._link.take_reply(frame)
        elif frame.kind is Kind.STOP:
            self._stopping = True
            self._stop_if_done()

    def _stop_if_done(self) -> None:
        if self._stopping and not self._scopes:
            self._starting.cancel()
            self._reading.cancel()

    async def _call(self, frame: Frame, scope: trio.CancelScope) -> None:
        hook, content = split_named(frame.content)
        kind, said = Kind.CANCELLED, b""
        try:
            with scope:
                try:
                    answer = await self._served.call(hook, content)
                    if len(answer) + len(hook) + 1 > self._largest:
                        raise ValueError(f"an answer of {len(answer)} octets is too large")
                except trio.Cancelled:  # noqa: ASYNC103 - the plugin left a scope open
                    # Of the scope; or of one that the plugin left open, which is its mistake, not ours.
                    if not scope.cancel_called:
                        kind, said = Kind.ERROR, b"the plugin cancelled the call itself"
                    else:
                        raise
                except BaseException as error:  # SystemExit of a plugin is its error, no more
                    kind, said = Kind.ERROR, _describe(error)
                else:
                    kind, said = Kind.ANSWER, answer
        except RuntimeError as error:  # of a scope that was left open; Trio has mended that
            if trio.lowlevel.current_task().child_nurseries:
                # Nobody can close a nursery that was left open, and the loop would wait for it for ever. The
                # page says by now whose mistake it is
                traceback.print_exc()
                os._exit(1)
            kind, said = Kind.ERROR, _describe(error)
        del self._scopes[frame.call]
        self._link.send(kind, frame.call, named(hook, said))
        self._stop_if_done()

    async def _tell_when_used_up(self) -> None:
        with trio.open_signal_receiver(signal.SIGXCPU) as signals:
            async for _ in signals:
                self._link.send(Kind.RETIRE, 0)


def _describe(error: BaseException) -> bytes:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    place = ""
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        place = f" ({frames[-1].filename}:{frames[-1].lineno})"
    try:
        text = str(error)
    except BaseException:  # noqa: ASYNC103 - not around an await
        text = "its text cannot be shown"
    return f"{type(error).__name__}: {text[: _LONGEST_ERROR - 500]}{place}".encode("utf-8", "replace")


def _first_frame(wire: socket.socket, decoder: FrameDecoder) -> Frame:
    """The setup, before there is a loop. Nothing is behind it yet: the server waits for READY."""
    while True:
        data = wire.recv(65_536)
        if not data:
            raise SystemExit(0)
        for frame in decoder.feed(data):
            return frame


def main(arguments: list[str]) -> None:
    """Run a worker; `arguments` are descriptors (wire, lifeline, page) and the largest frame."""
    wire_fd, lifeline, page, largest = map(int, arguments)
    die_with(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the server decides what it means
    wire = socket.socket(fileno=wire_fd)
    decoder = FrameDecoder(FROM_SERVER, _FROM_SERVER_LIMIT)
    plan = json.loads(_first_frame(wire, decoder).content)
    sys.path[:] = plan["path"]
    link = Link()
    try:
        # A signal before the loop runs must not end it.
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        missing = confine(Limits(**plan["limits"]))
        module, _, name = plan["entry"].partition(":")
        served = getattr(importlib.import_module(module), name)(plan["setup"], link)
    except BaseException as error:  # noqa: ASYNC103 - not around an await
        wire.sendall(encode_frame(Kind.BROKEN, 0, _describe(error)))
        return  # noqa: ASYNC104 - not around an await
    wire.setblocking(False)

    async def serve() -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(wire))
        await _Program(link, served, largest).run(stream, decoder, missing)

    try:
        trio.run(serve, instruments=[PageInstrument(page)])
    except* (SystemExit, trio.BrokenResourceError):
        pass  # the server is gone, or has closed the connection
