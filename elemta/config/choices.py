"""The settings that are one word out of a few."""

from __future__ import annotations

import enum


class ListenerRole(enum.StrEnum):
    """What a listener is for."""

    MX = "mx"
    SUBMISSION = "submission"
    LMTP = "lmtp"


class ListenerTls(enum.StrEnum):
    """How a listener offers TLS."""

    OFF = "off"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class TlsVersion(enum.StrEnum):
    """The oldest TLS that is spoken."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


class ListenerAuth(enum.StrEnum):
    """Whether clients of a listener authenticate."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class AuthMechanism(enum.StrEnum):
    """How clients may log in (names of the IANA registry of SASL mechanisms)."""

    SCRAM_SHA_256_PLUS = "SCRAM-SHA-256-PLUS"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    PLAIN = "PLAIN"
    LOGIN = "LOGIN"
    EXTERNAL = "EXTERNAL"
    OAUTHBEARER = "OAUTHBEARER"
    XOAUTH2 = "XOAUTH2"
    CRAM_MD5 = "CRAM-MD5"


class TransportKind(enum.StrEnum):
    """How a route carries mail."""

    SMTP = "smtp"
    LMTP = "lmtp"
    MAILDIR = "maildir"
    PIPE = "pipe"
    HTTP = "http"
    DISCARD = "discard"


