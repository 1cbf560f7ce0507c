"""The replies this server gives, by name, each with the section that asks for it.

Section numbers without an RFC are of RFC 5321. Enhanced codes are those of the registry that
RFC 5248 set up (first entries: RFC 3463). RFC 2034 §4 leaves them out of the greeting, the answers
to HELO and EHLO, and 3yz replies. No text here repeats what a peer sent, but for the mailbox
that VRFY has verified.
"""

from __future__ import annotations

from .address import Mailbox
from .ids import MessageId
from .reply import Reply

# --- Session -----------------------------------------------------------------------------------------


def banner(hostname: str, *, lmtp: bool = False) -> Reply:
    """The greeting (§3.1, §4.2; RFC 2033 §4.1 for LMTP)."""
    return Reply.of(220, None, f"{hostname} {'LMTP' if lmtp else 'ESMTP'} elemta")


def hello(hostname: str, *extensions: str) -> Reply:
    """The answer to HELO, and with extensions that to EHLO or LHLO (§4.1.1.1)."""
    return Reply.of(250, None, hostname, *extensions)


CLOSING = Reply.of(221, "2.0.0", "closing connection")
"""QUIT (§4.1.1.10)."""
NOOP_OK = Reply.of(250, "2.0.0", "ok")
"""NOOP (§4.1.1.9)."""
RESET_OK = Reply.of(250, "2.0.0", "transaction reset")
"""RSET (§4.1.1.5)."""
FORWARDED = Reply.of(250, "2.0.0", "noted")
"""XFORWARD (XFORWARD_README of Postfix)."""
HELP = Reply.of(214, "2.0.0", "commands: see RFC 5321 and the answer to EHLO")
"""HELP (§4.1.1.8)."""
CANNOT_VERIFY = Reply.of(252, "2.0.0", "cannot verify; send some mail, and it will be tried")
"""VRFY that tells nothing, the same for every address (§3.5.3, §7.3)."""


def verified(mailbox: Mailbox) -> Reply:
    """VRFY where the configuration allows it: the mailbox has to be in the reply (§3.5.1)."""
    return Reply.of(250, "2.1.5", f"<{mailbox}>")


# --- Mail transaction ---------------------------------------------------------------------------------

SENDER_OK = Reply.of(250, "2.1.0", "sender ok")
"""MAIL (§3.3)."""
RECIPIENT_OK = Reply.of(250, "2.1.5", "recipient ok")
"""RCPT (§3.3)."""
START_DATA = Reply.of(354, None, "end data with <CR><LF>.<CR><LF>")
"""DATA (§4.1.1.4)."""


def priority_changed(priority: int) -> Reply:
    """MAIL whose MT-PRIORITY this client may not have (RFC 6710 §5)."""
    return Reply.of(250, "2.3.6", f"{priority} is the new priority of the message")


def chunk_ok(size: int) -> Reply:
    """A chunk that is not the last (RFC 3030 §2)."""
    return Reply.of(250, "2.0.0", f"{size} octets received")


def queued(message: MessageId) -> Reply:
    """The body was stored durably: from here on it is ours (§4.2.5, §6.1)."""
    return Reply.of(250, "2.0.0", f"queued as {message}")


def recipient_queued(message: MessageId) -> Reply:
    """The same for one recipient of an LMTP transaction (RFC 2033 §4.2)."""
    return Reply.of(250, "2.1.5", f"queued as {message}")


# --- Commands that are wrong ------------------------------------------------------------------------

