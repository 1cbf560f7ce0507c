"""Carry one message to one next hop: SMTP, LMTP, Maildir, discard.

Not here: when, how often, over which kept connection, what becomes of the result (`elemta.queue`).
"""

from .connect import Target
from .connection import SmtpConnection
from .context import DeliveryContext
from .course import Course
from .discard import DiscardTransport
from .https import HttpsAnswer, HttpsClient, HttpsFailed
from .lmtp import LmtpTransport
from .maildir import MaildirTransport
from .make import make_transport
from .mta_sts import MtaSts
from .overrides import (
    MOST_OVERRIDES,
    OVERRIDES_FILE,
    Override,
    OverridesDamaged,
    may_have_limits,
    parse_override,
    read_overrides,
    write_overrides,
)
from .shaping import Allowance, Shape, Shaping
from .smtp import SmtpTransport
from .sources import NoSource, Sources
from .sts_policy import StsMode, StsPolicy
from .survey import mail_hosts
from .tls_report import HttpsAddress, TlsReport, parse_rua
from .tls_results import RESULTS_FILE, Failure, PolicyResults, PolicyUsed, TlsResult, TlsResults
from .transport import (
    ConnectFailed,
    Connection,
    ConnectionStale,
    Content,
    ContentReader,
    Parcel,
    SessionLimits,
    Transport,
)
from .verification import Verdict, Verifier, VerifierStatistics, open_verifier

__all__ = [
    "MOST_OVERRIDES",
    "OVERRIDES_FILE",
    "RESULTS_FILE",
    "Allowance",
    "ConnectFailed",
    "Connection",
    "ConnectionStale",
    "Content",
    "ContentReader",
    "Course",
    "DeliveryContext",
    "DiscardTransport",
    "Failure",
    "HttpsAddress",
    "HttpsAnswer",
    "HttpsClient",
    "HttpsFailed",
    "LmtpTransport",
    "MaildirTransport",
    "MtaSts",
    "NoSource",
    "Override",
    "OverridesDamaged",
    "Parcel",
    "PolicyResults",
    "PolicyUsed",
    "SessionLimits",
    "Shape",
    "Shaping",
    "SmtpConnection",
    "SmtpTransport",
    "Sources",
    "StsMode",
    "StsPolicy",
    "Target",
    "TlsReport",
    "TlsResult",
    "TlsResults",
    "Transport",
    "Verdict",
    "Verifier",
    "VerifierStatistics",
    "mail_hosts",
    "make_transport",
    "may_have_limits",
    "open_verifier",
    "parse_override",
    "parse_rua",
    "read_overrides",
    "write_overrides",
]
