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
from .memo import FileMemo, MemoLimits, MemoStatistics, open_memo
from .memory import MemoryStore
from .opening import open_offline, open_readonly_spool, open_spool
from .recover import HELD_AS_CORRUPT, Recovery
from .spool import Spool
from .sqlite import SqliteStore
from .store import (
    PRIORITY_SECONDS,
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
    "HELD_AS_CORRUPT",
    "PRIORITY_SECONDS",
    "AttemptRecord",
    "BodyCorrupt",
    "BodyReader",
    "Claim",
    "ClaimedRecipient",
    "Corrupt",
    "Draft",
    "FileMemo",
    "Intake",
    "LeaseLost",
    "MemoLimits",
    "MemoStatistics",
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
    "open_memo",
    "open_offline",
    "open_readonly_spool",
    "open_spool",
]
