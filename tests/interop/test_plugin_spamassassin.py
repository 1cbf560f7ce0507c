"""The plugin spamassassin with the real spamd, its rules that need no network."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest
from proofs.servers import free_port, open_folder, require

from .plugin_daemons import PluginBed, accepts, running_daemon, running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

# In two parts, so that no filter takes this file for one
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@pytest.fixture(scope="module")
def bed() -> Iterator[PluginBed]:
    require("spamd")
    port = free_port()
    with open_folder() as folder:
        (folder / "home").mkdir()
        command = [
            *("spamd", "--local", "--nouser-config", "--max-children=2", f"--listen=127.0.0.1:{port}"),
            *("--syslog=stderr", f"--helper-home-dir={folder}/home"),
        ]
        config = f'address = "127.0.0.1:{port}"\nown = true\nreject = 100.0\nsubject = "[SPAM]"'
        with (
            running_daemon(command, folder / "spamd.log", lambda: accepts(port)),
            running_plugin(folder, "spamassassin", config) as bed,
        ):
            yield bed


def test_spam_is_rejected_and_other_mail_has_a_score(bed: PluginBed) -> None:
    head = b"From: <s@far.example>\r\nTo: <a@ours.example>\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\n"
    head += b"Message-ID: <1@far.example>\r\nSubject: lunch\r\nX-Spam-Score: -99\r\n\r\n"
    assert bed.send(head + GTUBE.encode() + b"\r\n") == (554, b"5.7.1 The message looks like spam")
    assert bed.send(head + b"Shall we meet at noon?\r\n")[0] == 250
    (text,) = bed.delivered(1)
    message = message_from_bytes(text, policy=policy.default)
    (score,) = message.get_all("X-Spam-Score", [])
    assert -5 < float(score) < 5
    status = str(message["X-Spam-Status"])
    assert status.startswith("No, score=")
    # by the field that it is handed, SpamAssassin saw a client
    assert "NO_RECEIVED" not in status
    assert "X-Spam-Flag" not in message
