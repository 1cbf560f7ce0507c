"""What happened, for those who watch; nothing here ever waits for a watcher.

Not here: what is made of the events (log lines are the pump's, metrics and tail are `elemta.admin`'s).
"""

from .bus import (
    Batch,
    BusStatistics,
    EventBus,
    Observer,
    ObserverStatistics,
    Subscription,
    SubscriptionStatistics,
)
from .form import as_dict, log_events, log_record
from .types import (
    CommandRejected,
    Event,
    MessageAccepted,
    MessageRejected,
    MessageRemoved,
    NoticeQueued,
    QueueChanged,
    RecipientDeferred,
    RecipientDelivered,
    RecipientFailed,
    ServerReloaded,
    ServerStarted,
    ServerStopping,
    SessionClosed,
    SessionOpened,
    SessionRefused,
    SessionTls,
    StorageTrouble,
    TaskCrashed,
)

__all__ = [
    "Batch",
    "BusStatistics",
    "CommandRejected",
    "Event",
    "EventBus",
    "MessageAccepted",
    "MessageRejected",
    "MessageRemoved",
    "NoticeQueued",
    "Observer",
    "ObserverStatistics",
    "QueueChanged",
    "RecipientDeferred",
    "RecipientDelivered",
    "RecipientFailed",
    "ServerReloaded",
    "ServerStarted",
    "ServerStopping",
    "SessionClosed",
    "SessionOpened",
    "SessionRefused",
    "SessionTls",
    "StorageTrouble",
    "Subscription",
    "SubscriptionStatistics",
    "TaskCrashed",
    "as_dict",
    "log_events",
    "log_record",
]
