"""Where messages are safe: the only place that may say "we have it".

Not here: when to try (`elemta.queue`) and how (`elemta.delivery`).
"""

from .draft import Draft
from .errors import (
    BodyCorrupt,
    LeaseLost,
    SpoolError,
    SpoolForeign,
    SpoolFull,
    SpoolInUse,
    SpoolUnavailable,
)
from .spool import Intake, Spool, open_spool
from .store import (
    AttemptRecord,
    Claim,
    ClaimedRecipient,
    NewMessage,
    QueueEntry,
    QueueFilter,
    Receipt,
    RecipientEntry,
    RecipientResult,
    RecipientState,
    SpoolStatistics,
    Store,
    StoredMessage,
)

__all__ = [
    "AttemptRecord",
    "BodyCorrupt",
    "Claim",
    "ClaimedRecipient",
    "Draft",
    "Intake",
    "LeaseLost",
    "NewMessage",
    "QueueEntry",
    "QueueFilter",
    "Receipt",
    "RecipientEntry",
    "RecipientResult",
    "RecipientState",
    "Spool",
    "SpoolError",
    "SpoolForeign",
    "SpoolFull",
    "SpoolInUse",
    "SpoolStatistics",
    "SpoolUnavailable",
    "Store",
    "StoredMessage",
    "open_spool",
]
