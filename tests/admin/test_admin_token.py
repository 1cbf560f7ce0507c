"""The token file: made once, private, and whole or not there at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from elemta.admin import TokenError, load_or_make_token


def test_a_token_is_made_where_there_is_none_and_is_the_same_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "token"
    before = os.umask(0)
    try:
        token = load_or_make_token(path)
    finally:
        os.umask(before)
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_make_token(path) == token
    assert os.listdir(tmp_path) == ["token"]


def test_two_tokens_differ(tmp_path: Path) -> None:
    assert load_or_make_token(tmp_path / "one") != load_or_make_token(tmp_path / "two")


def test_an_empty_file_is_what_a_power_cut_leaves_and_gets_a_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(0o600)
    token = load_or_make_token(path)
    assert token
    assert path.read_text() == token + "\n"


def test_a_half_finished_file_of_an_earlier_start_is_replaced(tmp_path: Path) -> None:
    unfinished = tmp_path / "token.new"
    unfinished.write_text("half of it")
    unfinished.chmod(0o644)
    token = load_or_make_token(tmp_path / "token")
    assert (tmp_path / "token").read_text() == token + "\n"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert not unfinished.exists()


def test_the_file_appears_only_when_its_content_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(TokenError, match=r"cannot make the token file .*Input/output error"):
        load_or_make_token(tmp_path / "token")
    assert not (tmp_path / "token").exists()


def test_a_link_in_the_place_of_the_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    (tmp_path / "token.new").symlink_to(victim)
    with pytest.raises(TokenError, match="cannot make the token file"):
        load_or_make_token(tmp_path / "token")
    assert victim.read_text() == "keep me"


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"short\n", 0o600, "shorter than 16 characters"),
        (b"a token that is long enough\n", 0o640, "can be read by others: chmod 600"),
        (b"a token that is not \xff ascii\n", 0o600, "cannot read the token file"),
    ],
)
def test_a_token_file_that_cannot_be_used_is_named_with_its_remedy(
    tmp_path: Path, content: bytes, mode: int, problem: str
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(TokenError, match=problem):
        load_or_make_token(path)
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="No such file or directory"):
        load_or_make_token(tmp_path / "nowhere" / "token")
