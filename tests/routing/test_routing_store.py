"""The table of recipients: the same answers as the file, and never a guess."""

import os
from pathlib import Path

import apsw
import attrs
import pytest
import trio

from elemta.config import Config, DomainsConfig
from elemta.mail import Domain, parse_mailbox
from elemta.routing import (
    Found,
    RecipientsFileError,
    RecipientsUnavailable,
    Router,
    edit_recipients,
)

ROWS = {
    "alice@ours.example": "",
    "bob@ours.example": "",
    "team@ours.example": "alice, bob, far@elsewhere.example",
    "all@ours.example": "team, all2@ours.example",
    "all2@ours.example": "all, bob",
    "copy@ours.example": "copy, alice",
    "@catch.example": "alice@ours.example",
    "named@catch.example": "",
}


def fill(path: Path, rows: dict[str, str]) -> None:
    with edit_recipients(path, "+") as change:
        for address, targets in rows.items():
            change.put(address, targets)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "recipients.sqlite"
    fill(path, ROWS)
    return path


def router_of(table: Path, file: Path | None = None) -> Router:
    domains = DomainsConfig(
        local=tuple(map(Domain, ("ours.example", "catch.example", "other.example"))),
        table=table,
        recipients=file,
    )
    return Router(Config("mx.ours.example", domains=domains))


def ask(router: Router, address: str) -> tuple[bool, list[str]]:
    found = router.find_blocking(parse_mailbox(address))
    return found.exists, [str(each) for each in found.behind]


@pytest.mark.parametrize(
    ("address", "exists", "behind"),
    [
        ("Alice@ours.example", True, ["Alice@ours.example"]),
        ("alice+tag@ours.example", True, ["alice+tag@ours.example"]),
        ("nobody@ours.example", False, ["nobody@ours.example"]),
        ("team@ours.example", True, ["alice@ours.example", "bob@ours.example", "far@elsewhere.example"]),
        ("team+x@ours.example", True, ["alice@ours.example", "bob@ours.example", "far@elsewhere.example"]),
        ("all@ours.example", True, ["alice@ours.example", "bob@ours.example", "far@elsewhere.example"]),
        ("copy@ours.example", True, ["copy@ours.example", "alice@ours.example"]),
        ("whoever@catch.example", True, ["alice@ours.example"]),
        ("named@catch.example", True, ["named@catch.example"]),
        ("anybody@other.example", True, ["anybody@other.example"]),
        ("postmaster@ours.example", True, ["postmaster@ours.example"]),
    ],
)
def test_it_answers_as_the_file_would(table: Path, tmp_path: Path, address, exists, behind):
    assert ask(router_of(table), address) == (exists, behind)
    file = tmp_path / "recipients"
    lines = (f"{key}: {targets}" if targets else key for key, targets in ROWS.items())
    file.write_text("\n".join(lines))
    same = Router(attrs.evolve(router_config(file)))
    mailbox = parse_mailbox(address)
    assert Found(same.exists(mailbox), same.expand(mailbox)) == router_of(table).find_blocking(mailbox)


def router_config(file: Path) -> Config:
    domains = DomainsConfig(
        local=tuple(map(Domain, ("ours.example", "catch.example", "other.example"))), recipients=file
    )
    return Config("mx.ours.example", domains=domains)


def test_what_others_commit_is_seen_by_the_next_question(table: Path):
    router = router_of(table)
    assert ask(router, "new@ours.example")[0] is False
    fill(table, {"new@ours.example": "bob"})
    assert ask(router, "new@ours.example") == (True, ["bob@ours.example"])
    with edit_recipients(table, "+") as change:
        assert change.remove("new@ours.example")
        assert not change.remove("new@ours.example")
    assert ask(router, "new@ours.example")[0] is False


def test_a_file_in_the_place_of_the_table_is_used_from_then_on(table: Path, tmp_path: Path):
    router = router_of(table)
    other = tmp_path / "other"
    fill(other, {"carol@ours.example": ""})
    os.replace(other, table)
    assert ask(router, "carol@ours.example")[0] is True
    assert ask(router, "alice@ours.example")[0] is False


def test_lines_of_the_file_come_first(table: Path, tmp_path: Path):
    file = tmp_path / "recipients"
    file.write_text("team@ours.example: bob\n")
    router = router_of(table, file)
    assert ask(router, "team@ours.example") == (True, ["bob@ours.example"])
    assert ask(router, "alice@ours.example")[0] is True


def _sql(table: Path, text: str) -> None:
    connection = apsw.Connection(str(table))
    connection.execute(text)
    connection.close()


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE recipients SET targets = 'no address at all' WHERE local_part = 'team'",
        (
            "INSERT INTO recipients VALUES ('ours.example', 'a', 'b'), ('ours.example', 'b', 'a');"
            "UPDATE recipients SET targets = 'a' WHERE local_part = 'team'"
        ),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO recipients"
            " SELECT 'ours.example', 'n' || i, 'n' || (i + 1) FROM n;"
            "UPDATE recipients SET targets = 'n1' WHERE local_part = 'team'"
        ),
        "DROP TABLE recipients",
    ],
)
def test_what_makes_no_sense_is_neither_a_yes_nor_a_no(table: Path, text: str):
    router = router_of(table)
    _sql(table, text)
    with pytest.raises(RecipientsUnavailable, match=str(table)):
        router.find_blocking(parse_mailbox("team@ours.example"))


