"""What belongs to the process: its descriptors, and errors that nobody can catch."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from elemta.app import descriptors, unraisable
from elemta.app.unraisable import unraisable_to_log

WITHOUT = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from elemta.app.descriptors import open_standard_descriptors
open_standard_descriptors()
with socket.socket() as sock:
    number = sock.fileno()
print("out")
print("error", file=sys.stderr)
with open(sys.argv[2], "w") as file:
    file.write(f"{number} {[os.readlink(f'/proc/self/fd/{each}') for each in range(3)]}")
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_no_socket_gets_the_number_of_a_standard_descriptor(tmp_path: Path, closed: tuple[int, ...]) -> None:
    closing = " ".join(f"{number}>&-" for number in closed)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [
            "/bin/bash",
            "-c",
            f'exec "$0" -c "$1" "$2" "$3" {closing}',
            sys.executable,
            WITHOUT,
            root,
            str(tmp_path / "seen"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    number, _, links = (tmp_path / "seen").read_text().partition(" ")
    assert int(number) > 2
    for each in closed:
        assert eval(links)[each] == "/dev/null"
    assert done.stdout == ("" if 1 in closed else "out\n")
    assert done.stderr == ("" if 2 in closed else "error\n")


def test_open_descriptors_are_left_alone() -> None:
    before = sys.stdout, sys.stderr
    descriptors.open_standard_descriptors()
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize(("soft", "hard", "sessions"), [(1024, 4096, 3072), (1024, 1024, 768), (1, 1, 1)])
def test_as_many_descriptors_as_may_be(monkeypatch, soft: int, hard: int, sessions: int) -> None:
    set_to = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: set_to.append(limits))
    assert descriptors.raise_descriptor_limit() == sessions
    assert set_to == ([] if soft == hard else [(hard, hard)])


def test_a_limit_that_cannot_be_raised_stays(monkeypatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1000, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_descriptor_limit() == 750


def test_errors_that_nobody_can_catch_become_records(monkeypatch) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(unraisable, "_log", SimpleNamespace(error=lambda text, **values: told.append(values)))
    before = sys.unraisablehook

    def report(error: BaseException | None, of: object = None) -> None:
        sys.unraisablehook(
            SimpleNamespace(exc_type=ValueError, exc_value=error, exc_traceback=None, err_msg=None, object=of)  # type: ignore[arg-type]
        )

    with unraisable_to_log():
        report(ValueError("in a destructor"))
        report(None)
        # What `ssl` reports for a name in a ClientHello that is no ASCII: a stranger's doing.
        report(UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal not in range"), b"\xff.test")
    assert sys.unraisablehook is before
    assert [values["error"] for values in told] == ["ValueError: in a destructor", "ValueError"]
