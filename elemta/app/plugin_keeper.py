"""Takes plugins into service and out of it while the server runs: enable, disable, reload, a reload of all.

A change is prepared beside what runs: files are loaded in a thread, new versions are started. Only when all
of them are ready are they asked in the place of the old ones, which finish the calls that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any  # JSON

import attrs
import trio

from elemta.config import Isolation, PluginConfig, SettingsError
from elemta.events import EventBus, PluginChanged
from elemta.plugin import (
    ApartPlugin,
    Change,
    Difference,
    LoadedPlugin,
    PluginHost,
    PluginStatus,
    PluginUnusable,
    Standing,
    Tally,
    Ward,
    in_order,
    load_one,
)
from elemta.runtime import ThreadPool, WallClock, run_in_thread

from .plugin_wishes import Wishes, write_wishes

Loaded = LoadedPlugin | ApartPlugin


@attrs.frozen(eq=False)
class Cast:
    """A change that is ready to be made, and what is in service behind it."""

    change: Change
    entries: tuple[PluginConfig, ...]
    loaded: dict[str, Loaded]
    wards: dict[str, Ward]


@attrs.define(eq=False)
class PluginKeeper:
    """One change at a time; the others wait."""

    make: Callable[[Loaded], Ward]
    entries: tuple[PluginConfig, ...]
    """Of the configuration, those that are not in service as well."""
    wishes: Wishes
    state_dir: Path | None
    """Where wishes are kept; None: nowhere (simulations)."""
    bus: EventBus
    clock: WallClock
    host: PluginHost = attrs.field(init=False)
    """Set when it is open."""
    _loaded: dict[str, Loaded] = attrs.field(factory=dict, init=False)
    _wards: dict[str, Ward] = attrs.field(factory=dict, init=False)
    _moved: set[str] = attrs.field(factory=set, init=False)
    """Those that stalled the loop, and run in processes until they are loaded again."""
    _lock: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _pool: ThreadPool = attrs.field(factory=lambda: ThreadPool("plugins", 1), init=False)

    def begin_with(self, loaded: Iterable[Loaded]) -> list[Ward]:
        """The wards of the plugins that the server starts with, in order."""
        self._loaded = {each.entry.name: each for each in loaded}
        self._wards = {name: self.make(each) for name, each in self._loaded.items()}
        return list(self._wards.values())

    # --- Changes ------------------------------------------------------------------------------------------

    async def enable(self, name: str) -> None:
        """Take a plugin of the configuration into service; after a restart as well.

        Raises:
          PluginUnusable: it cannot be loaded or started; nothing has changed.
          OSError: that could not be written down; nothing has changed.
        """
        await self._wish(name, True)

    async def disable(self, name: str) -> None:
        """Take it out of service, calls under way excepted; after a restart as well. Raises as `enable`."""
        await self._wish(name, False)

    async def reload(self, name: str) -> None:
        """Load the file of a plugin again; calls under way finish on the old version. Raises as `enable`."""
        self._entry(name)
        async with self._lock:
            if name not in self._loaded:
                raise PluginUnusable(f"plugin {name} is not in service")
            moved = self._moved
            self._moved = moved - {name}
            try:
                self._commit(await self._prepare(self.entries, self.wishes, anew={name}))
            except BaseException:
                self._moved = moved
                raise
        self._tell(name, "reloaded")

    async def move_apart(self, name: str) -> None:
        """Run a plugin that stalled the loop in processes of its own, until it is loaded again. Where that
        cannot be, it is suspended."""
        async with self._lock:
            if name not in self._loaded or name in self._moved:
                return
            self._moved.add(name)
            try:
                self._commit(await self._prepare(self.entries, self.wishes))
            except PluginUnusable as error:
                self._moved.discard(name)
                self.host.suspend(name, f"it cannot run in a process: {error}")
                return
            except BaseException:
                self._moved.discard(name)
                raise
        self._tell(name, "moved")

    async def _wish(self, name: str, enabled: bool) -> None:
        self._entry(name)
        async with self._lock:
            wishes = self.wishes.with_wish(name, enabled)
            cast = await self._prepare(self.entries, wishes)
            try:
                if self.state_dir is not None:
                    await run_in_thread(self._pool, write_wishes, self.state_dir, wishes)
            except BaseException:
                cast.change.abandon()
                raise
            self.wishes = wishes
            self._commit(cast)
        self._tell(name, "enabled" if enabled else "disabled")

    async def prepare(self, entries: tuple[PluginConfig, ...]) -> Cast:
        """Get ready for another configuration; `commit` or `abandon` has to follow in the same task.

        Raises:
          PluginUnusable: a plugin cannot be loaded or started; nothing has changed.
        """
        await self._lock.acquire()
        try:
            return await self._prepare(entries, self.wishes)
        except BaseException:
            self._lock.release()
            raise

    def commit(self, cast: Cast) -> None:
        """Go by it from now on. Sync."""
        self._commit(cast)
        self._lock.release()

    def abandon(self, cast: Cast) -> None:
        """Or leave everything as it is. Sync."""
        cast.change.abandon()
        self._lock.release()

    async def _prepare(
        self, entries: tuple[PluginConfig, ...], wishes: Wishes, *, anew: Collection[str] = ()
    ) -> Cast:
        loaded: dict[str, Loaded] = {}
        mistakes = []
        for index, entry in enumerate(wishes.applied(entries)):
            if not entry.enabled:
                continue
            if entry.name in self._moved:
                entry = attrs.evolve(entry, isolation=Isolation.PROCESS)
            known = self._loaded.get(entry.name)
            if known is not None and known.entry == entry and entry.name not in anew:
                loaded[entry.name] = known
                continue
            try:
                loaded[entry.name] = await run_in_thread(self._pool, load_one, entry, index)
            except SettingsError as error:
                mistakes += [f"plugin {entry.name}: {reason}" for _, reason, _ in error.mistakes]
        if mistakes:
            raise PluginUnusable("; ".join(mistakes))
        try:
            ordered = in_order(loaded.values())
        except SettingsError as error:
            raise PluginUnusable("; ".join(reason for _, reason, _ in error.mistakes)) from error
        wards = {
            each.entry.name: self._wards[each.entry.name]
            if self._loaded.get(each.entry.name) is each
            else self.make(each)
            for each in ordered
        }
        change = await self.host.prepare(list(wards.values()))
        if change.failures:
            change.abandon()
            raise PluginUnusable(
                "; ".join(f"plugin {name} does not start: {why}" for name, why in change.failures.items())
            )
        return Cast(change, entries, {each.entry.name: each for each in ordered}, wards)

    def _commit(self, cast: Cast) -> None:
        cast.change.commit()
        self.entries, self._loaded, self._wards = cast.entries, cast.loaded, cast.wards

    def _entry(self, name: str) -> PluginConfig:
        for each in self.entries:
            if each.name == name:
                return each
        raise PluginUnusable(f"the configuration has no plugin {name}")

    def _tell(self, name: str, what: str) -> None:
        self.bus.publish(PluginChanged(time=self.clock.time(), plugin=name, change=what))

    # --- What is shown ------------------------------------------------------------------------------------

    def listing(self) -> list[dict[str, Any]]:
        """All plugins of the configuration; those in service first, in the order in which they are asked."""
        statuses = self.host.statuses()
        running = {status.name for status in statuses}
        tallies = self.host.shadows.tallies
        shown = [
            _shown(status, self._loaded[status.name].source, tallies.get(status.name, Tally()))
            for status in statuses
            if status.name in self._loaded
        ]
        shown += [
            {
                "name": each.name,
                "standing": Standing.DISABLED.value,
                "isolation": each.isolation.value,
                "shadow": each.shadow,
                "hooks": [],
            }
            for each in self.entries
            if each.name not in running
        ]
        return shown

    def differences(self, name: str | None) -> list[Difference]:
        """Where shadows would have decided otherwise, the last times; of one plugin, or of all."""
        return [each for each in self.host.shadows.kept if name is None or each.plugin == name]


def _shown(status: PluginStatus, source: str, tally: Tally) -> dict[str, Any]:
    numbers = status.statistics
    return {
        "name": status.name,
        "standing": status.standing.value,
        "isolation": numbers.isolation,
        "shadow": status.shadow,
        "hooks": list(status.hooks),
        "source": source,
        "calls": numbers.calls,
        "active": numbers.active,
        "failures": {kind.value: count for kind, count in numbers.failures.items()},
        "restarts": numbers.restarts,
        "seconds": numbers.seconds,
        "missed": status.missed,
        "workers": list(numbers.workers),
        "metrics": status.measured.values,
        "differed": tally.differed,
    }
