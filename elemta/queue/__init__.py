"""Decide when a message is tried, and write down what happened.

Not here: how it is carried (`elemta.delivery`), where it is kept (`elemta.spool`), who may send it
(`elemta.inbound`, which meets this package only in the spool).
"""

from .limits import Limits, TooManyLimits
from .manager import QueueManager, QueueStatistics, open_queue
from .offline import bounce_offline
from .operations import Operations, holds_quarantined, route_named, route_test
from .retry import GiveUp, RetrySchedule, TryAgain
from .site import Site, SiteStatistics
from .underway import AttemptView, Cancelled, Underway
from .window import ConcurrencyWindow

__all__ = [
    "AttemptView",
    "Cancelled",
    "ConcurrencyWindow",
    "GiveUp",
    "Limits",
    "Operations",
    "QueueManager",
    "QueueStatistics",
    "RetrySchedule",
    "Site",
    "SiteStatistics",
    "TooManyLimits",
    "TryAgain",
    "Underway",
    "bounce_offline",
    "holds_quarantined",
    "open_queue",
    "route_named",
    "route_test",
]
