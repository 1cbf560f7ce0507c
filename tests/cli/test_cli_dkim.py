"""`elemta dkim generate|check`: keys with their records, and what DNS has of them."""

from __future__ import annotations

import json
import stat
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from elemta.cli import main
from elemta.config import HostPort, SigningAlgorithm
from elemta.policy import load_key, make_key, write_key
from elemta.testing.dns import DnsServer, Fault

HEAD = 'hostname = "mx.example.org"\n[[listeners]]\nname = "mx"\naddress = "127.0.0.1:2525"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELEMTA_CONFIG", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path


def generate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["dkim", "generate", *arguments])


@contextmanager
def serving(server: DnsServer) -> Iterator[HostPort]:
    """A name server that runs in a thread, beside a command that runs a loop of its own."""
    address: list[HostPort] = []
    ready = threading.Event()
    stop: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            address.append(await nursery.start(server.serve))
            stop.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(5)
    yield address[0]
    token, scope = stop[0]
    token.run_sync_soon(scope.cancel)
    thread.join(5)


def check(server: DnsServer, signing: str, *options: str) -> Result:
    with serving(server) as address:
        Path("elemta.toml").write_text(
            f'{HEAD}[dns]\nnameservers = ["{address}"]\ntimeout = "2s"\nquery_timeout = "500ms"\n{signing}'
        )
        return CliRunner().invoke(main, ["dkim", "check", "-c", "elemta.toml", *options])


def entry(selector: str, key: str | None = None) -> str:
    return f'[[signing]]\ndomain = "example.org"\nselector = "{selector}"\nkey = "{key or selector}.pem"\n'


def quoted(record: str) -> str:
    return " ".join(f'"{record[start : start + 255]}"' for start in range(0, len(record), 255))


# --- generate -----------------------------------------------------------------------------------------------


def test_a_key_and_its_record(folder: Path) -> None:
    done = generate("Example.ORG", "-s", "mail2026")
    assert done.exit_code == 0, done.output
    path = folder / "example.org.mail2026.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = load_key(path)
    assert (key.algorithm, key.bits) == ("rsa-sha256", 2048)
    assert "mail2026._domainkey.example.org. IN TXT (" in done.stdout
    strings = done.stdout.partition("( ")[2].partition(" )")[0].split('"')[1::2]
    assert "".join(strings) == key.record()
    assert max(map(len, strings)) == 255  # RFC 1035 3.3
    assert "PRIVATE" not in done.output
    settings = tomllib.loads(done.stdout[done.stdout.index("[[signing]]") :])
    assert settings == {
        "signing": [{"domain": "example.org", "selector": "mail2026", "key": "example.org.mail2026.pem"}]
    }


@pytest.mark.parametrize(
    ("options", "algorithm", "bits"),
    [
        (("-a", "ed25519"), "ed25519-sha256", 256),
        (("--bits", "3072"), "rsa-sha256", 3072),
        ((), "rsa-sha256", 2048),
    ],
)
def test_kinds_of_keys_for_programs(
    folder: Path, options: tuple[str, ...], algorithm: str, bits: int
) -> None:
    done = generate("example.org", "-s", "a.b", "-o", "my key.pem", "--json", *options)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["algorithm"], report["bits"], report["file"]) == (algorithm, bits, "my key.pem")
    assert report["name"] == "a.b._domainkey.example.org"
    assert report["record"] == "".join(report["strings"]) == load_key(folder / "my key.pem").record()


def test_a_selector_is_chosen(folder: Path) -> None:
    report = json.loads(generate("example.org", "-a", "ed25519", "--json").stdout)
    assert report["selector"][0] == "m"
    assert report["selector"][1:].isdigit()


def test_no_key_is_ever_overwritten(folder: Path) -> None:
    assert generate("example.org", "-s", "s", "-a", "ed25519").exit_code == 0
    before = (folder / "example.org.s.pem").read_bytes()
    again = generate("example.org", "-s", "s", "-a", "ed25519")
    assert again.exit_code == 1
    assert "example.org.s.pem is there already" in again.stderr
    assert (folder / "example.org.s.pem").read_bytes() == before


def test_where_no_file_can_be_made(folder: Path) -> None:
    done = generate("example.org", "-s", "s", "-a", "ed25519", "-o", "none/key.pem")
    assert done.exit_code == 1
    assert "none/key.pem cannot be made: No such file or directory" in done.stderr


@pytest.mark.parametrize("arguments", [("../x", "-s", "s"), ("example.org", "-s", "../s"), ("example.org", "-s", "a_"), ("example.org", "-s", "a" * 121),
                                       ("a b",), (), ("example.org", "--bits", "1024"), ("example.org", "-a", "dsa")])  # fmt: skip
def test_wrong_usage(folder: Path, arguments: tuple[str, ...]) -> None:
    assert generate(*arguments).exit_code == 2
    assert list(folder.iterdir()) == []