SYNTAX_ERROR = Reply.of(500, "5.5.2", "syntax error")
"""A line that is no command (§4.2.2)."""
UNKNOWN_COMMAND = Reply.of(500, "5.5.1", "unknown command")
"""§4.2.4."""
NOT_IMPLEMENTED = Reply.of(502, "5.5.1", "command not implemented")
"""A known command that is not offered here (§4.2.4)."""
LINE_TOO_LONG = Reply.of(500, "5.5.2", "line too long")
"""A command line above the limit (§4.5.3.1.4, §4.5.3.1.10)."""
ARGUMENT_SYNTAX = Reply.of(501, "5.5.4", "syntax error in the argument")
"""§4.2.2."""
BAD_HELLO = Reply.of(501, "5.5.4", "give a domain name or an address literal")
"""HELO, EHLO (§4.1.1.1)."""
BAD_CHUNK_SIZE = Reply.of(501, "5.5.4", "give the size of the chunk, and LAST with the last one")
"""BDAT (RFC 3030 §2)."""
BAD_SENDER_SYNTAX = Reply.of(501, "5.1.7", "bad sender address syntax")
"""MAIL (§4.1.1.2)."""
BAD_RECIPIENT_SYNTAX = Reply.of(501, "5.1.3", "bad recipient address syntax")
"""RCPT (§4.1.1.3)."""
SENDER_TOO_LONG = Reply.of(501, "5.1.7", "sender address too long")
"""§4.5.3.1.1 to §4.5.3.1.3, §4.5.3.1.10."""
RECIPIENT_TOO_LONG = Reply.of(501, "5.1.3", "recipient address too long")
"""§4.5.3.1.1 to §4.5.3.1.3, §4.5.3.1.10."""
UNKNOWN_PARAMETER = Reply.of(555, "5.5.4", "parameter not known")
"""A parameter of MAIL or RCPT whose extension is not offered (§4.1.1.11)."""
BAD_PARAMETER_VALUE = Reply.of(501, "5.5.4", "bad parameter value")
"""§4.1.1.11, §4.2.2."""
BAD_SEQUENCE = Reply.of(503, "5.5.1", "bad sequence of commands")
"""§4.1.4."""
HELLO_FIRST = Reply.of(503, "5.5.1", "say hello first")
"""§4.1.4: a mail transaction needs EHLO or HELO."""
NESTED_MAIL = Reply.of(503, "5.5.1", "a mail transaction is open already")
"""§4.1.1.2, §4.1.4."""
MAIL_FIRST = Reply.of(503, "5.5.1", "no mail transaction is open")
"""RCPT before MAIL (§3.3)."""
NO_RECIPIENTS = Reply.of(503, "5.5.1", "no recipient yet")
"""DATA before any RCPT (§3.3: 503 or 554)."""
DATA_AFTER_BDAT = Reply.of(503, "5.5.1", "the message has begun with BDAT")
"""DATA (RFC 3030 §2: not both in one transaction)."""
CHUNK_LOST = Reply.of(503, "5.5.1", "an earlier chunk was refused, say RSET")
"""BDAT or DATA (RFC 3030 §2)."""
BINARY_NEEDS_BDAT = Reply.of(503, "5.5.1", "BODY=BINARYMIME needs BDAT")
"""DATA (RFC 3030 §3)."""
NO_VALID_RECIPIENTS = Reply.of(554, "5.5.1", "no valid recipients")
"""DATA after RCPT commands that all failed (§3.3, §4.1.1.4)."""

# --- Addresses and relaying ---------------------------------------------------------------------------

