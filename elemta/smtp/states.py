"""The transition table of SMTP and LMTP, which both sides use.

Two rules. Everything that moves a session from state to state is in `TRANSITIONS`. And nothing here
knows which side we are: the server looks a command up to see whether it may accept it, the client to
see whether it may send it, and both move by the severity of the reply.

    GREETING --220--> HELLO --EHLO--> READY --MAIL--> MAIL --RCPT--> RCPT --DATA 354--> BODY --250--> READY
                                                       |  5yz           ^
                                                       +-----> REFUSED -+ RCPT 250

    RCPT --BDAT 250--> CHUNKS --BDAT 250--> CHUNKS --BDAT LAST--> READY      (RFC 3030)
                          |  4yz, 5yz
                          +--> FAILED, until RSET

A missing key *is* the "bad sequence of commands" error (RFC 5321 §4.1.4). What the table does not
show, because it holds everywhere: a 421 reply closes (RFC 5321 §3.8), a command that is refused for
its syntax changes nothing, and any protocol error leads to ERROR.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from elemta.mail import Severity


class State(enum.Enum):
    """Where a session is, seen from either side."""

    GREETING = "greeting"
    """Connected; the server has not greeted."""
    REJECTED = "rejected"
    """Greeted with 554: the server only waits for QUIT (RFC 5321 §3.1)."""
    HELLO = "hello"
    """Greeted, or TLS has just begun; no EHLO, HELO or LHLO yet."""
    READY = "ready"
    """No mail transaction is open."""
    MAIL = "mail"
    """MAIL was accepted, no recipient was named."""
    REFUSED = "refused"
    """MAIL was accepted, and every recipient so far was refused."""
    RCPT = "rcpt"
    """At least one recipient was accepted."""
    CHUNKS = "chunks"
    """Some of the message has come by BDAT; more is to come (RFC 3030)."""
    FAILED = "failed"
    """A chunk was refused: the transaction can only be reset (RFC 3030 §2)."""
    BODY = "body"
    """354 was given: what comes is the message, up to its end and the reply to it."""
    AUTH = "auth"
    """334 was given: the next line is a response of the SASL exchange (RFC 4954)."""
    TLS = "tls"
    """220 was given to STARTTLS: what comes is the handshake (RFC 3207)."""
    CLOSED = "closed"
    ERROR = "error"

    # Members are compared by identity; the hash of Enum is a Python call on the hot path.
    __hash__ = object.__hash__


class Verb(enum.StrEnum):
    """The commands, and three steps that are none but move the session in the same way.

    Which of its two replies a BDAT gets tells BDAT and BODY apart: a chunk marked LAST ends the message.
    """

    CONNECT = "CONNECT"
    """The connection itself, answered by the greeting."""
    EHLO = "EHLO"
    HELO = "HELO"
    LHLO = "LHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    """A chunk that is not the last."""
    BODY = "BODY"
    """The end of the message, by the final dot or with the last chunk, answered by its final reply."""
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"
    VRFY = "VRFY"
    EXPN = "EXPN"
    HELP = "HELP"
    STARTTLS = "STARTTLS"
    TLS = "TLS"
    """The handshake after STARTTLS; never on the wire."""
    AUTH = "AUTH"
    XCLIENT = "XCLIENT"
    XFORWARD = "XFORWARD"

    __hash__ = str.__hash__  # a member equals its text, and so does its hash


_TRANSACTION = (State.MAIL, State.REFUSED, State.RCPT, State.CHUNKS, State.FAILED)
_FAILURES = (Severity.TRANSIENT, Severity.PERMANENT)

Key = tuple[State, str, Severity]


def _build() -> dict[Key, State]:
    table: dict[Key, State] = {}

    def add(state: State, verb: Verb, *, done: State, refused: State) -> None:
        table[state, verb, Severity.POSITIVE] = done
        for severity in _FAILURES:
            table[state, verb, severity] = refused

    # RFC 5321 §3.1: after 554 the server still waits for QUIT; after 4yz it closes (§3.8 knows 421)
    table[State.GREETING, Verb.CONNECT, Severity.POSITIVE] = State.HELLO
    table[State.GREETING, Verb.CONNECT, Severity.TRANSIENT] = State.CLOSED
    table[State.GREETING, Verb.CONNECT, Severity.PERMANENT] = State.REJECTED

    settled = (State.HELLO, State.READY, *_TRANSACTION)
    for state in settled:
        for verb in (Verb.EHLO, Verb.HELO, Verb.LHLO):
            # RFC 5321 §4.1.4: a later EHLO also ends the transaction; a refused one changes nothing
            add(state, verb, done=State.READY, refused=state)
        # RFC 5321 §4.1.4: these may come at any time, also before EHLO
        for verb in (Verb.NOOP, Verb.VRFY, Verb.EXPN, Verb.HELP):
            add(state, verb, done=state, refused=state)
        # RFC 5321 §4.1.1.5: RSET ends the transaction and keeps the hello
        add(state, Verb.RSET, done=State.HELLO if state is State.HELLO else State.READY, refused=state)
    for state in (*settled, State.REJECTED):
        # RFC 5321 §4.1.1.10: whatever the answer, nothing follows
        add(state, Verb.QUIT, done=State.CLOSED, refused=State.CLOSED)

    # Postfix, XCLIENT_README: not within a transaction, and the session begins anew with the reply
    for state in (State.HELLO, State.READY):
        add(state, Verb.XCLIENT, done=State.HELLO, refused=state)
        add(state, Verb.XFORWARD, done=state, refused=state)
    add(State.READY, Verb.STARTTLS, done=State.TLS, refused=State.READY)
    # RFC 3207 §4.2: both sides forget what they knew, and the client says EHLO again
    add(State.TLS, Verb.TLS, done=State.HELLO, refused=State.CLOSED)
    for state in (State.READY, State.AUTH):  # RFC 4954 §4: not within a transaction
        add(state, Verb.AUTH, done=State.READY, refused=State.READY)
        table[state, Verb.AUTH, Severity.INTERMEDIATE] = State.AUTH

    # RFC 5321 §3.3, §4.1.4: one transaction at a time
    add(State.READY, Verb.MAIL, done=State.MAIL, refused=State.READY)
    add(State.MAIL, Verb.RCPT, done=State.RCPT, refused=State.REFUSED)
    add(State.REFUSED, Verb.RCPT, done=State.RCPT, refused=State.REFUSED)
    add(State.RCPT, Verb.RCPT, done=State.RCPT, refused=State.RCPT)
    # REFUSED: RFC 2920 §3.1 has the client send DATA before it knows, and a server may say 354
    for state in (State.REFUSED, State.RCPT):
        table[state, Verb.DATA, Severity.INTERMEDIATE] = State.BODY
        for severity in _FAILURES:
            # RFC 5321 §4.1.4: only a finished DATA, RSET or EHLO ends a transaction, so it stays open
            table[state, Verb.DATA, severity] = state
    # RFC 3030 §2: more recipients are not named once the message has begun. Chunks that a client has sent
    # before it knew of a refusal are refused, too, since a message with a hole must not come out of them.
    for state in (State.RCPT, State.CHUNKS):
        table[state, Verb.BDAT, Severity.POSITIVE] = State.CHUNKS
        table[state, Verb.BODY, Severity.POSITIVE] = State.READY
    for state in _TRANSACTION:
        for severity in _FAILURES:
            table[state, Verb.BDAT, severity] = State.FAILED
            # RFC 2920 §3.1: a client may have sent MAIL behind its last chunk, so that ends the transaction
            table[state, Verb.BODY, severity] = State.READY
    # RFC 5321 §4.1.1.4: whatever the reply to the body, the buffers are cleared
    add(State.BODY, Verb.BODY, done=State.READY, refused=State.READY)
    return table


TRANSITIONS: Mapping[Key, State] = MappingProxyType(_build())
"""`TRANSITIONS[state, verb, severity]` is the state after a command got its reply."""

# The same table in the forms that the hot path asks: by the code's first digit, and the best that may come
_BY_DIGIT = {(state, verb, severity.value): after for (state, verb, severity), after in TRANSITIONS.items()}
_EXPECTED = {
    (state, verb): after
    for best in (Severity.POSITIVE, Severity.INTERMEDIATE)
    for (state, verb, severity), after in TRANSITIONS.items()
    if severity is best
}

GROUP_ENDERS = frozenset(
    # RFC 2920 §3.1; for STARTTLS RFC 3207 §4, for AUTH RFC 4954 §4. HELP is not in the list of what may
    # be pipelined freely (RSET, MAIL, RCPT), so it ends a group as well. BDAT does not (RFC 3030 §4.2 shows
    # one that is pipelined), nor XCLIENT and XFORWARD (Postfix, XCLIENT_README).
    {
        *(Verb.EHLO, Verb.HELO, Verb.LHLO, Verb.DATA, Verb.VRFY, Verb.EXPN, Verb.QUIT, Verb.NOOP),
        *(Verb.HELP, Verb.STARTTLS, Verb.AUTH),
    }
)
"""Commands that must be the last of a pipelined group."""


def is_legal(state: State, verb: str) -> bool:
    """Whether the command has any reply in this state but "bad sequence"."""
    return (state, verb) in _EXPECTED


def state_after(state: State, verb: str, code: int) -> State | None:
    """The state after a reply with this code; None where the command has no such reply here."""
    return _BY_DIGIT.get((state, verb, code // 100))


def state_expected(state: State, verb: str) -> State | None:
    """The state after a reply that lets the client go on; None where the command is out of sequence."""
    return _EXPECTED.get((state, verb))
