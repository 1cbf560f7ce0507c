"""`elemta queue` on long queues: in batches, with a bar for people and none for programs."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_spool import fill
from click.testing import CliRunner, Result
from rich.console import Console

from elemta.cli import main
from elemta.cli.client import AdminClient
from elemta.cli.console import LONG_WORK, MOST_FOLDED, with_bar
from elemta.cli.queue import PAGE
from elemta.spool import SpoolStatistics, SqliteStore, open_readonly_spool

MANY = 2 * PAGE + 100
SETTINGS = 'hostname = "mx.example.org"\nstate_dir = "state"\n'


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELEMTA_CONFIG", "elemta.toml")
    Path("elemta.toml").write_text(SETTINGS)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("queue", *arguments))


def totals() -> SpoolStatistics:
    with open_readonly_spool(Path("state")) as reader:
        return reader.statistics()


# On the spool itself


def test_actions_on_many_messages_are_committed_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Path("state"), MANY)
    sizes: list[int] = []
    hold = SqliteStore.hold

    def counted(store: SqliteStore, which: Any, reason: str) -> int:
        sizes.append(len(which.messages))
        return hold(store, which, reason)

    monkeypatch.setattr(SqliteStore, "hold", counted)
    done = run("hold", "--all")
    assert (done.exit_code, done.output) == (0, f"{MANY} recipients held\n")
    assert sizes == [PAGE, PAGE, 100]
    assert totals().held == MANY
    assert run("release", "--domain", "far.example").output == f"{MANY} recipients due now\n".replace(
        "due now", "released"
    )
    assert totals().queued == MANY
    assert run("remove", "--sender", "anna@client.example").output == f"{MANY} recipients removed\n"
    assert (totals().removed, totals().messages) == (MANY, 0)


def test_many_ids_are_taken_in_portions_and_nothing_else_is_touched() -> None:
    ids = fill(Path("state"), MANY, recipients=2)
    done = run("hold", *ids[: PAGE + 1])
    assert done.output == f"{2 * (PAGE + 1)} recipients held\n"
    assert totals().held == 2 * (PAGE + 1)
    only = run("retry", "--recipient", "r0@far.example", *ids)
    assert only.output == f"{MANY - PAGE - 1} recipients due now\n"


def test_what_was_done_before_a_failure_stays_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Path("state"), MANY)
    from elemta.spool import SpoolFull

    remove, calls = SqliteStore.remove, []

    def second_fails(store: SqliteStore, which: Any, now: float) -> Any:
        calls.append(which)
        if len(calls) == 2:
            raise SpoolFull("the disk is full")
        return remove(store, which, now)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "remove", second_fails)
        done = run("remove", "--all")
    assert done.exit_code == 74
    assert done.stdout == ""
    assert done.stderr == f"elemta: {PAGE} recipients removed before this\nelemta: state: the disk is full\n"
    assert (totals().removed, totals().queued) == (PAGE, MANY - PAGE)


def test_a_long_list_is_whole_and_each_row_is_one_line_in_a_pipe() -> None:
    ids = fill(Path("state"), MANY)
    done = run("list", "--limit", "100000")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == ids
    assert lines[-1] == f"{MANY} messages"
    assert done.stderr == ""
    shown = json.loads(run("list", "--json", "--limit", str(PAGE + 1)).stdout)["messages"]
    assert [message["id"] for message in shown] == ids[: PAGE + 1]


# Through a server


class Server:
    """What the admin port answers; `None`: it has gone."""

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def request(self, method: str, path: str, body: bytes | None) -> Any:
        from elemta.cli.client import NotRunning

        self.asked.append((method, path, json.loads(body) if body else None))
        answer = self.answers.pop(0)
        if answer is None:
            raise NotRunning
        return answer


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(AdminClient, "_request", server.request)
    return server


def test_a_server_is_asked_for_one_batch_after_the_other(answers: Server) -> None:
    last = "1m89wemsws15w967"
    answers.answers = [
        {"recipients": 700, "messages": PAGE, "next": last},
        {"recipients": 3, "messages": 2, "next": None},
    ]
    done = run("retry", "--json", "--domain", "far.example")
    assert json.loads(done.stdout) == {"recipients": 703}
    assert done.stderr == ""
    (_, _, first), (_, _, second) = answers.asked
    assert (first["limit"], "after" in first, second["after"]) == (PAGE, False, last)
    assert first["selection"] == second["selection"]


def test_a_server_that_stops_in_the_middle_is_no_reason_to_go_to_the_spool(answers: Server) -> None:
    answers.answers = [{"recipients": PAGE, "messages": PAGE, "next": "1m89wemsws15w967"}, None]
    done = run("hold", "--json", "--domain", "far.example")
    assert done.exit_code == 75
    assert done.stdout == ""
    assert done.stderr == (
        f"elemta: {PAGE} recipients held before this\n"
        "elemta: the server has stopped; run the command again for the rest\n"
    )


def test_a_bar_for_everything_knows_its_end_from_the_status(answers: Server) -> None:
    answers.answers = [
        {"spool": {"messages": 1}},
        {"recipients": 1, "messages": 1, "next": None},
    ]
    assert run("hold", "--all").output == "1 recipient held\n"
    assert [path for _, path, _ in answers.asked] == ["/api/v1/status", "/api/v1/queue"]


# The bar


class Watch:
    """A clock that each look moves on."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def bar(step: float, total: int | None) -> str:
    output = io.StringIO()
    bars = Console(file=output, force_terminal=True, width=80)
    batches: Iterator[int] = iter([500, 500, 200])
    passed = list(
        with_bar(batches, "hold:", total=total, amount=lambda n: n, monotonic=Watch(step), bars=bars)
    )
    assert passed == [500, 500, 200]
    return output.getvalue()


