"""Everything outside that is handed in, so that the whole tree can run in a simulation."""

from __future__ import annotations

import random
from pathlib import Path

import attrs

from elemta.dns import Resolver
from elemta.runtime import Network, SystemClock, SystemNetwork, WallClock
from elemta.spool import Store


@attrs.frozen
class Environment:
    """Clock, randomness, network, and where given a resolver and a store instead of the real ones."""

    clock: WallClock = attrs.field(factory=SystemClock)
    random: random.Random = attrs.field(factory=random.SystemRandom)
    network: Network = attrs.field(factory=SystemNetwork)
    resolver: Resolver | None = None
    store: Store | None = None
    authorities: Path | None = None
    """PEM file of the certificate authorities to trust in place of the system's."""
    watched: bool = True
    """Whether anybody looks at how the process does: load, numbers, certificates, the admin port. Not where
    days pass on virtual time, of which each look would cost real time."""
