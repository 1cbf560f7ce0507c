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


class ListenerAuth(enum.StrEnum):
    """Whether clients of a listener authenticate."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class TransportKind(enum.StrEnum):
    """How a route carries mail."""

    SMTP = "smtp"
    LMTP = "lmtp"
    MAILDIR = "maildir"
    DISCARD = "discard"


class RouteTls(enum.StrEnum):
    """What a next hop must offer."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    VERIFIED = "verified"


class LineEndPolicy(enum.StrEnum):
    """What becomes of a message with bare CR or bare LF in it."""

    REJECT = "reject"
    REPAIR = "repair"


class LogFormat(enum.StrEnum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(enum.StrEnum):
    """The least important records that are still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
