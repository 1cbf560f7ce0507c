"""Where messages are safe: the only place that may say "we have it".

Not here: when to try (`elemta.queue`) and how (`elemta.delivery`).
"""

from .audit import audit_folder
from .bodies import BodyReader, StoredContent
from .details import sender_text
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
from .folder import BODIES
from .handover import Intake
from .looking import find_lives
from .memo import FileMemo, open_memo
from .memo_values import MemoLimits, MemoStatistics
from .memory import MemoryStore
from .notice import new_notice
from .opening import open_offline, open_readonly_spool, open_spool
from .recover import HELD_AS_CORRUPT, Recovery
from .spool import Spool
from .sqlite import SqliteStore
from .store import Place, Store, StoreReader
from .suppression import (
    LONGEST_ADDRESS,
    LONGEST_WHY,
    SUPPRESSION_FILE,
    Suppressed,
    Suppression,
    SuppressionFile,
    SuppressionUnavailable,
    suppression_key,
)
from .tally import Tally, TallyError
from .values import (
    NO_FACTS,
    PRIORITY_SECONDS,
    AddressTest,
    AttemptEntry,
    AttemptFacts,
    AttemptRecord,
    BacklogShare,
    Claim,
    ClaimedRecipient,
    Corrupt,
    Difference,
    History,
    NewMessage,
    Page,
    Pause,
    PauseKind,
    QueueEntry,
    QueueFilter,
    Receipt,
    RecipientEntry,
    RecipientResult,
    RecipientState,
    Removal,
    ShareKey,
    SpoolStatistics,
    StoredMessage,
    Wanted,
)
from .writer import WriterStatistics

__all__ = [
    "BODIES",
    "HELD_AS_CORRUPT",
    "LONGEST_ADDRESS",
    "LONGEST_WHY",
    "NO_FACTS",
    "PRIORITY_SECONDS",
    "SUPPRESSION_FILE",
    "AddressTest",
    "AttemptEntry",
    "AttemptFacts",
    "AttemptRecord",
    "BacklogShare",
    "BodyCorrupt",
    "BodyReader",
    "Claim",
    "ClaimedRecipient",
    "Corrupt",
    "Difference",
    "Draft",
    "FileMemo",
    "History",
    "Intake",
    "LeaseLost",
    "MemoLimits",
    "MemoStatistics",
    "MemoryStore",
    "NewMessage",
    "Page",
    "Pause",
    "PauseKind",
    "Place",
    "QueueEntry",
    "QueueFilter",
    "Receipt",
    "RecipientEntry",
    "RecipientResult",
    "RecipientState",
    "Recovery",
    "Removal",
    "ShareKey",
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
    "Suppressed",
    "Suppression",
    "SuppressionFile",
    "SuppressionUnavailable",
    "Tally",
    "TallyError",
    "Wanted",
    "WriterStatistics",
    "audit_folder",
    "find_lives",
    "new_notice",
    "open_memo",
    "open_offline",
    "open_readonly_spool",
    "open_spool",
    "sender_text",
    "suppression_key",
]
