"""The wire between server and worker: frames whole, byte by byte, and what is none; values there and back."""

import json

import pytest

from elemta.mail import Identity
from elemta.plugin import (
    NO_ANSWER,
    NO_ARGUMENTS,
    Accept,
    BadAnswer,
    Changes,
    Defer,
    EnvelopeView,
    HeaderAction,
    HeaderChange,
    HeaderView,
    HookAnswer,
    HookArguments,
    MessageView,
    RecipientAction,
    RecipientChange,
    Redirect,
    Reject,
    SessionView,
)
from elemta.plugin.worker import (
    FrameDecoder,
    FrameError,
    Kind,
    encode_frame,
    pack_answer,
    pack_arguments,
    unpack_answer,
    unpack_arguments,
    without_copy,
)

FROM_WORKER = frozenset({Kind.ANSWER, Kind.READY})


def test_frames_come_out_as_they_went_in_whole_and_octet_by_octet() -> None:
    data = encode_frame(Kind.ANSWER, 7, b"rcpt\0{}") + encode_frame(Kind.READY, 0)
    whole = list(FrameDecoder(FROM_WORKER, 100).feed(data))
    decoder = FrameDecoder(FROM_WORKER, 100)
    pieces = [frame for octet in data for frame in decoder.feed(bytes([octet]))]
    assert whole == pieces
    assert [(each.kind, each.call, each.content) for each in whole] == [
        (Kind.ANSWER, 7, b"rcpt\0{}"),
        (Kind.READY, 0, b""),
    ]


def test_a_frame_beyond_the_limit_is_refused_before_its_content_came() -> None:
    decoder = FrameDecoder(FROM_WORKER, 10)
    with pytest.raises(FrameError, match="11 octets"):
        list(decoder.feed(encode_frame(Kind.ANSWER, 1, b"x" * 11)[:13]))


@pytest.mark.parametrize("kind", [Kind.CALL, Kind.STOP])
def test_a_frame_of_the_other_direction_is_refused(kind: Kind) -> None:
    with pytest.raises(FrameError, match="kind"):
        list(FrameDecoder(FROM_WORKER, 10).feed(encode_frame(kind, 1)))


ARGUMENTS = HookArguments(
    session=SessionView("s1", "mx", "mx", "192.0.2.1", identity=Identity("anna", "PLAIN")),
    envelope=EnvelopeView("a@example.org", ("b@example.org", "c@example.org"), priority=3),
    recipient="b@example.org",
    message=MessageView(5, (HeaderView("Subject", b" \xff\x00hi"),), b"\x00\xff\r\n."),
    chunk=bytes(range(256)),
    notes={"a.b": 1.5, "c": None, "d": True, "surrogate": "\udcff"},
)
ANSWERS = [
    NO_ANSWER,
    HookAnswer(Accept("known")),
    HookAnswer(Defer("Later", reason="list")),
    HookAnswer(Reject("No", 554, "5.7.1")),
    HookAnswer(Redirect(("x@example.org",))),
    HookAnswer(
        changes=Changes(
            headers=(HeaderChange(HeaderAction.ADD, "X-Spam", "yes"),),
            recipients=(RecipientChange(RecipientAction.REPLACE, "a@example.org", "b@example.org"),),
            sender="",
            priority=-3,
            tags=("bulk",),
        ),
        notes={"score": 3.5, "listed": True},
    ),
]


def test_arguments_come_through_unchanged() -> None:
    assert unpack_arguments(pack_arguments(ARGUMENTS)) == ARGUMENTS
    assert unpack_arguments(pack_arguments(NO_ARGUMENTS)) == NO_ARGUMENTS


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_come_through_unchanged(answer: HookAnswer) -> None:
    assert unpack_answer(pack_answer(answer)) == answer


def test_no_objection_is_the_shared_answer() -> None:
    assert unpack_answer(pack_answer(NO_ANSWER)) is NO_ANSWER


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"decision": ["Reject", {"code": 250}]}',
        b'{"decision": ["Reject", {"text": "a\\r\\nb"}]}',
        b'{"decision": ["Reject", {"text": 5}]}',
        b'{"decision": ["__class__", {}]}',
        b'{"decision": "Reject"}',
        b'{"unknown": 1}',
        b'{"notes": {"a": [1]}}',
        b'{"notes": 5}',
        b'{"changes": {"priority": 77}}',
        b'{"changes": {"headers": [{"action": "add", "name": "A B", "value": ""}]}}',
        json.dumps({"notes": {str(number): 0 for number in range(100)}}).encode(),
    ],
)
def test_what_is_no_answer_is_told_apart(content: bytes) -> None:
    with pytest.raises(BadAnswer):
        unpack_answer(content)


def test_a_large_message_goes_by_its_file_where_it_has_one() -> None:
    large = HookArguments(message=MessageView(9, content=b"123456789", path="/spool/x"))
    message = without_copy(large, 5).message
    assert message is not None
    assert (message.content, message.path) == (None, "/spool/x")
    assert without_copy(large, 9) is large
    only = HookArguments(message=MessageView(9, content=b"123456789"))
    assert without_copy(only, 5) is only
