"""The plugin greylisting in a server of its own: what it knows outlives the server, in both tiers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .plugin_daemons import running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

MESSAGE = b"From: <s@far.example>\r\nSubject: x\r\n\r\nHello\r\n"
CLIENT = "198.51.100.9"


@pytest.mark.parametrize("isolation", ["task", "process"])
def test_who_came_before_a_restart_is_known_after_it(isolation: str, tmp_path: Path) -> None:
    config = 'everybody = true\nno_name = false\nspf = []\ndelay = "2s"'
    with running_plugin(tmp_path, "greylisting", config, isolation=isolation) as bed:
        code, text = bed.send(MESSAGE, peer=CLIENT)
        assert (code, text[:32]) == (450, b"4.7.1 Greylisted, come again in ")
        time.sleep(2)  # hints are written within a second
    with running_plugin(tmp_path, "greylisting", config, isolation=isolation) as bed:
        assert bed.send(MESSAGE, peer=CLIENT)[0] == 250
        assert bed.send(MESSAGE, sender="t@far.example", peer=CLIENT)[0] == 450
        assert len(bed.delivered(1)) == 1


def test_spf_is_asked_in_a_process_as_well(tmp_path: Path) -> None:
    # Nobody answers questions here
    config = 'timeout = "1s"\nno_name = false\nspf = ["temperror"]'
    with running_plugin(tmp_path, "greylisting", config, isolation="process") as bed:
        assert bed.send(MESSAGE, peer=CLIENT)[0] == 450
