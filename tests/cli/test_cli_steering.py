"""`elemta queue` by selection, pauses, dry runs, bounces, the audit and `elemta trace`, without a server."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cli_spool import fill
from click.testing import CliRunner, Result

from elemta.cli import main
from elemta.mail import MessageId
from elemta.spool import QueueFilter, SpoolStatistics, SqliteStore, open_offline, open_readonly_spool

SETTINGS = 'hostname = "mx.example.org"\nstate_dir = "state"\n[[routes]]\nmatch = "near.example"\nhost = "hub.example"\n'
STATE = Path("state")


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELEMTA_CONFIG", "elemta.toml")
    Path("elemta.toml").write_text(SETTINGS)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def totals() -> SpoolStatistics:
    with open_readonly_spool(STATE) as reader:
        return reader.statistics()


@pytest.mark.parametrize(
    "selection",
    [
        ("--route", "smtp:far.example"),
        ("--cause", "new"),
        ("--older", "2d"),
        ("--state", "queued"),
        ("--sender", "anna@client.example", "--domain", "far.example"),
    ],
)
def test_a_selection_is_counted_and_then_changed(selection: tuple[str, ...]) -> None:
    fill(STATE, 3, recipients=2)
    counted = run("queue", "hold", "--dry-run", *selection)
    assert counted.output == "6 recipients of 3 messages would be held\n"
    assert totals().held == 0
    assert run("queue", "hold", *selection).output == "6 recipients held\n"
    assert json.loads(run("queue", "release", "--dry-run", "--json", "--all").output) == {
        "recipients": 6,
        "messages": 3,
        "dry_run": True,
    }
    listed = json.loads(run("queue", "list", "--json", "--state", "held").output)["messages"]
    assert len(listed) == 3


@pytest.mark.parametrize(
    "selection",
    [("--route", "smtp:near.example"), ("--newer", "2d"), ("--cause", "connect"), ("--state", "held")],
)
def test_what_does_not_match_is_left_alone(selection: tuple[str, ...]) -> None:
    fill(STATE, 3)
    done = run("queue", "remove", "--yes", *selection)
    assert done.exit_code == 1
    assert "nothing in the queue matches" in done.output
    assert totals().queued == 3


def test_a_span_that_is_none_is_wrong_usage() -> None:
    fill(STATE, 1)
    done = run("queue", "retry", "--older", "yesterday")
    assert done.exit_code == 2
    assert "--older" in done.output


def test_a_pause_is_written_down_shown_and_ended() -> None:
    fill(STATE, 2)
    assert run("queue", "pause").output == "nothing is paused\n"
    done = run("queue", "pause", "domain", "Far.Example", "--reason", "they move", "--for", "2h")
    assert done.output == "domain far.example is paused\n"
    (pause,) = json.loads(run("queue", "pause", "--json").output)["pauses"]
    assert (pause["kind"], pause["value"]) == ("domain", "far.example")
    assert pause["reason"].startswith("they move (")
    assert abs(pause["until"] - time.time() - 7200) < 60
    assert "they move" in run("queue", "pause").output
    assert run("queue", "resume", "domain", "far.example").output == (
        "domain far.example is resumed, 0 recipients due now\n"
    )
    again = run("queue", "resume", "domain", "far.example")
    assert (again.exit_code, again.output) == (1, "elemta: this domain is not paused\n")


@pytest.mark.parametrize(
    ("kind", "value"),
    [("domain", "no domain"), ("sender", "nobody"), ("domain", "\x1b[31m"), ("route", "x" * 501)],
)
def test_what_cannot_be_paused_is_refused(kind: str, value: str) -> None:
    fill(STATE, 1)
    done = run("queue", "pause", kind, value)
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    with open_readonly_spool(STATE) as reader:
        assert reader.pauses() == []


def test_a_bounce_writes_the_notice_in_the_same_step() -> None:
    ids = fill(STATE, 2, recipients=2)
    assert run("queue", "bounce", ids[0]).output == "2 recipients returned\n"
    after = totals()
    assert (after.failed, after.queued, after.messages, after.difference) == (2, 3, 2, 0)
    with open_readonly_spool(STATE) as reader:
        (notice,) = reader.list(QueueFilter(sender="<>"), after=None, limit=10)
        body = reader.body(notice.id)
    assert [recipient.address for recipient in notice.recipients] == ["anna@client.example"]
    assert body is not None
    assert b"Action: failed" in body
    assert b"Status: 5.0.0" in body
    assert b"r1@far.example" in body
    assert run("queue", "audit").exit_code == 0


def test_a_trace_tells_the_end_of_what_is_gone() -> None:
    (message,) = fill(STATE, 1)
    alive = run("trace", message)
    assert "accepted from 192.0.2.9" in alive.output
    assert "it is in the queue" in alive.output
    run("queue", "bounce", message)
    told = json.loads(run("trace", "--json", message).output)
    assert told["sender"] == "anna@client.example"
    assert told["origin"]["session"] == "s"
    (attempt,) = told["attempts"]
    assert (attempt["recipient"], attempt["state"], attempt["reason"]) == (
        "r0@far.example",
        "failed",
        "operator",
    )
    shown = run("trace", message).output
    assert "r0@far.example failed: 554 5.0.0" in shown
    assert "gone after" in shown


@pytest.mark.parametrize("message", ["0123456789abcdef", "nonsense"])
def test_a_message_that_never_was_has_no_trace(message: str) -> None:
    fill(STATE, 1)
    assert run("trace", message).exit_code == 1


def test_without_retention_nothing_is_known_of_what_is_gone() -> None:
    Path("elemta.toml").write_text(SETTINGS + '[queue]\nretention = "0s"\n')
    (message,) = fill(STATE, 1)
    run("queue", "remove", message)
    assert run("trace", message).exit_code == 1
    assert totals().difference == 0


def test_the_audit_is_quiet_where_all_is_well() -> None:
    fill(STATE, 3)
    done = run("queue", "audit")
    assert (done.exit_code, "accepted = delivered" in done.output) == (0, True)
    assert json.loads(run("queue", "audit", "--json").output) == {"differences": []}


def damage(statement: str) -> None:
    store = SqliteStore.open(STATE / "spool")
    store.connection.execute(statement)
    store.close()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE counter SET accepted = accepted + 1", "count"),
        ("DELETE FROM body WHERE seq = 1", "body"),
        ("UPDATE recipient SET due = NULL WHERE message = 1", "limbo"),
        ("DELETE FROM recipient WHERE message = 1", "pending"),
        ("UPDATE message SET inline = 0 WHERE seq = 1", "body"),
    ],
)
def test_the_audit_names_what_does_not_agree(statement: str, kind: str) -> None:
    fill(STATE, 3)
    damage(statement)
    done = run("queue", "audit", "--json")
    assert done.exit_code == 1
    kinds = {each["kind"] for each in json.loads(done.stdout)["differences"]}
    assert kind in kinds


def test_a_body_file_without_a_message_is_named_once_it_is_old() -> None:
    fill(STATE, 1)
    import os

    stray = STATE / "spool" / "bodies" / "0123456789abcdef"
    stray.write_bytes(b"x")
    assert run("queue", "audit").exit_code == 0
    os.utime(stray, (1, 1))
    done = run("queue", "audit")
    assert done.exit_code == 1
    assert "a body file without a message" in done.output


def test_a_resume_makes_due_what_was_put_aside() -> None:
    ids = fill(STATE, 2)
    run("queue", "pause", "sender", "anna@client.example")
    with open_offline(STATE) as store:
        store.begin(careful=True)
        for claim in store.claim(10, 7, 2000.0, 2900.0):
            leases = [(one.index, one.lease) for one in claim.recipients]
            from elemta.mail import Cause

            store.unclaim(MessageId(claim.message.id), leases, None, Cause.PAUSED)
        store.commit()
    listed = json.loads(run("queue", "list", "--json", "--cause", "paused").output)["messages"]
    assert [entry["id"] for entry in listed] == ids
    assert "2 recipients due now" in run("queue", "resume", "sender", "anna@client.example").output
    assert totals().held == 0


def test_a_search_finds_what_is_here_and_what_is_gone() -> None:
    ids = fill(STATE, 3, recipients=2)
    run("queue", "remove", ids[1])
    found = json.loads(run("trace", "--json", "--recipient", "r1@far.example").output)["messages"]
    assert [(life["id"], life["ended"] is None) for life in found] == [
        (ids[0], True),
        (ids[2], True),
        (ids[1], False),
    ]
    table = run("trace", "--sender", "anna@client.example").output
    assert table.count("removed") == 2
    assert run("trace", "--sender", "r1@far.example").exit_code == 1
    assert run("trace", "--recipient", "nobody").exit_code == 1
    assert run("trace").exit_code == 2
    assert run("trace", "--message-id", "<nothing@x.example>", "--subject", "nothing").exit_code == 1
    assert "at least 4 characters" in run("trace", "--remote-id", "abc").output
