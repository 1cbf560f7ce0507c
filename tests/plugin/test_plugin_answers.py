"""Answers of plugins: what is an answer, and what is none."""

import pytest

from elemta.plugin import (
    NO_ANSWER,
    BadAnswer,
    Changes,
    Defer,
    HeaderAction,
    HeaderChange,
    HeaderView,
    HookAnswer,
    MessageView,
    Redirect,
    Reject,
    add_header,
    check_answer,
)


@pytest.mark.parametrize(
    "answer",
    [
        NO_ANSWER,
        HookAnswer(Reject("No", code=554, enhanced="5.7.0")),
        HookAnswer(changes=add_header("X-Spam", "yes"), notes={"score": 4.5, "listed": True, "zone": None}),
    ],
)
def test_a_sound_answer_is_handed_on_as_it_is(answer):
    assert check_answer(answer) is answer


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Reject("bare"),
        HookAnswer(decision="reject"),
        HookAnswer(changes={"sender": "a@example.org"}),
        HookAnswer(changes=Changes(headers=["X: y"])),
        HookAnswer(changes=Changes(tags=("a\r\nb",))),
        HookAnswer(changes=Changes(priority=10)),
        HookAnswer(changes=Changes(priority=True)),
        HookAnswer(changes=add_header("X", "y" * 10_000)),
        HookAnswer(changes=Changes(tags=("t",) * 1_001)),
        HookAnswer(notes={"deep": {}}),
        HookAnswer(notes={1: "a"}),
        HookAnswer(notes={f"n{n}": n for n in range(65)}),
        HookAnswer(notes={"long": "x" * 10_000}),
    ],
)
def test_what_is_no_answer_is_refused(answer):
    with pytest.raises(BadAnswer):
        check_answer(answer)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reject("two\r\nlines"),
        lambda: Reject("wrong class", code=450),
        lambda: Reject("wrong class", enhanced="4.7.1"),
        lambda: Defer(enhanced="4.7"),
        lambda: Redirect(()),
        lambda: HeaderChange(HeaderAction.ADD, "no name:", "x"),
        lambda: HeaderChange(HeaderAction.ADD, "X", "value\r\nInjected: yes"),
        lambda: HeaderChange(HeaderAction.ADD, "X", "value\r\n \r\n more"),
        lambda: HeaderChange(HeaderAction.ADD, "X", "value\n more"),
        lambda: HeaderChange(HeaderAction.ADD, "X", "value\r\n "),
        lambda: HeaderChange("remove", "X", index=-1),
        lambda: HeaderChange("overwrite", "X", "x"),
    ],
)
def test_a_value_that_would_harm_cannot_be_made(make):
    with pytest.raises(ValueError, match=r".+"):
        make()


def test_a_message_is_read_by_field_and_in_pieces(tmp_path):
    headers = (HeaderView("Subject", b" a\r\n b"), HeaderView("To", b" \xff"))
    content = b"Subject: a\r\n b\r\n\r\nbody"
    small = MessageView(len(content), headers, content=content)
    assert small.header("subject") == "a b"
    assert small.header("to") == "\N{REPLACEMENT CHARACTER}"
    assert small.header("cc") is None
    assert list(small.chunks(8)) == [content[:8], content[8:16], content[16:]]
    file = tmp_path / "body"
    file.write_bytes(content)
    large = MessageView(len(content), headers, path=str(file))
    assert b"".join(large.chunks(5)) == content
