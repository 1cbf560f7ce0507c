"""Carry one message to one next hop: SMTP, LMTP, Maildir, discard.

Not here: when, how often, over which kept connection, what becomes of the result (`elemta.queue`).
"""

from .connect import Target
from .connection import SmtpConnection
from .context import DeliveryContext
from .discard import DiscardTransport
from .https import HttpsAnswer, HttpsClient, HttpsFailed
from .lmtp import LmtpTransport
from .maildir import MaildirTransport
from .make import make_transport
from .mta_sts import MtaSts
from .smtp import SmtpTransport
from .sts_policy import StsMode, StsPolicy
from .transport import (
    ConnectFailed,
    Connection,
    ConnectionStale,
    Content,
    ContentReader,
    Parcel,
    Transport,
)

__all__ = [
    "ConnectFailed",
    "Connection",
    "ConnectionStale",
    "Content",
    "ContentReader",
    "DeliveryContext",
    "DiscardTransport",
    "HttpsAnswer",
    "HttpsClient",
    "HttpsFailed",
    "LmtpTransport",
    "MaildirTransport",
    "MtaSts",
    "Parcel",
    "SmtpConnection",
    "SmtpTransport",
    "StsMode",
    "StsPolicy",
    "Target",
    "Transport",
    "make_transport",
]
