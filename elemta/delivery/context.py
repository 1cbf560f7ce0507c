"""What transports need from the world around them, in one value."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import attrs

from elemta.config import DeliveryConfig, TimeoutsConfig
from elemta.dns import Resolver
from elemta.runtime import Network, ThreadPools, WallClock
from elemta.tls import TlsContexts

from .hosts import HostMemory
from .mta_sts import MtaSts
from .shaping import Shaping
from .sources import Sources
from .tls_results import TlsResults


def _nothing_is_local(_address: str, _port: int) -> bool:
    return False


@attrs.frozen(kw_only=True)
class DeliveryContext:
    """The server's side of every delivery. Shared by all transports; replaced as a whole on reload."""

    hostname: str
    """Our name in EHLO and in the names of stored files."""
    resolver: Resolver
    network: Network
    tls: TlsContexts
    timeouts: TimeoutsConfig = attrs.field(factory=TimeoutsConfig)
    config: DeliveryConfig = attrs.field(factory=DeliveryConfig)
    clock: WallClock
    random: random.Random
    state_dir: Path = Path("var")
    is_local_address: Callable[[str, int], bool] = _nothing_is_local
    """Whether that address and port are one of our own listeners: mail sent there would come back."""
    mta_sts: MtaSts | None = None
    """Policies of domains; used where `delivery.mta_sts` says so."""
    tls_results: TlsResults | None = None
    """Where it is counted how TLS went; None: it is not."""
    shaping: Shaping | None = None
    """Terms of some next hops."""
    sources: Sources | None = None
    """Addresses to connect from."""
    hosts: HostMemory = attrs.field(factory=HostMemory)
    """What is remembered of them."""
    pools: ThreadPools = attrs.field(factory=ThreadPools)
    """Where threads that wait for disks come from."""