RELAY_DENIED = Reply.of(550, "5.7.1", "relaying denied")
"""§3.6.2, §7.9: neither is the domain ours nor may this client send anywhere."""
DOMAIN_NOT_OURS = Reply.of(550, "5.1.2", "mail for this domain is not accepted here")
"""§3.6.2; where no client may relay at all, such as over LMTP."""
CANNOT_BE_VERIFIED = Reply.of(450, "4.1.1", "it cannot be verified for now that there is such a mailbox")
"""§4.2.3: its host could not be asked."""
RECIPIENTS_UNAVAILABLE = Reply.of(450, "4.3.0", "it cannot be found out for now who that is, try again later")
"""§4.2.3: who exists is not known, so neither yes nor no may be said."""
BOUNCES_ONLY = Reply.of(550, "5.7.1", "this address takes nothing but bounces")
"""§7.9: a sender that we rewrote is no address to write to."""
MAILBOX_UNKNOWN = Reply.of(550, "5.1.1", "no such mailbox")
"""§3.3, §4.2.3."""
SENDER_REJECTED = Reply.of(550, "5.7.1", "sender rejected")
"""§7.8, §7.9: by local policy."""
TOO_MANY_RECIPIENTS = Reply.of(452, "4.5.3", "too many recipients")
"""§4.5.3.1.10: the client sends the rest in another transaction."""
SMTPUTF8_NEEDED = Reply.of(553, "5.6.7", "the address needs SMTPUTF8")
"""RFC 6531 §3.5: an internationalized address in a transaction without the parameter."""
SENDER_NOT_OWNED = Reply.of(553, "5.7.1", "this account may not send from that address")
"""RFC 6409 §6.1: the submission right of who has authenticated."""
SENDER_DOMAIN_INCOMPLETE = Reply.of(554, "5.1.8", "the sender's domain is not complete")
"""RFC 6409 §4.2."""
RECIPIENT_DOMAIN_INCOMPLETE = Reply.of(554, "5.1.2", "the recipient's domain is not complete")
"""RFC 6409 §4.2."""
DELIVER_BY_PAST = Reply.of(501, "5.5.4", "the time to deliver by is over or too soon")
"""RFC 2852 §4: with mode R it cannot be kept. RFC 4865 §5.2.2: or it is held back for longer."""
DELIVER_BY_TOO_SOON = Reply.of(555, "5.5.4", "the time to deliver by is below what was announced")
"""RFC 2852 §3, §4: below the fixed minimum."""
HOLD_TOO_LONG = Reply.of(501, "5.5.4", "messages are not held back for so long")
"""RFC 4865 §4.2: beyond what was announced."""
NULL_SENDER_ONE_RECIPIENT = Reply.of(452, "4.5.3", "too many recipients for the null sender")
"""A notice goes to one sender (§4.5.5); more is how spam dresses."""

# --- Size and storage -------------------------------------------------------------------------------


def size_exceeded(limit: int) -> Reply:
    """The message is larger than we take (RFC 1870 §6.1 at MAIL, §6.3 after the body)."""
    return Reply.of(552, "5.3.4", f"message is larger than {limit} octets")


STORAGE_FULL = Reply.of(452, "4.3.1", "insufficient storage, try again later")
"""§4.2.2."""
LOCAL_ERROR = Reply.of(451, "4.3.0", "local error, try again later")
"""§4.2.2."""

# --- Content ------------------------------------------------------------------------------------------

# §2.3.8 forbids bare CR and LF outright, so such a body is malformed, not unwelcome. Of the replies
# that §4.3.2 has for a body, 554 is the one for failure; 550 is the one for policy.
BAD_LINE_ENDS = Reply.of(554, "5.6.0", "lines must end with CR LF, and CR or LF occur nowhere else")
"""§2.3.8, §4.1.1.4."""
TEXT_LINE_TOO_LONG = Reply.of(500, "5.6.0", "line of the message too long")
"""§4.5.3.1.6, §4.5.3.1.10."""
NUL_IN_TEXT = Reply.of(554, "5.6.0", "the message has a NUL octet")
"""RFC 5322 §4 has NUL only in its obsolete syntax; RFC 6152 §3 keeps it out of 8BITMIME."""
HEADER_TOO_LARGE = Reply.of(552, "5.3.4", "message header too large")
"""§4.5.3.1.10: too much mail data."""
TOO_MANY_HOPS = Reply.of(554, "5.4.6", "too many hops, mail loop")
"""§6.3."""
NOT_SEVEN_BIT = Reply.of(554, "5.6.1", "8-bit content without BODY=8BITMIME")
"""§2.4; RFC 6152 §3."""
CONVERSION_NEEDED = Reply.of(554, "5.6.3", "conversion is needed and not supported")
"""RFC 6152 §3: the next hop takes 7-bit content only."""
MESSAGE_REJECTED = Reply.of(550, "5.7.1", "message rejected")
"""§4.3.2: by policy."""

# --- The session ends, or does not begin ----------------------------------------------------------------

