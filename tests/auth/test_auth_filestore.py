"""A users file as a store: verdicts, reading again, what is not used, threads."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from auth_bed import QUICK, SALT, SteadyClock

from elemta.auth import Account, AuthFilesError, FileStore, Proved, recordstore
from elemta.auth.hashing import HashingBusy, HashingPool
from elemta.auth.passwords import Cost, PasswordHash, Recipe, find_match
from elemta.auth.recent import RecentChecks
from elemta.auth.scram import derive_keys
from elemta.auth.sealing import Sealer
from elemta.auth.users import ScramPart, Secret, UserRecord
from elemta.runtime import logging_to

SEALER = Sealer(b"k" * 32)


def line(name: str, *, disabled: bool = False, **passwords: str) -> str:
    secrets = []
    for label, password in passwords.items():
        credential = label if label == "password" else f"app:{label}"
        secrets.append(
            Secret(
                credential,
                PasswordHash.of(password, Recipe(QUICK, SALT)),
                ScramPart(4096, SALT, derive_keys(password, SALT, 4096, credential)),
                SEALER.seal(name, credential, password),
            )
        )
    return UserRecord(Account(name), tuple(secrets), disabled).format() + "\n"


CONTENT = (
    line("tim", password="pencil", phone="phone secret")
    + line("gone", disabled=True, password="x")
    + "bare\n"
)


class Bed:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = SteadyClock()
        self.write(CONTENT)
        self.hashing = HashingPool(2, 10)

    def write(self, content: str, mode: int = 0o600) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(content)
        fresh.chmod(mode)
        fresh.rename(self.path)

    def open(self, **settings: object) -> FileStore:
        defaults: dict[str, object] = {
            "hashing": self.hashing,
            "recent": RecentChecks(b"r" * 32, 300.0, self.clock),
            "random": random.Random(2),
            "cost": QUICK,
            "iterations": 5000,
            "sealer": SEALER,
        }
        return FileStore(self.path, **{**defaults, **settings})  # type: ignore[arg-type]


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path / "users")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that argon2 was computed for."""
    seen: list[str] = []

    def counting(password: str, hashes: tuple[tuple[str, PasswordHash], ...]) -> str | None:
        assert hashes
        seen.append(password)
        return find_match(password, hashes)

    monkeypatch.setattr(recordstore, "find_match", counting)
    return seen


async def test_passwords_of_an_account_are_told_apart(bed: Bed) -> None:
    store = bed.open()
    assert await store.check_password("tim", "pencil") == Proved(Account("tim"), "password")
    assert await store.check_password("tim", "phone secret") == Proved(Account("tim"), "app:phone")
    assert await store.check_password("tim", "Pencil") is None


async def test_disabled_and_unknown_accounts_do_not_exist(bed: Bed) -> None:
    store = bed.open()
    for name in ("gone", "nobody"):
        assert await store.find(name) is None
        assert store.known(name) is None
        assert await store.check_password(name, "x") is None
        assert await store.scram(name) is None
        assert await store.recoverable_secrets(name) == ()
    assert await store.find("bare") == store.known("bare") == Account("bare")
    assert await store.check_password("bare", "") is None


async def test_unknown_disabled_and_bare_accounts_cost_a_computation_like_a_wrong_password(
    bed: Bed, computed: list[str]
) -> None:
    store = bed.open()
    for name in ("tim", "gone", "nobody", "bare"):
        assert await store.check_password(name, f"wrong for {name}") is None
    assert computed == ["wrong for tim", "wrong for gone", "wrong for nobody", "wrong for bare"]


async def test_the_computation_for_an_unknown_name_is_that_of_most_accounts(bed: Bed) -> None:
    costly = PasswordHash.of("x", Recipe(Cost(16, 2), SALT)).format()
    bed.write(f"a password={costly}\n")
    store = bed.open()
    assert store._nobody.recipe.cost == Cost(16, 2)
    bed.write("")
    await store.refresh()
    assert store._nobody.recipe.cost == QUICK


async def test_a_password_that_was_just_checked_costs_nothing(bed: Bed, computed: list[str]) -> None:
    store = bed.open()
    for _ in range(5):
        assert await store.check_password("tim", "pencil")
        assert not await store.check_password("tim", "wrong")
        assert not await store.check_password("nobody", "wrong")
    assert len(computed) == 3
    bed.clock.now += 301
    assert await store.check_password("tim", "pencil")
    assert len(computed) == 4


