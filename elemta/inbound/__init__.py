"""Receive mail: listen, hold sessions over SMTP and LMTP, commit messages to the spool, acknowledge them.

Not here: the protocol's grammar and order (`elemta.smtp`), where recipients live (`elemta.routing`),
durability (`elemta.spool`), and what becomes of a message once it is stored.
"""

from .binding import BindError, BoundListener, Inherited, Rebinding, bind_all, rebind, unclaimed
from .injection import Injection, NotTaken, Wishes
from .limits import ClientLimits, ClientLimitsStatistics
from .listener import Listeners, ListenersChange, ListenersStatistics, open_listeners
from .relay import RelayDecision, is_trusted, may_relay, may_send
from .session import SessionView
from .transaction import CommitFailed

__all__ = [
    "BindError",
    "BoundListener",
    "ClientLimits",
    "ClientLimitsStatistics",
    "CommitFailed",
    "Inherited",
    "Injection",
    "Listeners",
    "ListenersChange",
    "ListenersStatistics",
    "NotTaken",
    "Rebinding",
    "RelayDecision",
    "SessionView",
    "Wishes",
    "bind_all",
    "is_trusted",
    "may_relay",
    "may_send",
    "open_listeners",
    "rebind",
    "unclaimed",
]
