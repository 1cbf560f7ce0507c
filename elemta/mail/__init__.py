"""The words of mail as immutable values, and the text forms the standards give them.

Not here: protocol state (`elemta.smtp`), storage, any I/O, any clock.
"""

from . import replies
from .address import (
    NULL_PATH,
    ForwardPath,
    Mailbox,
    ReversePath,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    quote_local_part,
)
from .authentication import (
    AuthResult,
    AuthResults,
    Property,
    Result,
    authentication_results,
    claimed_results,
)
from .domain import AddressLiteral, Domain, parse_domain
from .dsn import (
    Action,
    DsnRecipient,
    DsnReport,
    build_dsn,
    needs_8bit,
    notice_envelope,
)
from .envelope import (
    DEFAULT_NOTIFY,
    NO_DSN_OPTIONS,
    BodyType,
    Deed,
    DeliverBy,
    DeliverByMode,
    DsnOptions,
    Envelope,
    Notify,
    Recipient,
    Ret,
)
from .errors import MailSyntaxError, PathTooLong
from .header import HeaderBlock, HeaderField, split_header
from .ids import MessageId, SessionId, is_id, make_id
from .marks import LONGEST_MESSAGE_ID, NO_MARKS, Marks, bare_message_id, marks_of, subject_mark
from .origin import Identity, Origin, TlsFacts
from .outcome import Cause, Deferred, Delivered, Failed, Outcome, Relay
from .phases import NO_PHASES, PHASES, Phases
from .reply import EnhancedCode, Reply, Severity
from .seven_bit import CannotConvert, SevenBitEncoder
from .trace import date, received, return_path

__all__ = [
    "DEFAULT_NOTIFY",
    "LONGEST_MESSAGE_ID",
    "NO_DSN_OPTIONS",
    "NO_MARKS",
    "NO_PHASES",
    "NULL_PATH",
    "PHASES",
    "Action",
    "AddressLiteral",
    "AuthResult",
    "AuthResults",
    "BodyType",
    "CannotConvert",
    "Cause",
    "Deed",
    "Deferred",
    "DeliverBy",
    "DeliverByMode",
    "Delivered",
    "Domain",
    "DsnOptions",
    "DsnRecipient",
    "DsnReport",
    "EnhancedCode",
    "Envelope",
    "Failed",
    "ForwardPath",
    "HeaderBlock",
    "HeaderField",
    "Identity",
    "MailSyntaxError",
    "Mailbox",
    "Marks",
    "MessageId",
    "Notify",
    "Origin",
    "Outcome",
    "PathTooLong",
    "Phases",
    "Property",
    "Recipient",
    "Relay",
    "Reply",
    "Result",
    "Ret",
    "ReversePath",
    "SessionId",
    "SevenBitEncoder",
    "Severity",
    "TlsFacts",
    "authentication_results",
    "bare_message_id",
    "build_dsn",
    "claimed_results",
    "date",
    "is_id",
    "make_id",
    "marks_of",
    "needs_8bit",
    "notice_envelope",
    "parse_domain",
    "parse_forward_path",
    "parse_mailbox",
    "parse_reverse_path",
    "quote_local_part",
    "received",
    "replies",
    "return_path",
    "split_header",
    "subject_mark",
]
