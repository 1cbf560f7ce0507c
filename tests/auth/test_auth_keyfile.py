"""Private files and keys in them: mode, owner, content."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pytest

from elemta.auth import AuthFilesError, Ownership
from elemta.auth.keyfile import load_key, load_or_make_key, read_private


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440, 0o700])
def test_a_private_file_is_read(path: Path, mode: int) -> None:
    path.chmod(mode)
    data, facts = read_private(path, 100)
    assert data == b"content"
    assert facts.st_size == 7


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o602, 0o620, 0o601, 0o666])
def test_a_file_that_is_open_to_others_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(AuthFilesError) as caught:
        read_private(path, 100)
    assert str(caught.value) == f"{path}: is open to others: chmod 640 or 600"


def test_a_file_of_somebody_else_is_refused_unless_it_is_roots(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        read_private(path, 100)
        os.chown(path, 12345, -1)
    with pytest.raises(AuthFilesError, match="belongs to user"):
        read_private(path, 100)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    read_private(path, 100)


def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path: Path, path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, reason in (
        ("fifo", "is not a file"),
        (".", "is not a file"),
        ("missing", "cannot be read: No such file"),
    ):
        with pytest.raises(AuthFilesError, match=reason):
            read_private(tmp_path / name, 100)
    with pytest.raises(AuthFilesError, match="larger than 6 octets"):
        read_private(path, 6)


def test_a_key_is_made_once_and_read_then(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = load_or_make_key(path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make_key(path) == load_key(path) == key


@pytest.mark.parametrize("content", [b"", b"secret", base64.b64encode(b"x" * 31), b"\xff" * 44, b"A" * 2000])
def test_what_is_no_key_is_refused_and_not_repeated(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(AuthFilesError) as caught:
        load_or_make_key(path)
    assert "secret" not in str(caught.value)


def test_a_key_that_cannot_be_made_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(AuthFilesError, match="cannot be made: No such file or directory"):
        load_or_make_key(tmp_path / "missing" / "key")


def test_what_root_makes_can_be_read_by_the_owner_of_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path.stat()
    monkeypatch.setattr(os, "geteuid", lambda: facts.st_uid + 1 if facts.st_uid == 0 else 0)
    # as root over somebody else's folder, or as somebody over root's
    expected = Ownership(facts.st_gid) if facts.st_uid != 0 else Ownership()
    assert Ownership.beside(tmp_path) == expected
    assert Ownership.beside(tmp_path / "missing") == Ownership()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_gives_the_group_of_a_foreign_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    assert Ownership.beside(folder) == Ownership()
    os.chown(folder, 12345, 12346)
    ownership = Ownership.beside(folder)
    assert ownership == Ownership(12346)
    load_or_make_key(tmp_path / "key", ownership)
    facts = (tmp_path / "key").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (0, 12346, 0o640)


def test_a_file_that_fails_while_it_is_read_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdopen", lambda *_, **__: Broken())
    with pytest.raises(AuthFilesError, match="Input/output error"):
        read_private(path, 100)
