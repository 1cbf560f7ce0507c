"""Password hashes: their text, what is refused, one computation for many hashes."""

from __future__ import annotations

import argon2
import pytest
from auth_bed import QUICK, SALT

from elemta.auth import passwords
from elemta.auth.passwords import Cost, PasswordHash, Recipe, find_match, parse_hash

RECIPE = Recipe(QUICK, SALT)


def test_a_hash_is_read_as_it_was_written_and_matches() -> None:
    stored = PasswordHash.of("pencil", RECIPE)
    text = stored.format()
    assert text.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert parse_hash(text) == stored
    assert find_match("pencil", [("password", parse_hash(text))]) == "password"
    assert find_match("Pencil", [("password", parse_hash(text))]) is None


def test_a_hash_of_argon2_cffi_itself_is_taken_and_ours_by_it() -> None:
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=2)
    assert find_match("päss", [("password", parse_hash(hasher.hash("päss")))]) == "password"
    assert hasher.verify(PasswordHash.of("päss", RECIPE).format(), "päss")


GOOD = PasswordHash.of("x", RECIPE).format()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        GOOD.replace("argon2id", "argon2i"),
        GOOD.replace("v=19", "v=16"),
        GOOD.replace("m=8,", "m=9999999,"),
        GOOD.replace("t=1,", "t=21,"),
        GOOD.replace("p=1$", "p=17$"),
        GOOD.replace("p=1$", "p=2$"),  # RFC 9106 §3.1: 8 KiB a lane
        GOOD.replace("m=8,", "m=0,"),
        GOOD.replace("m=8,", "m=٨,"),
        GOOD + "=",
        GOOD + "\n",
        GOOD + "A" * 200,
        GOOD.rsplit("$", 1)[0] + "$AAAAAAAA",  # six octets
        GOOD.rsplit("$", 1)[0] + "$AAAAAAAAA",  # no such base64
    ],
)
def test_what_is_no_usable_hash_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_hash(text)
    assert text == "" or text not in str(caught.value)


def test_many_secrets_of_one_account_cost_one_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [(f"app:{name}", PasswordHash.of(name, RECIPE)) for name in ("one", "two", "three")]
    computed = []
    real = passwords.hash_secret_raw
    monkeypatch.setattr(
        passwords, "hash_secret_raw", lambda *args, **kwargs: (computed.append(1), real(*args, **kwargs))[1]
    )
    assert find_match("two", hashes) == "app:two"
    assert len(computed) == 1
    other = PasswordHash.of("four", Recipe(Cost(16, 1), SALT))
    computed.clear()
    assert find_match("wrong", [*hashes, ("password", other)]) is None
    assert len(computed) == 2


def test_no_hashes_match_nothing() -> None:
    assert find_match("x", []) is None
