"""SIGHUP: read the whole configuration anew, and only if all of it is right swap what can be swapped."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from elemta.config import Config, ConfigError
from elemta.events import EventBus, ServerReloaded
from elemta.routing import Router
from elemta.runtime import WallClock
from elemta.tls import TlsContexts, TlsFilesError

from .systemd import Notifier

SWAPPED = frozenset({"domains", "routes", "tls", "postmaster", "logging"})
"""Sections that a reload puts into effect; the others need a restart, and the event says so."""


@attrs.define(eq=False)
class Reloader:
    """Holds the configuration in effect and what can be swapped in it."""

    config: Config
    read: Callable[[], Config] | None
    """Reads the file again; None: there is no file (development mode)."""
    router: Router
    tls: TlsContexts
    bus: EventBus
    clock: WallClock
    notifier: Notifier
    set_level: Callable[[str], None]

    async def reload(self) -> None:
        """One reload. A mistake in the new configuration changes nothing and is told."""
        if self.read is None:
            return
        self.notifier.reloading()
        try:
            fresh = self.read()
            self.tls.reload(fresh.tls)
        except (ConfigError, TlsFilesError) as error:
            self.bus.publish(ServerReloaded(time=self.clock.time(), changed=(), error=str(error)))
        else:
            changed = [
                field.name
                for field in attrs.fields(Config)
                if getattr(fresh, field.name) != getattr(self.config, field.name)
            ]
            kept = {name: getattr(self.config, name) for name in changed if name not in SWAPPED}
            self.config = attrs.evolve(fresh, **kept)
            self.router.replace(self.config)
            self.set_level(self.config.logging.level)
            told = tuple(name if name in SWAPPED else f"{name} (needs a restart)" for name in changed)
            self.bus.publish(ServerReloaded(time=self.clock.time(), changed=told))
        self.notifier.ready("running")
