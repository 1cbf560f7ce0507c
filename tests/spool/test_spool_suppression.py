"""The suppression list: what stays, what goes, and what several programs see of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from elemta.runtime import SystemClock
from elemta.spool import SUPPRESSION_FILE, Suppressed, Suppression, SuppressionFile, SuppressionUnavailable

NOW = 1000.0


@pytest.fixture(params=["memory", "file"])
def listed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SuppressionFile]:
    file = SuppressionFile(None if request.param == "memory" else tmp_path / SUPPRESSION_FILE)
    yield file
    file.close()


def addresses(listed: SuppressionFile, now: float = NOW, search: str = "") -> list[str]:
    return [each.address for each in listed.page(now, after="", limit=100, search=search)]


def test_large_letters_are_as_small_ones(listed: SuppressionFile) -> None:
    entry = Suppressed("Bob@Far.example", "5.1.1", "bounces", NOW, NOW + 10)
    assert listed.find("bob@far.example", NOW) is None
    listed.put([entry], NOW)
    found = listed.find("BOB@far.example", NOW)
    assert found == Suppressed("bob@far.example", "5.1.1", "bounces", NOW, NOW + 10)
    assert listed.remove(["bOb@far.example", "nobody@far.example"], NOW) == 1
    assert listed.find("bob@far.example", NOW) is None


def test_what_is_over_is_gone(listed: SuppressionFile) -> None:
    listed.put([Suppressed("a@x.example", until=NOW + 10), Suppressed("b@x.example")], NOW)
    assert addresses(listed) == ["a@x.example", "b@x.example"]
    assert listed.find("a@x.example", NOW + 10) is None
    assert addresses(listed, NOW + 10) == ["b@x.example"]
    listed.put([Suppressed("c@x.example")], NOW + 11)  # sweeps on its way
    assert addresses(listed, NOW) == ["b@x.example", "c@x.example"]


def test_what_is_found_out_does_not_undo_what_an_operator_said(listed: SuppressionFile) -> None:
    ever = Suppressed("ever@x.example", "asked us", since=NOW)
    never = Suppressed("never@x.example", since=NOW, never=True)
    listed.put([ever, never], NOW)
    later = NOW + 5
    for address in ("ever@x.example", "never@x.example"):
        assert not listed.add(Suppressed(address, "5.1.1", "bounces", later, later + 9), later)
    assert (listed.find(ever.address, later), listed.find(never.address, later)) == (ever, never)
    fresh = Suppressed("new@x.example", "5.1.1", "bounces", later, later + 9)
    assert listed.add(fresh, later)
    again = Suppressed("new@x.example", "5.1.2", "bounces", later + 1, later + 10)
    assert listed.add(again, later + 1)
    assert listed.find("new@x.example", later) == again
    # one that may not be on the list for a time may be when that is over
    listed.put([Suppressed("some@x.example", since=NOW, until=later, never=True)], NOW)
    assert listed.add(Suppressed("some@x.example", "5.1.1", "bounces", later, later + 9), later)


def test_pages_go_on_behind_the_last_one(listed: SuppressionFile) -> None:
    listed.put([Suppressed(f"{number:03}@x.example") for number in range(25)], NOW)
    seen: list[str] = []
    after = ""
    while page := listed.page(NOW, after=after, limit=10):
        seen += [each.address for each in page]
        after = seen[-1]
    assert seen == [f"{number:03}@x.example" for number in range(25)]
    assert addresses(listed, search="02") == [f"{number:03}@x.example" for number in (2, *range(20, 25))]
    assert addresses(listed, search="%") == []
    assert addresses(listed, search="@X.EXAMPLE") == seen


def test_all_of_a_change_or_nothing(listed: SuppressionFile) -> None:
    broken = Suppressed("b@x.example", why=None)  # type: ignore[arg-type]
    with pytest.raises((SuppressionUnavailable, TypeError)):
        listed.put([Suppressed("a@x.example"), broken], NOW)
    assert addresses(listed) == []


def test_a_question_makes_no_file_and_a_change_a_private_one(tmp_path: Path) -> None:
    path = tmp_path / SUPPRESSION_FILE
    listed = SuppressionFile(path)
    assert listed.find("a@x.example", NOW) is None
    assert listed.remove(["a@x.example"], NOW) == 0
    assert not path.exists()
    listed.put([Suppressed("a@x.example")], NOW)
    assert [each.stat().st_mode & 0o777 for each in tmp_path.iterdir()] == [0o600] * 3
    other = SuppressionFile(path)  # as a command beside the server
    other.put([Suppressed("b@x.example")], NOW)
    assert addresses(listed) == ["a@x.example", "b@x.example"]
    other.close()
    listed.close()


@pytest.mark.parametrize("content", [b"no database" * 100, b""])
def test_another_file_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / SUPPRESSION_FILE
    if content:
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE suppressed (a)")
        other.close()
    before = path.read_bytes()
    listed = SuppressionFile(path)
    with pytest.raises(SuppressionUnavailable):
        listed.put([Suppressed("a@x.example")], NOW)
    with pytest.raises(SuppressionUnavailable):
        listed.find("a@x.example", NOW)
    assert path.read_bytes() == before or not content


def test_a_list_that_somebody_else_changes_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elemta.spool.suppression._BUSY_MILLISECONDS", 1)
    path = tmp_path / SUPPRESSION_FILE
    listed = SuppressionFile(path)
    listed.put([Suppressed("a@x.example")], NOW)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SuppressionUnavailable, match="somebody else"):
        listed.put([Suppressed("b@x.example")], NOW)
    assert addresses(listed) == ["a@x.example"]  # questions go on
    other.execute("ROLLBACK")
    other.close()
    listed.put([Suppressed("b@x.example")], NOW)
    listed.close()


async def test_the_server_has_it_behind_a_thread(tmp_path: Path) -> None:
    clock = SystemClock()
    listed = Suppression(tmp_path / SUPPRESSION_FILE, clock)
    assert await listed.find("a@x.example") is None
    assert await listed.add("A@x.example", "5.1.1", "bounces", 60.0)
    await listed.put([Suppressed("b@x.example")])
    found = await listed.find("a@x.example")
    assert found is not None
    assert (found.why, found.source, found.until) == ("5.1.1", "bounces", found.since + 60)
    assert [each.address for each in await listed.page(after="", limit=10)] == ["a@x.example", "b@x.example"]
    assert await listed.remove(["a@x.example"]) == 1
    listed.close()
