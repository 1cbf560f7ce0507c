"""Building it from a configuration; sender addresses; the whole of it on a real users file."""

from __future__ import annotations

import random
from pathlib import Path

import attrs
import pytest
import trio
from auth_bed import PRIVATE, DictMemo, DictStore, SteadyClock, authenticator, code, no_delay

from elemta.auth import (
    Account,
    Authenticator,
    AuthFilesError,
    Ownership,
    UserRecord,
    cost_of,
    edit_users,
    make_authenticator,
    parse_sender_pattern,
    with_secret,
)
from elemta.auth.passwords import Cost
from elemta.config import AuthConfig, AuthMechanism, Config
from elemta.mail import Identity, parse_mailbox
from elemta.runtime import ThreadPools, TrioWallClock


def test_the_cost_is_that_of_the_configuration() -> None:
    assert cost_of(AuthConfig()) == Cost(memory=19456, passes=2)  # OWASP's


def test_sender_addresses_are_those_of_the_account_as_it_is_by_now() -> None:
    store = DictStore(**{"alice@example.org": "x"})
    store.send_as["alice@example.org"] = ("*@lists.example.org",)
    auth = authenticator(store)
    alice = Identity("alice@example.org", "PLAIN")
    assert auth.may_send_as(alice, parse_mailbox("alice@example.org"))
    assert auth.may_send_as(alice, parse_mailbox("x@lists.example.org"))
    assert not auth.may_send_as(alice, parse_mailbox("bob@example.org"))
    assert not auth.may_send_as(Identity("bob", "PLAIN"), parse_mailbox("bob@example.org"))
    del store.passwords["alice@example.org"]
    assert not auth.may_send_as(alice, parse_mailbox("alice@example.org"))


QUICK = no_delay(hash_memory=8 * 1024, hash_passes=1, scram_iterations=4096, free_failures=2)


def build(folder: Path, config: AuthConfig = QUICK, **more: object) -> Authenticator:
    users = folder / "users"
    with edit_users(users, Ownership()) as text:
        if text.find("alice@example.org") is None:
            record = UserRecord(Account("alice@example.org", (parse_sender_pattern("*@example.org"),)))
            settings = attrs.evolve(config, mechanisms=(AuthMechanism.SCRAM_SHA_256,))
            text.put(with_secret(record, "password", "pencil", settings, random.Random(1), Ownership()))
    config = attrs.evolve(config, users=users)
    whole = Config(hostname="mx.example.org", state_dir=folder, auth=config)
    return make_authenticator(whole, random=random.Random(1), clock=TrioWallClock(), **more)  # type: ignore[arg-type]


async def test_accounts_of_a_users_file_log_in(tmp_path: Path) -> None:
    pools = ThreadPools()
    auth = build(tmp_path, pools=pools)
    assert await code(auth, "Alice@Example.org", "pencil") == 235
    assert await code(auth, "alice@example.org", "wrong") == 535
    assert pools.statistics()[0].name == "passwords"
    assert auth.may_send_as(Identity("alice@example.org", "PLAIN"), parse_mailbox("info@example.org"))


async def test_brakes_last_over_a_restart_with_a_memo(tmp_path: Path) -> None:
    memo = DictMemo()
    auth = build(tmp_path, memo=memo)
    for guess in ("a", "b"):
        assert await code(auth, "alice@example.org", guess) == 535
    assert await code(auth, "alice@example.org", "pencil") == 454
    assert await code(build(tmp_path, memo=memo), "alice@example.org", "pencil") == 454
    assert await code(build(tmp_path), "alice@example.org", "pencil") == 235


async def test_salts_of_unknown_names_stay_over_a_restart(tmp_path: Path) -> None:
    salts = set()
    for _ in range(2):
        step = await build(tmp_path).begin("SCRAM-SHA-256", PRIVATE).step(b"n,,n=nobody,r=x")
        salts.add(step.data.split(b",s=")[1])  # type: ignore[union-attr]
    assert len(salts) == 1


async def test_a_session_loses_its_rights_when_the_account_is_disabled(tmp_path: Path) -> None:
    auth = build(tmp_path)
    alice, address = Identity("alice@example.org", "PLAIN"), parse_mailbox("info@example.org")
    with trio.fail_after(10):
        await auth.refresh()
        assert auth.may_send_as(alice, address)
        with edit_users(tmp_path / "users", Ownership()) as text:
            record = text.find("alice@example.org")
            assert record is not None
            text.put(attrs.evolve(record, disabled=True))
        assert auth.may_send_as(alice, address), "nobody has looked yet"
        await auth.refresh()
        assert not auth.may_send_as(alice, address)


def test_files_that_cannot_be_used_are_found_at_the_start(tmp_path: Path) -> None:
    clock = SteadyClock()
    base = Config(hostname="mx.example.org", state_dir=tmp_path, auth=AuthConfig(users=tmp_path / "users"))
    with pytest.raises(AuthFilesError, match="users: cannot be read"):
        make_authenticator(base, random=random.Random(1), clock=clock)
    (tmp_path / "users").touch(0o600)
    missing = attrs.evolve(base, auth=attrs.evolve(base.auth, recovery_key=tmp_path / "key"))
    with pytest.raises(AuthFilesError, match="key: cannot be read"):
        make_authenticator(missing, random=random.Random(1), clock=clock)
    (tmp_path / "auth.secret").touch(0o600)
    with pytest.raises(AuthFilesError, match=r"auth\.secret: is no key"):
        make_authenticator(base, random=random.Random(1), clock=clock)