def test_quick_work_shows_no_bar() -> None:
    assert bar(LONG_WORK / 100, 1200) == ""


def test_long_work_shows_how_far_it_is() -> None:
    shown = bar(LONG_WORK, 1200)
    assert "hold:" in shown
    assert "1200/1200" in shown


def test_without_a_total_the_bar_counts() -> None:
    assert "1200/?" in bar(LONG_WORK, None)


def test_where_standard_error_is_no_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(with_bar([1, 2], "x", total=2, amount=int, monotonic=Watch(LONG_WORK))) == [1, 2]
    assert capsys.readouterr() == ("", "")


def in_terminal(*arguments: str) -> tuple[str, str]:
    """Standard output in a pipe and standard error in a terminal, where all work counts as long."""
    code = "from elemta.cli import console, main\nconsole.LONG_WORK = 0\nmain()"
    ours, theirs = pty.openpty()
    output = Path("output")
    with os.fdopen(ours, "rb", buffering=0) as terminal, output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "queue", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=theirs,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "TERM": "xterm",
                "COLUMNS": "100",
            },
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := terminal.read(4096):
                shown += piece
        except OSError:  # EIO: the other side is closed
            pass
        assert process.wait(30) == 0, shown
    return output.read_text(), shown.decode()


def test_a_person_sees_the_bar_and_a_pipe_gets_the_result_alone() -> None:
    fill(Path("state"), MANY)
    output, shown = in_terminal("hold", "--all")
    assert output == f"{MANY} recipients held\n"
    assert "hold:" in shown
    assert f"/{MANY}" in shown
    output, shown = in_terminal("release", "--all", "--json")
    assert json.loads(output) == {"recipients": MANY}
    assert shown == ""
    output, shown = in_terminal("list", "--limit", str(MANY))
    assert output.splitlines()[-1] == f"{MANY} messages"
    assert "reading the queue" in shown


def test_a_longer_table_is_not_folded_even_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from elemta.cli import console

    monkeypatch.setattr(
        console, "console", Console(force_terminal=True, width=20, color_system=None, file=sys.stdout)
    )
    wide = "a" * 30
    console.table(("name", "count"), [(wide, "1")], right=("count",))
    assert wide not in capsys.readouterr().out
    console.table(("name", "count"), [(wide, "1")] * (MOST_FOLDED + 1), right=("count",))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == MOST_FOLDED + 2
    assert lines[1] == f"{wide}      1"


def test_strangers_text_is_escaped_and_wide_characters_count_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from elemta.cli.console import table

    table(("a", "b"), [("\x1b[2J", "1"), ("漢字", "2")])
    lines = capsys.readouterr().out.splitlines()
    assert "\x1b" not in "".join(lines)
    assert lines[1].endswith("  1")
    assert lines[2] == "漢字" + " " * (lines[1].rindex("1") - 4) + "2"
