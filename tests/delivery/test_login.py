"""Logging in at a next hop: which mechanism, what is said, and what becomes of the mail when it fails."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from delivery_helpers import deliver_one, fixed_route, make_context

from elemta.config import RouteTls
from elemta.delivery import ConnectFailed, make_transport
from elemta.delivery.sasl import LoginProblem, ScramSha256, choose
from elemta.mail import Cause, Deferred, Delivered
from elemta.testing.network import open_memory_network
from elemta.testing.peers import GREETING, TRANSACTION, ScriptedPeer

REMOTE = "192.0.2.1"


def hello(mechanisms: bytes) -> tuple[bytes, bytes]:
    return b"EHLO ", b"250-peer.example\r\n250-PIPELINING\r\n250 AUTH " + mechanisms + b"\r\n"


def encoded(text: bytes) -> bytes:
    return base64.b64encode(text)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("tanstaaftanstaaf\n")
    return path


async def log_in(peer: ScriptedPeer, secret: Path, *, host: str = "127.0.0.1") -> Any:
    """The outcome of one message to a next hop that wants a login."""
    route = attrs.evolve(fixed_route(tls=RouteTls.NONE), next_hop=host, username="tim", password_file=secret)
    async with open_memory_network() as network:
        network.listen(host, 25, peer.serve)
        try:
            connection = await make_transport(route, make_context(network)).connect()
        except ConnectFailed as failure:
            return failure.outcome
        outcome = await deliver_one(connection)
        await connection.aclose()
        return outcome


async def test_plain_is_said_at_once(secret: Path, autojump_clock) -> None:
    """RFC 4616, RFC 4954 §4"""
    auth = b"AUTH PLAIN " + encoded(b"\0tim\0tanstaaftanstaaf")
    peer = ScriptedPeer(GREETING, hello(b"LOGIN PLAIN"), (auth, b"235 2.7.0 ok\r\n"), *TRANSACTION)
    assert isinstance(await log_in(peer, secret), Delivered)


async def test_login_answers_two_questions(secret: Path, autojump_clock) -> None:
    peer = ScriptedPeer(
        GREETING,
        hello(b"LOGIN"),
        (b"AUTH LOGIN", b"334 VXNlcm5hbWU6\r\n"),
        (encoded(b"tim"), b"334 UGFzc3dvcmQ6\r\n"),
        (encoded(b"tanstaaftanstaaf"), b"235 2.7.0 ok\r\n"),
        *TRANSACTION,
    )
    assert isinstance(await log_in(peer, secret), Delivered)


async def test_cram_md5_of_the_standard_s_example(secret: Path, autojump_clock) -> None:
    """RFC 2195 §2"""
    challenge = encoded(b"<1896.697170952@postoffice.reston.mci.net>")
    answer = encoded(b"tim b913a602c7eda7a495b4e6e7334d3890")
    peer = ScriptedPeer(
        GREETING,
        hello(b"CRAM-MD5"),
        (b"AUTH CRAM-MD5", b"334 " + challenge + b"\r\n"),
        (answer, b"235 2.7.0 ok\r\n"),
        *TRANSACTION,
    )
    assert isinstance(await log_in(peer, secret, host=REMOTE), Delivered)


async def test_password_is_not_shown_without_tls(secret: Path, autojump_clock) -> None:
    peer = ScriptedPeer(GREETING, hello(b"PLAIN LOGIN"))
    outcome = await log_in(peer, secret, host=REMOTE)
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.LOGIN
    assert "mechanism" in outcome.detail
    assert peer.commands == [b"EHLO mx.example", b"QUIT"]


@pytest.mark.parametrize("reply", [b"535 5.7.8 bad credentials", b"454 4.7.0 later"])
async def test_mail_waits_where_the_account_is_refused(reply: bytes, secret: Path, autojump_clock) -> None:
    peer = ScriptedPeer(GREETING, hello(b"PLAIN"), (b"AUTH PLAIN", reply + b"\r\n"))
    outcome = await log_in(peer, secret)
    assert isinstance(outcome, Deferred)
    assert (outcome.cause, outcome.reply.code) == (Cause.LOGIN, 451)
    assert reply.decode() in outcome.detail
    assert "tanstaaf" not in repr(outcome)


async def test_missing_password_file_is_named(tmp_path: Path, autojump_clock) -> None:
    peer = ScriptedPeer(GREETING, hello(b"PLAIN"))
    outcome = await log_in(peer, tmp_path / "nowhere")
    assert isinstance(outcome, Deferred)
    assert f"{tmp_path}/nowhere: No such file" in outcome.detail


@pytest.mark.parametrize("challenge", [b"334 !!!", b"334 VXNlcm5hbWU6"])
async def test_challenge_where_none_belongs_is_cancelled(
    challenge: bytes, secret: Path, autojump_clock
) -> None:
    """RFC 4954 §4"""
    peer = ScriptedPeer(
        GREETING, hello(b"PLAIN"), (b"AUTH PLAIN", challenge + b"\r\n"), (b"*", b"501 5.7.0 cancelled\r\n")
    )
    outcome = await log_in(peer, secret)
    assert isinstance(outcome, Deferred)
    assert b"*" in peer.commands


async def test_endless_questions_end(secret: Path, autojump_clock) -> None:
    questions = [(encoded(b"tim"), b"334 \r\n"), (encoded(b"tanstaaftanstaaf"), b"334 \r\n")]
    peer = ScriptedPeer(
        GREETING, hello(b"LOGIN"), (b"AUTH LOGIN", b"334 \r\n"), *questions, (b"*", b"501 5.7.0 ok\r\n")
    )
    assert isinstance(await log_in(peer, secret), Deferred)


async def test_next_hop_that_is_silent_has_its_time(secret: Path, autojump_clock) -> None:
    peer = ScriptedPeer(GREETING, hello(b"PLAIN"), (b"AUTH PLAIN", b""))
    outcome = await log_in(peer, secret)
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.TIMEOUT
    assert trio.current_time() == pytest.approx(60, abs=6)


# --- SCRAM, by itself ---------------------------------------------------------------------------------

SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram() -> ScramSha256:
    return ScramSha256("user", "pencil", "rOprNGfwEbeRWgbNEkqO")


def test_scram_of_the_standard_s_example() -> None:
    """RFC 7677 §3"""
    mechanism = scram()
    assert mechanism.initial() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert mechanism.step(SERVER_FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert mechanism.step(SERVER_FINAL) == b""
    mechanism.finish()


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"\xff",
        b"r=x",
        SERVER_FIRST.replace(b"r=rOpr", b"r=other"),
        SERVER_FIRST.replace(b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", b""),
        SERVER_FIRST.replace(b"4096", b"4095"),
        SERVER_FIRST.replace(b"4096", b"99999999999"),
        SERVER_FIRST.replace(b"i=4096", b"i=x"),
        SERVER_FIRST.replace(b"W22Z", b"!!!!"),
        b"m=ext," + SERVER_FIRST,
    ],
)
def test_scram_takes_no_challenge_that_breaks_its_rules(challenge: bytes) -> None:
    with pytest.raises(LoginProblem):
        scram().step(challenge)


def test_scram_server_must_prove_that_it_knows_the_password() -> None:
    """RFC 5802 §3"""
    mechanism = scram()
    mechanism.step(SERVER_FIRST)
    with pytest.raises(LoginProblem):
        mechanism.step(SERVER_FINAL.replace(b"6rri", b"7rri"))
    with pytest.raises(LoginProblem):
        mechanism.finish()


def test_scram_name_with_signs_of_the_grammar_is_escaped() -> None:
    """RFC 5802 §5.1"""
    assert ScramSha256("a=b,c", "x", "n").initial() == b"n,,n=a=3Db=2Cc,r=n"


@pytest.mark.parametrize(
    ("offered", "seen", "chosen"),
    [
        (("PLAIN", "SCRAM-SHA-256", "CRAM-MD5"), True, "SCRAM-SHA-256"),
        (("CRAM-MD5", "PLAIN"), True, "PLAIN"),
        (("CRAM-MD5", "PLAIN"), False, "CRAM-MD5"),
        (("login",), True, "LOGIN"),
        (("PLAIN", "LOGIN"), False, None),
        (("GSSAPI",), True, None),
    ],
)
def test_best_mechanism_that_keeps_the_secret_is_chosen(
    offered: tuple[str, ...], seen: bool, chosen: str | None
) -> None:
    mechanism = choose(offered, "u", "p", nonce="n", secret_may_be_seen=seen)
    assert (mechanism.name if mechanism else None) == chosen
