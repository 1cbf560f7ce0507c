"""Receive mail: listen, hold sessions over SMTP and LMTP, commit messages to the spool, acknowledge them.

Not here: the protocol's grammar and order (`elemta.smtp`), where recipients live (`elemta.routing`),
durability (`elemta.spool`), and what becomes of a message once it is stored.
"""

from .binding import BindError, BoundListener, Inherited, Rebinding, bind_all, rebind, unclaimed
from .limits import ClientLimits, ClientLimitsStatistics
from .listener import Listeners, ListenersChange, ListenersStatistics, open_listeners
from .relay import RelayDecision, is_trusted, may_relay, may_send
from .session import SessionView

__all__ = [
    "BindError",
    "BoundListener",
    "ClientLimits",
    "ClientLimitsStatistics",
    "Inherited",
    "Listeners",
    "ListenersChange",
    "ListenersStatistics",
    "Rebinding",
    "RelayDecision",
    "SessionView",
    "bind_all",
    "is_trusted",
    "may_relay",
    "may_send",
    "open_listeners",
    "rebind",
    "unclaimed",
]
