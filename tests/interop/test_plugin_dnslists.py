"""The plugin dnslists with lists of a real name server (Knot DNS), in both tiers."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest
from ports import free_port
from proofs.servers import open_folder, require

from .plugin_daemons import PluginBed, accepts, running_daemon, running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

LISTED = {
    # RFC 5782 §5: the test points of a list of addresses, and of one of domains
    "bl.test": ["2.0.0.127 A 127.0.0.2", "9.100.51.198 A 127.0.0.2", "10.100.51.198 A 127.0.0.10",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2 A 127.0.0.2"],
    "wl.test": ["2.0.0.127 A 127.0.0.2", "9.100.51.198 A 127.0.5.1"],
    "dead.test": ["* A 127.0.0.2"],
    "full.test": ["* A 127.255.255.254"],
    "dbl.test": ["test A 127.0.1.2", "mail.evil.test A 127.0.1.2"],
    "100.51.198.in-addr.arpa": ["11 PTR mail.evil.test."],
    "evil.test": ["mail A 198.51.100.11"],
}  # fmt: skip
CONFIG = """
reject = 5
tag = 1
zones = [
  { zone = "bl.test", weight = 5, answers = ["127.0.0.2"] },
  { zone = "bl.test", weight = 2, answers = ["127.0.0.10"] },
  { zone = "wl.test", weight = -3 },
  { zone = "dead.test", weight = 9 },
  { zone = "full.test", weight = 9 },
  { zone = "dbl.test", weight = 3, of = ["reverse", "hello", "sender", "links"] },
]
"""


@pytest.fixture(scope="module")
def lists() -> Iterator[str]:
    """Where the name server is."""
    require("knotd")
    port = free_port()
    with open_folder() as folder:
        text = f'server:\n  listen: 127.0.0.1@{port}\n  rundir: "{folder}"\n'
        text += f'database:\n  storage: "{folder}"\nzone:\n'
        for zone, records in LISTED.items():
            lines = [
                f"$ORIGIN {zone}.",
                "$TTL 60",
                "@ SOA ns.test. hostmaster 1 3600 600 86400 60",
                "@ NS ns.test.",
            ]
            (folder / f"{zone}.zone").write_text("\n".join([*lines, *records, ""]))
            text += f'  - domain: {zone}\n    storage: "{folder}"\n    file: "{zone}.zone"\n'
            text += "    zonefile-sync: -1\n    journal-content: none\n"
        (folder / "knot.conf").write_text(text)
        command = ["knotd", "-c", str(folder / "knot.conf")]
        with running_daemon(command, folder / "log", lambda: accepts(port)):
            yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module", params=["task", "process"])
def bed(request: pytest.FixtureRequest, lists: str) -> Iterator[PluginBed]:
    with (
        open_folder() as folder,
        running_plugin(folder, "dnslists", CONFIG, isolation=request.param, nameserver=lists) as bed,
    ):
        yield bed


def test_lists_are_weighed_and_those_that_are_broken_do_not_count(bed: PluginBed) -> None:
    def send(peer: str, body: str = "Hello", hello: str = "client.example") -> tuple[int, bytes]:
        message = f"From: <s@far.example>\r\nSubject: {peer}\r\n\r\n{body}\r\n"
        return bed.send(message.encode(), peer=peer, hello=hello)

    link = "See http://mail.evil.test/"
    assert send("198.51.100.77")[0] == 250
    assert send("198.51.100.9")[0] == 250
    assert send("198.51.100.10")[0] == 250
    assert send("198.51.100.11")[0] == 250
    assert send("198.51.100.10", hello="mail.evil.test") == (
        550, b"5.7.1 Listed by bl.test (client), dbl.test (hello)"
    )  # fmt: skip
    assert send("198.51.100.9", hello="mail.evil.test")[0] == 550
    assert send("198.51.100.10", link) == (554, b"5.7.1 Listed by bl.test (client), dbl.test (links)")
    assert send("IPV6:2001:db8::1") == (550, b"5.7.1 Listed by bl.test (client)")
    said = {}
    for text in bed.delivered(4):
        message = message_from_bytes(text, policy=policy.default)
        said[str(message["Subject"])] = message["X-DNS-Lists"]
    assert said == {
        "198.51.100.77": None,
        "198.51.100.9": "score 2: bl.test (client)",
        "198.51.100.10": "score 2: bl.test (client)",
        "198.51.100.11": "score 3: dbl.test (reverse)",
    }
