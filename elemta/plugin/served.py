"""In a process of its own: loads the plugin, serves its hooks, and asks the server for what only that has.

What a plugin remembers and counts goes through the link as questions, one after the other, so that
a value that is put is there for whoever asks later. Its log is the link's, its clock is the machine's.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any  # JSON, and what a plugin's method returns

import attrs
import trio

from elemta.config import PluginConfig, SettingsError
from elemta.runtime import SystemClock, SystemNetwork

from .api import Context, bind, to_answer
from .loader import LoadedPlugin, load_plugin
from .metrics import MOST_NAMES, Metrics
from .outside import Outside
from .suppressed import RemoteSuppressionList
from .views import NO_ARGUMENTS, HookArguments
from .worker import Limits, Link, Served, confine, pack_answer, unpack_arguments

ENTRY = f"{__name__}:serve"
"""What `WorkerSettings.entry` has to be."""
_LONGEST_KEY = 150
_LARGEST_VALUE = 4_096
_MOST_WAITING = 1_000
"""Durations of one name that wait to be sent; what is more is not told."""


@attrs.define(eq=False)
class _Errand:
    name: str
    content: Callable[[], bytes]
    done: trio.Event = attrs.field(factory=trio.Event)
    answer: bytes = b""
    error: OSError | None = None


class Errands:
    """Questions to the server whose order counts: each is asked when the one before is answered."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: deque[_Errand] = deque()
        self._wake = trio.Event()

    def send(self, name: str, content: Callable[[], bytes]) -> _Errand:
        """Have it asked; the content is made when its turn has come. Sync."""
        errand = _Errand(name, content)
        self._waiting.append(errand)
        self._wake.set()
        return errand

    async def ask(self, name: str, content: bytes) -> bytes:
        """Ask in turn, and wait for the answer.

        Raises:
          OSError: the server could not answer.
        """
        errand = self.send(name, lambda: content)
        await errand.done.wait()
        if errand.error is not None:
            raise errand.error
        return errand.answer

    async def run(self) -> None:
        """Ask, for as long as the worker lives."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._waiting:
                errand = self._waiting.popleft()
                try:
                    errand.answer = await self._link.ask(errand.name, errand.content())
                except OSError as error:
                    errand.error = error
                    self._link.log("warning", f"{errand.name} failed", {"error": str(error)})
                errand.done.set()


class RemoteState:
    """`State` of the API, kept by the server: all workers of the plugin see the same."""

    def __init__(self, errands: Errands) -> None:
        self._errands = errands

    async def get(self, key: str) -> bytes | None:
        answer = await self._errands.ask("state.get", key.encode("utf-8", "surrogatepass"))
        return answer[1:] if answer else None

    def put(self, key: str, value: bytes, seconds: float) -> None:
        if len(key) > _LONGEST_KEY or len(value) > _LARGEST_VALUE:
            raise ValueError(f"keys have up to {_LONGEST_KEY} characters, values {_LARGEST_VALUE} octets")
        content = json.dumps([key, value.decode("latin-1"), seconds]).encode()
        self._errands.send("state.put", lambda: content)

    def forget(self, key: str) -> None:
        self._errands.send("state.forget", lambda: key.encode("utf-8", "surrogatepass"))


@attrs.frozen(eq=False)
class RemoteMetrics(Metrics):
    """Numbers that the server adds up over all workers: sent with the next errand, so not one by one."""

    errands: Errands = attrs.field(kw_only=True)
    _fresh: dict[str, dict[str, Any]] = attrs.field(factory=dict, init=False)

    def count(self, name: str, by: int = 1) -> None:
        counts = self._kind("counts", name)
        if counts is not None:
            counts[name] = counts.get(name, 0) + int(by)

    def set(self, name: str, value: float) -> None:
        gauges = self._kind("gauges", name)
        if gauges is not None:
            gauges[name] = float(value)

    def observe(self, name: str, seconds: float) -> None:
        durations = self._kind("durations", name)
        if durations is not None and len(waiting := durations.setdefault(name, [])) < _MOST_WAITING:
            waiting.append(float(seconds))

    def _kind(self, kind: str, name: str) -> dict[str, Any] | None:
        if not self._fresh:
            self._fresh.update(counts={}, gauges={}, durations={})
            self.errands.send("measure", self._take)
        names = self._fresh[kind]
        return names if name in names or len(names) < MOST_NAMES else None

    def _take(self) -> bytes:
        content = json.dumps(self._fresh).encode()
        self._fresh.clear()
        return content


@attrs.frozen(eq=False)
class RemoteResolver:
    """`Resolver` of the API, with the cache of the server."""

    link: Link

    async def query(self, name: str, kind: Any) -> Any:
        content = json.dumps([name, str(getattr(kind, "value", kind))]).encode()
        # The server is believed: it started this process, and holds all that it could want from here.
        return pickle.loads(await self.link.ask("query", content))  # noqa: S301


@attrs.frozen(eq=False)
class RemoteLog:
    """The logger of a plugin, whose records the server writes."""

    link: Link

    def debug(self, text: str, **values: object) -> None:
        self.link.log("debug", text, values)

    def info(self, text: str, **values: object) -> None:
        self.link.log("info", text, values)

    def warning(self, text: str, **values: object) -> None:
        self.link.log("warning", text, values)

    def error(self, text: str, **values: object) -> None:
        self.link.log("error", text, values)

    critical = error

    def exception(self, text: str, **values: object) -> None:
        error = sys.exception()
        self.error(text, **{"exception": repr(error), **values})


class ServedPlugin(Served):
    """A plugin as the program of the worker runs it."""

    def __init__(self, loaded: LoadedPlugin, link: Link, hostname: str = "") -> None:
        self._loaded = loaded
        self._errands = Errands(link)
        log: Any = RemoteLog(link)  # has what `Logger` has, without its outlet
        resolver = RemoteResolver(link)
        self._context = Context(
            loaded.entry.name,
            log,
            SystemClock(),
            RemoteMetrics(errands=self._errands),
            RemoteState(self._errands),
            resolver,
            hostname,
            outside=Outside(SystemNetwork(), resolver),
            suppression_list=RemoteSuppressionList(self._errands.ask),
        )
        self._methods: dict[str, Callable[[HookArguments], Awaitable[Any]]] = {}

    async def run(self, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114 - the program starts it
        loaded = self._loaded
        plugin = loaded.plugin(loaded.settings, self._context)
        self._methods = {hook: bind(plugin, method) for hook, method in loaded.hooks.items()}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._errands.run)
            if "startup" in self._methods:
                await self._methods["startup"](NO_ARGUMENTS)
            for name, pause in loaded.tasks.items():
                nursery.start_soon(_repeat, getattr(plugin, name), pause)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                if "shutdown" in self._methods:
                    with trio.move_on_after(loaded.entry.timeout, shield=True):
                        await self._tell_shutdown()

    async def _tell_shutdown(self) -> None:
        try:
            await self._methods["shutdown"](HookArguments(reason="stop"))
        except Exception:  # it ends anyway; what is printed gets into the server's log
            traceback.print_exc()

    async def call(self, hook: str, content: bytes) -> bytes:
        returned = await self._methods[hook](unpack_arguments(content))
        return pack_answer(to_answer(hook, returned))


async def _repeat(task: Callable[[], Awaitable[None]], pause: float | None) -> None:
    while True:
        await task()
        if pause is None:
            return
        await trio.sleep(pause)


def serve(setup: dict[str, Any], link: Link) -> Served:
    """Load the plugin of that setup (`apart.setup_of`), in its worker.

    Raises:
      SettingsError: it cannot be used.
    """
    return ServedPlugin(_load(setup), link, setup["hostname"])


def look() -> None:
    """The program that tells what a plugin has: a plan on standard input, JSON on standard output."""
    plan = json.load(sys.stdin)
    # What the plugin prints is not the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    sys.path[:] = plan["path"]
    confine(Limits())
    said: dict[str, object] = {"mistakes": [], "hooks": {}}
    try:
        said["hooks"] = _load(plan["setup"], plan["index"]).hooks
    except SettingsError as error:
        said["mistakes"] = list(error.mistakes)
    with open(answer, "wb") as output:
        output.write(json.dumps(said, default=str).encode())


def _load(setup: dict[str, Any], index: int = 0) -> LoadedPlugin:
    entry = PluginConfig(
        name=setup["name"],
        path=None if setup["path"] is None else Path(setup["path"]),
        module=setup["module"],
        timeout=setup["timeout"],
        config=setup["config"],
    )
    return load_plugin(entry, index)
