"""The requests that wait for the writer: taking them in, withdrawing them, refusing them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import outcome
import trio

from elemta.runtime import summarize

from .errors import SpoolError, SpoolFull, SpoolUnavailable
from .requests import Operation, Request, RequestState

T = TypeVar("T")
AnyRequest = Request[Any]  # each task knows the type of what it waits for; the writer need not

MOST_WEIGHT = 1024
"""Statements in a batch: about 10 ms of the event loop at the outside."""
MOST_OCTETS = 4 * 1024 * 1024
LAZY_SECONDS = 0.02
LAZY_COUNT = 200


class Gathering:
    """Requests, urgent and lazy, until they are taken into a batch."""

    def __init__(self, on_trouble: Callable[[str, str], None]) -> None:
        self._on_trouble = on_trouble
        self._urgent: deque[AnyRequest] = deque()
        self._lazy: deque[AnyRequest] = deque()
        self._taken_lazy = 0
        self._lazy_due = math.inf
        self._closing = False
        self._failure: BaseException | None = None
        self._ended = False
        self._parked: trio.Event | None = None
        self._scope: trio.CancelScope | None = None
        self.deliveries_paused = False
        """Results of attempts cannot be written: start no new one, or it may be made twice."""

    # For other tasks

    async def submit(self, request: Request[T]) -> T:
        """Have the request stored and return its result.

        If cancelled while waiting for its turn, nothing is stored. Once it is in a batch the wait
        cannot be cancelled and ends with the decision.

        Raises:
          SpoolFull: nothing is stored.
          SpoolUnavailable: unknown whether it is stored; or nothing is stored any more.
          SpoolError: the request itself was refused; nothing is stored.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check_alive()
        self._urgent.append(request)
        return await self._wait(request, self._urgent)

    async def wait_lazy(self) -> None:
        """Wait until all that was handed to `add` so far is durable, and have that done at once.

        Raises:
          SpoolUnavailable: it never will be.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check_alive()
        barrier = Operation(lambda _: None, writes=False)
        self._lazy.append(barrier)
        if not self.deliveries_paused or self._lazy_due == math.inf:
            self._lazy_due = trio.current_time()
        await self._wait(barrier, self._lazy)

    async def _wait(self, request: Request[T], queue: deque[AnyRequest]) -> T:
        request.task = trio.lowlevel.current_task()
        self._wake()

        def abort(_: object) -> trio.lowlevel.Abort:
            if request.state is not RequestState.WAITING:
                return trio.lowlevel.Abort.FAILED
            request.state, request.task = RequestState.DONE, None
            queue.remove(request)
            return trio.lowlevel.Abort.SUCCEEDED

        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def add(self, request: AnyRequest) -> None:
        """Have the request stored soon. Sync; nobody waits for it.

        Raises:
          SpoolUnavailable: nothing is stored any more.
        """
        self.check_alive()
        self._lazy.append(request)
        if len(self._lazy) >= LAZY_COUNT:
            self._wake()
        elif self._lazy_due == math.inf:
            self._lazy_due = trio.current_time() + LAZY_SECONDS
            if self._scope is not None:
                self._scope.deadline = min(self._scope.deadline, self._lazy_due)

    def check_alive(self) -> None:
        """
        Raises:
          SpoolUnavailable: nothing is stored any more.
        """
        if self._failure is not None:
            raise unavailable(self._failure) from self._failure
        if self._ended:
            raise SpoolUnavailable("the spool is closed")

    @property
    def failed(self) -> bool:
        return self._failure is not None

    @property
    def pending_records(self) -> int:
        return len(self._lazy) + self._taken_lazy

    def fail(self, cause: BaseException) -> None:
        """Storage failed, here or elsewhere: everything from now on is refused, and `run` raises."""
        if self._failure is not None:
            return
        self._failure = cause
        self._refuse([*self._urgent, *self._lazy])
        self._urgent.clear()
        self._lazy.clear()
        self._wake()
        self._on_trouble("unavailable", summarize(cause))

    def close(self) -> None:
        """Let `run` end when everything that has gathered is done."""
        self._closing = True
        self._wake()

    # For the writer

    def _wake(self) -> None:
        if self._parked is not None:
            self._parked.set()

    def _ready(self) -> bool:
        return self._failure is not None or self._closing or bool(self._urgent) or self._lazy_ready()

    def _lazy_ready(self) -> bool:
        if not self._lazy:
            return False
        many = len(self._lazy) >= LAZY_COUNT and not self.deliveries_paused
        return many or trio.current_time() >= self._lazy_due

    def _leaves_lazy(self) -> bool:
        """Whether the next batch goes without them: it only looks, or they could not be written just now."""
        if self._closing or self._lazy_ready():
            return False
        return self.deliveries_paused or not any(request.writes for request in self._urgent)

    async def _wait_for_work(self) -> bool:
        """Returns whether there is more to do."""
        while not self._ready():
            if not self._lazy:
                self._lazy_due = math.inf  # a barrier that was withdrawn may have left one behind
            self._parked = trio.Event()
            with trio.move_on_at(self._lazy_due, shield=True) as self._scope:
                await self._parked.wait()
            self._parked = self._scope = None
        if self._failure is not None:
            return False
        return not self._closing or bool(self._urgent or self._lazy)

    def _take(self) -> list[AnyRequest]:
        batch: list[AnyRequest] = []
        weight = octets = 0
        if self.deliveries_paused:
            self._refuse_while_paused()
        leaving = self._leaves_lazy()
        # New mail waits behind results of attempts, but is not kept out by them.
        share = MOST_WEIGHT // 2 if self._urgent else MOST_WEIGHT
        for queue, most in ((self._lazy, 0 if leaving else share), (self._urgent, MOST_WEIGHT)):
            while queue and most:
                request = queue[0]
                weight += request.weight
                octets += request.octets
                if batch and (weight > most or octets > MOST_OCTETS):
                    break
                queue.popleft()
                request.state = RequestState.TAKEN
                batch.append(request)
            if queue is self._lazy:
                self._taken_lazy = len(batch)
        if not leaving:
            self._lazy_due = -math.inf if self._lazy else math.inf
        return batch

    def _refuse_while_paused(self) -> None:
        writing = [request for request in self._urgent if request.writes]
        for request in writing:
            self._urgent.remove(request)
        self._refuse_full(writing, SpoolFull("the disk is full"))

    def _refuse_full(self, requests: Iterable[AnyRequest], cause: SpoolFull) -> None:
        for request in requests:
            error = SpoolFull(str(cause))
            error.__cause__ = cause
            request.settle(outcome.Error(error))

    def _refuse(self, requests: Iterable[AnyRequest]) -> None:
        """End requests of which nobody knows what became; each gets an error of its own."""
        cause = self._failure
        for request in list(requests):
            error = unavailable(cause)
            error.__cause__ = cause
            request.undone()
            request.settle(outcome.Error(error))


def unavailable(cause: BaseException | None) -> SpoolUnavailable:
    """What to raise when nothing is stored any more."""
    if isinstance(cause, SpoolError):
        return SpoolUnavailable(str(cause))
    return SpoolUnavailable("the writer ended" if cause is None else summarize(cause))