COMMAND_TIMEOUT = Reply.of(421, "4.4.2", "timeout, closing connection")
"""§3.8, §4.5.3.2.7."""
SESSION_TIMEOUT = Reply.of(421, "4.4.2", "session took too long, closing connection")
"""§3.8: our own bound on the whole session."""
SHUTTING_DOWN = Reply.of(421, "4.3.2", "shutting down, try again later")
"""§3.8."""
CLOSED_BY_OPERATOR = Reply.of(421, "4.3.2", "connection closed by the operator, try again later")
"""§3.8."""
ATTEMPT_CANCELLED = Reply.of(451, "4.3.0", "attempt ended by the operator")
"""Of a recipient, for listings and notices."""
SERVER_BUSY = Reply.of(421, "4.3.2", "too busy, try again later")
"""§3.8, §7.8."""
TOO_MANY_ERRORS = Reply.of(421, "4.7.0", "too many errors, closing connection")
"""§7.8."""
OUT_OF_TURN = Reply.of(421, "4.5.1", "commands were sent before their turn, closing connection")
"""RFC 2920 §3.1: the client did not wait for a reply where it must."""
TOO_MANY_CONNECTIONS = Reply.of(421, "4.7.0", "too many connections from your address")
"""§7.8."""
TOO_MANY_FROM_NETWORK = Reply.of(421, "4.7.0", "too many connections from your network")
"""§7.8."""
TOO_MANY_TRANSACTIONS = Reply.of(421, "4.7.0", "too many transactions in this session")
"""§7.8."""
ACCOUNTS_UNAVAILABLE = Reply.of(421, "4.3.0", "accounts cannot be looked up now, try again later")
"""§3.8: XCLIENT named an account, and the store of accounts does not answer."""
INTERNAL_ERROR = Reply.of(421, "4.3.0", "internal error, closing connection")
"""§3.8."""
PROTOCOL_ERROR = Reply.of(421, "4.5.0", "protocol error, closing connection")
"""§3.8: what cannot be answered in step, such as a line without an end."""


def overloaded(reason: str) -> Reply:
    """In the place of the greeting (§3.8): the machine cannot keep up, and why."""
    return Reply.of(421, "4.3.2", f"overloaded, try again later: {reason}")


def overloaded_now(reason: str) -> Reply:
    """MAIL, while the machine cannot keep up (§4.2.2)."""
    return Reply.of(452, "4.3.2", f"overloaded, try again later: {reason}")


# --- Clients that are not welcome ------------------------------------------------------------------------

# 550 is the reply for policy (§4.2.2, §7.8), 450 and 451 its counterparts for now; in place of a greeting
# only 554 and 421 are left (§3.1), which `elemta.policy` makes of them.
TOO_FAST = Reply.of(421, "4.7.0", "too many connections from you in a short time, try again later")
"""In place of the greeting (§3.1, §7.8)."""
TOO_MUCH_MAIL = Reply.of(450, "4.7.0", "too much mail from you in a short time, try again later")
"""MAIL above a rate (§7.8)."""
TOO_MANY_RECIPIENTS_FOR_NOW = Reply.of(
    450, "4.7.0", "too many recipients from you in a short time, try again later"
)
"""RCPT above a rate (§7.8)."""
QUOTA_USED_UP = Reply.of(550, "5.7.1", "your account has sent as much as it may for now")
"""MAIL or RCPT of an account beyond a quota (§7.8)."""
QUOTA_USED_UP_FOR_NOW = Reply.of(
    450, "4.7.1", "your account has sent as much as it may for now, try again later"
)
"""The same, where the client is to come again."""
EARLY_TALKER = Reply.of(554, "5.5.1", "protocol error: wait for the greeting")
"""In place of the greeting (§3.1, §4.3.1)."""
EARLY_TALKER_DEFERRED = Reply.of(421, "4.5.1", "protocol error: wait for the greeting")
"""The same for now."""
NO_REVERSE_DNS = Reply.of(550, "5.7.25", "your address has no name in DNS that leads back to it")
"""RFC 7372 §3.3: reverse DNS validation failed."""
NO_REVERSE_DNS_FOR_NOW = Reply.of(450, "4.7.25", "no name for your address could be found in DNS for now")
"""The same while DNS gives no answer."""
HELLO_REFUSED = Reply.of(550, "5.7.1", "the name that you gave is not accepted")
"""The argument of HELO or EHLO (§4.1.1.1, §7.9)."""
HELLO_DEFERRED = Reply.of(450, "4.7.1", "the name that you gave is not accepted for now")
"""The same while DNS gives no answer."""


