"""The replies that this server gives: well-formed, and none forgotten its enhanced code."""

import inspect

import pytest

from elemta.mail import MessageId, Reply, parse_mailbox, replies

CONSTANTS = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}
FUNCTIONS = {
    name: value
    for name, value in vars(replies).items()
    if inspect.isfunction(value) and value.__module__ == replies.__name__
}
MESSAGE = MessageId("0" * 16)
MADE = {
    "banner": replies.banner("mx.example.org"),
    "hello": replies.hello("mx.example.org", "SIZE 1000", "PIPELINING"),
    "queued": replies.queued(MESSAGE),
    "recipient_queued": replies.recipient_queued(MESSAGE),
    "listed": replies.listed("your address", "bl.example", permanent=True),
    "greylisted": replies.greylisted(300),
    "size_exceeded": replies.size_exceeded(52428800),
    "priority_changed": replies.priority_changed(0),
    "overloaded": replies.overloaded("storage takes 12 s"),
    "overloaded_now": replies.overloaded_now("storage takes 12 s"),
    "chunk_ok": replies.chunk_ok(1000),
    "verified": replies.verified(parse_mailbox("alice@example.org")),
}


def test_each_function_is_tried_here():
    assert MADE.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("name", [*CONSTANTS, *MADE])
def test_a_reply_is_well_formed(name):
    reply = CONSTANTS.get(name) or MADE[name]
    assert 211 <= reply.code <= 556
    for line in reply.lines:
        assert line.isascii()
        assert line.isprintable()
        # RFC 5321 §4.5.3.1.5: 512 octets with code, enhanced code, CR and LF
        assert 0 < len(line) < 490


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_reply_has_an_enhanced_code_where_rfc_2034_wants_one(name):
    reply = CONSTANTS[name]
    assert (reply.enhanced is None) == (reply.code == 354)


def test_greeting_and_hello_have_no_enhanced_code():
    assert MADE["banner"].enhanced is None
    assert MADE["hello"].enhanced is None


def test_the_banner_says_which_protocol_is_spoken():
    assert str(replies.banner("mx.example.org")) == "220 mx.example.org ESMTP elemta"
    assert str(replies.banner("mx.example.org", lmtp=True)) == "220 mx.example.org LMTP elemta"


def test_hello_has_one_line_per_extension():
    assert replies.hello("mx.example.org").lines == ("mx.example.org",)
    assert MADE["hello"].lines == ("mx.example.org", "SIZE 1000", "PIPELINING")


def test_the_id_of_the_message_is_the_last_word():
    assert str(replies.queued(MESSAGE)) == "250 2.0.0 queued as 0000000000000000"
    assert str(replies.recipient_queued(MESSAGE)) == "250 2.1.5 queued as 0000000000000000"


def test_only_421_ends_a_session_from_our_side():
    closing = {name for name, reply in CONSTANTS.items() if "closing" in reply.text or "connections" in name}
    assert {CONSTANTS[name].code for name in closing} == {221, 421}


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (replies.SENDER_OK, "250 2.1.0"),
        (replies.RECIPIENT_OK, "250 2.1.5"),
        (replies.START_DATA, "354 "),
        (replies.CANNOT_VERIFY, "252 2"),
        (replies.SYNTAX_ERROR, "500 5.5.2"),
        (replies.ARGUMENT_SYNTAX, "501 5.5.4"),
        (replies.BAD_SENDER_SYNTAX, "501 5.1.7"),
        (replies.BAD_RECIPIENT_SYNTAX, "501 5.1.3"),
        (replies.BAD_CHUNK_SIZE, "501 5.5.4"),
        (replies.SENDER_TOO_LONG, "501 5.1.7"),
        (replies.RECIPIENT_TOO_LONG, "501 5.1.3"),
        (replies.DATA_AFTER_BDAT, "503 5.5.1"),
        (replies.CHUNK_LOST, "503 5.5.1"),
        (replies.BINARY_NEEDS_BDAT, "503 5.5.1"),
        (replies.NOT_A_PROXY, "550 5.7.0"),
        (replies.UNKNOWN_COMMAND, "500 5.5.1"),
        (replies.NOT_IMPLEMENTED, "502 5.5.1"),
        (replies.BAD_SEQUENCE, "503 5.5.1"),
        (replies.NESTED_MAIL, "503 5.5.1"),
        (replies.NO_RECIPIENTS, "503 5.5.1"),
        (replies.NO_VALID_RECIPIENTS, "554 5.5.1"),
        (replies.UNKNOWN_PARAMETER, "555 5.5.4"),
        (replies.BAD_PARAMETER_VALUE, "501 5.5.4"),
        (replies.TOO_MANY_RECIPIENTS, "452 4.5.3"),
        (replies.size_exceeded(1), "552 5.3.4"),
        (replies.STORAGE_FULL, "452 4.3.1"),
        (replies.RELAY_DENIED, "550 5.7.1"),
        (replies.MAILBOX_UNKNOWN, "550 5.1.1"),
        (replies.BAD_LINE_ENDS, "554 5.6.0"),
        (replies.LINE_TOO_LONG, "500 5.5.2"),
        (replies.TEXT_LINE_TOO_LONG, "500 5.6.0"),
        (replies.HEADER_TOO_LARGE, "552 5.3.4"),
        (replies.TOO_MANY_HOPS, "554 5.4.6"),
        (replies.LOCAL_ERROR, "451 4.3.0"),
        (replies.COMMAND_TIMEOUT, "421 4.4.2"),
        (replies.SHUTTING_DOWN, "421 4.3.2"),
        (replies.SERVER_BUSY, "421 4.3.2"),
        (replies.TOO_MANY_ERRORS, "421 4.7.0"),
        (replies.TOO_MANY_CONNECTIONS, "421 4.7.0"),
        (replies.TLS_READY, "220 2.0.0"),
        (replies.TLS_NOT_AVAILABLE, "454 4.7.0"),
        (replies.STARTTLS_REQUIRED, "530 5.7.0"),
        (replies.TLS_ACTIVE, "503 5.5.1"),
        (replies.AUTH_REQUIRED, "530 5.7.0"),
        (replies.SMTPUTF8_NEEDED, "553 5.6.7"),
        (replies.NULL_MX, "556 5.1.10"),
        (replies.EXPIRED, "554 5.4.7"),
    ],
)
def test_a_reply_has_the_codes_of_its_rfc(reply, text):
    assert str(reply).startswith(text)
