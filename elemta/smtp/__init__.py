"""SMTP and LMTP without I/O, both sides: bytes to events, replies and commands to bytes.

Not here: sockets, TLS, time, policy, storage. What a mailbox, a path or a reply is: `elemta.mail`.
RFCs: 5321, 1870 (SIZE), 2033 (LMTP), 2034 (enhanced codes), 2920 (PIPELINING), 3207 (STARTTLS),
3461 (DSN), 4954 (AUTH), 6152 (8BITMIME), 6531 (SMTPUTF8), 6710 (MT-PRIORITY), 8689 (REQUIRETLS).
"""

from .body import DotDecoder, DotEncoder, Limits, dot_encode
from .client import ClientConnection
from .commands import (
    Auth,
    AuthResponse,
    BadCommand,
    Command,
    Data,
    Ehlo,
    EndOfBody,
    Etrn,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    format_command,
    parse_command,
)
from .errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from .events import (
    NEED_DATA,
    PAUSED,
    BodyChunk,
    BodyEnd,
    BodyProblem,
    ClientEvent,
    CommandReceived,
    ConnectionClosed,
    ReplyReceived,
    ServerEvent,
    Signal,
)
from .extensions import Capabilities, Extension
from .lines import LineBuffer
from .params import MailParams, RcptParams, decode_xtext, encode_xtext
from .replies import ReplyParser, format_reply
from .server import ServerConnection
from .states import GROUP_ENDERS, TRANSITIONS, State, Verb, is_legal

__all__ = [
    "GROUP_ENDERS",
    "NEED_DATA",
    "PAUSED",
    "TRANSITIONS",
    "Auth",
    "AuthResponse",
    "BadCommand",
    "BodyChunk",
    "BodyEnd",
    "BodyProblem",
    "Capabilities",
    "ClientConnection",
    "ClientEvent",
    "Command",
    "CommandReceived",
    "ConnectionClosed",
    "Data",
    "DotDecoder",
    "DotEncoder",
    "Ehlo",
    "EndOfBody",
    "Etrn",
    "Expn",
    "Extension",
    "Helo",
    "Help",
    "Lhlo",
    "Limits",
    "LineBuffer",
    "LocalProtocolError",
    "Mail",
    "MailParams",
    "Noop",
    "ProtocolError",
    "Quit",
    "Rcpt",
    "RcptParams",
    "RemoteProtocolError",
    "ReplyParser",
    "ReplyReceived",
    "Rset",
    "ServerConnection",
    "ServerEvent",
    "Signal",
    "StartTls",
    "State",
    "Verb",
    "Vrfy",
    "decode_xtext",
    "dot_encode",
    "encode_xtext",
    "format_command",
    "format_reply",
    "is_legal",
    "parse_command",
]
