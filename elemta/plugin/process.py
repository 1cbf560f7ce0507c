"""The process tier: a plugin in several supervised worker processes, and which of them gets a call.

A worker that dies takes with it the one call that is to blame; the others that were in it are asked again
elsewhere. So a hook may be asked twice for one thing, and only the answer that came counts.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType

import trio

from elemta.plugin.decisions import HookAnswer
from elemta.plugin.tier import BadAnswer, Failure, PluginFailed, Tier, TierStatistics
from elemta.plugin.views import HookArguments
from elemta.runtime import Backoff, escape_text, get_logger, supervise

from .worker import (
    Call,
    Question,
    Worker,
    WorkerEnded,
    WorkerSettings,
    pack_arguments,
    run_worker,
    unpack_answer,
    without_copy,
)

_BACKOFF = Backoff(first=0.05, longest=60.0, quiet=5.0)
"""One bad message must not take a worker out of service for long; one that never comes up may wait."""
_LARGEST_IN_FRAME = 256 * 1024
"""Octets of a message that go through the wire where there is a file of it as well."""

_log = get_logger(__name__)


class ProcessTier(Tier):
    """A plugin in worker processes. See `Tier` for the contract."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        timeout: float,
        timeouts: Mapping[str, float] = MappingProxyType({}),
        question: Question,
        random: random.Random,
        workers: int = 2,
    ) -> None:
        self._settings = settings
        self._timeout = timeout
        self._timeouts = timeouts
        self._question = question
        self._random = random
        self._count = workers
        self._workers: list[Worker] = []
        self._waiting: deque[Call] = deque()
        self._ready = trio.Event()
        self._broken: str | None = None
        """Why the last start of a worker failed, where none has come up since."""
        self._running = False
        self._active = 0
        self._ended = 0
        self._seconds = 0.0
        self._failures: Counter[Failure] = Counter()
        self._restarts = 0

    async def start(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC114 - the host starts it
        directory = trio.Path(self._settings.directory)
        try:
            await directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PluginFailed(
                Failure.CRASH, f"its working directory cannot be made: {error.strerror}: {directory}"
            ) from error
        try:
            async with trio.open_nursery() as nursery:
                for number in range(self._count):
                    nursery.start_soon(self._keep, number)
                await self._ready.wait()
                if self._broken is not None:
                    nursery.cancel_scope.cancel()
                else:
                    self._running = True
                    task_status.started()
        finally:
            self._running = False
            for call in [
                *self._waiting,
                *(each for worker in self._workers for each in worker.calls.values()),
            ]:
                call.fail(Failure.CRASH, "the plugin has been stopped")
            self._waiting.clear()
            self._workers.clear()
            self._ready = trio.Event()
        if self._broken is not None:
            raise PluginFailed(Failure.CRASH, self._broken)

    async def call(self, hook: str, arguments: HookArguments) -> HookAnswer:
        started = trio.current_time()
        self._active += 1
        try:
            return unpack_answer(await self._asked(hook, arguments))
        except BadAnswer as error:
            failure = PluginFailed(Failure.ERROR, str(error))
            self._failures[failure.kind] += 1
            raise failure from error
        except PluginFailed as failure:
            self._failures[failure.kind] += 1
            raise
        finally:
            self._active -= 1
            self._ended += 1
            self._seconds += trio.current_time() - started

    def statistics(self) -> TierStatistics:
        return TierStatistics(
            isolation="process",
            running=self._running,
            calls=self._ended,
            active=self._active,
            failures=dict(self._failures),
            restarts=self._restarts,
            seconds=self._seconds,
            workers=tuple(each.pid for each in self._workers),
        )

    # Calls

    async def _asked(self, hook: str, arguments: HookArguments) -> bytes:
        if not self._running:
            await trio.lowlevel.checkpoint()
            raise PluginFailed(Failure.CRASH, "the plugin is not running")
        content = pack_arguments(without_copy(arguments, _LARGEST_IN_FRAME))
        # Not guessable, so that an answer with a number made up does not hit another call.
        call = Call(self._random.getrandbits(63) | 1, hook, content)
        self._place(call)
        timeout = self._timeouts.get(hook, self._timeout)
        with trio.move_on_after(timeout):
            try:
                return await call.result()
            finally:
                self._forget(call)
        raise PluginFailed(Failure.TIMEOUT, f"no answer within {timeout:g} s")

    def _place(self, call: Call) -> None:
        worker = min(
            (each for each in self._workers if each.has_room(call)),
            key=lambda each: len(each.calls),
            default=None,
        )
        if worker is not None:
            worker.place(call)
        elif self._broken is not None and not any(each.ready for each in self._workers):
            call.fail(Failure.CRASH, self._broken)
        else:
            self._waiting.append(call)

    def _forget(self, call: Call) -> None:
        if call.ended:
            return
        call.leave()
        for worker in self._workers:
            worker.give_up(call)

    def _feed(self) -> None:
        """Something changed in a worker: move calls from those that stand still, place those that wait."""
        for worker in self._workers:
            if worker.stalled:
                self._move(worker)
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            if not call.ended:
                self._place(call)

    def _move(self, worker: Worker) -> None:
        """Take from a worker the calls that stand behind another one; it may do as it likes with them."""
        running = worker.running
        for call in [each for number, each in worker.calls.items() if number != running]:
            worker.lend(call)
            self._waiting.append(call)

    # Workers

    async def _keep(self, number: int) -> None:
        await supervise(
            f"{self._settings.name}.{number}",
            self._run_in_turn,
            on_crash=self._crashed,
            backoff=_BACKOFF,
        )

    async def _run_in_turn(self) -> None:
        """One worker after the other, as long as they retire in good order."""
        while True:
            worker: Worker | None = None

            def started(each: Worker) -> None:
                nonlocal worker
                worker = each
                self._workers.append(each)

            try:
                await run_worker(self._settings, started, self._changed, self._question)
            except WorkerEnded as error:
                if worker is None or not worker.was_ready:
                    self._broken = str(error)
                    if not self._running:
                        self._ready.set()
                raise
            finally:
                if worker is not None:
                    self._over(worker)

    def _changed(self) -> None:
        if not self._ready.is_set() and any(each.ready for each in self._workers):
            self._ready.set()
        if any(each.ready for each in self._workers):
            self._broken = None
        self._feed()

    def _over(self, worker: Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        calls = list(worker.calls.values())
        worker.calls.clear()
        reason = worker.reason or "it ended"
        for call in calls:
            alone = worker.blame is None and len(calls) == 1
            if alone or call.number == worker.blame:
                call.fail(Failure.CRASH, f"the worker ended: {reason}")
            else:
                call.suspicions += worker.blame is None
                self._waiting.append(call)
        self._feed()

    def _crashed(self, name: str, error: BaseException) -> None:
        self._restarts += 1
        _log.warning(
            "a worker ended", plugin=self._settings.name, worker=name, reason=escape_text(str(error), 2_000)
        )
