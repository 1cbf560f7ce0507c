"""What the admin port looks at and steers: one field of `Facts` for each part of the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import attrs

from elemta.config import Config
from elemta.delivery import Verifier
from elemta.events import EventBus, FlightRecorder, ServerReloaded
from elemta.inbound import Listeners, SessionView
from elemta.plugin import PluginHost
from elemta.policy import Gate, Notary
from elemta.queue import QueueManager
from elemta.runtime import Drain, LoadGauge, LogStatistics, Memo, WallClock
from elemta.spool import Spool, Suppression
from elemta.tls import TlsContexts

from .counts import Counts
from .health import Readiness, ResolverWatch, readiness
from .plugins import PluginFace
from .trend import Trend
from .watchers import Watchers


class DnsFace(Protocol):
    """The resolver, as far as it is shown and steered here."""

    def statistics(self) -> dict[str, int]: ...

    def cached(self, name: str | None, most: int) -> list[dict[str, object]]: ...

    async def lookup(self, name: str, kind: str) -> dict[str, object]: ...

    def flush(self, name: str | None) -> int: ...


@attrs.define(eq=False)
class Facts:
    """What the application looks at and steers."""

    version: str
    hostname: str
    started: float
    spool: Spool
    queue: QueueManager
    bus: EventBus
    drain: Drain
    clock: WallClock
    counts: Counts = attrs.field(factory=Counts)
    listeners: Callable[[], list[dict[str, object]]] = list
    """Each open listener: name, address, sessions. Set once they are open."""
    tls: TlsContexts | None = None
    """Certificates and handshakes."""
    dns: DnsFace | None = None
    """The cache of DNS; none where a simulation has a resolver without."""
    inbound: Listeners | None = None
    """Sessions. Set once the listeners are open."""
    load: LoadGauge | None = None
    """How busy we are."""
    keeper: PluginFace | None = None
    """What steers plugins. Set once they run."""
    verifier: Verifier | None = None
    """Who asks next hops about recipients."""
    gate: Gate | None = None
    """Who judges clients."""
    watchers: Watchers | None = None
    """Who follows the live tail. Set by `open_admin`."""
    trend: Trend | None = None
    """What happened in the last half hour. Set by `open_admin`."""
    plugins: PluginHost | None = None
    """Set once they run."""
    resolver: ResolverWatch | None = None
    """Whether questions are answered. Set by `open_admin`."""
    notary: Notary | None = None
    """What is found out about clients and messages."""
    log: Callable[[], Mapping[str, LogStatistics]] | None = None
    """How each way of the log does."""
    memo: Memo | None = None
    """What is remembered beyond a restart."""
    suppression: Suppression | None = None
    """Addresses to which nothing is to be sent."""
    flights: FlightRecorder | None = None
    """What was said in sessions and attempts that failed."""
    config: Callable[[], Config] | None = None
    """The configuration in effect."""
    reload: Callable[[], Awaitable[ServerReloaded | None]] | None = None
    """Read the configuration again, as SIGHUP does; what came of it, or None where nothing can."""
    begin_drain: Callable[[str], None] | None = None
    """Stop in an orderly way, for this reason."""

    def readiness(self) -> Readiness:
        """Whether mail is accepted now. Sync and cheap."""
        return readiness(self.spool, self.drain, lambda: bool(self.listeners()), self.resolver)

    def open_sessions(self) -> int:
        return sum(int(str(listener.get("sessions", 0))) for listener in self.listeners())

    def sessions(self) -> tuple[SessionView, ...]:
        """Those that are open now, the oldest first."""
        return self.inbound.sessions if self.inbound is not None else ()

    def listener_of_sessions(self) -> dict[str, str]:
        return {view.id: view.listener for view in self.sessions()}
