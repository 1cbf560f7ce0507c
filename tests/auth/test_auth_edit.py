"""Changing the users file: comments kept, whole or not at all, one writer at a time."""

from __future__ import annotations

import fcntl
import os
import random
from pathlib import Path

import pytest
from auth_bed import SALT

from elemta.auth import (
    Account,
    AuthFilesError,
    Ownership,
    UserRecord,
    UsersBusy,
    UsersText,
    edit_users,
    load_users,
    with_secret,
)
from elemta.auth.passwords import Cost, PasswordHash, Recipe, find_match
from elemta.auth.sealing import Sealer
from elemta.auth.users import Secret
from elemta.config import AuthConfig, AuthMechanism

MINE = Ownership()
QUICK = AuthConfig(hash_memory=8 * 1024, hash_passes=1, scram_iterations=4096)
PASSWORDS_ONLY = AuthConfig(hash_memory=8 * 1024, hash_passes=1, mechanisms=(AuthMechanism.PLAIN,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def make(path: Path, content: str, mode: int = 0o600) -> None:
    path.write_text(content)
    path.chmod(mode)


def add(users: UsersText, name: str) -> None:
    users.put(UserRecord(Account(name)))


def test_a_new_file_is_private_and_explains_itself(path: Path) -> None:
    with edit_users(path, MINE) as users:
        add(users, "tim")
    assert path.stat().st_mode & 0o777 == 0o600
    first, second, rest = path.read_text().split("\n")
    assert first.startswith("# Accounts of elemta")
    assert (second, rest) == ("tim", "")


def test_comments_order_and_other_lines_are_kept(path: Path) -> None:
    make(path, "# one\n\ntim\n  # two\nANN   disabled\nbob\n# end")
    with edit_users(path, MINE) as users:
        users.put(UserRecord(Account("tim"), disabled=True))
        users.remove("bob")
        add(users, "carol")
    assert path.read_text() == "# one\n\ntim disabled\n  # two\nANN   disabled\n# end\ncarol\n"
    assert set(load_users(path).records) == {"tim", "ann", "carol"}


def test_an_account_is_found_and_replaced_however_its_name_is_written(path: Path) -> None:
    make(path, "ANN\n")
    with edit_users(path, MINE) as users:
        assert users.find("ann") == UserRecord(Account("ann"))
        assert users.find("bob") is None
        users.put(UserRecord(Account("ann"), disabled=True))
    assert path.read_text() == "ann disabled\n"


def test_without_a_change_nothing_is_written(path: Path) -> None:
    make(path, "tim\n")
    before = path.stat()
    with edit_users(path, MINE) as users:
        users.find("tim")
    assert path.stat().st_ino == before.st_ino


def test_after_an_error_the_file_is_as_it_was(path: Path) -> None:
    make(path, "tim\n")
    with pytest.raises(KeyError), edit_users(path, MINE) as users:
        add(users, "ann")
        raise KeyError
    with pytest.raises(FileNotFoundError), edit_users(path, MINE) as users:
        raise FileNotFoundError
    with pytest.raises(KeyError), edit_users(path, MINE) as users:
        users.remove("nobody")
    assert path.read_text() == "tim\n"
    assert [each.name for each in path.parent.iterdir()] == ["users"]


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(path, "tim\n")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"), edit_users(path, MINE) as users:
        add(users, "ann")
    assert path.read_text() == "tim\n"
    assert [each.name for each in path.parent.iterdir()] == ["users"]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_mode_and_owner_are_kept(path: Path, mode: int) -> None:
    make(path, "tim\n", mode)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    with edit_users(path, MINE) as users:
        add(users, "ann")
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert after.st_ino != before.st_ino


def test_a_file_that_is_open_to_others_or_mistaken_is_not_touched(path: Path) -> None:
    make(path, "tim\n", 0o644)
    with pytest.raises(AuthFilesError, match="open to others"), edit_users(path, MINE):
        raise AssertionError("not reached")
    make(path, "tim x\n")
    with pytest.raises(AuthFilesError, match=":1: field 2"), edit_users(path, MINE):
        raise AssertionError("not reached")
    assert path.read_text() == "tim x\n"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"), edit_users(tmp_path / "no" / "users", MINE):
        raise AssertionError("not reached")


def test_a_file_that_cannot_be_opened_is_an_error(path: Path) -> None:
    path.symlink_to(path.name)
    with pytest.raises(AuthFilesError, match="cannot be read: Too many levels"), edit_users(path, MINE):
        raise AssertionError("not reached")


def test_only_one_may_change_it_at_a_time(path: Path) -> None:
    make(path, "tim\n")
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsersBusy), edit_users(path, MINE):
            raise AssertionError("not reached")
    with edit_users(path, MINE) as users:
        add(users, "ann")


def test_a_file_that_was_replaced_before_the_lock_is_read_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(path, "tim\n")
    real = fcntl.flock
    turns = []

    def replace_first(descriptor: int, how: int) -> None:
        turns.append(1)
        if len(turns) == 1:  # another writer was quicker
            make(path.with_suffix(".x"), "tim\nbob\n")
            path.with_suffix(".x").rename(path)
        elif len(turns) == 2:  # and a third one removed it
            path.unlink()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", replace_first)
    with edit_users(path, MINE) as users:
        assert users.find("bob") is None
        add(users, "ann")
    assert len(turns) == 3
    assert set(load_users(path).records) == {"ann"}


def test_a_link_stays_a_link(tmp_path: Path, path: Path) -> None:
    make(tmp_path / "real", "tim\n")
    path.symlink_to("real")
    with edit_users(path, MINE) as users:
        add(users, "ann")
    assert path.is_symlink()
    assert set(load_users(tmp_path / "real").records) == {"tim", "ann"}


# Secrets


def test_a_password_is_kept_in_the_forms_that_the_mechanisms_need(tmp_path: Path) -> None:
    record = UserRecord(Account("tim"))
    (plain,) = with_secret(record, "password", "pencil", PASSWORDS_ONLY, random.Random(1), MINE).secrets
    assert plain.scram is None
    assert plain.sealed is None
    assert plain.hash.recipe.cost == Cost(8, 1)
    assert find_match("pencil", [("password", plain.hash)])
    (scram,) = with_secret(record, "password", "pencil", QUICK, random.Random(1), MINE).secrets
    assert scram.scram is not None
    assert scram.scram.iterations == 4096
    everything = AuthConfig(
        hash_memory=8 * 1024,
        hash_passes=1,
        mechanisms=(AuthMechanism.CRAM_MD5,),
        recovery_key=tmp_path / "key",
    )
    (sealed,) = with_secret(record, "password", "pencil", everything, random.Random(1), MINE).secrets
    assert sealed.sealed is not None
    key = (tmp_path / "key").read_text()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    import base64

    assert Sealer(base64.b64decode(key)).open("tim", "password", sealed.sealed) == b"pencil"


def test_secrets_of_an_account_share_their_salts_and_a_new_password_alone_gets_a_new_one() -> None:
    dice = random.Random(1)
    record = with_secret(UserRecord(Account("tim")), "password", "pencil", QUICK, dice, MINE)
    record = with_secret(record, "app:phone", "x", QUICK, dice, MINE)
    password, phone = record.secrets
    assert (password.credential, phone.credential) == ("password", "app:phone")
    assert password.hash.recipe == phone.hash.recipe
    assert password.scram is not None
    assert phone.scram is not None
    assert password.scram.salt == phone.scram.salt
    changed = with_secret(record, "password", "eraser", QUICK, dice, MINE)
    assert [secret.credential for secret in changed.secrets] == ["password", "app:phone"]
    assert changed.secrets[0].hash.recipe == phone.hash.recipe
    assert changed.secrets[0].hash != password.hash
    assert changed.secrets[1] == phone
    alone = with_secret(UserRecord(Account("tim"), (password,)), "password", "pencil", QUICK, dice, MINE)
    assert alone.secrets[0].hash.recipe.salt != password.hash.recipe.salt
    assert alone.secrets[0].scram is not None
    assert alone.secrets[0].scram.salt != password.scram.salt


def test_a_first_scram_part_beside_old_hashes_gets_its_own_salt() -> None:
    old = Secret("password", PasswordHash.of("x", Recipe(Cost(16, 1), SALT)))
    record = with_secret(UserRecord(Account("tim"), (old,)), "app:phone", "y", QUICK, random.Random(1), MINE)
    assert record.secrets[1].hash.recipe == old.hash.recipe
    assert record.secrets[1].scram is not None