def test_a_table_that_is_gone_or_broken_is_no_answer_and_heals(table: Path, tmp_path: Path):
    router = router_of(table)
    away = tmp_path / "away"
    os.replace(table, away)
    with pytest.raises(RecipientsUnavailable):
        router.find_blocking(parse_mailbox("alice@ours.example"))
    table.write_bytes(b"garbage " * 1000)
    with pytest.raises(RecipientsUnavailable):
        router.find_blocking(parse_mailbox("alice@ours.example"))
    os.replace(away, table)
    assert ask(router, "alice@ours.example")[0] is True


@pytest.mark.parametrize("content", [None, b"", b"garbage " * 1000])
def test_a_server_does_not_start_with_what_is_no_table(tmp_path: Path, content: bytes | None):
    path = tmp_path / "table"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipientsFileError, match=str(path)):
        router_of(path)


def test_a_table_that_everybody_may_write_is_not_used(table: Path):
    table.chmod(0o666)
    with pytest.raises(RecipientsFileError, match="everybody may write it"):
        router_of(table)


@pytest.mark.parametrize(
    ("address", "targets", "reason"),
    [
        ("no address", "", "is no address"),
        ("a@ours.example", "b@@c", "is no address"),
        ("loop@ours.example", "loop2", "leads only back to itself"),
        ("a@ours.example: b", "", "has no colon"),
    ],
)
def test_a_change_that_makes_no_sense_is_not_made(table: Path, address: str, targets: str, reason: str):
    fill(table, {"loop2@ours.example": "alice"})
    with pytest.raises(ValueError, match=reason), edit_recipients(table, "+") as change:
        if targets == "loop2":
            _prepare_loop(change)
        change.put(address, targets)
    assert ask(router_of(table), "loop2@ours.example") == (True, ["alice@ours.example"])


def _prepare_loop(change) -> None:
    change.put("loop@ours.example")
    change.put("loop2@ours.example", "loop")


async def test_many_ask_at_once_while_others_write(table: Path):
    router = router_of(table)
    answers: list[Found] = []

    async def ask_often() -> None:
        for _ in range(20):
            answers.append(await router.find(parse_mailbox("all@ours.example")))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask_often)
            for number in range(5):
                await trio.to_thread.run_sync(fill, table, {f"n{number}@ours.example": "all"})
    assert len(answers) == 100
    assert {len(each.behind) for each in answers} == {3}


async def test_a_table_that_somebody_keeps_locked_is_no_answer(table: Path):
    router = router_of(table)
    writer = apsw.Connection(str(table))
    writer.execute("BEGIN EXCLUSIVE")
    with trio.fail_after(20):
        with pytest.raises(RecipientsUnavailable, match="somebody else is changing it"):
            await router.find(parse_mailbox("alice@ours.example"))
        writer.execute("ROLLBACK")
        assert (await router.find(parse_mailbox("alice@ours.example"))).exists
    writer.close()


def test_a_first_change_that_is_not_made_leaves_nothing_in_the_way_of_the_next(tmp_path: Path):
    path = tmp_path / "table"
    with pytest.raises(ValueError, match="no address"):
        fill(path, {"nonsense": ""})
    fill(path, {"alice@ours.example": ""})
    assert ask(router_of(path), "alice@ours.example")[0]


def test_what_is_refused_is_not_written_though_others_of_the_change_are(table: Path):
    with edit_recipients(table, "+") as change:
        with pytest.raises(ValueError, match="leads only back to itself"):
            change.put("bob@ours.example", "bob2")
            change.put("bob2@ours.example", "bob")
        change.put("carol@ours.example")
    router = router_of(table)
    assert ask(router, "bob@ours.example") == (True, ["bob2@ours.example"])
    assert not ask(router, "bob2@ours.example")[0]
    assert ask(router, "carol@ours.example")[0]


def test_a_row_that_is_no_text_is_neither_a_yes_nor_a_no(table: Path):
    other = apsw.Connection(str(table))
    other.execute("UPDATE recipients SET targets = CAST(x'e9' AS TEXT) WHERE local_part = 'bob'")
    router = router_of(table)
    with pytest.raises(RecipientsUnavailable, match="no UTF-8 text"):
        ask(router, "bob@ours.example")
    assert ask(router, "alice@ours.example")[0]
    with pytest.raises(RecipientsUnavailable, match="no UTF-8 text"), edit_recipients(table, "+") as change:
        list(change.all())


def test_what_a_writer_left_half_done_is_no_answer_until_one_has_undone_it(table: Path):
    half = table.parent / "half"
    other = apsw.Connection(str(table))
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM recipients WHERE local_part = 'bob'")
    other.cache_flush()
    half.write_bytes(table.read_bytes())
    journal = table.with_name(f"{table.name}-journal")
    half.with_name("half-journal").write_bytes(journal.read_bytes())
    other.close()
    with pytest.raises(RecipientsFileError):
        router_of(half)
    with edit_recipients(half, "+") as change:
        assert len(list(change.all())) == len(ROWS)
    assert ask(router_of(half), "bob@ours.example")[0]
