"""The plugin greylisting in a server of its own: what it knows outlives the server, in both tiers."""

from __future__ import annotations

import smtplib
import time
from pathlib import Path

import pytest

from .plugin_daemons import PluginBed, running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

MESSAGE = b"From: <s@far.example>\r\nSubject: x\r\n\r\nHello\r\n"
PROXY = '[proxies]\nxclient = ["127.0.0.1"]\n'


def send(bed: PluginBed, sender: str = "s@far.example") -> tuple[int, bytes]:
    """As a client from elsewhere: the first reply that is a refusal, or the last one."""
    with smtplib.SMTP("127.0.0.1", bed.server.port, "client.example", timeout=30) as client:
        client.ehlo()
        assert client.docmd("XCLIENT", "ADDR=198.51.100.9")[0] == 220
        client.ehlo()
        for reply in (client.mail(sender), client.rcpt("a@ours.example")):
            if reply[0] >= 400:
                return reply
        return client.data(MESSAGE)


@pytest.mark.parametrize("isolation", ["task", "process"])
def test_who_came_before_a_restart_is_known_after_it(isolation: str, tmp_path: Path) -> None:
    config = 'everybody = true\nno_name = false\nspf = []\ndelay = "2s"'
    with running_plugin(tmp_path, "greylisting", config, PROXY, isolation=isolation) as bed:
        code, text = send(bed)
        assert (code, text[:32]) == (450, b"4.7.1 Greylisted, come again in ")
        time.sleep(2)  # hints are written within a second
    with running_plugin(tmp_path, "greylisting", config, PROXY, isolation=isolation) as bed:
        assert send(bed)[0] == 250
        assert send(bed, "t@far.example")[0] == 450
        assert len(bed.delivered(1)) == 1


def test_spf_is_asked_in_a_process_as_well(tmp_path: Path) -> None:
    # Nobody answers questions here
    config = 'timeout = "1s"\nno_name = false\nspf = ["temperror"]'
    with running_plugin(tmp_path, "greylisting", config, PROXY, isolation="process") as bed:
        assert send(bed)[0] == 450
