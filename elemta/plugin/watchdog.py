"""Watches the loop from a thread: a plugin that computes without an await is noticed, named, and broken off.

Theory of operation. Trio runs tasks in batches, each task at most once, and waits for the system in between;
an instrument notes when a batch begins and ends. Where one lasts, the thread looks at the stack of the loop.
The same call of a plugin in one batch, again and again, is one step of it. After `stall` seconds an exception
is raised in that step, where it stands. That is done only where the step is on a leash, which takes care of
an exception that comes a moment too late, and not inside code of the server that the plugin has called, which
may hold something. A call into C is broken off when it returns.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import trio

from elemta.config import OnStall, PluginConfig

from .leash import STEPS, Stalled

_LOOK_EVERY = 0.05
_OURS = str(Path(__file__).resolve().parents[1])


@attrs.frozen
class Stall:
    """A plugin that kept the loop from running."""

    plugin: str
    place: str
    """File and line."""
    seconds: float
    """For how long by now."""


@attrs.frozen(eq=False)
class Watched:
    """A plugin that runs in the loop, and how its code is known in a stack."""

    entry: PluginConfig
    file: str
    namespace: dict[str, Any]  # Any: of a stranger's module
    """The globals of its module, which are its own where several plugins are of one file."""

    @classmethod
    def of(cls, entry: PluginConfig, plugin: type) -> Watched:
        """By the class of the plugin, as it was loaded."""
        functions = [each for each in map(inspect.unwrap, vars(plugin).values()) if inspect.isfunction(each)]
        own = [each.__globals__ for each in functions if each.__module__ == plugin.__module__]
        return cls(entry, inspect.getfile(plugin), own[0] if own else vars(sys.modules[plugin.__module__]))


class _Batches(trio.abc.Instrument):
    """Knows since when the loop has been running tasks without looking up."""

    def __init__(self) -> None:
        self.number = 0
        self.running = True  # it is made in the midst of one

    def after_io_wait(self, timeout: float) -> None:
        self.number += 1
        self.running = True

    def before_io_wait(self, timeout: float) -> None:
        self.running = False


@attrs.define(eq=False)
class Watchdog:
    """One for a loop; it watches as long as there is something to watch.

    `on_stall` is called in the loop, as soon as that runs again: once for each step that took too long.
    """

    on_stall: Callable[[Stall], None]
    _namespaces: Mapping[int, Watched] = attrs.field(factory=dict, init=False)
    _files: Mapping[str, PluginConfig] = attrs.field(factory=dict, init=False)
    _batches: _Batches | None = attrs.field(default=None, init=False)
    _stop: threading.Event = attrs.field(factory=threading.Event, init=False)

    def watch(self, plugins: Sequence[Watched]) -> None:
        """Watch plugins, in the place of those before. Sync, in the loop."""
        self._namespaces = {id(each.namespace): each for each in plugins}
        self._files = {each.file: each.entry for each in plugins}
        if plugins and self._batches is None:
            self._batches = batches = _Batches()
            self._stop = threading.Event()
            token, ident = trio.lowlevel.current_trio_token(), threading.get_ident()
            trio.lowlevel.add_instrument(batches)
            watcher = _Watcher(self, batches, token, ident, self._stop)
            threading.Thread(target=watcher.run, name="elemta-plugin-watchdog", daemon=True).start()
        elif not plugins:
            self.close()

    def close(self) -> None:
        """Watch nothing any more. Sync, in the loop."""
        self._stop.set()
        if self._batches is not None:
            trio.lowlevel.remove_instrument(self._batches)
            self._batches = None

    def entry_of(self, frame: FrameType) -> PluginConfig | None:
        """The plugin whose code that is: by its module, or by its file where an older version goes on."""
        watched = self._namespaces.get(id(frame.f_globals))
        return self._files.get(frame.f_code.co_filename) if watched is None else watched.entry


@attrs.define(eq=False)
class _Watcher:
    """What the thread does."""

    watchdog: Watchdog
    batches: _Batches
    token: trio.lowlevel.TrioToken
    ident: int
    stop: threading.Event
    _batch: int = -1
    _call: FrameType | None = None
    _since: float = 0.0
    _struck: float = 0.0

    def run(self) -> None:
        while not self.stop.wait(_LOOK_EVERY):
            if self.batches.running:
                self._look(self.batches.number)
            else:
                self._call = None

    def _look(self, batch: int) -> None:
        top = sys._current_frames().get(self.ident)
        call, place, entry = self._plugin_in(top)
        if top is None or call is None or entry is None or not self.batches.running:
            self._call = None
            return
        now = time.monotonic()
        if batch != self._batch or call is not self._call:
            self._batch, self._call, self._since, self._struck = batch, call, now, 0.0
            return
        seconds = now - self._since
        if seconds < entry.stall or now - self._struck < entry.stall:
            return
        if not self._struck:
            try:
                self.token.run_sync_soon(self.watchdog.on_stall, Stall(entry.name, place, seconds))
            except trio.RunFinishedError:
                return
        self._struck = now
        if entry.on_stall is not OnStall.TELL and self._is_on_leash(top):
            self._strike(batch)

    def _strike(self, batch: int) -> None:
        # Between this look and the call nothing else runs in this thread that would let the loop go on for
        # long; what comes too late all the same is met at the leash.
        if self.batches.running and self.batches.number == batch:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(Stalled))

    def _plugin_in(self, frame: FrameType | None) -> tuple[FrameType | None, str, PluginConfig | None]:
        """The outermost frame of a plugin, where its innermost one is, and whose they are."""
        call, place, found = None, "", None
        while frame is not None:
            if entry := self.watchdog.entry_of(frame):
                place = place or f"{frame.f_code.co_filename}:{frame.f_lineno}"
                call, found = frame, entry
            frame = frame.f_back
        return call, place, found

    def _is_on_leash(self, top: FrameType) -> bool:
        """Whether the step may be broken off where it is."""
        if top.f_code.co_filename.startswith(_OURS) or top.f_code.co_filename == threading.__file__:
            return False
        frame: FrameType | None = top
        while frame is not None:
            if frame.f_code in STEPS:
                return True
            frame = frame.f_back
        return False