def listed(what: str, lists: str, *, permanent: bool) -> Reply:
    """Refused because DNS lists have it (RFC 5782 §6); both texts are ours."""
    text = f"{what} is listed by {lists}"
    return Reply.of(550, "5.7.1", text) if permanent else Reply.of(450, "4.7.1", text)


def greylisted(seconds: int) -> Reply:
    """Client, sender and recipient were not seen together before (RFC 6647 §5)."""
    return Reply.of(451, "4.7.1", f"greylisted, try again in {seconds} seconds")


# --- Messages that are not what they claim to be ------------------------------------------------------------

SPF_FAILED = Reply.of(550, "5.7.23", "the domain of the sender does not let you send for it (SPF)")
"""RFC 7208 §8.4, RFC 7372 §3.2."""
SPF_FAILED_FOR_NOW = Reply.of(451, "4.7.23", "the domain of the sender does not let you send for it (SPF)")
"""The same where the configuration has it deferred."""
SPF_UNKNOWN = Reply.of(451, "4.7.24", "it could not be found out whether you may send for that domain (SPF)")
"""RFC 7208 §8.6, RFC 7372 §3.2: a temporary error of DNS."""
DKIM_FAILED = Reply.of(550, "5.7.20", "no signature of the message is valid (DKIM)")
"""RFC 7372 §3.1."""
DKIM_FAILED_FOR_NOW = Reply.of(451, "4.7.20", "no signature of the message could be found valid (DKIM)")
"""The same while a key cannot be had."""
ARC_FAILED = Reply.of(550, "5.7.29", "the chain of those who passed it on is broken (ARC)")
"""RFC 8617 §5.2.2 and §10.3."""
ARC_FAILED_FOR_NOW = Reply.of(451, "4.7.29", "the chain of those who passed it on cannot be verified (ARC)")
"""The same while a key cannot be had."""
DMARC_FAILED = Reply.of(550, "5.7.1", "not proven to be from the domain in From, which forbids that (DMARC)")
"""RFC 9989 §7.2."""
DMARC_FAILED_FOR_NOW = Reply.of(451, "4.7.1", "not proven to be from the domain in From for now (DMARC)")
"""RFC 9989 §7.2: deferred by the configuration, or because DNS gives no answer."""
NO_AUTHOR = Reply.of(550, "5.7.1", "From must be there once, with authors of one domain (DMARC)")
"""RFC 5322 §3.6.2, RFC 9989 §11.5."""
NO_AUTHOR_FOR_NOW = Reply.of(451, "4.7.1", "From must be there once, with authors of one domain (DMARC)")
"""The same where the configuration has it deferred."""


# --- Proxies and filters in front of us -------------------------------------------------------------------

FORWARDED_OK = Reply.of(250, "2.0.0", "ok")
"""XFORWARD (Postfix, XFORWARD_README); XCLIENT is answered by a new greeting."""
NOT_A_PROXY = Reply.of(550, "5.7.0", "you may not speak for another client")
"""XCLIENT and XFORWARD of those they are not offered to (Postfix, XCLIENT_README)."""

# --- TLS and authentication ----------------------------------------------------------------------------

