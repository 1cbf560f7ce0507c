"""The plugin spamassassin with the real spamd, its rules that need no network."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from ports import free_port
from proofs.servers import open_folder, require

from .plugin_daemons import PluginBed, accepts, running_daemon, running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

# In two parts, so that no filter takes this file for one
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def message(subject: str, body: str, more: str = "") -> bytes:
    return (
        "From: <s@far.example>\r\nTo: <a@ours.example>\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <1@far.example>\r\n{more}Subject: {subject}\r\n\r\n{body}\r\n"
    ).encode()


@dataclass
class Spamd:
    port: int
    socket: Path


@pytest.fixture(scope="module")
def spamd() -> Iterator[Spamd]:
    require("spamd")
    with open_folder() as folder:
        (folder / "home").mkdir()
        found = Spamd(free_port(), folder / "spamd.sock")
        local = ("spamd", "--local", "--nouser-config", "--max-children=2", "--syslog=stderr")
        home = f"--helper-home-dir={folder}/home"
        with (
            running_daemon(
                [*local, home, f"--listen=127.0.0.1:{found.port}"],
                folder / "tcp.log",
                lambda: accepts(found.port),
            ),
            running_daemon(
                [*local, home, f"--socketpath={found.socket}", "--socketmode=0666"],
                folder / "socket.log",
                lambda: takes(found.socket),
            ),
        ):
            yield found


def takes(path: Path) -> bool:
    """Whether something listens on that socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    return False


@pytest.fixture(scope="module")
def bed(spamd: Spamd) -> Iterator[PluginBed]:
    config = f'address = "127.0.0.1:{spamd.port}"\nown = true\nreject = 100.0\nsubject = "[SPAM]"'
    with open_folder() as folder, running_plugin(folder, "spamassassin", config) as bed:
        yield bed


def test_spam_is_rejected_and_other_mail_has_a_score(bed: PluginBed) -> None:
    assert bed.send(message("lunch", GTUBE)) == (554, b"5.7.1 The message looks like spam")
    assert bed.send(message("lunch", "Shall we meet at noon?", "X-Spam-Score: -99\r\n"))[0] == 250
    (text,) = bed.delivered(1)
    taken = parsed(text)
    (score,) = taken.get_all("X-Spam-Score", [])
    assert -5 < float(score) < 5
    status = str(taken["X-Spam-Status"])
    assert status.startswith("No, score=")
    # by the field that it is handed, SpamAssassin saw a client
    assert "NO_RECEIVED" not in status
    assert "X-Spam-Flag" not in taken


def parsed(text: bytes) -> EmailMessage:
    found = message_from_bytes(text, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


@pytest.mark.parametrize(("ask", "isolation"), [("report", "process"), ("headers", "task")])
def test_what_else_can_be_asked_for_over_a_socket(
    spamd: Spamd, ask: str, isolation: str, tmp_path: Path
) -> None:
    config = f'address = "unix:{spamd.socket}"\nown = true\nask = "{ask}"'
    with running_plugin(tmp_path, "spamassassin", config, isolation=isolation) as bed:
        assert bed.send(message("lunch", GTUBE, "X-Spam-Level: none\r\nX-Spam-Flag: NO\r\n"))[0] == 250
        (text,) = bed.delivered(1)
    spam = parsed(text)
    assert spam.get_all("X-Spam-Flag") == ["YES"]
    assert "GTUBE" in str(spam["X-Spam-Status"]).split("tests=")[1]
    if ask == "report":
        assert "Generic Test for Unsolicited Bulk Email" in str(spam["X-Spam-Report"])
        assert "X-Spam-Level" not in spam
    else:
        assert str(spam["X-Spam-Level"]).startswith("*****")
        assert str(spam["X-Spam-Checker-Version"]).startswith("SpamAssassin ")
    assert GTUBE in spam.get_content()


def test_mail_is_deferred_while_it_is_away(tmp_path: Path) -> None:
    with running_plugin(tmp_path, "spamassassin", f'address = "unix:{tmp_path}/none"\nown = true') as bed:
        assert bed.send(message("lunch", "Hello"))[0] == 451