async def test_a_changed_password_ends_the_old_one_at_once(bed: Bed) -> None:
    store = bed.open()
    assert await store.check_password("tim", "pencil")
    assert not await store.check_password("tim", "eraser")
    bed.write(line("tim", password="eraser"))
    assert not await store.check_password("tim", "pencil")
    assert await store.check_password("tim", "eraser")


async def test_accounts_are_read_again_when_the_file_changes(bed: Bed) -> None:
    store = bed.open()
    bed.write(line("new", password="x"))
    assert await store.find("new") == Account("new")
    assert await store.find("tim") is None


async def test_those_who_come_while_it_is_read_wait_for_the_new_content(bed: Bed) -> None:
    store = bed.open()
    bed.write(line("new", password="x"))
    found: list[Account | None] = []

    async def look() -> None:
        found.append(await store.find("new"))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(look)
    assert found == [Account("new")] * 5


class Lines:
    def __init__(self) -> None:
        self.records: list[dict[str, object]] = []

    def put(self, record: dict[str, object]) -> None:
        self.records.append(record)


def break_with_mistake(bed: Bed) -> None:
    bed.write("tim\nann pencil\n")


def break_with_mode(bed: Bed) -> None:
    bed.path.chmod(0o644)


def break_by_removing(bed: Bed) -> None:
    bed.path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_with_mistake, ":2: field 2 is not"),
        (break_with_mode, ": is open to others"),
        (break_by_removing, ": cannot be read: No such file"),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_once(
    bed: Bed, damage: Callable[[Bed], None], said: str
) -> None:
    store = bed.open()
    lines = Lines()
    damage(bed)
    with logging_to(lines):
        for _ in range(3):
            assert await store.check_password("tim", "pencil")
    assert len(lines.records) == 1
    assert said in str(lines.records[0]["text"])
    assert said in store.problem
    assert "pencil" not in store.problem
    bed.write(CONTENT)
    assert await store.check_password("tim", "pencil")
    assert store.problem == ""


def test_a_file_that_cannot_be_used_at_the_start_is_an_error_with_every_line(bed: Bed) -> None:
    bed.write("a x\nb\nc y\n")
    with pytest.raises(AuthFilesError) as caught:
        bed.open()
    one, two = str(caught.value).splitlines()
    assert one.startswith(f"{bed.path}:1: field 2")
    assert two.startswith(f"{bed.path}:3: field 2")
    bed.path.write_bytes(b"a\n\xff\n")
    with pytest.raises(AuthFilesError, match=":2: is not UTF-8"):
        bed.open()


async def test_scram_keys_and_iterations(bed: Bed) -> None:
    store = bed.open()
    account = await store.scram("tim")
    assert account is not None
    assert (account.account, account.salt, account.iterations) == (Account("tim"), SALT, 4096)
    assert len(account.keys) == 2
    assert store.scram_iterations() == 4096
    assert await store.scram("bare") is None
    bed.write("bare\n")
    await store.refresh()
    assert store.scram_iterations() == 5000


async def test_recoverable_secrets_need_the_key(bed: Bed) -> None:
    assert await bed.open().recoverable_secrets("tim") == (
        ("password", b"pencil"),
        ("app:phone", b"phone secret"),
    )
    assert await bed.open(sealer=None).recoverable_secrets("tim") == ()
    lines = Lines()
    with logging_to(lines):
        assert await bed.open(sealer=Sealer(b"x" * 32)).recoverable_secrets("tim") == ()
    assert "does not open with this key" in str(lines.records[0]["text"])
    bed.write(f"ann password={PasswordHash.of('x', Recipe(QUICK, SALT)).format()}\n")
    assert await bed.open().recoverable_secrets("ann") == ()


async def test_a_flood_of_logins_is_turned_away_rather_than_queued_without_end(bed: Bed) -> None:
    hashing = HashingPool(1, 1)
    results: list[str] = []

    def slow() -> str:
        os.stat(bed.path)
        trio.from_thread.run(started.set_and_wait)
        return "done"

    class Gate:
        def __init__(self) -> None:
            self.started = trio.Event()
            self.go = trio.Event()

        async def set_and_wait(self) -> None:
            self.started.set()
            await self.go.wait()

    started = Gate()

    async def one() -> None:
        try:
            results.append(await hashing.run(slow))
        except HashingBusy:
            results.append("busy")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await started.started.wait()
        nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        assert hashing.statistics().waiting == 1
        await one()
        assert results == ["busy"]
        started.go.set()
    assert results == ["busy", "done", "done"]
    assert hashing.statistics().name == "passwords"
