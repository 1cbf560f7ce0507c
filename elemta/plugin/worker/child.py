"""One worker process, as the server sees it: started, fed with calls, watched, and killed with its group.

Theory of operation. Many calls are in a worker at once. When it dies, the page it shares with us says whose
code was running: that call fails, and the others go to another worker, which is why a hook may be asked
twice. When it stops making steps (a loop without an await), the call that runs keeps its worker until its
deadline, and the others leave it at once. A call whose caller left has to be given up by the worker
within the grace, or the worker is killed. So each failure costs the call that caused it, and no other.

Nothing that a worker writes is believed: frames are bounded, an answer has to name a call that is in this
worker, and its hook; what it prints is logged escaped up to an allowance, and is the end of it beyond.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path

import attrs
import trio

from elemta.plugin.tier import Failure
from elemta.runtime import escape_text, get_logger

from .calls import Call
from .confine import Limits
from .frames import FROM_WORKER, Frame, FrameDecoder, FrameError, Kind, encode_frame, named, split_named
from .page import SharedPage

_ROOT = str(Path(__file__).resolve().parents[3])
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from elemta.plugin.worker.program import main; main(sys.argv[2:])"
)
_CLOSED = "it closed its connection"
_WATCH_EVERY = 0.1
_STALLED_AFTER = 0.3
"""Seconds within one step of a task, after which the other calls of the worker are moved."""
_MOST_MISSING = 20
"""Limits that a worker may say it does without; there are fewer."""
_WORD_LIMIT = 2_000
"""Characters of an error, or of a line, that a worker is allowed to say."""

_log = get_logger(__name__)


@attrs.frozen
class WorkerSettings:
    """How the workers of a plugin are run."""

    name: str
    """Of the plugin."""
    entry: str
    """`module:function` that loads the plugin in the worker; see `elemta.plugin.worker.program`."""
    setup: dict[str, object]
    """What that function is given."""
    directory: Path
    """The working directory of its workers."""
    limits: Limits = attrs.field(factory=Limits)
    calls: int = 10_000
    """Calls until a worker is replaced, for what it may have leaked."""
    concurrency: int = 64
    """Calls in one worker at a time."""
    largest_answer: int = 1 << 20
    """Octets of one frame of a worker."""
    output: int = 1 << 20
    """Octets that a worker may print in a minute. More is the end of it."""
    start_within: float = 30.0
    grace: float = 1.0
    """Seconds that a worker has for giving up a call whose caller left."""


class WorkerEnded(Exception):
    """A worker ended that should not have."""


Question = Callable[[str, bytes], Awaitable[bytes]]
"""Answers what only the server knows."""


class Worker:
    """A worker process. Made by `run_worker`; others place calls in it."""

    def __init__(
        self, settings: WorkerSettings, page: SharedPage, on_change: Callable[[], None], question: Question
    ) -> None:
        self._settings = settings
        self._page = page
        self._on_change = on_change
        self._question = question
        self._outbox: list[bytes] = []
        self._wake = trio.Event()
        self._busy = trio.Event()
        self._left: dict[int, float] = {}
        self._scope = trio.CancelScope()
        self._served = 0
        self._allowance = settings.output
        self._renewed = trio.current_time()
        self._retire_by = math.inf
        self._nursery: trio.Nursery | None = None
        self.pid = 0
        self.calls: dict[int, Call] = {}
        self.ready = False
        self.was_ready = False
        self.retiring = False
        self.stalled = False
        self.reason: str | None = None
        """Why it had to end; `None`: it was asked to."""
        self.blame: int | None = None
        """The call that is to blame; `None`: unknown, 0: none of those that are waited for."""
        self.spoken = trio.Event()
        """It is ready, or over."""

    def has_room(self, call: Call) -> bool:
        """Whether that call may be given to it."""
        if not self.ready or self.retiring or self.stalled or self.reason is not None:
            return False
        if call.alone or any(each.alone for each in self.calls.values()):
            return not self.calls
        return len(self.calls) < self._settings.concurrency

    def place(self, call: Call) -> None:
        """Give it a call."""
        self.calls[call.number] = call
        self._served += 1
        self.send(Kind.CALL, call.number, named(call.hook, call.content))
        self._busy.set()
        if self._served >= self._settings.calls:
            self.retire()

    def give_up(self, call: Call) -> None:
        """The caller left: the worker has the grace to notice."""
        if self.calls.pop(call.number, None) is not None and self.reason is None:
            self._left[call.number] = trio.current_time() + self._settings.grace
            self.send(Kind.CANCEL, call.number)
            self._busy.set()

    def lend(self, call: Call) -> None:
        """Another worker is asked for it; what this one still says about it is dropped."""
        del self.calls[call.number]
        self._left[call.number] = math.inf
        self.send(Kind.CANCEL, call.number)

    @property
    def running(self) -> int:
        """The number of the call whose code runs at this moment; 0: of none."""
        return self._page.read().call

    def retire(self) -> None:
        """No more calls; it ends when those it has are done."""
        if not self.retiring:
            self.retiring = True
            self._retire_by = trio.current_time() + 10 * self._settings.grace
            self.send(Kind.STOP, 0)
            self._busy.set()

    def send(self, kind: Kind, call: int, content: bytes = b"") -> None:
        """Sync, so that nobody waits for a worker that does not read; `concurrency` bounds what piles up."""
        self._outbox.append(encode_frame(kind, call, content))
        self._wake.set()

    def end(self, reason: str, blame: int | None = None) -> None:
        """Kill it, for that reason."""
        if self.reason is None:
            self.reason = reason
            self.blame = blame
        self._scope.cancel()

    # Its tasks

    async def tasks(self, stream: trio.SocketStream, process: trio.Process, exit_fd: int) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._read, stream)
                nursery.start_soon(self._write, stream)
                assert process.stdout is not None
                nursery.start_soon(self._listen, process.stdout)
                nursery.start_soon(self._watch)
                await self._exited(exit_fd, nursery)

    async def _exited(self, exit_fd: int, nursery: trio.Nursery) -> None:
        with trio.move_on_after(self._settings.start_within):
            await self.spoken.wait()
        if not self.ready:
            self.end(f"it was not ready after {self._settings.start_within:g} s", 0)
        # Becomes readable when the process ended, and does not reap it: until we do, nobody else can
        # have its number, so that its group can be killed.
        await trio.lowlevel.wait_readable(exit_fd)
        self.end("it ended")
        nursery.cancel_scope.cancel()

    async def _read(self, stream: trio.SocketStream) -> None:
        decoder = FrameDecoder(FROM_WORKER, self._settings.largest_answer)
        try:
            while data := await stream.receive_some(65_536):
                for frame in decoder.feed(data):
                    self._take(frame)
        except FrameError as error:
            self.end(f"it sent {error}")
        except trio.BrokenResourceError:  # closed before it had read all that we sent
            await self._closed()
        except (ValueError, TypeError, RecursionError) as error:
            self.end(f"it sent content that cannot be read: {escape_text(str(error), 200)}")
        else:
            if not self.retiring or self.calls:
                await self._closed()

    async def _closed(self) -> None:
        # Give it the time to end, so that the status can be told.
        with trio.move_on_after(0.2):
            await trio.sleep_forever()
        self.end(_CLOSED)

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        if kind in {Kind.ANSWER, Kind.ERROR, Kind.CANCELLED}:
            self._take_answer(frame)
        elif kind is Kind.READY:
            if self.ready:
                raise FrameError("that it is ready, twice")
            for missing in islice(json.loads(frame.content), _MOST_MISSING):
                _log.warning(
                    "this system does not offer all limits",
                    plugin=self._settings.name,
                    missing=escape_text(str(missing), 200),
                )
            self.ready = self.was_ready = True
            self.spoken.set()
            self._on_change()
        elif kind is Kind.BROKEN:
            self.end(_words(frame.content), 0)
        elif kind is Kind.LOG:
            self._take_log(frame.content)
        elif kind is Kind.QUESTION:
            assert self._nursery is not None
            if len(self._nursery.child_tasks) > 4 * self._settings.concurrency:
                raise FrameError("too many questions at once")
            self._nursery.start_soon(self._reply, frame.call, *split_named(frame.content))
        elif not self.ready:
            raise FrameError("that it is used up, before it was ready")
        else:
            self.retire()
            self._on_change()

    def _take_answer(self, frame: Frame) -> None:
        if self._left.pop(frame.call, None) is not None:
            return  # too late, and nobody waits
        call = self.calls.get(frame.call)
        if call is None:
            raise FrameError("an answer to a call that it was not given")
        hook, content = split_named(frame.content)
        if hook != call.hook:
            raise FrameError("an answer to another hook")
        del self.calls[frame.call]
        if frame.kind is Kind.ANSWER:
            call.succeed(content)
        elif frame.kind is Kind.ERROR:
            call.fail(Failure.ERROR, _words(content))
        else:
            call.fail(Failure.ERROR, "the call was cancelled by the plugin")
        self._on_change()

    def _take_log(self, content: bytes) -> None:
        if not self._allow(len(content)):
            return
        level, text, values = json.loads(content)
        write = {"debug": _log.debug, "warning": _log.warning, "error": _log.error}.get(level, _log.info)
        write(
            escape_text(str(text), _WORD_LIMIT),
            plugin=self._settings.name,
            said=escape_text(json.dumps(values), _WORD_LIMIT),
        )

    async def _reply(self, number: int, name: str, content: bytes) -> None:
        try:
            reply = b"+" + await self._question(name, content)
        except Exception as error:  # told to the plugin, which asked
            reply = b"-" + f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:_WORD_LIMIT]
        self.send(Kind.REPLY, number, reply)

    async def _write(self, stream: trio.SocketStream) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                data, self._outbox = b"".join(self._outbox), []
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return  # told by the reader, or by the exit

    async def _listen(self, output: trio.abc.ReceiveStream) -> None:
        """What it prints: logged by lines, escaped, within the allowance of a minute."""
        rest = b""
        while data := await output.receive_some(65_536):
            if not self._allow(len(data)):
                return
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _WORD_LIMIT:
                lines.append(rest)
                rest = b""
            for line in lines:
                self._print(line)
        self._print(rest)

    def _print(self, line: bytes) -> None:
        if line:
            text = line[: 4 * _WORD_LIMIT].decode("utf-8", "replace")
            _log.info("printed", plugin=self._settings.name, said=escape_text(text, _WORD_LIMIT))

    def _allow(self, octets: int) -> bool:
        now = trio.current_time()
        if now - self._renewed >= 60.0:
            self._renewed = now
            self._allowance = self._settings.output
        self._allowance -= octets
        if self._allowance < 0:
            self.end(f"it printed more than {self._settings.output} octets in a minute")
            return False
        return True

    async def _watch(self) -> None:
        before = self._page.read()
        since = trio.current_time()
        while True:
            if not self.calls and not self._left and not self.retiring:
                self._busy = trio.Event()
                await self._busy.wait()
                since = trio.current_time()
            await trio.sleep(_WATCH_EVERY)
            now = trio.current_time()
            page = self._page.read()
            if page != before:
                before, since = page, now
                if self.stalled:
                    self.stalled = False
                    self._on_change()
            elif page.steps % 2 and now - since >= _STALLED_AFTER and not self.stalled:
                self.stalled = True
                self._on_change()
            if any(deadline <= now for deadline in self._left.values()):
                self.end("it did not give up a call whose time was over", 0)
            if self.calls:
                self._retire_by = now + 10 * self._settings.grace
            elif self.retiring and now >= self._retire_by:
                self.end("it did not end when it was told to", 0)


def _words(content: bytes) -> str:
    return escape_text(content[: 4 * _WORD_LIMIT].decode("utf-8", "replace"), _WORD_LIMIT)


async def run_worker(
    settings: WorkerSettings,
    on_start: Callable[[Worker], None],
    on_change: Callable[[], None],
    question: Question,
) -> None:
    """Run one worker process until it was asked to retire and has; cancelled: it is killed.

    Behind it nothing of the process is left, nor of what it may have started.

    Raises:
      WorkerEnded: it ended otherwise. `Worker.calls` are those that were in it.
    """
    ours, theirs = socket.socketpair()
    lifeline, end_of_life = os.pipe()
    page = SharedPage()
    worker = Worker(settings, page, on_change, question)
    try:
        try:
            process = await trio.lowlevel.open_process(
                [
                    sys.executable, "-I", "-u", "-c", _BOOT, _ROOT,
                    str(theirs.fileno()), str(lifeline), str(page.fd), str(settings.largest_answer),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), lifeline, page.fd),
                cwd=settings.directory,
                env={
                    "PATH": os.defpath,
                    "LANG": "C.UTF-8",
                    "HOME": str(settings.directory),
                    "TMPDIR": str(settings.directory),
                    # each arena of glibc takes 64 MiB of the address space
                    "MALLOC_ARENA_MAX": "2",
                },
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise WorkerEnded(f"it cannot be started: {error}") from error
        worker.pid = process.pid
        exit_fd = os.pidfd_open(process.pid)
        theirs.close()
        try:
            on_start(worker)
            setup = {
                "entry": settings.entry,
                "setup": settings.setup,
                "limits": attrs.asdict(settings.limits),
            }
            setup["path"] = [each for each in sys.path if each]
            worker.send(Kind.SETUP, 0, json.dumps(setup).encode())
            await worker.tasks(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), process, exit_fd)
        finally:
            status = await _kill(process)  # noqa: ASYNC102 - has its own shield inside
            os.close(exit_fd)
            worker.ready = False
            worker.spoken.set()
    finally:
        ours.close()
        theirs.close()
        os.close(lifeline)
        os.close(end_of_life)
        if worker.blame is None:
            worker.blame = page.read().call or None
        page.close()
    if worker.retiring and not worker.calls and status == 0:
        return
    if worker.reason == "it ended" or (worker.reason == _CLOSED and status != -signal.SIGKILL):
        worker.reason = _told(status)
    if worker.reason is not None:
        raise WorkerEnded(worker.reason)


async def _kill(process: trio.Process) -> int:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with trio.move_on_after(5.0, shield=True):  # killed: it is a matter of moments
        if process.stdout is not None:
            await trio.aclose_forcefully(process.stdout)
        await process.wait()
    return process.returncode if process.returncode is not None else -1


def _told(status: int) -> str:
    if status >= 0:
        return f"it exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"it was ended by {name}"