class RouteTls(enum.StrEnum):
    """What a next hop must offer."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    VERIFIED = "verified"
    DANE = "dane"
    DANE_ONLY = "dane-only"


class VerificationUnknown(enum.StrEnum):
    """What becomes of a recipient that could not be verified."""

    ACCEPT = "accept"
    """It is taken, and bounces if it turns out not to exist."""
    DEFER = "defer"
    """It is answered 450, so that the client comes again."""


class FallbackCause(enum.StrEnum):
    """Why mail leaves its route for the fallback of it."""

    CONNECT = "connect"
    """No host took a connection."""
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection-lost"
    PROTOCOL = "protocol"
    """What answers is no SMTP server."""
    DNS = "dns"
    """DNS gave no usable host."""
    NO_SUCH_DOMAIN = "no-such-domain"
    """DNS says that there is no such domain, which without a fallback is final."""
    TLS = "tls"
    TLS_NOT_OFFERED = "tls-not-offered"
    CERTIFICATE = "certificate"
    REMOTE_REPLY = "remote-reply"
    """The next hop said that it will not take it now (4yz)."""


class LineEndPolicy(enum.StrEnum):
    """What becomes of a message with bare CR or bare LF in it."""

    REJECT = "reject"
    REPAIR = "repair"


class NulPolicy(enum.StrEnum):
    """What becomes of a message with NUL in it."""

    REFUSE = "refuse"
    REPAIR = "repair"


class LogFormat(enum.StrEnum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"
    MAIL = "mail"
    """In the manner of Postfix, for tools that read its logs."""
    OFF = "off"


class LogTarget(enum.StrEnum):
    """Where else the log goes."""

    FILE = "file"
    JOURNAL = "journal"
    SYSLOG = "syslog"


class LogFacility(enum.StrEnum):
    """What syslog daemons sort by (RFC 5424 6.2.1)."""

    MAIL = "mail"
    DAEMON = "daemon"
    LOCAL0 = "local0"
    LOCAL1 = "local1"
    LOCAL2 = "local2"
    LOCAL3 = "local3"
    LOCAL4 = "local4"
    LOCAL5 = "local5"
    LOCAL6 = "local6"
    LOCAL7 = "local7"


class SyslogProtocol(enum.StrEnum):
    """How another machine gets it."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class LogLevel(enum.StrEnum):
    """The least important records that are still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class CheckAction(enum.StrEnum):
    """What follows from a check that a client failed."""

    OFF = "off"
    """The check is not made."""
    NOTE = "note"
    """It is made and written down, for logs and plugins; the client does not notice."""
    DEFER = "defer"
    """The client is told to come again later (4yz)."""
    REFUSE = "refuse"
    """The client is refused (5yz), or told to come again later where the check could not be finished."""


class QuotaOf(enum.StrEnum):
    """What an account has only so much of."""

    MESSAGES = "messages"
    RECIPIENTS = "recipients"
    OCTETS = "octets"


class QuotaAction(enum.StrEnum):
    """What an account is told that has used up a quota."""

    DEFER = "defer"
    """To come again later (4yz); mail programs keep the message, some without a word."""
    REFUSE = "refuse"
    """No (5yz), so that the user sees it at once."""


class BreakerAction(enum.StrEnum):
    """What follows when an account does not send like itself."""

    OFF = "off"
    """Nobody looks."""
    NOTE = "note"
    """It is told, in the log and to postmaster."""
    HOLD = "hold"
    """And its mail is accepted, but held until it is released."""


class MessageAction(enum.StrEnum):
    """What follows from a check that a message failed."""

    OFF = "off"
    """The check is not made."""
    NOTE = "note"
    """It is made and written down, in the header and for logs and plugins."""
    QUARANTINE = "quarantine"
    """The message is accepted and marked as suspect, for filters behind us."""
    DEFER = "defer"
    """The client is told to come again later (4yz)."""
    REFUSE = "refuse"
    """The client is refused (5yz), or told to come again later where the check could not be finished."""


class SigningAlgorithm(enum.StrEnum):
    """How a signature is made (RFC 8301, RFC 8463)."""

    RSA_SHA256 = "rsa-sha256"
    ED25519_SHA256 = "ed25519-sha256"


class Canonicalization(enum.StrEnum):
    """What may change in the header and in the body of a signed message (RFC 6376 3.4)."""

    RELAXED_RELAXED = "relaxed/relaxed"
    RELAXED_SIMPLE = "relaxed/simple"
    SIMPLE_RELAXED = "simple/relaxed"
    SIMPLE_SIMPLE = "simple/simple"


class GreylistAction(enum.StrEnum):
    """What becomes of a recipient whose sender and client were not seen together before."""

    OFF = "off"
    NOTE = "note"
    DEFER = "defer"


class RefuseAt(enum.StrEnum):
    """When a client is told that it is refused for what it is."""

    ONCE = "once"
    RECIPIENT = "recipient"


class ReverseDnsNeed(enum.StrEnum):
    """What reverse DNS must have for a client."""

    NAME = "name"
    """Its address has a name (PTR)."""
    CONFIRMED = "confirmed"
    """And the name leads back to the address."""


class RateOf(enum.StrEnum):
    """What is counted by a rate."""

    CONNECTIONS = "connections"
    MESSAGES = "messages"
    RECIPIENTS = "recipients"


class RatePer(enum.StrEnum):
    """Whom a rate holds for."""

    ADDRESS = "address"
    NETWORK = "network"
    ACCOUNT = "account"
    SENDER = "sender"
    """The address in MAIL."""
    RECIPIENT = "recipient"
    """The address in RCPT."""
    DOMAIN = "domain"
    """The domain of the recipient."""
    ROUTE = "route"
    """Where the recipient's mail goes."""
    ROLE = "role"


class Isolation(enum.StrEnum):
    """Where a plugin runs."""

    TASK = "task"
    """In the loop of the server: quick, and what it computes keeps everybody waiting."""
    PROCESS = "process"
    """In a worker process: nothing that it does can hurt the server."""


class OnStall(enum.StrEnum):
    """What is done about a plugin that kept the loop from running."""

    TELL = "tell"
    """It is told and logged, and not broken off."""
    SUSPEND = "suspend"
    """Its step is broken off, and it is not asked for a while."""
    PROCESS = "process"
    """Its step is broken off, and it goes on in worker processes until it is loaded again."""


class OnFailure(enum.StrEnum):
    """What is decided where a plugin gave no answer."""

    DEFER = "defer"
    """The client is told to come again later (4yz)."""
    CONTINUE = "continue"
    """As if it had no objection."""
    REJECT = "reject"
    """The client is refused (5yz)."""
    HOLD = "hold"
    """The message is taken, and kept until an operator releases it."""
