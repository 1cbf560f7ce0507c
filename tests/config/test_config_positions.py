"""Where things stand in a TOML document."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.config.positions import MAX_DEPTH, KeyPath, find_positions

UNHURRIED = settings(deadline=None)
"""Property tests are not timed: the machine may be busy."""


def all_paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every path in what tomllib read."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield from all_paths(inner, (*path, step))


DOCUMENTS: list[tuple[str, dict[KeyPath, int]]] = [
    ("", {}),
    ("# only a comment", {}),
    ("\n\na = 1", {("a",): 3}),
    ("a.b.c = 1\na.b.d = 2\n", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "b", "d"): 2}),
    ("[a.b]\nx = 1\n[a]\ny = 2\n", {("a",): 3, ("a", "b"): 1, ("a", "b", "x"): 2, ("a", "y"): 4}),
    (
        "[[l]]\na = 1\n\n[[l]] # two\nb = 2",
        {("l",): 1, ("l", 0): 1, ("l", 0, "a"): 2, ("l", 1): 4, ("l", 1, "b"): 5},
    ),
    ("[[l]]\n[l.s]\nz = 1\n[[l]]", {("l", 0, "s"): 2, ("l", 0, "s", "z"): 3, ("l", 1): 4}),
    ("[[l]]\n[[l.q]]\n[[l.q]]\nw = 1", {("l", 0, "q", 0): 2, ("l", 0, "q", 1): 3, ("l", 0, "q", 1, "w"): 4}),
    ("b = [1,\n 2, # c ] \n [3,\n4],\n]\nc = 1", {("b", 1): 2, ("b", 2): 3, ("b", 2, 1): 4, ("c",): 6}),
    ("l = [{a = 1},\n  {a = 2, b.c = 3}]", {("l", 0, "a"): 1, ("l", 1): 2, ("l", 1, "b", "c"): 2}),
    (
        "a = {b = [\n1,\n2], c = {d = {}}}\ne = 1",
        {("a", "b", 1): 3, ("a", "c"): 3, ("a", "c", "d"): 3, ("e",): 4},
    ),
    ('a = """x\n"y" ] # "\n"""""\nb = 1', {("a",): 1, ("b",): 4}),
    ('a = """\\"""x"""\nb = """a""b"""\nc = 1', {("b",): 2, ("c",): 3}),
    ("a = '''\n''x''''\nb = 1", {("a",): 1, ("b",): 3}),
    ("a = \"\"\nb = ''\nc = \"\"\"\"\"\"\nd = ''''''\ne = 1", {("e",): 5}),
    ('a = "\\"]#"\nb = \'\\\'\nc = "x" # "', {("b",): 2, ("c",): 3}),
    ("d = 1979-05-27 07:32:00 # x\nf = 1.5", {("d",): 1, ("f",): 2}),
    ('"q.\\u0041\\n" = 1\n\'lit.x\' . y = 2\n"" = 3', {("q.A\n",): 1, ("lit.x", "y"): 2, ("",): 3}),
    ("[ a . 'b' ]\nc = 1", {("a", "b"): 1, ("a", "b", "c"): 2}),
    ("a = 1\r\n[b]\r\nc = [\r\n1,\r\n]\r\nd = 1\r\n", {("b",): 2, ("b", "c", 0): 4, ("b", "d"): 6}),
]


@pytest.mark.parametrize(("text", "lines"), DOCUMENTS)
def test_every_path_is_found_on_its_line(text: str, lines: dict[KeyPath, int]) -> None:
    positions = find_positions(text)
    assert set(positions.lines) == set(all_paths(tomllib.loads(text)))
    assert {path: positions.line(path) for path in lines} == lines


def test_what_is_missing_is_placed_at_the_nearest_thing_around_it() -> None:
    positions = find_positions("a = 1\n\n[[l]]\nb = 1\n")
    assert positions.line(("l", 0, "c")) == 3
    assert positions.line(("l", 5, "c")) == 3
    assert positions.line(("x",)) == 1


def test_very_deep_keys_cost_no_memory() -> None:
    text = ".".join(["a"] * 20000) + " = 1\n" + f"[{'.'.join(['b'] * 20000)}]\nc = 1\n"
    assert len(find_positions(text).lines) == 2 * MAX_DEPTH


KEYS = st.sampled_from(["a", "b-1", "'c.d'", '"e\\u0066"', '"#"', "'='"])
SCALARS = st.sampled_from(
    [
        "1",
        "-0x1",
        "true",
        "1.5e3",
        '"s"',
        '"\\"]}#,"',
        "'\\'",
        '"""\n"x\n"""',
        "'''a\n'b'''",
        "07:32:00",
        "inf",
    ]
)
VOIDS = st.sampled_from(["", " ", "\n", " # [}\n\t"])


def _arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda items, void, comma: (
            f"[{void}" + f"{void},{void}".join(items) + (f"{void}," if comma and items else "") + f"{void}]"
        ),
        st.lists(values, max_size=3),
        VOIDS,
        st.booleans(),
    )


def _inline_tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}",
        st.dictionaries(KEYS, values, max_size=3),
    )


VALUES = st.recursive(SCALARS, lambda inner: _arrays(inner) | _inline_tables(inner), max_leaves=6)
PAIRS = st.builds(
    lambda keys, value: f"{'.'.join(keys)} = {value}", st.lists(KEYS, min_size=1, max_size=2), VALUES
)
HEADERS = st.builds(
    lambda keys, many: f"[[{'.'.join(keys)}]]" if many else f"[{' . '.join(keys)}]",
    st.lists(KEYS, min_size=1, max_size=2),
    st.booleans(),
)


@UNHURRIED
@given(
    st.lists(PAIRS | HEADERS | VOIDS.map(str.strip), max_size=12), st.sampled_from(["\n", "\r\n", " # x\n"])
)
def test_whatever_tomllib_reads_has_all_its_paths_found(statements: list[str], end: str) -> None:
    text = end.join(statements)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    positions = find_positions(text)
    assert set(positions.lines) == {path for path in all_paths(document) if len(path) <= MAX_DEPTH}
    for path, line in positions.lines.items():
        last = next((step for step in reversed(path) if isinstance(step, str)), "")
        if path and path[-1] == last and last in ("a", "b-1", "c.d", "#", "="):
            assert last in text.split("\n")[line - 1]
