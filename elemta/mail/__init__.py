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
from .domain import AddressLiteral, Domain, parse_domain
from .envelope import (
    DEFAULT_NOTIFY,
    NO_DSN_OPTIONS,
    BodyType,
    DsnOptions,
    Envelope,
    Notify,
    Recipient,
    Ret,
)
from .errors import MailSyntaxError
from .ids import MessageId, SessionId, is_id, make_id
from .origin import Identity, Origin, TlsFacts
from .outcome import Cause, Deferred, Delivered, Failed, Outcome
from .reply import EnhancedCode, Reply, Severity

__all__ = [
    "DEFAULT_NOTIFY",
    "NO_DSN_OPTIONS",
    "NULL_PATH",
    "AddressLiteral",
    "BodyType",
    "Cause",
    "Deferred",
    "Delivered",
    "Domain",
    "DsnOptions",
    "EnhancedCode",
    "Envelope",
    "Failed",
    "ForwardPath",
    "Identity",
    "MailSyntaxError",
    "Mailbox",
    "MessageId",
    "Notify",
    "Origin",
    "Outcome",
    "Recipient",
    "Reply",
    "Ret",
    "ReversePath",
    "SessionId",
    "Severity",
    "TlsFacts",
    "is_id",
    "make_id",
    "parse_domain",
    "parse_forward_path",
    "parse_mailbox",
    "parse_reverse_path",
    "quote_local_part",
    "replies",
]
