"""The reader of dialogues and the player: what is wrong with a server is seen, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from elemta.testing.network import memory_connection

from .playing import Mismatch, Player
from .reading import DialogueError, read_dialogues, to_octets


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("NOOP", b"NOOP"),
        (r"a\r\n\0\t\\b", b"a\r\n\0\t\\b"),
        (r"\xff\x20", b"\xff "),
        ("ü", b"\xc3\xbc"),
        ("$(ab*3)c", b"abababc"),
        (r"$(x\r\n*2)", b"x\r\nx\r\n"),
        (r"$b64(\0user\0secret)", b"AHVzZXIAc2VjcmV0"),
        ("x $b64(a) y", b"x YQ== y"),
        ("<!#$%&'*+-/=?^_`{|}~@b>", b"<!#$%&'*+-/=?^_`{|}~@b>"),
    ],
)
def test_what_a_line_means_on_the_wire(text: str, octets: bytes) -> None:
    assert to_octets(text) == octets


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("== one\nC: NOOP\n", "no section"),
        ("== one\nrfc: 5321 4.1.4\n", "nothing said"),
        ("C: NOOP\n", "before the first title"),
        ("== one\nrfc: 5321 4.1.4\nX: NOOP\n", "what is"),
        ("== one\nrfc: 5321 4.1.4\nS: ok\n", "not a reply"),
        ("== one\nrfc: 5321 4.1.4\nfrom: somewhere\nC: NOOP\n", "no start"),
    ],
)
def test_a_file_that_is_not_of_the_form(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.dialogue"
    path.write_text(text)
    with pytest.raises(DialogueError, match=reason):
        read_dialogues(path)


async def play(tmp_path: Path, said: bytes, dialogue: str, *, close: bool = False) -> list[str]:
    """Play against a server that says all of it at once; what was found in the spool checks."""
    path = tmp_path / "x.dialogue"
    path.write_text(f"== one\nrfc: 5321 4.2\nfrom: connect\n{dialogue}\n")
    (parsed,) = read_dialogues(path)
    client, server = memory_connection(("192.0.2.2", 2), ("192.0.2.1", 25))
    await server.send_all(said)
    if close:
        await server.aclose()
    checked: list[str] = []
    player = Player(client, lambda stream: stream, wait_all_tasks_blocked)
    await player.play(parsed, lambda step: checked.append(step.text))
    return checked


@pytest.mark.parametrize(
    ("said", "dialogue"),
    [
        (b"250 2.0.0 ok\r\n", "S: 250 2.0.0"),
        (b"250 2.0.0 ok\r\n", "S: 2xx 2.x.x ~ok !~never"),
        (b"503 5.5.1 no\r\n", "S: 501|503 5.5.1|5.5.2"),
        (b"220 mx\r\n", "S: 220 -"),
        (b"250-mx\r\n250 SIZE 1\r\n", "S: 250 - ~(?m)^SIZE 1$"),
        (b"354 go\r\n", "S: 354"),
        (b"500 x\r\n", "S: 500 5.x.x|-"),
        (b"221 2.0.0 bye\r\n", "S: 221"),
        (b"", "S: nothing"),
    ],
)
async def test_replies_as_expected(
    tmp_path: Path, said: bytes, dialogue: str, autojump_clock: object
) -> None:
    await play(tmp_path, said, dialogue)


@pytest.mark.parametrize(
    ("said", "dialogue", "reason"),
    [
        (b"251 2.0.0 ok\r\n", "S: 250 2.0.0", "expected 250, not 251"),
        (b"250 2.1.0 ok\r\n", "S: 250 2.0.0", "expected the enhanced code"),
        (b"250 ok\r\n", "S: 250", "no enhanced code"),
        (b"220 2.0.0 mx\r\n", "S: 220 -", "expected the enhanced code"),
        (b"250 2.0.0 ok\r\n", "S: 250 2.0.0 ~yes", "nothing like"),
        (b"250 2.0.0 ok\r\n", "S: 250 2.0.0 !~ok", "there is something like"),
        (b"550 4.0.0 no\r\n", "S: 550 x.x.x", "not that of the reply"),
        (b"250-2.0.0 a\r\n251 2.0.0 b\r\n", "S: 250", "codes differ"),
        (b"250-2.0.0 a\r\n250 2.1.0 b\r\n", "S: 250", "enhanced codes differ"),
        (b"250 2.0.0 a\n250 2.0.0 b\r\n", "S: 250", "no reply line"),
        (b"ok\r\n", "S: 250", "no reply line"),
        (b"250 2.0.0 " + b"x" * 502 + b"\r\n", "S: 250", "514 octets"),
        (b"250 2.0.0 a\x1b[2J\r\n", "S: 250", "not text"),
        (b"250 2.0.0 a\xff\r\n", "S: 250", "not text"),
        (b"250 2.0.0 a\r\n250 2.0.0 b\r\n", "S: 250", "at its end: expected silence"),
        (b"250 2.0.0 a\r\n", "S: nothing", "expected silence"),
    ],
)
async def test_each_thing_that_is_wrong_is_seen(
    tmp_path: Path, said: bytes, dialogue: str, reason: str, autojump_clock: object
) -> None:
    with pytest.raises(Mismatch, match=reason):
        await play(tmp_path, said, dialogue)


async def test_the_end_of_the_session_is_expected_or_not(tmp_path: Path, autojump_clock: object) -> None:
    assert await play(tmp_path, b"221 2.0.0 bye\r\n", "S: 221\nS: close\nstored: 3", close=True) == ["3"]
    with pytest.raises(Mismatch, match="expected silence"):
        await play(tmp_path, b"221 2.0.0 bye\r\n", "S: 221", close=True)
    with pytest.raises(Mismatch, match="expected the end"):
        await play(tmp_path, b"221 2.0.0 bye\r\n250 2.0.0 x\r\n", "S: 221\nS: close", close=True)
    with trio.move_on_after(60) as scope:
        await play(tmp_path, b"221 2.0.0 bye\r\n", "S: 221\nS: close")
    assert scope.cancelled_caught
