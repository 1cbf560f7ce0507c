"""The watch over all tests finds what it is there for: a watch that finds nothing proves nothing."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from secret_watch import SecretWatch, watch

from elemta.auth.passwords import Cost, PasswordHash, Recipe
from elemta.events import EventBus, SessionOpened
from elemta.policy.keyring import Algorithm, make_key
from elemta.runtime import get_logger
from elemta.smtp import Auth

PASSWORD = "a password of the tests"
_log = get_logger(__name__)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    watch.findings()  # what these tests tell on purpose


def compute() -> None:
    PasswordHash.of(PASSWORD, Recipe(Cost(passes=1, memory=8, lanes=1), b"s" * 16))


@pytest.mark.parametrize(
    "told",
    [PASSWORD, f"PLAIN {base64.b64encode(f'a{PASSWORD}'.encode()).decode()}", f"xx{PASSWORD}xx",
     base64.b64encode(f"\0a\0{PASSWORD}".encode()).decode(), repr(PASSWORD.encode())],
)  # fmt: skip
@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_a_password_in_a_log_is_found_at_every_level(level: str, told: str) -> None:
    compute()
    getattr(_log, level)("somebody came", value=told)
    [found] = watch.findings()
    assert found.startswith("password: ")
    assert watch.findings() == []


def test_a_password_in_an_event_is_found() -> None:
    compute()
    bus = EventBus()
    bus.publish(SessionOpened(time=0.0, session="s", peer=PASSWORD, port=1, listener="mx"))
    assert len(watch.findings()) == 1


def test_an_exchange_is_found_as_it_was_sent() -> None:
    Auth("PLAIN", b"\0anna\0pw")
    _log.debug(
        "a line", line=f"AUTH PLAIN {base64.b64encode(bytes(1) + b'anna' + bytes(1) + b'pw').decode()}"
    )
    [found] = watch.findings()
    assert found.startswith("AUTH exchange: ")


def test_a_private_key_is_found_by_any_of_its_lines() -> None:
    pem = make_key(Algorithm.RSA_SHA256, 1024).pem().decode()
    _log.info("read", line=pem.splitlines()[4])
    [found] = watch.findings()
    assert found.startswith("private key: ")


def test_what_is_no_secret_is_not_found() -> None:
    compute()
    Auth("LOGIN", b"anna@example.org")
    _log.debug(
        "anna@example.org gave a password", hidden="(hidden)", password=PASSWORD
    )  # the logger hides it
    assert watch.findings() == []


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_output_of_a_server_is_read_with_the_secrets_beside_it(tmp_path: Path, stream: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "admin.token").write_text("token-of-this-server\n")
    told = f"import sys; print('token-of-this-server', file=sys.{stream})"
    with (tmp_path / "out").open("wb") as out:
        # as `elemta run` is started: the words tell
        command = [sys.executable, "-c", told, "elemta", "run"]
        subprocess.run(command, check=True, timeout=60, **{stream: out})  # type: ignore[call-overload]
    [found] = watch.findings()
    assert found.startswith("content of admin.token: ")


def test_other_commands_may_show_what_they_made(tmp_path: Path) -> None:
    compute()
    with (tmp_path / "out").open("wb") as out:
        command = [sys.executable, "-c", f"print('{PASSWORD}')", "elemta", "user", "add"]
        subprocess.run(command, check=True, timeout=60, stdout=out)
    assert watch.findings() == []


def test_short_words_are_no_secrets() -> None:
    own = SecretWatch()
    own.learn("pencil", "password")
    own.hear("a pencil")
    assert own.findings() == []
