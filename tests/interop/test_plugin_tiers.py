"""Shipped plugins that work in threads, in a process as well as in the loop."""

from __future__ import annotations

import gzip
import json
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from .plugin_daemons import running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

HEAD = b"From: <s@far.example>\r\nTo: a@ours.example\r\nSubject: x\r\n\r\n"
MESSAGE = HEAD + b"Hello\r\n"


@pytest.mark.parametrize("isolation", ["task", "process"])
def test_many_messages_at_a_time_are_archived(isolation: str, tmp_path: Path) -> None:
    folder = tmp_path / "some" / "archive"
    message = HEAD + (b"x" * 76 + b"\r\n") * 20_000
    with (
        running_plugin(tmp_path, "archive", f'folder = "{folder}"\nkeep = "1d"', isolation=isolation) as bed,
        ThreadPoolExecutor(16) as senders,
    ):
        answers = list(senders.map(lambda _: bed.send(message), range(32)))
        assert [code for code, _ in answers] == [250] * 32
        bed.delivered(32)
        kept = sorted(folder.glob("*/*.eml.gz"))
        assert len(kept) == 32
        assert all(gzip.decompress(each.read_bytes()) == message for each in kept)
        lines = [line for file in folder.glob("*/accepted.jsonl") for line in file.read_text().splitlines()]
        assert len({json.loads(line)["message"] for line in lines}) == 32


@pytest.mark.parametrize("isolation", ["task", "process"])
def test_mail_goes_out_with_a_return_path_and_its_bounce_comes_back(isolation: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    config = f'senders = ["far.example"]\ndomain = "bounces.example"\nsecret_file = "{secret}"'
    with running_plugin(tmp_path, "suppression", config, isolation=isolation) as bed:
        assert bed.send(MESSAGE, sender="s@far.example")[0] == 250
        (got,) = bed.delivered(1)
        path = got.partition(b"Return-Path: <")[2].partition(b">")[0].decode()
        assert path.startswith("bounces+")
        notice = (
            b"From: x\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
            b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n"
            b"Final-Recipient: rfc822; a@ours.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
        )
        assert bed.send(notice, sender="", to=path)[0] == 250
        bed.delivered(1, "s")
        code, text = bed.send(MESSAGE, sender="s@far.example")
        assert (code, text) == (550, b"5.1.6 This address does not exist any more: 5.1.1")


class _Archive(socketserver.StreamRequestHandler):
    """Takes one message over SMTP."""

    taken: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 x\r\n")
        while line := self.rfile.readline():
            if line == b"DATA\r\n":
                self.wfile.write(b"354 go on\r\n")
                self.taken.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            self.wfile.write(b"250 yes\r\n")


@pytest.mark.parametrize("isolation", ["task", "process"])
def test_a_large_message_is_reported(isolation: str, tmp_path: Path) -> None:
    message = HEAD + (b"x" * 76 + b"\r\n") * 100_000
    _Archive.taken.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Archive) as archive:
        threading.Thread(target=archive.serve_forever, daemon=True).start()
        config = f'to = "j@archive.example"\nserver = "127.0.0.1:{archive.server_address[1]}"'
        with running_plugin(tmp_path, "journal", config, isolation=isolation) as bed:
            assert bed.send(message)[0] == 250
        archive.shutdown()
    (report,) = _Archive.taken
    assert message in report
