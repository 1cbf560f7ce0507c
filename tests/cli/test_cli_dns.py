"""`elemta dns`: what is shown, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from elemta.cli import dns, main
from elemta.cli.client import NotRunning

ANSWER = {
    "name": "a.test",
    "type": "MX",
    "status": "ok",
    "records": ["10 mx.a.test."],
    "ttl": 100.0,
    "authentic": True,
    "canonical": "a.test",
    "detail": "",
}
ENTRY = {**ANSWER, "age": 30.0}
COUNTS = {"entries": 1, "hits": 4, "misses": 1, "failures": 0, "in_flight": 0}


class FakeServer:
    """Answers in place of the server; `answer` None: it does not run."""

    answer: Any = None
    asked: list[tuple[str, Any]]

    def __init__(self) -> None:
        self.asked = []

    def __call__(self, _: Path) -> FakeServer:
        return self

    def get(self, path: str) -> Any:
        return self.post(path, None)

    def post(self, path: str, body: object) -> Any:
        self.asked.append((path, body))
        if self.answer is None:
            raise NotRunning
        return self.answer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.chdir(tmp_path)
    # Nobody listens on port 1 of this machine, so that a look-up without a server fails at once.
    Path("elemta.toml").write_text(
        'hostname = "mx.test"\n[dns]\nnameservers = ["127.0.0.1:1"]\ntimeout = "1s"\nquery_timeout = "1s"\n'
    )
    fake = FakeServer()
    monkeypatch.setattr(dns, "AdminClient", fake)
    return fake


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["dns", *arguments, "-c", "elemta.toml"])


def test_lookup_shows_records_and_whether_they_are_authenticated(server: FakeServer) -> None:
    server.answer = ANSWER
    done = call("lookup", "a.test")
    assert done.exit_code == 0
    assert done.stdout == "a.test MX: ok, for 100 s, authenticated by DNSSEC\n  10 mx.a.test.\n"
    assert server.asked == [("/api/v1/dns/lookup?name=a.test&type=MX", None)]
    assert json.loads(call("lookup", "a.test", "mx", "--json").stdout) == ANSWER


@pytest.mark.parametrize(("status", "exit_code"), [("nxdomain", 1), ("nodata", 1), ("failed", 75)])
def test_lookup_without_records_has_its_own_status(server: FakeServer, status: str, exit_code: int) -> None:
    server.answer = ANSWER | {"status": status, "records": [], "canonical": "b.test"}
    done = call("lookup", "a.test", "TLSA")
    assert done.exit_code == exit_code
    assert "is an alias of b.test" in done.stdout


def test_lookup_without_a_server_asks_the_configured_name_servers(server: FakeServer) -> None:
    done = call("lookup", "a.test", "A")
    assert done.exit_code == 75
    assert "127.0.0.1:1" in done.stderr


def test_cache_is_a_table_and_counts(server: FakeServer) -> None:
    server.answer = {"statistics": COUNTS, "entries": [ENTRY, ENTRY | {"records": [], "status": "nodata"}]}
    done = call("cache", "a.test")
    assert done.exit_code == 0
    assert "10 mx.a.test." in done.stdout
    assert "1 answers, 4 hits, 1 misses, 0 failures, 0 asked now" in done.stdout
    assert server.asked[0][0] == "/api/v1/dns?limit=200&name=a.test"
    assert json.loads(call("cache", "--json").stdout) == server.answer


def test_flush_needs_a_name_or_all(server: FakeServer) -> None:
    server.answer = {"forgotten": 3}
    assert call("flush", "a.test").stdout == "3 forgotten\n"
    assert call("flush", "--all").exit_code == 0
    assert [body for _, body in server.asked] == [{"name": "a.test"}, {"all": True}]
    assert call("flush").exit_code == 2
    assert call("flush", "a.test", "--all").exit_code == 2


def test_cache_and_flush_need_a_server(server: FakeServer) -> None:
    for arguments in (("cache",), ("flush", "--all")):
        done = call(*arguments)
        assert done.exit_code == 1
        assert "no server runs" in done.stderr
