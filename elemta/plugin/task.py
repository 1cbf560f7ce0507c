"""The tier in the loop: each call is a task of the plugin, and its caller can walk away.

Theory of operation. A plugin has a nursery of its own. A call is started there, and its caller waits for
an event: so a plugin's scopes, its swallowed cancels and whatever it raises stay in its own task. An alarm
ends the wait; the call's scope is cancelled behind the caller, who does not wait for that. What escapes all
this (a background task that crashes, a nursery left open) ends the plugin's nursery: its calls fail as
`CRASH`, and it is begun anew after a pause.

A method that has no `await` can neither hang nor be cancelled, and leaves nothing behind but a scope that it
left open, which is seen and closed. It is called where it is asked: no task, no event, no alarm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from types import TracebackType
from typing import Any

import trio

from elemta.runtime import Alarm, Backoff, escape_text, supervise

from .api import Context, Plugin, bind, to_answer
from .decisions import HookAnswer
from .leash import awaits, leash, run_through
from .loader import LoadedPlugin
from .settings import timeouts_of
from .tier import Failure, PluginFailed, Tier, TierStatistics
from .views import NO_ARGUMENTS, HookArguments

MOST_ACTIVE = 1_000
"""Calls of one plugin under way, those whose callers left included."""
DEFAULT_BACKOFF = Backoff()
_MOST_DETAIL = 300

Method = Callable[[HookArguments], Awaitable[Any]]


class _Call:
    """One call: the task runs it, the caller waits for `done`."""

    __slots__ = ("_arguments", "_method", "_source", "answer", "done", "failure", "hook", "scope")

    def __init__(self, hook: str, method: Method, arguments: HookArguments, source: str) -> None:
        self.hook = hook
        self._method = method
        self._arguments = arguments
        self._source = source
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.answer: HookAnswer | None = None
        self.failure: PluginFailed | None = None

    async def run(self) -> None:
        """Call it. Whatever happens, it is decided once, and no error goes on."""
        try:
            with self.scope:
                returned = await leash(self._method(self._arguments))  # type: ignore[arg-type]  # a coroutine
                if not self.done.is_set():
                    self.answer = to_answer(self.hook, returned)
        # A stranger's SystemExit, KeyboardInterrupt, groups of them, and what Trio says of a scope left open
        except BaseException as error:  # noqa: ASYNC103 - a cancel from outside is delivered again below
            self._fail(Failure.ERROR, describe(error, self._source))
        if self.answer is None:
            self._fail(Failure.CRASH, "the plugin ended the call")
        self.done.set()
        await trio.lowlevel.checkpoint_if_cancelled()

    def expire(self) -> None:
        """Its time is over."""
        self.give_up(Failure.TIMEOUT, "no answer in time")

    def give_up(self, kind: Failure, detail: str) -> None:
        """Nobody waits any more: let the plugin know, and drop what it answers."""
        if not self.done.is_set():
            self._fail(kind, detail)
            self.done.set()
            self.scope.cancel(reason=detail)

    def _fail(self, kind: Failure, detail: str) -> None:
        if self.failure is None and not self.done.is_set():
            self.failure = PluginFailed(kind, detail)
            self.answer = None


class TaskTier(Tier):
    """A plugin in the loop."""

    def __init__(self, loaded: LoadedPlugin, context: Context, *, backoff: Backoff = DEFAULT_BACKOFF) -> None:
        self._loaded = loaded
        self._context = context
        self._backoff = backoff
        self._timeout = loaded.entry.timeout
        self._timeouts = timeouts_of(loaded.entry, loaded.hooks)
        self._nursery: trio.Nursery | None = None
        self._methods: dict[str, Method] = {}
        self._at_once: dict[str, Method] = {}
        """Those that do not await."""
        self._active: set[_Call] = set()
        self._calls = 0
        self._restarts = 0
        self._seconds = 0.0
        self._failures: dict[Failure, int] = {}
        self._detail = "not started yet"
        """Why it is out of service."""

    # --- Its life -----------------------------------------------------------------------------------------

    async def start(  # noqa: ASYNC114, ASYNC128 - the host starts it; `_serve` says that it has started
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        plugin = await self._begin()
        first: list[Plugin[Any]] = [plugin]

        async def once() -> None:
            await self._serve(first.pop() if first else await self._begin(), task_status.started)

        await supervise(
            f"plugin {self._loaded.entry.name}", once, on_crash=self._crashed, backoff=self._backoff
        )

    async def _begin(self) -> Plugin[Any]:
        """An instance that has heard of `startup`."""
        made: list[Plugin[Any]] = []

        async def make() -> None:  # noqa: ASYNC124 - it runs as a call does
            made.append(self._loaded.plugin(self._loaded.settings, self._context))

        await self._call_outside("startup", lambda _: make())
        plugin = made[0]
        name = self._loaded.hooks.get("startup")
        if name is not None:
            await self._call_outside("startup", bind(plugin, name))
        return plugin

    async def _serve(self, plugin: Plugin[Any], started: Callable[[], None]) -> None:
        loaded = self._loaded
        methods = {hook: bind(plugin, name) for hook, name in loaded.hooks.items()}
        try:
            async with trio.open_nursery() as nursery:
                for name, pause in loaded.tasks.items():
                    task = getattr(plugin, name)
                    nursery.start_soon(
                        self._run_task, task, pause, name=f"plugin {loaded.entry.name}: {name}"
                    )
                self._methods, self._nursery = methods, nursery
                self._at_once = {
                    hook: methods[hook]
                    for hook, name in loaded.hooks.items()
                    if not awaits(getattr(plugin, name))
                }
                if self._restarts == 0:
                    started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._end_calls("the plugin ended")
        finally:
            if "shutdown" in methods:
                with trio.move_on_after(self._timeout, shield=True):
                    await self._tell_shutdown(methods["shutdown"])

    def _end_calls(self, detail: str) -> None:
        self._nursery = None
        self._detail = detail
        for call in tuple(self._active):
            call.give_up(Failure.CRASH, detail)

    async def _tell_shutdown(self, method: Method) -> None:
        try:
            await self._call_outside("shutdown", method, HookArguments(reason="stop"))
        except PluginFailed as failure:
            self._context.log.warning(
                "shutdown of a plugin failed", plugin=self._context.name, error=failure.detail
            )

    async def _run_task(self, task: Callable[[], Coroutine[Any, Any, None]], pause: float | None) -> None:
        """One of the plugin's own tasks. Its crash is the plugin's, as an error that `supervise` takes."""
        try:
            while True:
                await leash(task())
                if pause is None:
                    return
                await trio.sleep(pause)
        except Exception:
            raise
        except BaseException as error:
            await trio.lowlevel.checkpoint_if_cancelled()  # noqa: ASYNC102 - it lets a cancel of ours go on
            raise RuntimeError(describe(error, self._loaded.source)) from error  # noqa: ASYNC104

    def _crashed(self, name: str, error: BaseException) -> None:
        self._restarts += 1
        self._detail = describe(error, self._loaded.source)
        self._end_calls(self._detail)
        self._count(Failure.CRASH)
        self._context.log.error("plugin crashed", plugin=self._context.name, error=self._detail)

    # --- Calls --------------------------------------------------------------------------------------------

    async def call(self, hook: str, arguments: HookArguments) -> HookAnswer:
        nursery = self._nursery
        if nursery is None or hook not in self._methods:
            await trio.lowlevel.checkpoint()
            raise self._counted(PluginFailed(Failure.CRASH, f"out of service: {self._detail}"))
        method = self._at_once.get(hook)
        if method is not None:
            return self._call_at_once(hook, method, arguments)
        if len(self._active) >= MOST_ACTIVE:
            await trio.lowlevel.checkpoint()
            raise self._counted(PluginFailed(Failure.ERROR, f"more than {MOST_ACTIVE} calls under way"))
        call = _Call(hook, self._methods[hook], arguments, self._loaded.source)
        nursery.start_soon(self._run, call)
        began = trio.current_time()
        try:
            return await self._wait(call)
        finally:
            self._calls += 1
            self._seconds += trio.current_time() - began

    def _call_at_once(self, hook: str, method: Method, arguments: HookArguments) -> HookAnswer:
        """A call of what does not await, in the task of its caller. See docs/decisions/0015."""
        began = trio.current_time()
        try:
            returned = copy_context().run(run_through, method(arguments))  # type: ignore[arg-type]
            return to_answer(hook, returned)
        except BaseException as error:  # noqa: ASYNC103 - a stranger's SystemExit, too; nothing awaits here
            raise self._in_words(error) from None  # noqa: ASYNC104 - as above
        finally:
            self._calls += 1
            self._seconds += trio.current_time() - began

    async def _call_outside(self, hook: str, method: Method, arguments: HookArguments = NO_ARGUMENTS) -> None:
        """A call while the plugin is not in service."""
        call = _Call(hook, method, arguments, self._loaded.source)
        failure: PluginFailed | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, call)
                try:
                    await self._wait(call)
                except PluginFailed as error:
                    failure = error
        except* Exception as group:  # it left a nursery open, which Trio says when the task ends
            failure = PluginFailed(Failure.ERROR, describe(group, self._loaded.source))
        if failure is not None:
            raise failure

    async def _run(self, call: _Call) -> None:
        self._active.add(call)
        try:
            await call.run()
        finally:
            self._active.discard(call)
            call.give_up(Failure.CRASH, "the plugin ended")

    async def _wait(self, call: _Call) -> HookAnswer:
        alarm = Alarm(call.expire)
        alarm.set(trio.current_time() + self._timeouts.get(call.hook, self._timeout))
        try:
            await call.done.wait()
        finally:
            alarm.close()
            call.give_up(Failure.TIMEOUT, "its caller left")
        if call.failure is not None:
            raise self._counted(call.failure)
        assert call.answer is not None
        return call.answer

    def _in_words(self, error: BaseException) -> PluginFailed:
        return self._counted(PluginFailed(Failure.ERROR, describe(error, self._loaded.source)))

    def _counted(self, failure: PluginFailed) -> PluginFailed:
        self._count(failure.kind)
        return failure

    def _count(self, kind: Failure) -> None:
        self._failures[kind] = self._failures.get(kind, 0) + 1

    def statistics(self) -> TierStatistics:
        return TierStatistics(
            isolation="task",
            running=self._nursery is not None,
            calls=self._calls,
            active=len(self._active),
            failures=dict(self._failures),
            restarts=self._restarts,
            seconds=self._seconds,
        )


def describe(error: BaseException, source: str) -> str:
    """An error of a plugin in one line, with the last place in its code."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    try:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
    except BaseException:  # noqa: ASYNC103 - its own __str__ may fail, too
        text = type(error).__name__
    line = _line_in(error.__traceback__, source)
    place = f" ({source}:{line})" if line else ""
    return escape_text(text)[:_MOST_DETAIL] + place


def _line_in(traceback: TracebackType | None, source: str) -> int:
    line = 0
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name == source or name.endswith("/" + source):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
