"""SMTP and LMTP without I/O, both sides: bytes to events, replies and commands to bytes.

Not here: sockets, TLS, time, policy, storage. What a mailbox, a path or a reply is: `elemta.mail`.
RFCs: 5321, 1870 (SIZE), 2033 (LMTP), 2034 (enhanced codes), 2852 (DELIVERBY), 2920 (PIPELINING),
3030 (CHUNKING, BINARYMIME), 3207 (STARTTLS), 3461 (DSN), 4865 (FUTURERELEASE), 4954 (AUTH),
6152 (8BITMIME), 6531 (SMTPUTF8), 6710 (MT-PRIORITY), 8689 (REQUIRETLS), 9422 (LIMITS). Beside them
XCLIENT and XFORWARD of Postfix, and the PROXY protocol of HAProxy.
"""

from .body import ChunkDecoder, DotDecoder, DotEncoder, Limits, dot_encode
from .client import ClientConnection
from .commands import (
    Auth,
    AuthResponse,
    BadCommand,
    Bdat,
    Command,
    Data,
    Ehlo,
    EndOfBody,
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
    Xclient,
    Xforward,
)
from .errors import LocalProtocolError, OutOfStep, ProtocolError, RemoteProtocolError
from .events import (
    NEED_DATA,
    PAUSED,
    BodyChunk,
    BodyEnd,
    BodyProblem,
    ChunkEnd,
    ClientEvent,
    CommandReceived,
    ConnectionClosed,
    ReplyReceived,
    ServerEvent,
    Signal,
)
from .extensions import Capabilities, Extension, FutureRelease, format_date_time
from .formatting import format_command
from .lines import LineBuffer
from .params import ByTime, MailParams, RcptParams
from .parsing import Dialect, parse_command
from .proxy import ProxyEndpoint, ProxyHeader, ProxyParser, ProxyTls
from .replies import ReplyParser, format_reply, name_host
from .server import ServerConnection
from .states import GROUP_ENDERS, TRANSITIONS, State, Verb, is_legal
from .witness import Side, show_said
from .xtext import decode_xtext, encode_xtext

__all__ = [
    "GROUP_ENDERS",
    "NEED_DATA",
    "PAUSED",
    "TRANSITIONS",
    "Auth",
    "AuthResponse",
    "BadCommand",
    "Bdat",
    "BodyChunk",
    "BodyEnd",
    "BodyProblem",
    "ByTime",
    "Capabilities",
    "ChunkDecoder",
    "ChunkEnd",
    "ClientConnection",
    "ClientEvent",
    "Command",
    "CommandReceived",
    "ConnectionClosed",
    "Data",
    "Dialect",
    "DotDecoder",
    "DotEncoder",
    "Ehlo",
    "EndOfBody",
    "Expn",
    "Extension",
    "FutureRelease",
    "Helo",
    "Help",
    "Lhlo",
    "Limits",
    "LineBuffer",
    "LocalProtocolError",
    "Mail",
    "MailParams",
    "Noop",
    "OutOfStep",
    "ProtocolError",
    "ProxyEndpoint",
    "ProxyHeader",
    "ProxyParser",
    "ProxyTls",
    "Quit",
    "Rcpt",
    "RcptParams",
    "RemoteProtocolError",
    "ReplyParser",
    "ReplyReceived",
    "Rset",
    "ServerConnection",
    "ServerEvent",
    "Side",
    "Signal",
    "StartTls",
    "State",
    "Verb",
    "Vrfy",
    "Xclient",
    "Xforward",
    "decode_xtext",
    "dot_encode",
    "encode_xtext",
    "format_command",
    "format_date_time",
    "format_reply",
    "is_legal",
    "name_host",
    "parse_command",
    "show_said",
]
