"""What every kind of store must answer: one suite for all; then what is special to the table, HTTP and LDAP."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import apsw
import attrs
import pytest
import sansldap
import trio
import trio.testing
import trustme
from auth_bed import PRIVATE, SALT, authenticator, code
from store_bed import (
    DISABLED,
    NAME,
    PASSWORD,
    InDict,
    InFile,
    InTable,
    OverHttp,
    OverLdap,
    StoreBed,
    http_answer,
    record,
    secret,
)

from elemta.auth import Account, AuthFilesError, Ownership, Proved, StoreUnavailable, parse_sender_pattern
from elemta.auth.directory import Conversation, DirectoryFailed, account_filter
from elemta.auth.recent import RecentChecks
from elemta.auth.scram import derive_keys
from elemta.auth.seen import IDLE, SeenAccounts
from elemta.auth.usertable import TableUnusable, edit_table, load_table
from elemta.config import ConfigError, HttpAccountsConfig, parse_config
from elemta.mail import Identity, parse_mailbox

ACCOUNT = Account(NAME, (parse_sender_pattern("*@example.org"),))
HOSTILE = [
    "*",
    "tim*",
    ")(mail=*",
    "tim@example.org)(x=*",
    "\\2a",
    "a\u00e9",
    "'; DROP TABLE accounts; --",
    "a\tb",
]


@pytest.fixture(params=[InDict, InFile, InTable, OverHttp, OverLdap])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> StoreBed:
    made = request.param(tmp_path)
    assert isinstance(made, StoreBed)
    return made


async def test_an_account_is_found_and_then_known(bed: StoreBed) -> None:
    store = bed.open()
    assert await store.find(NAME) == ACCOUNT
    assert store.known(NAME) == ACCOUNT


@pytest.mark.parametrize("name", [DISABLED, "nobody@example.org", *HOSTILE])
async def test_others_do_not_exist(bed: StoreBed, name: str) -> None:
    store = bed.open()
    assert await store.find(name) is None
    assert store.known(name) is None
    assert await store.check_password(name, PASSWORD) is None
    assert await store.scram(name) is None
    assert await store.recoverable_secrets(name) == ()


async def test_only_the_right_password_is_right(bed: StoreBed) -> None:
    store = bed.open()
    assert await store.check_password(NAME, PASSWORD) == Proved(ACCOUNT, "password")
    assert store.known(NAME) == ACCOUNT
    for wrong in ("", "*", PASSWORD + " ", PASSWORD.upper(), PASSWORD[:-1]):
        assert await store.check_password(NAME, wrong) is None


async def test_an_unknown_name_costs_what_a_wrong_password_does(bed: StoreBed) -> None:
    store = bed.open()
    await store.check_password(NAME, "wrong")
    for_wrong = dict(bed.work)
    bed.work.clear()
    await store.check_password("nobody@example.org", "wrong")
    assert dict(bed.work) == for_wrong


async def test_scram_keys_are_those_of_the_password(bed: StoreBed) -> None:
    store = bed.open()
    found = await store.scram(NAME)
    if not store.has_scram:
        assert found is None
        return
    assert found is not None
    assert (found.account, found.salt, found.iterations) == (ACCOUNT, SALT, 4096)
    assert found.keys == (derive_keys(PASSWORD, SALT, 4096, "password"),)
    assert store.scram_iterations() == 4096


async def test_recoverable_secrets_are_the_password(bed: StoreBed) -> None:
    store = bed.open()
    secrets = await store.recoverable_secrets(NAME)
    assert secrets == ((("password", PASSWORD.encode()),) if store.has_recoverable_secrets else ())


@pytest.mark.deadline(20_000)
async def test_an_account_that_is_removed_may_soon_do_nothing(
    bed: StoreBed, mock_clock: trio.testing.MockClock
) -> None:
    auth = authenticator(bed.open())
    assert await code(auth, NAME, PASSWORD) == 235
    identity, mailbox = Identity(NAME, "PLAIN"), parse_mailbox("else@example.org")
    assert auth.may_send_as(identity, mailbox)
    bed.remove(NAME)
    mock_clock.jump(61)
    await auth.refresh()
    assert not auth.may_send_as(identity, mailbox)
    assert await code(auth, NAME, PASSWORD) == 535


@pytest.mark.deadline(20_000)
async def test_a_store_that_is_down_lets_nobody_in_and_disturbs_nobody_who_is(
    bed: StoreBed, mock_clock: trio.testing.MockClock
) -> None:
    auth = authenticator(bed.open())
    assert await code(auth, NAME, PASSWORD) == 235
    bed.go_down()
    if not isinstance(bed, InFile):
        with pytest.raises(StoreUnavailable) as caught:
            await auth.accounts.check_password(NAME, PASSWORD)
        assert PASSWORD not in str(caught.value)
        with pytest.raises(StoreUnavailable):
            await auth.accounts.find(NAME)
        assert await code(auth, NAME, PASSWORD) == 454
        assert await code(auth, "nobody", PASSWORD) == 454
    mock_clock.jump(61)
    await auth.refresh()
    assert auth.may_send_as(Identity(NAME, "PLAIN"), parse_mailbox(NAME))


async def test_a_question_may_be_left_at_any_point(bed: StoreBed) -> None:
    store = bed.open()
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.check_password(NAME, PASSWORD)
    assert await store.check_password(NAME, PASSWORD) == Proved(ACCOUNT, "password")


async def test_what_a_store_cannot_do_is_not_offered(bed: StoreBed) -> None:
    auth = authenticator(bed.open())
    offered = auth.mechanisms(PRIVATE)
    assert ("SCRAM-SHA-256" in offered) is auth.accounts.has_scram
    assert ("CRAM-MD5" in offered) is auth.accounts.has_recoverable_secrets
    assert "PLAIN" in offered


# --- accounts that were seen -----------------------------------------------------------------------------------


@pytest.mark.deadline(20_000)
async def test_what_was_seen_is_bounded_and_forgotten_when_it_is_not_used(
    mock_clock: trio.testing.MockClock,
) -> None:
    seen = SeenAccounts(size=2)
    for name in ("a", "b", "c"):
        seen.put(name, Account(name))
    assert [seen.get(name) for name in ("a", "b", "c")] == [None, Account("b"), Account("c")]
    assert seen.due(60) == ()
    mock_clock.jump(IDLE)
    assert seen.get("c")
    mock_clock.jump(1)
    assert seen.due(60) == ("c",)
    assert len(seen) == 1
    seen.put("c", None)
    assert seen.get("c") is None


# --- the table ---------------------------------------------------------------------------------------------------


async def test_a_table_has_app_passwords_and_takes_changes_at_once(tmp_path: Path) -> None:
    bed = InTable(tmp_path)
    store = bed.open()
    with edit_table(bed.path, Ownership()) as table:
        found = table.find(NAME)
        assert found is not None
        table.put(attrs.evolve(found, secrets=(*found.secrets, secret(NAME, "app:phone", "one two"))))
    assert await store.check_password(NAME, "one two") == Proved(ACCOUNT, "app:phone")
    assert await store.check_password(NAME, PASSWORD) == Proved(ACCOUNT, "password")
    assert load_table(bed.path).records[NAME].account == ACCOUNT


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    bed = InTable(tmp_path)
    bed.open()
    with pytest.raises(RuntimeError), edit_table(bed.path, Ownership()) as table:
        table.remove(NAME)
        table.put(record("new", "x"))
        raise RuntimeError
    assert set(load_table(bed.path).records) == {NAME, DISABLED}


def test_two_do_not_change_a_table_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elemta.auth.usertable._BUSY_MILLISECONDS", 1)
    bed = InTable(tmp_path)
    bed.open()
    with (
        edit_table(bed.path, Ownership()),
        pytest.raises(TableUnusable, match="somebody else is changing it"),
        edit_table(bed.path, Ownership()),
    ):
        pass


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE secrets SET hash = 'x y'", "has a blank"),
        ("UPDATE secrets SET hash = 'plain'", "not an argon2id hash"),
        ("UPDATE secrets SET scram = 'SCRAM-SHA-1$x'", "not known"),
        ("UPDATE accounts SET send_as = '@example.org'", "send-as"),
    ],
)
async def test_a_row_that_is_none_lets_nobody_in(tmp_path: Path, statement: str, said: str) -> None:
    bed = InTable(tmp_path)
    store = bed.open()
    connection = apsw.Connection(str(bed.path))
    connection.execute(statement)
    connection.close()
    with pytest.raises(StoreUnavailable, match=said):
        await store.check_password(NAME, PASSWORD)


def test_a_file_that_is_no_table_of_ours_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE x (y)")
    connection.close()
    other.chmod(0o600)
    for use in (lambda: load_table(other), lambda: edit_table(other, Ownership()).__enter__()):
        with pytest.raises(AuthFilesError, match="is no table of accounts"):
            use()
    other.chmod(0o644)
    with pytest.raises(AuthFilesError, match="is open to others"):
        load_table(other)
    with pytest.raises(AuthFilesError, match="cannot be read"):
        load_table(tmp_path / "none")


async def test_a_table_that_takes_the_place_of_another_is_used(tmp_path: Path) -> None:
    bed = InTable(tmp_path)
    store = bed.open()
    assert await store.find(NAME)
    with edit_table(tmp_path / "fresh", Ownership()) as table:
        table.put(record("new", "x"))
    os.rename(tmp_path / "fresh", bed.path)
    assert await store.find("new") == Account("new")
    assert await store.find(NAME) is None
    await store.refresh()
    assert store.known(NAME) is None


# --- over the network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OverHttp, OverLdap])
async def test_a_store_that_says_nothing_costs_a_login_its_deadline(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, kind: type[OverHttp | OverLdap]
) -> None:
    bed = kind(tmp_path)
    auth = authenticator(bed.open())
    bed.silent = True
    start = trio.current_time()
    assert await code(auth, NAME, PASSWORD) == 454
    assert trio.current_time() - start == pytest.approx(5)
    await trio.testing.wait_all_tasks_blocked()
    assert bed.connections == 0


@pytest.mark.parametrize("kind", [OverHttp, OverLdap])
async def test_a_flood_of_logins_does_not_pile_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, kind: type[OverHttp | OverLdap]
) -> None:
    bed = kind(tmp_path)
    store = bed.open()
    bed.silent = True
    ends: list[float] = []
    start = trio.current_time()

    async def one() -> None:
        with pytest.raises(StoreUnavailable):
            await store.check_password(NAME, PASSWORD)
        ends.append(trio.current_time() - start)

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        assert bed.connections == 20
        assert len(ends) == 180
    assert max(ends) == pytest.approx(5)


@pytest.mark.parametrize("kind", [OverHttp, OverLdap])
async def test_a_right_password_is_known_for_a_while_and_a_wrong_one_is_not(
    tmp_path: Path, kind: type[OverHttp | OverLdap]
) -> None:
    bed = kind(tmp_path)
    bed.recent = RecentChecks(b"r" * 32, 300.0, bed.clock)
    store = bed.open()
    assert await store.check_password(NAME, PASSWORD)
    bed.work.clear()
    assert await store.check_password(NAME, PASSWORD)
    assert not bed.work
    assert not await store.check_password(NAME, "new")
    bed.accounts[NAME] = "new"
    assert await store.check_password(NAME, "new")
    bed.clock.now += 301
    assert not await store.check_password(NAME, PASSWORD)


@pytest.mark.parametrize(
    "reply",
    [
        http_answer({"account": {}}, "401 Unauthorized"),
        http_answer({"account": {}}, "404 Not Found"),
        http_answer({"account": {}}, "500 Oops"),
        http_answer({"account": {}}, "302 Found"),
        http_answer(b"no json"),
        http_answer(b"[" * 60_000),
        http_answer([]),
        http_answer({}),
        http_answer({"account": True}),
        http_answer({"account": {"send_as": "*"}}),
        http_answer({"account": {"send_as": [7]}}),
        http_answer({"account": {"send_as": ["@x"]}}),
        http_answer({"account": {"credential": 7}}),
        http_answer({"account": {"credential": "app:a b"}}),
        http_answer(b"x" * 70_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"220 mx.example.org ESMTP\r\n",
    ],
    ids=range(17),
)
async def test_an_answer_of_http_that_makes_no_sense_is_a_failure(tmp_path: Path, reply: bytes) -> None:
    bed = OverHttp(tmp_path)
    auth = authenticator(bed.open())
    bed.answer = reply
    assert await code(auth, NAME, PASSWORD) == 454
    with pytest.raises(StoreUnavailable) as caught:
        await auth.accounts.check_password(NAME, PASSWORD)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("scram", [7, {"password": 7}, {"password": "x"}, {"other": "x"}])
async def test_scram_of_http_that_makes_no_sense_is_a_failure(tmp_path: Path, scram: object) -> None:
    bed = OverHttp(tmp_path)
    store = bed.open()
    bed.answer = http_answer({"account": {"scram": scram}})
    with pytest.raises(StoreUnavailable):
        await store.scram(NAME)


async def test_http_says_which_app_password_it_was(tmp_path: Path) -> None:
    bed = OverHttp(tmp_path)
    store = bed.open()
    bed.answer = http_answer({"account": {"credential": "app:phone"}})
    assert await store.check_password(NAME, PASSWORD) == Proved(Account(NAME), "app:phone")
    assert bed.hosts == [("127.0.0.1", 8000)]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("INVALID_CREDENTIALS", 535),
        ("NO_SUCH_OBJECT", 535),
        ("BUSY", 454),
        ("STRONG_AUTH_REQUIRED", 454),
        ("REFERRAL", 454),
    ],
)
async def test_results_of_a_bind(tmp_path: Path, result: str, expected: int) -> None:
    bed = OverLdap(tmp_path)
    auth = authenticator(bed.open())
    bed.result = sansldap.LDAPResultCode[result]
    assert await code(auth, NAME, PASSWORD) == expected


async def test_two_entries_for_one_name_let_nobody_in(tmp_path: Path) -> None:
    bed = OverLdap(tmp_path)
    store = bed.open()
    bed.twice = True
    with pytest.raises(StoreUnavailable, match="two entries"):
        await store.check_password(NAME, PASSWORD)


async def test_a_directory_that_refuses_ourselves_is_a_failure(tmp_path: Path) -> None:
    bed = OverLdap(tmp_path)
    bed.settings = {"bind_name": "cn=else"}
    with pytest.raises(StoreUnavailable, match="our own name and secret are refused"):
        await bed.open().find(NAME)


@pytest.mark.parametrize("data", [b"220 mx\r\n", b"\x30\x84\xff\xff\xff\xff", b"\x30" * 300_000, b""])
async def test_what_is_no_ldap_is_a_failure(data: bytes) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await theirs.receive_some()
            await theirs.send_all(data)
            await theirs.aclose()

        nursery.start_soon(serve)
        with trio.fail_after(5), pytest.raises(DirectoryFailed):
            await Conversation(ours).bind("cn=a", "b")


async def test_starttls_needs_the_certificate_of_the_host(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    bed = OverLdap(tmp_path)
    bed.settings = {"starttls": True, "authorities": tmp_path / "authority.pem"}
    with pytest.raises(StoreUnavailable, match="no STARTTLS: unavailable"):
        await bed.open().find(NAME)
    for host, found in (("127.0.0.1", True), ("ldap.example.org", False)):
        bed.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(host).configure_cert(bed.context)
        store = bed.open()
        if found:
            assert await store.check_password(NAME, PASSWORD) == Proved(ACCOUNT, "password")
        else:
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await store.find(NAME)


def test_a_name_cannot_change_the_filter() -> None:
    found = account_filter("(&(mail={name})(uid={local_part}))", "a*)(b@example.org")
    assert isinstance(found, sansldap.FilterAnd)
    one, two = found.filters
    assert isinstance(one, sansldap.FilterEquality)
    assert isinstance(two, sansldap.FilterEquality)
    assert (one.value, two.value) == (b"a*)(b@example.org", b"a*)(b")
    with pytest.raises(ValueError, match="not a filter"):
        account_filter("(&(mail={name})", "x")


# --- configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('users = "a"\ndatabase = "b"', "auth.database: accounts are in one place"),
        ('[auth.ldap]\nserver = "ldap://x.example"', "set auth.ldap.base"),
        ('[auth.ldap]\nserver = "ldap://x.example"\nbase = "o=x"\nstarttls = false', "in the clear"),
        ('[auth.ldap]\nserver = "ldap://x.example"\nbase = "o=x"\nbind_name = "cn=a"', "go together"),
        ('[auth.ldap]\nserver = "ldap://x.example/o=x"', "more than a host and a port"),
        ('[auth.ldap]\nserver = "https://x.example"', "not a URL of LDAP"),
        ('[auth.ldap]\nfilter = "(mail=a)"', "would find anybody"),
        ('[auth.ldap]\nfilter = "mail={name}"', "not a filter"),
        ('[auth.http]\nurl = "http://x.example/"', "shows secrets on the way"),
    ],
)
def test_settings_that_are_refused(settings: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(f'hostname = "mx.example.org"\n[auth]\n{settings}\n', "f")


def test_settings_that_are_taken() -> None:
    text = """
        hostname = "mx.example.org"
        [auth.ldap]
        server = "ldap://[::1]:3389"
        starttls = false
        base = "o=x"
        bind_name = "cn=a"
        bind_secret = "secret"
        filter = "(&(uid={local_part})(mail={name}))"
        timeout = "3s"
    """
    config = parse_config(text, "f").auth
    assert config.stores == ("ldap.server",)
    assert (config.ldap.timeout, config.ldap.bind_secret) == (3.0, Path("secret"))
    text = (
        'hostname = "mx.example.org"\n[auth.http]\nurl = "https://x.example/"\nscram = true\nsecret = "s"\n'
    )
    assert parse_config(text, "f").auth.http == HttpAccountsConfig(
        "https://x.example/", Path("s"), scram=True
    )


def test_a_listener_needs_a_mechanism_that_the_store_can_do() -> None:
    text = """
        hostname = "mx.example.org"
        [[listeners]]
        name = "s"
        address = "127.0.0.1:1587"
        role = "submission"
        tls = "off"
        auth = "required"
        [auth]
        mechanisms = ["SCRAM-SHA-256"]
        [auth.ldap]
        server = "ldap://127.0.0.1"
        starttls = false
        base = "o=x"
    """
    with pytest.raises(ConfigError, match="needs a mechanism"):
        parse_config(text, "f")
