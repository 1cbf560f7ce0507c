"""Replies to bytes and back, also malformed ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_helpers import pieces, splits

from elemta.mail import EnhancedCode, Reply, replies
from elemta.smtp import RemoteProtocolError, ReplyParser, format_reply
from elemta.smtp.replies import MAX_LINES, MAX_REPLY


def read(parts, *, enhanced=True):
    parser = ReplyParser()
    found = []
    for part in parts:
        parser.feed(part)
        while (reply := parser.next_reply(enhanced=enhanced)) is not None:
            found.append(reply)
    return found, len(parser)


# --- To bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "data"),
    [
        (Reply.of(250, "2.1.0", "ok"), b"250 2.1.0 ok\r\n"),
        (Reply.of(250, None, "ok"), b"250 ok\r\n"),
        (Reply.of(250, None, ""), b"250 \r\n"),
        (Reply.of(250, "2.0.0", "a", "b", "c"), b"250-2.0.0 a\r\n250-2.0.0 b\r\n250 2.0.0 c\r\n"),
        (Reply(250, None, ()), b"250 \r\n"),
        (Reply(354, EnhancedCode(0, 0), ("go",)), b"354 go\r\n"),
        (Reply.of(550, "5.1.1", "a\r\n250 ok"), b"550 5.1.1 a??250 ok\r\n"),
        (Reply.of(550, "5.1.1", "\x00\x1b\x7f\x9b\u202e\ud800"), b"550 5.1.1 ??????\r\n"),
        (Reply.of(550, None, "na\u00efve", "x"), b"550-na?ve\r\n550 x\r\n"),
    ],
)
def test_a_reply_as_it_is_sent(reply, data):
    assert format_reply(reply) == data


def test_without_enhanced_code():
    assert format_reply(Reply.of(250, "2.0.0", "a", "b"), enhanced=False) == b"250-a\r\n250 b\r\n"


CONSTANTS = [value for value in vars(replies).values() if isinstance(value, Reply)]


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_constant_is_sent_as_any_other_reply_that_is_equal(enhanced):
    assert len(CONSTANTS) > 80
    for reply in CONSTANTS:
        equal = Reply(reply.code, reply.enhanced, reply.lines)
        assert format_reply(reply, enhanced=enhanced) == format_reply(equal, enhanced=enhanced)


def test_with_utf8_letters_stay_and_nothing_else():
    reply = Reply.of(550, None, "na\u00efve\r\n\x9b\u2028\ud800 \U0001f600")
    assert format_reply(reply, utf8=True) == "550 na\u00efve????? \U0001f600\r\n".encode()


@pytest.mark.parametrize("utf8", [False, True])
@pytest.mark.parametrize(
    "text", ["x" * 2000, "\u00fc" * 1000, "x" + "\U0001f600" * 500, "x" * 501, "x" * 502]
)
def test_long_text_goes_on_in_further_lines_of_at_most_512_octets(text, utf8):
    data = format_reply(Reply.of(550, "5.7.1", text), utf8=utf8)
    lines = data.split(b"\r\n")[:-1]
    assert all(len(line) + 2 <= 512 for line in lines)
    assert all(line.startswith(b"550-5.7.1 ") for line in lines[:-1])
    assert lines[-1].startswith(b"550 5.7.1 ")
    joined = b"".join(line[10:] for line in lines).decode()
    assert joined == (text if utf8 or text.isascii() else "".join(c if c == "x" else "?" for c in text))
    for line in lines:
        line.decode()  # never cut within a character


# --- From bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"250 2.1.0 ok\r\n", Reply.of(250, "2.1.0", "ok")),
        (b"250 ok\r\n", Reply.of(250, None, "ok")),
        (b"250\r\n", Reply.of(250, None, "")),
        (b"250 \r\n", Reply.of(250, None, "")),
        (b"250ok\r\n", Reply.of(250, None, "ok")),
        (b"250 ok\n", Reply.of(250, None, "ok")),
        (b"250 ok\r\r\n", Reply.of(250, None, "ok")),
        (b"250-a\r\n250-\r\n250 c\r\n", Reply.of(250, None, "a", "", "c")),
        (b"250-a\n250\n", Reply.of(250, None, "a", "")),
        (b"250-2.0.0 a\r\n250 2.0.0 b\r\n", Reply.of(250, "2.0.0", "a", "b")),
        (b"250-2.0.0 a\r\n250 b\r\n", Reply.of(250, "2.0.0", "a", "b")),
        (b"250-2.0.0 a\r\n250 2.0.0\r\n", Reply.of(250, "2.0.0", "a", "")),
        (b"250 2.0.0\r\n", Reply.of(250, "2.0.0", "")),
        (b"550 4.1.1 other class\r\n", Reply.of(550, None, "4.1.1 other class")),
        (b"550 5.1.1000 x\r\n", Reply.of(550, None, "5.1.1000 x")),
        (b"550 5.1.1x\r\n", Reply.of(550, None, "5.1.1x")),
        (b"354 3.0.0 go\r\n", Reply.of(354, None, "3.0.0 go")),
        (b"550 \xff\xc3\xbc\r\n", Reply.of(550, None, "\\xff\u00fc")),
        (b"550 a\x1b[2J\x00\tb\r\n", Reply.of(550, None, "a\\x1b[2J\\x00 b")),
        ("550 \u202egood\r\n".encode(), Reply.of(550, None, "\\u202egood")),
        (b"550 a\rb\r\n", Reply.of(550, None, "a\\rb")),
        (b"299 x\r\n", Reply.of(299, None, "x")),
    ],
)
def test_a_reply_does_not_depend_on_how_it_arrives(data, reply):
    for parts in splits(data):
        assert read(parts) == ([reply], 0)
    for parts in splits(data + b"221 bye\r\n22"):
        assert read(parts) == ([reply, Reply.of(221, None, "bye")], 2)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"hello\r\n",
        b"25\r\n",
        b"2500 x\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"25x x\r\n",
        b" 250 x\r\n",
        "\u0662\u0665\u0660 x\r\n".encode(),
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_what_is_no_reply(data):
    for parts in splits(data):
        with pytest.raises(RemoteProtocolError):
            read(parts)


def test_enhanced_codes_are_text_where_there_can_be_none():
    assert read([b"220 2.0.0 x\r\n"], enhanced=False) == ([Reply.of(220, None, "2.0.0 x")], 0)


def test_of_a_very_long_reply_the_first_lines_are_kept():
    data = b"".join(b"250-%d\r\n" % number for number in range(1000)) + b"250 end\r\n250 next\r\n"
    found, _ = read([data])
    assert found[0].lines == tuple(str(number) for number in range(MAX_LINES))
    assert found[1] == Reply.of(250, None, "next")


@pytest.mark.parametrize("data", [b"250-x\r\n" * 20000, b"250 " + b"x" * 70000, b"x" * 70000])
def test_an_endless_reply_is_an_error_and_needs_no_memory(data):
    for size in (1000, len(data)):
        parser = ReplyParser()
        with pytest.raises(RemoteProtocolError):
            for start in range(0, len(data), size):
                parser.feed(data[start : start + size])
                while parser.next_reply() is not None:
                    raise AssertionError
                assert len(parser) <= MAX_REPLY + size


def test_many_replies_one_after_the_other():
    parser = ReplyParser()
    for _ in range(3):
        parser.feed(b"250 ok\r\n" * 20000 + b"25")
        for _ in range(20000):
            assert parser.next_reply() == Reply.of(250, None, "ok")
        assert parser.next_reply() is None
        parser.feed(b"0 ok\r\n")
        assert parser.next_reply() == Reply.of(250, None, "ok")
    assert not parser.within_reply


def test_within_a_reply():
    parser = ReplyParser()
    parser.feed(b"250-a\r\n")
    assert parser.next_reply() is None
    assert parser.within_reply


texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
replies_ = st.builds(
    lambda code, subject, lines: Reply(code, EnhancedCode(*subject), tuple(lines)),
    st.sampled_from([250, 251, 421, 452, 550, 554]),
    st.tuples(st.integers(0, 999), st.integers(0, 999)),
    st.lists(texts, min_size=1, max_size=4),
)


@given(replies_, st.lists(st.integers(0, 200), max_size=6))
@settings(deadline=None)
def test_what_is_sent_is_read_back(reply, where):
    assert read(pieces(format_reply(reply), where)) == ([reply], 0)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
@settings(deadline=None, max_examples=300)
def test_any_octets_are_replies_or_a_remote_error_however_they_arrive(data, where):
    def outcome(parts):
        parser = ReplyParser()
        found = []
        try:
            for part in parts:
                parser.feed(part)
                while (reply := parser.next_reply()) is not None:
                    found.append(reply)
                    assert all(line.isprintable() for line in reply.lines)
        except RemoteProtocolError as error:
            found.append(str(error))
        return found

    assert outcome(pieces(data, where)) == outcome([data]) == outcome(pieces(data, range(60)))
