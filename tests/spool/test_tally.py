"""Counts by day for reports: bounded, and lost rather than in the way."""

from pathlib import Path

import pytest

from elemta.spool import Tally, TallyError

A, B = ("a.example", "p", "1"), ("b.example", "p", "1")


def test_counts_add_up_and_days_are_apart(tmp_path: Path):
    tally = Tally(tmp_path / "reports.sqlite", 100)
    assert tally.add(1, [(A, 2), (B, 1)]) == 0
    tally.add(1, [(A, 3)])
    tally.add(2, [(A, 7)])
    again = Tally(tmp_path / "reports.sqlite", 100)
    assert again.before(1) == []
    assert again.before(2) == [(1, A, 5), (1, B, 1)]
    again.forget(1, "a.example")
    assert again.before(3) == [(1, B, 1), (2, A, 7)]
    assert (tmp_path / "reports.sqlite").stat().st_mode & 0o777 == 0o600


def test_there_are_never_more_rows(tmp_path: Path):
    tally = Tally(tmp_path / "reports.sqlite", 2)
    assert tally.add(1, [((str(number), "", ""), 1) for number in range(5)]) == 3
    assert tally.add(1, [(("0", "", ""), 4), (("9", "", ""), 1)]) == 1
    assert tally.before(2) == [(1, ("0", "", ""), 5), (1, ("1", "", ""), 1)]


def test_a_damaged_file_is_moved_aside(tmp_path: Path):
    path = tmp_path / "reports.sqlite"
    path.write_bytes(b"no database at all" * 100)
    tally = Tally(path, 10)
    with pytest.raises(TallyError, match="moved aside"):
        tally.add(1, [(A, 1)])
    assert tally.add(1, [(A, 1)]) == 0
    assert path.with_suffix(".damaged").exists()


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(TallyError):
        Tally(tmp_path / "none" / "reports.sqlite", 10).before(5)
