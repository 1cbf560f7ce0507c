"""Is this client welcome, and is its mail what it claims to be?

Clients: rates, DNS lists, reverse DNS, the name it gives, greylisting (`Gate`). Messages: SPF, DKIM, ARC,
DMARC (`MessageChecks`). Mail that leaves: signatures and seals (`DkimSigner`, `ArcSealer`).
All of the latter for one configuration: `Notary`.

Not here: who may relay (`elemta.inbound`), how a refusal is sent, who a user is (`elemta.auth`).
"""

from .allowance import AccountUse
from .arc import ArcResult, arc_needs, check_arc
from .author import Authors, find_authors
from .breaker import Breaker, BreakerStatistics, Habits, hold_reason, let_go, read_held
from .canonical import BodyHashes, BodyNeed
from .checks import MessageChecks, Verdict
from .client import Client, Refusal, parse_peer
from .disposition import Disposition, Findings
from .dkim import DkimResult, check_dkim, dkim_needs
from .dmarc import DmarcResult, Identifier, Mechanism, check_dmarc
from .dmarc_record import DmarcPolicy, DmarcRecord, SuffixFlag, find_record
from .dmarc_report import (
    ReportCollector,
    ReportDay,
    ReportRow,
    consents,
    group_days,
    mail_addresses,
    needs_consent,
    report_id,
    report_name,
    report_xml,
)
from .failure_report import Failure, FailureReports, write_failure_report
from .gate import Gate, GateStatistics
from .hashing import Hashed, MessageHasher
from .head import MessageHead
from .keyring import (
    KeyFileError,
    SigningKey,
    credentials_folder,
    load_key,
    make_key,
    record_strings,
    write_key,
    zone_line,
)
from .keys import key_name
from .lists import ListStatistics
from .lookups import Lookups, NeedLookup, TooManyLookups, evaluate
from .notary import Notary, NotaryStatistics, PrivateKeys, load_keys
from .publication import Publication, PublishedKey, compare_key, look_up_key
from .quotas import QuotaUse
from .rates import RateStatistics
from .sealing import ArcSealer, SealingKey, load_sealing_key
from .signing import DkimSigner, SigningEntry, SigningError, load_entries
from .spf import SpfIdentity, SpfResult, SpfResults, check_spf

__all__ = [
    "AccountUse",
    "ArcResult",
    "ArcSealer",
    "Authors",
    "BodyHashes",
    "BodyNeed",
    "Breaker",
    "BreakerStatistics",
    "Client",
    "Disposition",
    "DkimResult",
    "DkimSigner",
    "DmarcPolicy",
    "DmarcRecord",
    "DmarcResult",
    "Failure",
    "FailureReports",
    "Findings",
    "Gate",
    "GateStatistics",
    "Habits",
    "Hashed",
    "Identifier",
    "KeyFileError",
    "ListStatistics",
    "Lookups",
    "Mechanism",
    "MessageChecks",
    "MessageHasher",
    "MessageHead",
    "NeedLookup",
    "Notary",
    "NotaryStatistics",
    "PrivateKeys",
    "Publication",
    "PublishedKey",
    "QuotaUse",
    "RateStatistics",
    "Refusal",
    "ReportCollector",
    "ReportDay",
    "ReportRow",
    "SealingKey",
    "SigningEntry",
    "SigningError",
    "SigningKey",
    "SpfIdentity",
    "SpfResult",
    "SpfResults",
    "SuffixFlag",
    "TooManyLookups",
    "Verdict",
    "arc_needs",
    "check_arc",
    "check_dkim",
    "check_dmarc",
    "check_spf",
    "compare_key",
    "consents",
    "credentials_folder",
    "dkim_needs",
    "evaluate",
    "find_authors",
    "find_record",
    "group_days",
    "hold_reason",
    "key_name",
    "let_go",
    "load_entries",
    "load_key",
    "load_keys",
    "load_sealing_key",
    "look_up_key",
    "mail_addresses",
    "make_key",
    "needs_consent",
    "parse_peer",
    "read_held",
    "record_strings",
    "report_id",
    "report_name",
    "report_xml",
    "write_failure_report",
    "write_key",
    "zone_line",
]
