"""`elemta tls`: what is shown of certificates, and what is wrong with them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result
from tls_files import write_pair

from elemta.cli import main
from elemta.delivery import RESULTS_FILE, Failure, PolicyUsed, TlsResult, TlsResults
from elemta.runtime import SystemClock

HEAD = """
hostname = "mx.one.test"
[[listeners]]
name = "mx"
address = "127.0.0.1:2525"
tls = "starttls"
[[listeners]]
name = "lmtp"
address = "127.0.0.1:2424"
role = "lmtp"
[tls]
certificate = "one.pem"
key = "one.key"
"""
SECOND = """
[[tls.certificates]]
certificate = "two.pem"
key = "two.key"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELEMTA_CONFIG", raising=False)
    return tmp_path


def check(text: str, *options: str) -> Result:
    Path("elemta.toml").write_text(text)
    return CliRunner().invoke(main, ["tls", "check", "-c", "elemta.toml", *options])


def test_names_dates_and_what_each_listener_offers(folder: Path) -> None:
    write_pair(folder, "one", "mx.one.test", "*.one.test", now=time.time())
    write_pair(folder, "two", "mx.two.test", now=time.time(), days=5, algorithm="ed25519", digest=None)
    done = check(HEAD + SECOND, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    one, two = report["certificates"]
    assert one["names"] == ["mx.one.test", "*.one.test"]
    assert (one["file"], one["key"], one["days_left"]) == ("one.pem", "EC secp256r1", 90.0)
    assert two["key"] == "Ed25519"
    mx, lmtp = report["listeners"]
    assert (mx["tls"], mx["versions"]) == ("starttls", ["1.2", "1.3"])
    assert "TLS_AES_256_GCM_SHA384" in mx["suites"]
    assert all("GCM" in suite or "POLY1305" in suite for suite in mx["suites"])
    assert (lmtp["versions"], lmtp["suites"]) == ([], [])
    assert report["notes"] == [
        "two.pem ends in 5.0 days",
        "two.pem: its signature allows no channel binding (SCRAM-SHA-256-PLUS)",
    ]
    shown = check(HEAD + SECOND)
    assert shown.exit_code == 0
    assert "mx.one.test, *.one.test" in shown.stdout
    assert "note: two.pem ends in 5.0 days" in shown.stdout


def test_the_oldest_version_decides_what_is_offered(folder: Path) -> None:
    write_pair(folder, "one", "mx.one.test", now=time.time())
    report = json.loads(check(HEAD + 'minimum_version = "1.3"\n', "--json").stdout)
    assert report["listeners"][0]["versions"] == ["1.3"]
    assert all(suite.startswith("TLS_") for suite in report["listeners"][0]["suites"])


@pytest.mark.parametrize("days", [-0.5, 0])
def test_a_certificate_that_has_ended_is_not_done(folder: Path, days: float) -> None:
    write_pair(folder, "one", "mx.one.test", now=time.time(), days=days)
    done = check(HEAD)
    assert done.exit_code == 1
    assert "not valid now" in done.stderr


def test_all_that_cannot_be_used_is_told_at_once(folder: Path) -> None:
    one, two = (write_pair(folder, name, now=time.time()) for name in ("one", "two"))
    one.key.write_bytes(two.key.read_bytes())
    two.certificate.write_text("nonsense")
    done = check(HEAD + SECOND)
    assert done.exit_code == 78
    assert done.stderr.splitlines() == [
        "elemta: one.key: not the private key of one.pem",
        "elemta: two.pem: no certificate in PEM form",
    ]


def test_authorities_of_clients_are_looked_at_too(folder: Path) -> None:
    write_pair(folder, "one", "mx.one.test", now=time.time())
    done = check(HEAD + 'client_authorities = "absent.pem"\n')
    assert done.exit_code == 78
    assert "absent.pem: No such file or directory" in done.stderr


def test_our_own_name_should_be_in_one_of_them(folder: Path) -> None:
    write_pair(folder, "one", "other.test", now=time.time())
    assert "no certificate is for our own name mx.one.test" in check(HEAD).stdout


def test_without_a_certificate_that_is_said() -> None:
    text = HEAD.partition("[tls]")[0].replace('tls = "starttls"', "")
    done = check(text)
    assert done.exit_code == 0
    assert "no certificate" in done.stdout


def test_report_shows_how_tls_went_by_day_and_policy(folder: Path) -> None:
    Path("elemta.toml").write_text('hostname = "mx.one.test"\nstate_dir = "."\n')
    runner = CliRunner()
    arguments = ["tls", "report", "-c", "elemta.toml"]
    empty = runner.invoke(main, arguments)
    assert empty.exit_code == 0
    assert "set tls_reports.collect" in empty.stdout
    results = TlsResults(folder / RESULTS_FILE, SystemClock(), lambda *_: None)
    used = PolicyUsed("a.test", "tlsa")
    results.success(used)
    results.failure(used, Failure(TlsResult.EXPIRED, "mx.a.test", "192.0.2.1", "expired \x1b"))
    trio.run(_save, results)
    (row,) = json.loads(runner.invoke(main, [*arguments, "--json", "--domain", "A.test"]).stdout)
    assert (row["domain"], row["policy"], row["successful"], row["failed"]) == ("a.test", "tlsa", 1, 1)
    assert row["failures"][0]["result"] == "certificate-expired"
    assert "1 × certificate-expired mx.a.test" in runner.invoke(main, arguments).stdout
    assert json.loads(runner.invoke(main, [*arguments, "--json", "--domain", "b.test"]).stdout) == []
    (folder / RESULTS_FILE).write_text("{")
    damaged = runner.invoke(main, arguments)
    assert damaged.exit_code == 1
    assert "begun anew" not in damaged.stdout


async def _save(results: TlsResults) -> None:
    with trio.move_on_after(0):
        await results.run()


def test_a_self_signed_pair_is_for_its_names_and_its_owner(folder: Path) -> None:
    arguments = ["tls", "self-signed", "mx.one.test", "192.0.2.1", "--certificate", "a.pem", "--key", "a.key"]
    made = CliRunner().invoke(main, arguments)
    assert made.exit_code == 0, made.output
    assert (folder / "a.key").stat().st_mode & 0o777 == 0o600
    (folder / "elemta.toml").write_text(HEAD.replace("one.pem", "a.pem").replace("one.key", "a.key"))
    shown = CliRunner().invoke(main, ["tls", "check", "-c", "elemta.toml", "--json"])
    (certificate,) = json.loads(shown.output)["certificates"]
    assert certificate["names"][0] == "mx.one.test"
    before = (folder / "a.key").read_bytes()
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "a.key is there already" in again.output
    assert (folder / "a.key").read_bytes() == before


def test_no_half_of_a_pair_is_left(folder: Path) -> None:
    (folder / "a.pem").write_text("mine")
    made = CliRunner().invoke(
        main, ["tls", "self-signed", "x.test", "--certificate", "a.pem", "--key", "a.key"]
    )
    assert made.exit_code == 1
    assert not (folder / "a.key").exists()
    assert (folder / "a.pem").read_text() == "mine"


def test_a_name_that_no_certificate_can_have_is_refused(folder: Path) -> None:
    made = CliRunner().invoke(main, ["tls", "self-signed", "m\u00fcller.test"])
    assert made.exit_code == 2
    assert list(folder.glob("*key.pem")) == []
