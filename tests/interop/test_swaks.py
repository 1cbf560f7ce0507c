"""swaks as the client: with and without pipelining, with several recipients."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from proofs.servers import Elemta, require, running_elemta, wait_until

pytestmark = pytest.mark.interop


def configuration(folder: Path) -> str:
    return (
        '[domains]\nlocal = ["local.example"]\n'
        f'[[routes]]\nmatch = "local.example"\ntransport = "maildir"\npath = "{folder}/mail/{{local_part}}"\n'
    )


def swaks(server: Elemta, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{server.port}", "--from", "a@example.org", "--helo", "client.example",
         "--suppress-data", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip


def delivered(folder: Path, name: str) -> list[bytes]:
    return [path.read_bytes() for path in (folder / "mail" / name / "new").glob("*")]


@pytest.mark.parametrize("pipelined", [False, True], ids=["one by one", "pipelined"])
def test_swaks_delivers_to_several_recipients(tmp_path: Path, pipelined: bool) -> None:
    require("swaks")
    names = ["one", "two", "three"]
    with running_elemta(tmp_path, configuration(tmp_path)) as server:
        result = swaks(
            server,
            *(["--pipeline"] if pipelined else []),
            "--to", ",".join(f"{name}@local.example" for name in names),
            "--header", "Subject: from swaks",
            "--body", "first\n.dot\n..dots\nlast",
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        wait_until(lambda: all(delivered(tmp_path, name) for name in names), "a copy in each mailbox")
    for name in names:
        (content,) = delivered(tmp_path, name)
        text = content.replace(b"\r\n", b"\n")
        assert re.search(rb"^Received: from client\.example ", text, re.MULTILINE)
        assert b"\nSubject: from swaks\n" in text
        assert text.partition(b"\n\n")[2].rstrip(b"\n") == b"first\n.dot\n..dots\nlast"


def test_swaks_sees_one_of_its_recipients_refused(tmp_path: Path) -> None:
    require("swaks")
    with running_elemta(tmp_path, configuration(tmp_path)) as server:
        result = swaks(
            server, "--pipeline", "--to", "one@local.example,two@local.example.,three@local.example"
        )
        # swaks goes on with those that are left, and says so.
        assert "501 5.1.3" in result.stdout or "553 5.1.3" in result.stdout, result.stdout
        wait_until(
            lambda: bool(delivered(tmp_path, "one") and delivered(tmp_path, "three")), "the other two copies"
        )


def test_swaks_gives_up_a_transaction_before_data(tmp_path: Path) -> None:
    require("swaks")
    with running_elemta(tmp_path, configuration(tmp_path)) as server:
        result = swaks(server, "--to", "one@local.example", "--quit-after", "RCPT")
        assert result.returncode == 0, result.stdout
        assert "250 2.1.5" in result.stdout
        result = swaks(server, "--to", "one@local.example", "--body", "second")
        assert result.returncode == 0, result.stdout
        wait_until(lambda: bool(delivered(tmp_path, "one")), "the message that was finished")
    assert len(delivered(tmp_path, "one")) == 1