# --- check --------------------------------------------------------------------------------------------------


def test_keys_that_are_in_dns(folder: Path) -> None:
    server = DnsServer()
    for selector, algorithm in (
        ("one", SigningAlgorithm.RSA_SHA256),
        ("two", SigningAlgorithm.ED25519_SHA256),
    ):
        key = make_key(algorithm)
        write_key(folder / f"{selector}.pem", key)
        server.add(f"{selector}._domainkey.example.org", "TXT", quoted(key.record()))
    sealing = '[policy.arc]\nseal_domain = "example.org"\nseal_selector = "one"\nseal_key = "one.pem"\n'
    done = check(server, entry("one") + entry("two") + sealing, "--json")
    assert done.exit_code == 0, done.output
    keys = json.loads(done.stdout)["keys"]
    assert [
        (key["setting"], key["name"], key["algorithm"], key["bits"], key["state"], key["notes"])
        for key in keys
    ] == [
        ("signing[0]", "one._domainkey.example.org", "rsa-sha256", 2048, "ok", []),
        ("signing[1]", "two._domainkey.example.org", "ed25519-sha256", 256, "ok", []),
        ("policy.arc", "one._domainkey.example.org", "rsa-sha256", 2048, "ok", []),
    ]
    plain = check(server, entry("one"))
    assert plain.exit_code == 0
    assert plain.stdout.splitlines()[1].split()[-1] == "ok"


KEY = make_key(SigningAlgorithm.RSA_SHA256, 1024)
OTHER = make_key(SigningAlgorithm.ED25519_SHA256)
P = KEY.record().partition("p=")[2]


@pytest.mark.parametrize(
    ("records", "state", "notes"),
    [
        ([], "missing", ["there is no TXT record"]),
        ([OTHER.record()], "different", ["it has another key"]),
        (["v=DKIM1; p="], "revoked", ["key revoked"]),
        (["v=DKIM1; p=!"], "unusable", ["key syntax error"]),
        ([f"h=sha1; p={P}"], "unusable", ["h= does not allow sha256", "the key has 1024 bits: signers should use 2048 (RFC 8301 3.2)"]),
        ([f"v=DKIM1; s=tlsrpt; p={P}"], "unusable", ["key is not for mail"]),
    ],
)  # fmt: skip
def test_keys_that_are_not_in_dns_as_they_should_be(
    folder: Path, records: list[str], state: str, notes: list[str]
) -> None:
    write_key(folder / "s.pem", KEY)
    server = DnsServer()
    if records:
        server.add("s._domainkey.example.org", "TXT", *map(quoted, records))
    done = check(server, entry("s"), "--json")
    assert done.exit_code == 1
    assert done.stderr == "elemta: a key is not in DNS as it should be\n"
    (key,) = json.loads(done.stdout)["keys"]
    assert (key["state"], key["notes"]) == (state, notes)
    plain = check(server, entry("s"))
    assert plain.exit_code == 1
    assert f'"{KEY.record()[:255]}"' in plain.stdout


def test_what_is_worth_knowing_of_a_good_record(folder: Path) -> None:
    write_key(folder / "s.pem", KEY)
    server = DnsServer()
    server.add("s._domainkey.example.org", "TXT", quoted(f"t=y; p={P}"), quoted("v=spf1 -all"))
    done = check(server, entry("s"), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["keys"][0]["notes"] == [
        "there are 2 TXT records: which one is used is not defined",
        "t=y: verifiers treat signed mail as if it were not signed (RFC 6376 3.6.1)",
        "the key has 1024 bits: signers should use 2048 (RFC 8301 3.2)",
    ]


def test_dns_that_does_not_answer(folder: Path) -> None:
    write_key(folder / "s.pem", OTHER)
    server = DnsServer(faults={"s._domainkey.example.org": Fault.SERVFAIL})
    done = check(server, entry("s"), "--json")
    assert done.exit_code == 75
    assert json.loads(done.stdout)["keys"][0]["state"] == "unknown"


def test_nothing_to_check(folder: Path) -> None:
    done = check(DnsServer(), "")
    assert done.exit_code == 1
    assert "no key: make one with 'elemta dkim generate', and add [[signing]]" in done.stderr


def test_all_key_files_that_cannot_be_used(folder: Path) -> None:
    sealing = (
        '[policy.arc]\nseal_domain = "example.org"\nseal_selector = "one"\nseal_key = "credential:seal"\n'
    )
    done = check(DnsServer(), entry("a") + entry("b") + sealing)
    assert done.exit_code == 78
    assert done.stderr.splitlines() == [
        "elemta: signing[0].key: a.pem: cannot be read: No such file or directory",
        "elemta: signing[1].key: b.pem: cannot be read: No such file or directory",
        "elemta: policy.arc.seal_key: credential:seal: systemd gave no credentials: set LoadCredential= in the service",
    ]
