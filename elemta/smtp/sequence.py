"""What a command is told that is out of sequence (RFC 5321 §4.1.4)."""

from __future__ import annotations

from typing import Final

from elemta.mail import Reply, replies

from .states import State, Verb

_REPLIES: Final[dict[tuple[State, str], Reply]] = {
    **{
        # RFC 5321 §4.1.4: hello before a transaction; §4.1.1.1 for the extensions' commands
        (State.HELLO, verb): replies.HELLO_FIRST
        for verb in (Verb.MAIL, Verb.RCPT, Verb.DATA, Verb.BDAT, Verb.STARTTLS, Verb.AUTH)
    },
    # RFC 5321 §3.3; RFC 3030 §2 for what comes behind BDAT LAST
    **{(State.READY, verb): replies.MAIL_FIRST for verb in (Verb.RCPT, Verb.DATA, Verb.BDAT)},
    # RFC 5321 §4.1.1.2, §4.1.4
    **{
        (state, Verb.MAIL): replies.NESTED_MAIL
        for state in (State.MAIL, State.REFUSED, State.RCPT, State.CHUNKS, State.FAILED)
    },
    # RFC 5321 §3.3, §4.1.1.4: 503 or 554
    **{(State.MAIL, verb): replies.NO_RECIPIENTS for verb in (Verb.DATA, Verb.BDAT)},
    **{(State.REFUSED, verb): replies.NO_VALID_RECIPIENTS for verb in (Verb.DATA, Verb.BDAT)},
    # RFC 3030 §2
    (State.CHUNKS, Verb.DATA): replies.DATA_AFTER_BDAT,
    **{(State.FAILED, verb): replies.CHUNK_LOST for verb in (Verb.DATA, Verb.BDAT)},
}


def out_of_sequence(state: State, verb: str, *, lmtp: bool = False) -> Reply:
    """The reply to a command that the state does not allow."""
    reply = _REPLIES.get((state, verb), replies.BAD_SEQUENCE)
    # RFC 2033 §4.2, §4.3 leave LMTP no choice but 503
    return replies.NO_RECIPIENTS if lmtp and reply is replies.NO_VALID_RECIPIENTS else reply