TLS_READY = Reply.of(220, "2.0.0", "ready to start TLS")
"""STARTTLS (RFC 3207 §4)."""
TLS_NOT_AVAILABLE = Reply.of(454, "4.7.0", "TLS not available for now")
"""RFC 3207 §4."""
STARTTLS_REQUIRED = Reply.of(530, "5.7.0", "must issue STARTTLS first")
"""RFC 3207 §4."""
TLS_ACTIVE = Reply.of(503, "5.5.1", "TLS is active already")
"""RFC 3207 §4.2: no second STARTTLS."""
AUTH_REQUIRED = Reply.of(530, "5.7.0", "authentication required")
"""RFC 4954 §6."""
AUTH_NOT_AVAILABLE = Reply.of(502, "5.5.1", "authentication is not offered here")
"""§4.2.4: AUTH that was not announced."""
AUTHENTICATED = Reply.of(235, "2.7.0", "authentication succeeded")
"""RFC 4954 §6."""
AUTH_FAILED = Reply.of(535, "5.7.8", "authentication credentials invalid")
"""RFC 4954 §6; the same for an unknown account, a wrong secret and a missing right."""
AUTH_LATER = Reply.of(454, "4.7.0", "temporary authentication failure, try again later")
"""RFC 4954 §6: too many failures before, or what decides cannot be asked now."""
AUTH_CANCELLED = Reply.of(501, "5.7.0", "authentication cancelled")
"""RFC 4954 §4: the client sent `*`."""
AUTH_MALFORMED = Reply.of(501, "5.5.2", "cannot read the authentication response")
"""RFC 4954 §4: it decodes, but is not what the mechanism has there."""
AUTH_TOO_LONG = Reply.of(500, "5.5.6", "authentication exchange line is too long")
"""RFC 4954 §6."""
AUTH_UNKNOWN_MECHANISM = Reply.of(504, "5.5.4", "unrecognized authentication type")
"""RFC 4954 §4."""
AUTH_TOO_WEAK = Reply.of(534, "5.7.9", "authentication mechanism is too weak")
"""RFC 4954 §6: known here, but not allowed."""
AUTH_NEEDS_TLS = Reply.of(538, "5.7.11", "encryption required for this authentication mechanism")
"""RFC 4954 §4, §6."""

# --- What this server finds itself when it delivers (texts of outcomes; they reach the sender in a notice) --

CONNECT_FAILED = Reply.of(451, "4.4.1", "no host of the destination could be reached")
"""RFC 3463 §3.5: no answer from host."""
CONNECTION_LOST = Reply.of(451, "4.4.2", "the connection to the destination was lost")
"""RFC 3463 §3.5: bad connection."""
REMOTE_TIMEOUT = Reply.of(451, "4.4.2", "the destination did not answer in time")
"""§4.5.3.2."""
REMOTE_PROTOCOL = Reply.of(451, "4.5.0", "the destination does not speak SMTP")
"""RFC 3463 §3.6: other protocol status."""
UNKNOWN_AFTER_DOT = Reply.of(451, "4.4.2", "the connection was lost after the message was sent")
"""RFC 1047: it may have been delivered."""
DNS_FAILED = Reply.of(451, "4.4.3", "DNS gave no answer for the destination")
"""RFC 3463 §3.5: directory server failure."""
NO_SUCH_DOMAIN = Reply.of(550, "5.1.2", "the domain does not exist or has no mail server")
"""§5.1."""
NULL_MX = Reply.of(556, "5.1.10", "the domain does not accept mail")
"""RFC 7505 §4.2."""
ROUTING_LOOP = Reply.of(554, "5.4.6", "mail for the domain loops back to this server")
"""§5.1."""
TLS_FAILED = Reply.of(451, "4.7.5", "no secure connection to the destination")
"""RFC 3463 §3.8: cryptographic failure."""
DELIVERY_BUSY = Reply.of(451, "4.3.2", "not tried now, the destination has enough mail")
"""RFC 3463 §3.4: system not accepting network messages."""
REMOTE_SMTPUTF8_NEEDED = Reply.of(550, "5.6.7", "the destination does not support SMTPUTF8")
"""RFC 6531 §3.5."""
EXPANDED = Reply.of(250, "2.1.5", "passed on to the addresses behind it")
EXPIRED = Reply.of(554, "5.4.7", "could not be delivered in time")
"""RFC 3463 §3.5: delivery time expired (§4.5.4.1)."""
CONTENT_CORRUPT = Reply.of(451, "4.3.0", "the stored message is damaged, the operator was told")
"""RFC 3463 §3.4: other mail system status."""
HELD_BY_POLICY = Reply.of(451, "4.7.1", "held by local policy")
"""RFC 3463 §3.8: delivery not authorized."""
DISCARDED_BY_POLICY = Reply.of(550, "5.7.1", "discarded by local policy")
"""RFC 3463 §3.8."""
NOT_TRIED_SHUTDOWN = Reply.of(451, "4.3.2", "not tried now, the server is stopping")
"""RFC 3463 §3.4."""
