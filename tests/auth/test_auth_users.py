"""The users file as text: what is read, every mistake with its line, nothing secret in any of it."""

from __future__ import annotations

import pytest
from auth_bed import QUICK, SALT

from elemta.auth import Account, UserRecord, app_credential, parse_sender_pattern
from elemta.auth.passwords import Cost, PasswordHash, Recipe
from elemta.auth.scram import derive_keys
from elemta.auth.users import (
    ScramPart,
    Secret,
    UsersFile,
    UsersSyntaxError,
    parse_line,
    parse_users,
)

HASH = PasswordHash.of("pencil", Recipe(QUICK, SALT))
SCRAM = ScramPart(4096, SALT, derive_keys("pencil", SALT, 4096))
SEALED = "AES-256-GCM$" + "A" * 80
FULL = UserRecord(
    Account("alice@example.org", (parse_sender_pattern("*@example.org"), parse_sender_pattern("*"))),
    (
        Secret("password", HASH, SCRAM, SEALED),
        Secret("app:phone", HASH, ScramPart(4096, SALT, derive_keys("x", SALT, 4096, "app:phone"))),
        Secret("app:old-laptop", HASH),
    ),
    disabled=True,
)


def test_a_line_is_read_as_it_was_written() -> None:
    assert parse_line(FULL.format()) == FULL
    assert parse_line(f"  {FULL.format()}\t\r") == FULL


def test_comments_empty_lines_and_blanks_are_nothing() -> None:
    users = parse_users("# a comment\n\n  # another\n\t\nbob\tdisabled\n")
    assert list(users.records) == ["bob"]
    assert users.records["bob"].disabled
    assert parse_users("").records == {}


def test_all_secrets_of_an_account_serve_scram_with_one_salt() -> None:
    scram = FULL.scram()
    assert scram is not None
    assert (scram.salt, scram.iterations) == (SALT, 4096)
    assert [keys.credential for keys in scram.keys] == ["password", "app:phone"]
    assert UserRecord(Account("bob"), (Secret("password", HASH),)).scram() is None


GOOD = HASH.format()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("bob secret", "field 2 is not disabled, send-as=…, password=… or app:LABEL=…"),
        ("bob password", "field 2 is not"),
        ("bob disabled secret=x", "field 3 is not"),
        ("bob send-as", "field 2 is not"),
        ("bob password=secret", "password: not an argon2id hash"),
        ("bob password=", "password: not an argon2id hash"),
        (f"bob password={GOOD} password={GOOD}", "a second secret of the same name in field 3"),
        (f"bob password={GOOD};secret", "password: a part behind the hash is not known, or there twice"),
        (f"bob password={GOOD};{SCRAM.format()};{SCRAM.format()}", "there twice"),
        (f"bob password={GOOD};{SEALED};{SEALED}", "there twice"),
        (f"bob password={GOOD};", "there twice"),
        (f"bob password={GOOD};SCRAM-SHA-256$secret", "password: not SCRAM-SHA-256$"),
        (f"bob password={GOOD};{SCRAM.format().replace('$4096', '$1000')}", "fewer than 4096"),
        (f"bob password={GOOD};{SCRAM.format().replace(':c2l4', ':c2l4A')}", "SCRAM with bad base64"),
        (f"bob app:={GOOD}", "an app password is named with"),
        (f"bob app:a/b={GOOD}", "an app password is named with"),
        ("bob send-as=x", "send-as: 'x' is not an address"),
        ("b\u00a0b", "not the name of an account"),
        ("x" * 256, "not the name of an account"),
        ("bob " + " " * 70_000 + "disabled", "longer than 65536 characters"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_without_the_secret(line: str, reason: str) -> None:
    with pytest.raises(UsersSyntaxError) as caught:
        parse_users(f"# first\nalice\n{line}\n")
    ((number, said),) = caught.value.problems
    assert number == 3
    assert reason in said
    assert "secret" not in said.replace("a second secret of the same name", "")
    assert "$argon2id$v=19$m=8" not in str(caught.value)


def test_scram_parts_that_differ_are_a_mistake() -> None:
    other = ScramPart(8192, SALT, derive_keys("x", SALT, 8192))
    line = f"bob password={GOOD};{SCRAM.format()} app:a={GOOD};{other.format()}"
    with pytest.raises(UsersSyntaxError, match="line 1: its SCRAM parts differ in salt or count"):
        parse_users(line)


def test_every_mistake_is_in_the_report() -> None:
    with pytest.raises(UsersSyntaxError) as caught:
        parse_users("bob x\nalice\nBOB\ncarol y\nAlice disabled\n")
    assert [line for line, _ in caught.value.problems] == [1, 4, 5]
    assert str(caught.value).endswith("line 5: the account is on line 2 already")


def test_unknown_names_are_to_cost_what_most_accounts_do() -> None:
    costly = PasswordHash.of("x", Recipe(Cost(16, 2), SALT)).format()
    users = parse_users(
        f"a password={costly}\nb password={costly};{SCRAM.format()}\nc password={GOOD}\nd disabled\n"
    )
    assert users.usual_cost(QUICK) == Cost(16, 2)
    assert users.usual_iterations(100_000) == 4096
    assert UsersFile().usual_cost(QUICK) == QUICK
    assert UsersFile().usual_iterations(100_000) == 100_000


def test_app_passwords_have_simple_names() -> None:
    assert app_credential("phone") == "app:phone"
    for label in ("", "a b", "-x", "x" * 64, "a=b", "ä"):
        with pytest.raises(ValueError, match="an app password is named with"):
            app_credential(label)
