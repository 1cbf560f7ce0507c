"""smtp-source to elemta to smtp-sink, both Postfix's: everything arrives once, and unchanged.

smtp-sink's dump has its own lines in front and LF for CR LF; the reference is captured through the same sink,
without elemta between, so these cancel out. smtp-source's messages differ in Date and Message-Id only.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from .servers import require, route_to, running_elemta, running_sink, wait_until

MESSAGES = int(os.environ.get("ELEMTA_PROOF_RELAY", "20000"))
SIZE = 4096

MESSAGE_ID = re.compile(rb"^Message-Id: (<[^>\n]+>)\n", re.MULTILINE)
DATE = re.compile(rb"^Date: [^\n]+\n", re.MULTILINE)
SINK_LINES = re.compile(
    rb"X-Client-Addr: 127\.0\.0\.1\nX-Client-Proto: E?SMTP\nX-Helo-Args: [^\n]+\n"
    rb"X-Mail-Args: <a@example\.org>[^\n]*\nX-Rcpt-Args: <b@sink\.example>[^\n]*\n"
    rb"Received: from [^\n]+\n\tby smtp-sink [^\n]+\n\t[^\n]+\n"
)
TRACE = re.compile(rb"Received: from [^\n]+\n(?:[ \t][^\n]+\n)*")


def send(port: int, messages: int, sessions: int) -> None:
    """smtp-source ends with an error where any message is not answered with 250."""
    subprocess.run(
        ["smtp-source", "-d", "-s", str(sessions), "-m", str(messages), "-l", str(SIZE),
         "-f", "a@example.org", "-t", "b@sink.example", f"127.0.0.1:{port}"],
        check=True,
        timeout=60 + messages / 50,
    )  # fmt: skip


def split(dumped: bytes) -> tuple[bytes, bytes]:
    """The Message-Id, and the message as it was sent but for Date and Message-Id."""
    own = SINK_LINES.match(dumped)
    assert own, dumped[:600]
    content = dumped[own.end() :]
    found = MESSAGE_ID.search(content)
    assert found, content[:600]
    return found[1], MESSAGE_ID.sub(b"Message-Id:\n", DATE.sub(b"Date:\n", content, count=1), count=1)


def number_of_files(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(1 for _ in entries)


def captured() -> bytes:
    """What smtp-source sends."""
    with running_sink() as (port, dump):
        send(port, 1, 1)
        wait_until(
            lambda: any(path.stat().st_size > SIZE for path in dump.iterdir()), "the reference message"
        )
        time.sleep(0.1)  # its end may be written after its beginning
        (path,) = dump.iterdir()
        return split(path.read_bytes())[1]


@pytest.mark.proof
def test_everything_arrives_once_and_unchanged(tmp_path: Path) -> None:
    require("smtp-source", "smtp-sink")
    reference = captured()
    config = (
        '[limits]\nsessions_per_client = 1000\nmessages_per_session = 1000000\n[logging]\nlevel = "warning"\n'
    )
    with running_sink() as (sink_port, dump):
        with running_elemta(tmp_path, route_to(sink_port) + config) as server:
            begun = time.perf_counter()
            send(server.port, MESSAGES, 50)
            accepted = time.perf_counter() - begun
            wait_until(
                lambda: number_of_files(dump) >= MESSAGES, "every message at the sink", 60 + MESSAGES / 50
            )
            relayed = time.perf_counter() - begun
            time.sleep(2)  # for duplicates
        arrived: Counter[bytes] = Counter()
        for path in dump.iterdir():
            id_, content = split(path.read_bytes())
            arrived[id_] += 1
            trace = TRACE.match(content)
            assert trace, content[:600]
            assert b"by mx.example.org" in trace[0]
            assert content[trace.end() :] == reference
    print(f"{MESSAGES} messages: accepted {MESSAGES / accepted:.0f}/s, relayed {MESSAGES / relayed:.0f}/s")
    assert [id_ for id_, copies in arrived.items() if copies > 1] == []
    assert len(arrived) == MESSAGES
