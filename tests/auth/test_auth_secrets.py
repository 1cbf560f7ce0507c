"""Nothing secret in reprs, errors, refusals or logs."""

from __future__ import annotations

import base64
import random
import traceback
from pathlib import Path

import pytest
from auth_bed import PRIVATE, SALT, DictStore, SteadyClock, authenticator, no_delay, talk

from elemta.auth import (
    Account,
    AuthClient,
    Challenge,
    Proved,
    ScramAccount,
    TokenOwner,
    TokensUnavailable,
    make_authenticator,
)
from elemta.auth.actions import CheckPassword, CheckToken, Situation
from elemta.auth.actions import Proved as Proof
from elemta.auth.passwords import Cost, PasswordHash, Recipe
from elemta.auth.recent import RecentChecks
from elemta.auth.scram import derive_keys
from elemta.auth.sealing import Sealer
from elemta.auth.users import ScramPart, Secret, UserRecord
from elemta.config import Config
from elemta.runtime import logging_to

PASSWORD = "correct-horse-battery"
TOKEN = "tokentokentoken"


def forms(secret: bytes) -> list[str]:
    return [secret.decode("latin-1"), base64.b64encode(secret).decode(), secret.hex(), repr(secret)[2:-1]]


def test_no_value_shows_a_secret_in_its_repr() -> None:
    recipe = Recipe(Cost(8, 1), SALT)
    hashed = PasswordHash.of(PASSWORD, recipe)
    keys = derive_keys(PASSWORD, SALT, 4096)
    part = ScramPart(4096, SALT, keys)
    sealed = Sealer(b"k" * 32).seal("tim", "password", PASSWORD)
    record = UserRecord(Account("tim"), (Secret("password", hashed, part, sealed),))
    values = [
        hashed,
        recipe,
        keys,
        part,
        record,
        ScramAccount(Account("tim"), SALT, 4096, (keys,)),
        Proved(Account("tim"), "password"),
        CheckPassword("tim", PASSWORD),
        CheckToken("tim", TOKEN, b""),
        Proof("tim", "password", True, hashed.value),
        Challenge(hashed.value),
        AuthClient("192.0.2.1", True, channel_binding=hashed.value, tls_exporter=keys.stored_key),
        Situation("mx", "noncenonce", {"tls-exporter": hashed.value}),
        RecentChecks(hashed.value, 300, SteadyClock()),
        Sealer(b"k" * 32),
        authenticator(),
        authenticator()._judge,
        authenticator().begin("PLAIN", PRIVATE),
    ]
    shown = " ".join(map(repr, values))
    for secret in (
        hashed.value,
        keys.stored_key,
        keys.server_key,
        SALT,
        PASSWORD.encode(),
        TOKEN.encode(),
        b"S" * 32,
    ):
        for form in forms(secret):
            assert form not in shown
    assert sealed not in shown
    assert "noncenonce" not in shown


class Lines:
    def __init__(self) -> None:
        self.text = ""

    def put(self, record: object) -> None:
        self.text += repr(record)


async def introspect(token: str) -> TokenOwner | None:
    if token == TOKEN:
        raise TokensUnavailable("the server does not answer")
    return TokenOwner("a b")


@pytest.mark.parametrize(
    ("mechanism", "messages"),
    [
        ("PLAIN", [f"\0tim\0{PASSWORD}".encode()]),
        ("PLAIN", [f"\0{PASSWORD}\0\0".encode()]),
        ("PLAIN", [f"{PASSWORD}".encode()]),
        ("LOGIN", [b"tim", PASSWORD.encode()]),
        ("LOGIN", [b"tim", f"{PASSWORD}\x01".encode()]),
        ("OAUTHBEARER", [f"n,a=tim,\x01auth=Bearer {TOKEN}\x01\x01".encode()]),
        ("OAUTHBEARER", [f"n,a=tim,\x01auth=Bearer {TOKEN}2\x01\x01".encode(), b"\x01"]),
        ("OAUTHBEARER", [f"n,a=tim\x01auth=Bearer {TOKEN}\x01\x01".encode()]),
        ("XOAUTH2", [f"user=tim\x01auth=Bearer {TOKEN}\x01\x01".encode()]),
        ("SCRAM-SHA-256", [f"n,,n=tim,r={PASSWORD}".encode(), f"c=biws,r={PASSWORD},p=AAAA".encode()]),
    ],
)
async def test_no_refusal_and_no_log_line_repeats_what_was_sent(
    mechanism: str, messages: list[bytes]
) -> None:
    lines = Lines()
    store = DictStore(tim="other")
    with logging_to(lines, "debug"):
        auth = authenticator(store, no_delay(), introspect=introspect)
        step = await talk(auth, mechanism, *messages)
        store.down = True
        again = await talk(auth, mechanism, messages[0])
    said = lines.text + repr(auth.statistics())
    for each in (step, again):
        if not isinstance(each, Challenge):
            said += repr(each)
    for secret in (PASSWORD, TOKEN):
        for form in forms(secret.encode()):
            assert form not in said


async def test_a_traceback_through_the_package_has_no_secret(tmp_path: Path) -> None:
    class Broken(DictStore):
        async def check_password(self, name: str, password: str) -> Proved | None:
            raise ZeroDivisionError("a bug in a store")

    with pytest.raises(ZeroDivisionError) as caught:
        await talk(authenticator(Broken(tim=PASSWORD)), "PLAIN", f"\0tim\0{PASSWORD}".encode())
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


async def test_the_files_that_are_made_are_private(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("tim\n")
    users.chmod(0o600)
    config = Config(hostname="mx.example.org", state_dir=tmp_path, auth=no_delay(users=users))
    auth = make_authenticator(config, random=random.Random(1), clock=SteadyClock())
    assert auth.accounts.known("tim") == Account("tim")
    assert (tmp_path / "auth.secret").stat().st_mode & 0o777 == 0o600
    assert auth.statistics().hashing is not None
