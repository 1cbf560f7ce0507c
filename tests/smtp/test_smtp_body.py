"""Un-stuffing and stuffing, smuggling, limits; whole, byte by byte and cut anywhere."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_helpers import decode, pieces, splits

from elemta.smtp import BodyProblem, DotDecoder, DotEncoder, Limits, dot_encode

STRICT = Limits()
REPAIR = Limits(repair_line_ends=True)
REPAIR_ALL = Limits(repair_line_ends=True, repair_nul=True)


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n..b\r\n.\r\n", b".a\r\n.b\r\n"),
        (b".a\r\n.b\r\n.\r\n", b"a\r\nb\r\n"),  # RFC 5321 §4.5.2: any first dot goes
        (b"...\r\n\r\n...\r\n.\r\n", b"..\r\n\r\n..\r\n"),
        (b"a..b.\r\nc.\r\n.\r\n", b"a..b.\r\nc.\r\n"),
        (b"a\r\n\r\n\r\n.\r\n", b"a\r\n\r\n\r\n"),
    ],
)
def test_content_does_not_depend_on_how_it_arrives(wire, content):
    for tail in (b"", b"MAIL FROM:<>\r\n", b".\r\n"):
        for parts in splits(wire + tail):
            assert decode(parts, STRICT) == (content, len(content), None, tail)


SMUGGLING = [
    (b"\n.\n", BodyProblem.BARE_LF),
    (b"\n.\r\n", BodyProblem.BARE_LF),
    (b"\r\n.\n", BodyProblem.BARE_LF),
    (b"\r.\r", BodyProblem.BARE_CR),
    (b"\r\n.\r", BodyProblem.BARE_CR),
    (b"\r.\r\n", BodyProblem.BARE_CR),
    (b"\r\n.\r\r\n", BodyProblem.BARE_CR),
    (b"\r\n\r.\r\n", BodyProblem.BARE_CR),
    (b"\n\n.\r\n", BodyProblem.BARE_LF),
    (b"\r.\n", BodyProblem.BARE_LF),
    (b"\n.\r", BodyProblem.BARE_LF),
    (b"\n\r.\n\r", BodyProblem.BARE_LF),
    (b"\r\n\0.\r\n", BodyProblem.NUL),
    (b"\r\n.\0\r\n", BodyProblem.NUL),
    (b"\0\r\n.\0\r\n", BodyProblem.NUL),
    (b"\r\n.\r\0\n", BodyProblem.BARE_LF),
    (b"\r\0\n.\r\n", BodyProblem.BARE_LF),
    (b"\r\n. \r\n", None),
    (b"\r\n.\t\r\n", None),
    (b"\r\n.\x85", None),
    (b"\x0b.\x0b", None),
    ("\u2028.\u2028".encode(), None),
]


@pytest.mark.parametrize("limits", [STRICT, REPAIR])
@pytest.mark.parametrize(("trick", "problem"), SMUGGLING)
def test_no_other_sequence_ends_the_message(trick, problem, limits):
    smuggled = b"a" + trick + b"MAIL FROM:<x@example.org>\r\n"
    for parts in splits(smuggled + b".\r\nRSET\r\n"):
        content, size, found, rest = decode(parts, limits)
        assert rest == b"RSET\r\n"
        assert b"MAIL FROM:<x@example.org>\r\n" in content
        assert size == len(content)
        repaired = limits.repair_line_ends and problem is not BodyProblem.NUL
        if not repaired:
            assert found is problem
        elif found is not None:  # NUL is not repaired with line ends
            assert (found, b"\0" in trick) == (BodyProblem.NUL, True)


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"a\nb\n\r\n.\r\n", b"a\r\nb\r\n\r\n"),
        (b"a\rb\r\r\n.\r\n", b"a\r\nb\r\n\r\n"),
        (b"\n\r\n.\r\n", b"\r\n\r\n"),
        # What was within a line was not stuffed: its dot is text, alone in its line or not
        (b"a\n.\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\n..b\r\n.\r\n", b"a\r\n..b\r\n"),
        # And this one was at the begin of a line
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n"),
    ],
)
def test_repaired_line_ends(wire, content):
    for parts in splits(wire + b"tail"):
        assert decode(parts, REPAIR) == (content, len(content), None, b"tail")


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"a\0b\0\0\r\n.\r\n", b"a?b??\r\n"),
        (b"\0.\r\n.\r\n", b"?.\r\n"),
        # Were it left out there would be a CRLF that was none on the wire, and an end that was none
        (b"a\r\0\nb\r\n.\r\n", b"a\r\n?\r\nb\r\n"),
        (b"a\r\n.\0\r\nb\r\n.\r\n", b"a\r\n?\r\nb\r\n"),
        (b"a\r\n\0.\r\nb\r\n.\r\n", b"a\r\n?.\r\nb\r\n"),
        # Were it a blank, the line would belong to the field before it
        (b"A: b\r\n\0c\r\n.\r\n", b"A: b\r\n?c\r\n"),
    ],
)
def test_repaired_nul_is_a_question_mark(wire, content):
    for parts in splits(wire + b"tail"):
        assert decode(parts, REPAIR_ALL) == (content, len(content), None, b"tail")


@pytest.mark.parametrize(("trick", "problem"), SMUGGLING)
def test_repairing_nul_hides_no_bare_line_end_and_ends_no_message(trick, problem):
    smuggled = b"a" + trick + b"MAIL FROM:<x@example.org>\r\n"
    for parts in splits(smuggled + b".\r\nRSET\r\n"):
        content, size, found, rest = decode(parts, Limits(repair_nul=True))
        assert rest == b"RSET\r\n"
        assert content.endswith(b"MAIL FROM:<x@example.org>\r\n")
        assert (size, b"\0" in content) == (len(content), False)
        assert found is (None if problem is BodyProblem.NUL else problem)


def test_problems_have_an_order_that_does_not_depend_on_their_place():
    wire = b"\0" + b"x" * 30 + b"\r\rb\na\r\n.\r\n"
    limits = Limits(message_size=10)
    for parts in splits(wire):
        assert decode(parts, limits)[2] is BodyProblem.BARE_LF


@pytest.mark.parametrize(
    ("size", "problem"), [(12, None), (11, BodyProblem.TOO_BIG), (1, BodyProblem.TOO_BIG)]
)
def test_size_counts_octets_without_stuffing(size, problem):
    wire = b"..12345\r\n..\r\n.\r\n"  # ".12345\r\n.\r\n": 8 + 3
    content = b".12345\r\n.\r\n"
    limits = Limits(message_size=size - 1)
    for parts in splits(wire + b"QUIT\r\n"):
        found = decode(parts, limits)
        kept = content[: size - 1] if size > 1 else content
        assert found[0] == kept
        assert found[1] == 11
        assert found[2] is (problem if size > 1 else None)
        assert found[3] == b"QUIT\r\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"12345678\r\n", None),
        (b"123456789\r\n", BodyProblem.LINE_TOO_LONG),
        (b"1\r\n" * 20 + b"12345678\r\n" * 3 + b"\r\n" * 9, None),
        (b"1\r\n" * 20 + b"123456789\r\n" + b"1\r\n", BodyProblem.LINE_TOO_LONG),
        (b"x" * 100 + b"\r\n", BodyProblem.LINE_TOO_LONG),
        (b".2345678\r\n", None),  # RFC 5321 §4.5.3.1.6: not counting the dot that was doubled
    ],
)
def test_lines_that_are_too_long(content, problem):
    for parts in splits(dot_encode(content)):
        assert decode(parts, Limits(text_line=10)) == (content, len(content), problem, b"")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"A: 1\r\nB:2\r\n\r\nbody body body\r\n", None),
        (b"A: 1\r\nB:23\r\n\r\nbody\r\n", BodyProblem.HEADER_TOO_BIG),
        (b"A: 1\r\nB:23\r\n", BodyProblem.HEADER_TOO_BIG),
        (b"A: 1\r\nB:2\r\n", None),
        (b"\r\nno header at all\r\n", None),
        (b"x" * 50 + b"\r\n", BodyProblem.HEADER_TOO_BIG),
    ],
)
def test_headers_that_are_too_big(content, problem):
    for parts in splits(dot_encode(content)):
        assert decode(parts, Limits(header_size=11)) == (content, len(content), problem, b"")


def test_a_piece_without_an_end_is_handed_out_but_for_four_octets():
    decoder = DotDecoder(STRICT)
    assert decoder.feed(b"abc\r\n.\r") == (b"abc", None)
    assert decoder.feed(b"x\r\n..") == (b"\r\n\rx\r\n.", None)
    assert decoder.feed(b"\r\n.\r\nRSET") == (b"\r\n", b"RSET")
    assert decoder.size == 12
    assert decoder.problem is BodyProblem.BARE_CR


def test_an_endless_message_needs_no_memory():
    decoder = DotDecoder(Limits(message_size=1000, header_size=1000, text_line=1000))
    piece = b"x" * 60000
    decoder.feed(piece)
    tracemalloc.start()
    for _ in range(20):
        decoder.feed(piece)
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert current < 5000


# --- Stuffing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n.\r\n..\r\n", b"..\r\n..\r\n...\r\n.\r\n"),
        (b"a.\r\nb\r", b"a.\r\nb\r\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
    ],
)
def test_stuffing(content, wire):
    assert dot_encode(content) == wire
    for parts in splits(content):
        encoder = DotEncoder()
        assert b"".join(map(encoder.feed, parts)) + encoder.end() == wire


def test_what_needs_no_stuffing_is_not_copied():
    content = b"Subject: x\r\n\r\ntext...\r\n" * 100
    assert DotEncoder().feed(content) is content
    assert DotEncoder().feed(b"") == b""


line = st.lists(st.sampled_from([b".", b"..", b"a", b" ", b"\xff", b"-"]), max_size=5).map(b"".join)
crlf_body = st.lists(line, max_size=8).map(lambda lines: b"".join(one + b"\r\n" for one in lines))
cuts = st.lists(st.integers(0, 100), max_size=10)


@given(crlf_body, cuts, cuts)
@settings(deadline=None)
def test_stuffing_and_un_stuffing_give_the_message_back(content, sending, receiving):
    encoder = DotEncoder()
    wire = b"".join(encoder.feed(piece) for piece in pieces(content, sending)) + encoder.end()
    assert wire == dot_encode(content)
    assert decode(pieces(wire + b"QUIT\r\n", receiving), STRICT) == (content, len(content), None, b"QUIT\r\n")


octets = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"\r\n.", b"a", b"\0"]), max_size=14).map(
    b"".join
)
all_limits = st.builds(
    Limits,
    message_size=st.integers(0, 8),
    text_line=st.integers(0, 6),
    header_size=st.integers(0, 8),
    repair_line_ends=st.booleans(),
    repair_nul=st.booleans(),
)


@given(octets, cuts, all_limits)
@settings(deadline=None, max_examples=500)
def test_any_octets_in_any_pieces_give_the_same(data, where, limits):
    wire = data + b"\r\n.\r\ntail"
    whole = decode([wire], limits)
    assert whole[3] is not None
    assert decode(pieces(wire, where), limits) == whole
    assert decode([wire[i : i + 1] for i in range(len(wire))], limits) == whole


@given(octets)
@settings(deadline=None)
def test_the_first_crlf_dot_crlf_is_the_end_and_nothing_before_it(data):
    wire = data + b"\r\n.\r\n"
    end = (b"\r\n" + wire).find(b"\r\n.\r\n") + 3
    rest = decode([wire], STRICT)[3]
    assert rest == wire[end:]
    assert decode([wire[: end - 1]], STRICT)[3] is None
