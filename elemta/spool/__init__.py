"""Where messages are safe: the only place that may say "we have it".

Not here: when to try (`elemta.queue`) and how (`elemta.delivery`).
"""

from .bodies import BodyReader, StoredContent
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
from .handover import Intake
from .memory import MemoryStore
from .opening import open_offline, open_readonly_spool, open_spool
from .recover import Recovery
from .spool import Spool
from .sqlite import SqliteStore
from .store import (
    AttemptRecord,
    Claim,
    ClaimedRecipient,
    Corrupt,
    NewMessage,
    QueueEntry,
    QueueFilter,
    Receipt,
    RecipientEntry,
    RecipientResult,
    RecipientState,
    Removal,
    SpoolStatistics,
    Store,
    StoredMessage,
    StoreReader,
)
from .writer import WriterStatistics

__all__ = [
    "AttemptRecord",
    "BodyCorrupt",
    "BodyReader",
    "Claim",
    "ClaimedRecipient",
    "Corrupt",
    "Draft",
    "Intake",
    "LeaseLost",
    "MemoryStore",
    "NewMessage",
    "QueueEntry",
    "QueueFilter",
    "Receipt",
    "RecipientEntry",
    "RecipientResult",
    "RecipientState",
    "Recovery",
    "Removal",
    "Spool",
    "SpoolError",
    "SpoolForeign",
    "SpoolFull",
    "SpoolInUse",
    "SpoolStatistics",
    "SpoolUnavailable",
    "SqliteStore",
    "Store",
    "StoreReader",
    "StoredContent",
    "StoredMessage",
    "WriterStatistics",
    "open_offline",
    "open_readonly_spool",
    "open_spool",
]
