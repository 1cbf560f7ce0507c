"""`elemta tail` beside a real server: what it shows, and that it finds its place again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from server_process import ENDS_WITHIN, RunningServer, Setting, elemta, environment, serving, wait_for


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.write()
    return setting


@contextmanager
def tailing(setting: Setting, *arguments: str) -> Generator[tuple[Path, Path], None, None]:
    """Standard output and error of a tail, which is ended by Ctrl-C."""
    shown, said = setting.folder / "shown", setting.folder / "said"
    with shown.open("wb") as out, said.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "elemta", "tail", "-c", str(setting.file), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment(),
        )
    try:
        yield shown, said
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN) == 130
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(ENDS_WITHIN)
    assert b"Traceback" not in said.read_bytes()


def records(shown: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shown.read_text().splitlines() if line.endswith("}")]


def send(server: RunningServer, recipient: str) -> None:
    with server.client() as client:
        client.sendmail("sender@else.example", [recipient], b"Subject: seen\r\n\r\nhello\r\n")


def test_events_come_as_they_happen_and_go_on_behind_a_restart(setting: Setting) -> None:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        arguments = ("--json", "--type", "message.accepted", "--type", "server.st*", "-n", "5")
        with tailing(setting, *arguments) as (shown, said):
            # What had happened before
            wait_for(
                lambda: [each["type"] for each in records(shown)] == ["server.started"], "the start is shown"
            )
            send(server, "alice@example.org")
            first = wait_for(lambda: records(shown)[1:], "the message is shown")[0]
            assert first["recipients"] == ["alice@example.org"]
            assert server.stop() == 0
            wait_for(lambda: "waiting for the server" in said.read_text(), "the end is told")
            with serving(setting.folder, setting.port, "-c", setting.file) as again:
                send(again, "bob@example.org")
                wait_for(
                    lambda: (
                        [each["type"] for each in records(shown)][-1:] == ["message.accepted"]
                        and records(shown)[-1]["recipients"] == ["bob@example.org"]
                    ),
                    "the second message is shown",
                )
                types = [each["type"] for each in records(shown)]
                assert types == [
                    "server.started",
                    "message.accepted",
                    "server.stopping",
                    "server.started",
                    "message.accepted",
                ]
                assert "the server was started anew" in said.read_text()
                numbers = [each["seq"] for each in records(shown)]
                assert numbers == sorted(set(numbers))


def test_in_a_terminal_form_strangers_text_is_escaped_and_filters_hold(setting: Setting) -> None:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        with tailing(setting, "--recipient", "alice@example.org", "-n", "0") as (shown, _):

            def prod() -> bool:
                send(server, "bob@example.org")
                with server.client() as client:
                    message = b"Message-ID: <\xe2\x80\xae\x1b[2Jx@else.example>\r\n\r\nhello\r\n"
                    client.sendmail("sender@else.example", ["alice@example.org"], message)
                return b"message.accepted" in shown.read_bytes()

            wait_for(prod, "a message is shown")
        text = shown.read_bytes()
        assert b"bob@example.org" not in text
        assert b"\x1b" not in text
        assert "\u202e".encode() not in text
        assert b"\\u202e" in text


def test_what_cannot_be_watched_is_said_in_one_line(setting: Setting) -> None:
    missing = elemta("tail", "-c", setting.file)
    assert missing.returncode == 1
    assert missing.stderr.startswith("elemta: no server runs on ")
    with serving(setting.folder, setting.port, "-c", setting.file):
        bad = elemta("tail", "-c", setting.file, "--level", "loud")
        assert bad.returncode == 1
        assert bad.stderr == "elemta: level is one of debug, info, warning, error\n"
