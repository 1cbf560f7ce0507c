"""[auth]: what goes together and what does not."""

from __future__ import annotations

import pytest

from elemta.config import AuthConfig, AuthMechanism, ConfigError, parse_config

HEAD = 'hostname = "mx.example.org"\n'
LISTENER = '[[listeners]]\nname = "a"\naddress = "127.0.0.1:2525"\nauth = "required"\n'
USERS = '[auth]\nusers = "users"\n'


def said(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(HEAD + text, "f")
    return [str(problem) for problem in caught.value.problems]


def test_the_defaults_need_nothing_while_nobody_logs_in() -> None:
    assert parse_config(HEAD, "f").auth == AuthConfig()
    assert AuthMechanism.CRAM_MD5 not in AuthConfig().mechanisms
    assert AuthConfig().loopback_without_tls is False


def test_accounts_need_a_users_file() -> None:
    (problem,) = said(LISTENER)
    reason, hint = problem.split("; ")
    assert reason == "f:5: listeners[0].auth: 'required' needs accounts, and there is no users file"
    assert hint == "set users in [auth] and make one with 'elemta user add NAME'"
    assert parse_config(HEAD + LISTENER + USERS, "f").auth.users is not None


def test_a_listener_that_asks_for_a_login_needs_a_mechanism() -> None:
    (problem,) = said(LISTENER + USERS + "mechanisms = []\n")
    assert problem == "f:5: listeners[0].auth: 'required' needs a mechanism; add one to auth.mechanisms"


@pytest.mark.parametrize(
    "mechanism", ["PLAIN", "LOGIN", "EXTERNAL", "OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256-PLUS"]
)
def test_without_tls_a_listener_needs_a_mechanism_that_bears_it(mechanism: str) -> None:
    (problem,) = said(LISTENER + USERS + f'mechanisms = ["{mechanism}"]\n')
    assert "without TLS none of auth.mechanisms is ever offered" in problem


@pytest.mark.parametrize(
    "settings", ['mechanisms = ["SCRAM-SHA-256"]', 'mechanisms = ["PLAIN"]\nloopback_without_tls = true']
)
def test_scram_goes_without_tls_and_plain_where_loopback_is_allowed(settings: str) -> None:
    parse_config(f"{HEAD}{LISTENER}{USERS}{settings}\n", "f")


def test_cram_md5_needs_a_key_for_what_can_be_read_back() -> None:
    (problem,) = said('[auth]\nmechanisms = ["CRAM-MD5"]\n')
    assert problem.startswith("f:3: auth.mechanisms: CRAM-MD5 needs secrets that can be read back; ")
    parse_config(HEAD + '[auth]\nmechanisms = ["CRAM-MD5"]\nrecovery_key = "key"\n', "f")


def test_weak_hashes_are_refused() -> None:
    problems = said('[auth]\nhash_memory = "1MiB"\nhash_passes = 0\nscram_iterations = 1000\n')
    assert len(problems) == 3
    assert "RFC 7677" in problems[2]
