"""Ids, replies, envelopes and outcomes: values that say what they mean."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import elemta.mail
from elemta.mail import (
    DEFAULT_NOTIFY,
    NO_DSN_OPTIONS,
    NULL_PATH,
    BodyType,
    Cause,
    Deferred,
    DeliverBy,
    DeliverByMode,
    Delivered,
    DsnOptions,
    EnhancedCode,
    Envelope,
    Failed,
    Identity,
    Notify,
    Origin,
    Recipient,
    Reply,
    Ret,
    Severity,
    is_id,
    make_id,
    parse_mailbox,
)

MILLISECONDS = st.integers(min_value=0, max_value=2**45 - 1)
RANDOM = st.integers(min_value=0, max_value=2**35 - 1)
USER = parse_mailbox("user@example.org")


@given(MILLISECONDS, RANDOM, MILLISECONDS, RANDOM)
def test_ids_sort_by_time_first(time, random, other_time, other_random):
    first, second = make_id(time, random), make_id(other_time, other_random)
    assert (first < second) == ((time, random) < (other_time, other_random))
    assert (first == second) == ((time, random) == (other_time, other_random))


@given(MILLISECONDS, RANDOM)
def test_what_is_made_is_an_id(time, random):
    made = make_id(time, random)
    assert is_id(made)
    assert len(made) == 16


def test_an_id_of_a_known_moment():
    assert make_id(0, 0) == "0" * 16
    assert make_id(1, 1) == "0000000010000001"
    assert make_id(2**45 - 1, 2**35 - 1) == "z" * 16


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "0" * 15,
        "0" * 17,
        "0" * 15 + "\n",
        "0" * 16 + "\n",
        "0" * 15 + "\0",
        "0" * 15 + "/",
        "0" * 15 + ".",
        "0" * 15 + "A",
        "0" * 15 + "i",
        "0" * 15 + "l",
        "0" * 15 + "o",
        "0" * 15 + "u",
        "0" * 15 + "٣",
        "../" * 5 + "0",
        "' OR 1=1 --     ",
        "%" * 16,
    ],
)
def test_what_is_not_an_id_is_refused(text):
    assert not is_id(text)


def test_a_reply_from_text():
    reply = Reply.of(250, "2.1.0", "sender ok")
    assert reply == Reply(250, EnhancedCode(1, 0), ("sender ok",))
    assert reply.enhanced_text == "2.1.0"
    assert reply.text == "sender ok"
    assert str(reply) == "250 2.1.0 sender ok"


def test_a_reply_without_an_enhanced_code():
    reply = Reply.of(354, None, "go on")
    assert reply.enhanced_text is None
    assert str(reply) == "354 go on"


@pytest.mark.parametrize("enhanced", [None, "2.0.0"])
def test_a_reply_without_text_has_one_empty_line(enhanced):
    assert Reply.of(250, enhanced).lines == ("",)


def test_the_lines_of_a_reply_are_joined_for_people():
    assert str(Reply.of(250, None, "one", "two")) == "250 one two"


def test_an_enhanced_code_of_another_class_is_a_mistake():
    with pytest.raises(ValueError, match=r"5\.1\.1 does not go with 450"):
        Reply.of(450, "5.1.1", "no")


@pytest.mark.parametrize(
    ("code", "severity", "positive"),
    [
        (220, Severity.POSITIVE, True),
        (354, Severity.INTERMEDIATE, True),
        (451, Severity.TRANSIENT, False),
        (550, Severity.PERMANENT, False),
    ],
)
def test_the_first_digit_is_the_severity(code, severity, positive):
    reply = Reply.of(code, None)
    assert reply.severity is severity
    assert reply.is_positive is positive


def test_a_code_of_no_class_has_no_severity():
    with pytest.raises(KeyError):
        assert Reply.of(199, None).severity


def test_the_class_of_an_enhanced_code_follows_the_reply():
    assert attrs.evolve(Reply.of(550, "5.1.1"), code=450).enhanced_text == "4.1.1"


def test_a_recipient_that_said_nothing_gets_the_default_notices():
    assert Recipient(USER).dsn is NO_DSN_OPTIONS
    assert Recipient(USER).notify == DEFAULT_NOTIFY == Notify.FAILURE | Notify.DELAY


def test_never_is_not_the_same_as_not_said():
    assert Recipient(USER, DsnOptions(notify=Notify.NEVER)).notify is Notify.NEVER
    assert Recipient(USER, DsnOptions(notify=Notify.SUCCESS)).notify is Notify.SUCCESS


def test_an_envelope_has_plain_defaults():
    envelope = Envelope(NULL_PATH, (Recipient(USER),))
    assert envelope.body_type is BodyType.SEVEN_BIT
    assert not envelope.smtputf8
    assert not envelope.require_tls
    assert (envelope.ret, envelope.envelope_id, envelope.priority) == (None, None, 0)
    assert (envelope.deliver_by, envelope.release_at) == (None, None)


def test_words_of_the_protocol_are_their_own_text():
    assert str(BodyType.EIGHT_BIT_MIME) == "8BITMIME"
    assert str(Ret.HEADERS) == "HDRS"
    assert [DeliverByMode("R"), DeliverByMode("N")] == [DeliverByMode.RETURN, DeliverByMode.NOTIFY]
    assert str(Cause.UNKNOWN_AFTER_DOT) == "unknown-after-dot"


def test_values_cannot_be_changed_and_can_be_keys():
    reply = Reply.of(550, "5.1.1", "no")
    values = [
        USER,
        reply,
        Recipient(USER),
        Envelope(NULL_PATH, (Recipient(USER),)),
        DeliverBy(1.0, DeliverByMode.RETURN),
        Origin("s", "192.0.2.1", identity=Identity("user", "PLAIN")),
        Delivered(reply),
        Deferred(Cause.DNS, reply),
        Failed(Cause.DNS, reply),
    ]
    assert len(set(values)) == len(values)
    for value in values:
        name = attrs.fields(type(value))[0].name
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, name, None)


def test_everything_that_is_exported_is_there():
    for name in elemta.mail.__all__:
        assert hasattr(elemta.mail, name)
