"""Limits of destinations set and cleared while the queue runs; the file has them before they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs
import trio

from elemta.config import ShapingConfig
from elemta.delivery import (
    MOST_OVERRIDES,
    Override,
    OverridesDamaged,
    read_overrides,
    write_overrides,
)
from elemta.runtime import ThreadPool, get_logger, run_in_thread

from .context import QueueContext

_log = get_logger(__name__)


class TooManyLimits(Exception):
    """More destinations have limits of their own than anybody could look after."""


@attrs.define(eq=False)
class Limits:
    """What operators set. One change at a time; a change that was begun is ended, also when cancelled."""

    context: QueueContext
    state_dir: Path | None
    """None: nothing is written down."""
    apply: Callable[[], None]
    """Puts what is in the context to use. Sync, cannot fail."""
    _turn: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _pool: ThreadPool = attrs.field(factory=lambda: ThreadPool("destination-limits", 1), init=False)

    def load(self) -> None:
        """Take up what was set before this start; where that cannot be read, go by the configuration alone,
        and tell. Blocking."""
        if self.state_dir is None:
            return
        try:
            self.context.overrides = read_overrides(self.state_dir)
        except OverridesDamaged as error:
            _log.error("limits that were set for destinations are not in effect", reason=str(error))

    @property
    def all(self) -> Mapping[str, Override]:
        """By route."""
        return MappingProxyType(self.context.overrides)

    async def set(self, route: str, settings: ShapingConfig, reason: str) -> Override:
        """Treat the route so from now on, in the place of what was set for it before.

        Raises:
          TooManyLimits, OSError: nothing has changed.
        """
        async with self._turn:
            changed = dict(self.context.overrides)
            changed[route] = Override(settings, self.context.clock.time(), reason)
            if len(changed) > MOST_OVERRIDES:
                raise TooManyLimits(f"at most {MOST_OVERRIDES} destinations may have limits of their own")
            await self._change(changed)
            return changed[route]

    async def clear(self, route: str) -> bool:
        """Go by the configuration again; whether anything was set.

        Raises:
          OSError: nothing has changed.
        """
        async with self._turn:
            if route not in self.context.overrides:
                return False
            await self._change({name: each for name, each in self.context.overrides.items() if name != route})
            return True

    async def _change(self, changed: dict[str, Override]) -> None:
        if self.state_dir is not None:
            await run_in_thread(self._pool, write_overrides, self.state_dir, changed)
        self.context.overrides = changed
        self.apply()
