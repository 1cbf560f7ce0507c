"""SIGHUP: read the whole configuration anew, and only if all of it is right swap what can be swapped.

Each part of the server that can change while it runs registers here, with the sections it stands
for. A reload first lets every part prepare: read its files, bind its sockets, build its tables. Only
when all of them have done so is anything put to use, all at once and without a wait in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio

from elemta.config import Config, ConfigError
from elemta.events import EventBus, ServerReloaded
from elemta.runtime import Drain, WallClock

from .systemd import Notifier


class ReloadFailed(Exception):
    """A part cannot work with the new configuration; the text says why."""


def _nothing() -> None:
    """Some parts have nothing to take back."""


@attrs.frozen
class Prepared:
    """A change that is ready to be made."""

    commit: Callable[[], tuple[str, ...]]
    """Make it, and say what to tell of it beside the sections that changed. Sync, cannot fail."""
    abandon: Callable[[], None] = _nothing
    """Or take back what its preparation did."""
    restart: tuple[str, ...] = ()
    """Single settings that wait for a restart all the same."""


@attrs.frozen(eq=False)
class Part:
    """Something that can change while the server runs."""

    sections: frozenset[str]
    """What of the configuration it stands for: these need no restart."""
    prepare: Callable[[Config], Awaitable[Prepared]]
    """Raises `ReloadFailed`; then nothing has changed."""
    uses: frozenset[str] = frozenset()
    """Further sections that it looks at, for which others may stand as well."""
    always: bool = False
    """Whether it reloads also where none of its settings changed, as files may have."""


@attrs.define(eq=False)
class Reloader:
    """Holds the configuration in effect and the parts that can be changed."""

    config: Config
    read: Callable[[], Config] | None
    """Reads the file again; None: there is no file (development mode)."""
    bus: EventBus
    clock: WallClock
    notifier: Notifier
    drain: Drain
    _parts: list[Part] = attrs.field(factory=list, init=False)
    _lock: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    def add(self, part: Part) -> None:
        """Let a part take part from now on."""
        self._parts.append(part)

    async def reload(self) -> ServerReloaded | None:
        """One reload, and what came of it; None where there is nothing to read, or the server stops.

        A mistake in the new configuration changes nothing and is told.
        """
        if self.read is None or self.drain.draining:
            return None
        async with self._lock:
            self.notifier.reloading()
            try:
                changed, restart = await self._reload(self.read())
            except (ConfigError, ReloadFailed) as error:
                return self._tell((), (), str(error))
            else:
                return self._tell(changed, restart, "")
            finally:
                self.notifier.ready("running")

    async def _reload(self, fresh: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Make the change; what was changed, and what needs a restart."""
        differ = [
            field.name
            for field in attrs.fields(Config)
            if getattr(fresh, field.name) != getattr(self.config, field.name)
        ]
        swapped = frozenset().union(*(part.sections for part in self._parts))
        kept = {name: getattr(self.config, name) for name in differ if name not in swapped}
        effective = attrs.evolve(fresh, **kept)
        changing = swapped.intersection(differ)
        prepared: list[Prepared] = []
        try:
            for part in self._parts:
                if part.always or changing & (part.sections | part.uses):
                    prepared.append(await part.prepare(effective))
        except BaseException:
            for each in reversed(prepared):
                each.abandon()
            raise
        details = [text for each in prepared for text in each.commit()]
        self.config = effective
        waiting = [text for each in prepared for text in each.restart]
        return (*(name for name in differ if name in swapped), *details), (*kept, *waiting)

    def _tell(self, changed: tuple[str, ...], restart: tuple[str, ...], error: str) -> ServerReloaded:
        told = ServerReloaded(time=self.clock.time(), changed=changed, error=error, restart=restart)
        self.bus.publish(told)
        return told
