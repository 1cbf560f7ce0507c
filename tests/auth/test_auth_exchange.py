"""Whole exchanges: verdicts, replies, cancelling, delays, tokens, what a store in trouble does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import attrs
import pytest
import trio
from auth_bed import ALL, LOCAL, OPEN, PRIVATE, DictStore, authenticator, log_in, no_delay, talk

from elemta.auth import Accepted, AuthClient, Challenge, Refused, TokenOwner, TokensUnavailable
from elemta.auth.scram import fake_keys
from elemta.mail import Identity, replies

PLAIN = b"\0tim\0tanstaaftanstaaf"


async def test_the_owner_is_accepted_with_the_accounts_name_and_the_mechanism() -> None:
    assert await talk(authenticator(), "PLAIN", b"\0TIM\0tanstaaftanstaaf") == Accepted(
        Identity("tim", "PLAIN"), "password"
    )


async def test_mechanism_names_are_taken_in_any_case() -> None:
    exchange = authenticator().begin("plain", PRIVATE)
    assert exchange.mechanism == "PLAIN"
    assert isinstance(await exchange.step(PLAIN), Accepted)


@pytest.mark.parametrize(
    "message",
    [
        b"\0tim\0wrong",
        b"\0nobody\0tanstaaftanstaaf",
        b"\0t m\0x",
        b"\0tim\0\x01",
        b"other\0tim\0tanstaaftanstaaf",
    ],
)
async def test_wrong_unknown_unusable_and_forbidden_have_the_same_reply(message: bytes) -> None:
    step = await talk(authenticator(), "PLAIN", message)
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_FAILED
    assert str(step.reply).startswith("535 5.7.8 ")


async def test_a_password_is_checked_even_for_who_may_not_act_as_another() -> None:
    store = DictStore(tim="tanstaaftanstaaf")
    await talk(authenticator(store), "PLAIN", b"other\0tim\0tanstaaftanstaaf")
    assert store.asked["check"] == 1


async def test_the_client_may_cancel_at_a_challenge() -> None:
    step = await talk(authenticator(), "LOGIN", None, b"tim", None)
    assert step == Refused(replies.AUTH_CANCELLED, "cancelled by the client", "")
    assert step.reply.code == 501


async def test_malformed_messages_are_501_at_once(autojump_clock: object) -> None:
    auth = authenticator(config=no_delay(failure_delay=10.0))
    before = trio.current_time()
    step = await talk(auth, "PLAIN", b"tim")
    assert isinstance(step, Refused)
    assert (step.reply.code, step.reply.enhanced_text) == (501, "5.5.2")
    assert trio.current_time() == before


async def test_a_response_that_is_too_long_is_refused() -> None:
    step = await talk(authenticator(), "PLAIN", b"x" * 9217)
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_TOO_LONG


async def test_a_refusal_takes_its_time_whatever_the_reason(autojump_clock: object) -> None:
    auth = authenticator(config=no_delay(failure_delay=10.0))
    for message in (b"\0tim\0wrong", b"\0nobody\0x", b"\0a b\0x"):
        before = trio.current_time()
        assert isinstance(await talk(auth, "PLAIN", message), Refused)
        assert trio.current_time() - before == pytest.approx(10)
    before = trio.current_time()
    assert isinstance(await talk(auth, "PLAIN", PLAIN), Accepted)
    assert trio.current_time() == before


async def test_an_exchange_that_is_over_is_over() -> None:
    exchange = authenticator().begin("PLAIN", PRIVATE)
    await exchange.step(PLAIN)
    with pytest.raises(RuntimeError):
        await exchange.step(PLAIN)


# What is offered


@pytest.mark.parametrize(
    ("mechanism", "client", "reply"),
    [
        ("GSSAPI", PRIVATE, replies.AUTH_UNKNOWN_MECHANISM),
        ("", PRIVATE, replies.AUTH_UNKNOWN_MECHANISM),
        ("PLAIN", OPEN, replies.AUTH_NEEDS_TLS),
        ("LOGIN", LOCAL, replies.AUTH_NEEDS_TLS),
        ("EXTERNAL", PRIVATE, replies.AUTH_UNKNOWN_MECHANISM),
        ("SCRAM-SHA-256-PLUS", PRIVATE, replies.AUTH_UNKNOWN_MECHANISM),
        ("OAUTHBEARER", PRIVATE, replies.AUTH_UNKNOWN_MECHANISM),
    ],
)
async def test_what_is_not_offered_is_refused_by_the_first_step(
    mechanism: str, client: AuthClient, reply: object
) -> None:
    step = await talk(authenticator(), mechanism, b"x", client=client)
    assert isinstance(step, Refused)
    assert step.reply == reply


def test_what_only_tls_would_allow_is_known() -> None:
    assert authenticator().mechanisms_under_tls(PRIVATE) == ()
    under_tls = authenticator().mechanisms_under_tls(OPEN)
    assert "PLAIN" in under_tls
    assert not set(under_tls) & set(authenticator().mechanisms(OPEN))


@pytest.mark.parametrize(("mechanism", "code"), [("CRAM-MD5", 534), ("LOGIN", 534), ("XOAUTH2", 504)])
async def test_a_weak_mechanism_that_is_not_wanted_is_534(mechanism: str, code: int) -> None:
    auth = authenticator(config=no_delay(mechanisms=("SCRAM-SHA-256",)))
    step = await talk(auth, mechanism, None)
    assert isinstance(step, Refused)
    assert step.reply.code == code


def test_only_what_the_connection_bears_is_announced() -> None:
    async def introspect(token: str) -> None:
        return None

    auth = authenticator()
    assert auth.mechanisms(OPEN) == ("SCRAM-SHA-256", "CRAM-MD5")
    assert auth.mechanisms(LOCAL) == ("SCRAM-SHA-256", "CRAM-MD5")
    assert auth.mechanisms(PRIVATE) == ("SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5")
    bound = AuthClient("203.0.113.5", tls=True, channel_binding=b"x", certificate="tim")
    assert auth.mechanisms(bound) == (
        "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "EXTERNAL", "CRAM-MD5",
    )  # fmt: skip
    with_tokens = authenticator(introspect=introspect)
    assert with_tokens.mechanisms(attrs.evolve(bound, tls_exporter=b"y")) == tuple(map(str, ALL))
    # what came from a connection that is not private proves nothing
    assert with_tokens.mechanisms(attrs.evolve(bound, tls=False)) == ("SCRAM-SHA-256", "CRAM-MD5")


def test_loopback_without_tls_is_for_clients_of_this_machine_only_and_not_for_tokens() -> None:
    async def introspect(token: str) -> None:
        return None

    auth = authenticator(config=no_delay(loopback_without_tls=True), introspect=introspect)
    assert auth.mechanisms(LOCAL) == ("SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5")
    assert auth.mechanisms(OPEN) == ("SCRAM-SHA-256", "CRAM-MD5")


# SCRAM


def scram_answer(first: bytes, challenge: bytes, password: str) -> bytes:
    fields = dict(part.split("=", 1) for part in challenge.decode().split(","))
    unproved = (
        b"c=" + base64.b64encode(first.split(b"n=user")[0].split(b"n=")[0]) + b",r=" + fields["r"].encode()
    )
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    message = first.split(b",,", 1)[1] + b"," + challenge + b"," + unproved
    signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    return unproved + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))


async def test_scram_is_accepted_after_the_client_has_seen_the_servers_proof() -> None:
    exchange = authenticator().begin("SCRAM-SHA-256", OPEN)
    first = b"n,,n=tim,r=abc"
    challenge = await exchange.step(first)
    assert isinstance(challenge, Challenge)
    final = await exchange.step(scram_answer(first, challenge.data, "tanstaaftanstaaf"))
    assert isinstance(final, Challenge)
    assert final.data.startswith(b"v=")
    assert await exchange.step(b"") == Accepted(Identity("tim", "SCRAM-SHA-256"), "password")


async def test_a_client_that_does_not_believe_the_server_may_cancel() -> None:
    exchange = authenticator().begin("SCRAM-SHA-256", OPEN)
    first = b"n,,n=tim,r=abc"
    challenge = await exchange.step(first)
    assert isinstance(challenge, Challenge)
    await exchange.step(scram_answer(first, challenge.data, "tanstaaftanstaaf"))
    step = await exchange.step(None)
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_CANCELLED


async def test_data_behind_the_servers_proof_is_malformed() -> None:
    exchange = authenticator().begin("SCRAM-SHA-256", OPEN)
    first = b"n,,n=tim,r=abc"
    challenge = await exchange.step(first)
    assert isinstance(challenge, Challenge)
    await exchange.step(scram_answer(first, challenge.data, "tanstaaftanstaaf"))
    step = await exchange.step(b"x")
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_MALFORMED


async def test_an_unknown_name_is_challenged_like_any_other_and_fails_like_a_wrong_password() -> None:
    auth = authenticator()
    salts = []
    for name in (b"tim", b"nobody", b"nobody"):
        exchange = auth.begin("SCRAM-SHA-256", OPEN)
        first = b"n,,n=" + name + b",r=abc"
        challenge = await exchange.step(first)
        assert isinstance(challenge, Challenge)
        fields = dict(part.split("=", 1) for part in challenge.data.decode().split(","))
        salts.append(fields["s"])
        assert fields["i"] == "4096"
        step = await exchange.step(scram_answer(first, challenge.data, "wrong"))
        assert isinstance(step, Refused)
        assert (step.reply, step.reason) == (replies.AUTH_FAILED, "wrong password")
    assert salts[0] != salts[1] == salts[2]
    assert base64.b64decode(salts[1]) == fake_keys("nobody", b"S" * 32)[0]


async def test_nonces_differ() -> None:
    auth = authenticator()
    first = await talk(auth, "SCRAM-SHA-256", b"n,,n=tim,r=abc")
    second = await talk(auth, "SCRAM-SHA-256", b"n,,n=tim,r=abc")
    assert isinstance(first, Challenge)
    assert isinstance(second, Challenge)
    assert first.data != second.data


async def test_the_downgrade_check_follows_what_was_announced() -> None:
    bound = AuthClient("203.0.113.5", tls=True, channel_binding=b"x")
    step = await talk(authenticator(), "SCRAM-SHA-256", b"y,,n=tim,r=abc", client=bound)
    assert isinstance(step, Refused)
    assert step.reason == "the list of mechanisms was changed on its way"
    assert isinstance(await talk(authenticator(), "SCRAM-SHA-256", b"y,,n=tim,r=abc"), Challenge)


# CRAM-MD5, EXTERNAL


async def test_cram_md5() -> None:
    exchange = authenticator().begin("CRAM-MD5", OPEN)
    challenge = await exchange.step(None)
    assert isinstance(challenge, Challenge)
    digest = hmac.new(b"tanstaaftanstaaf", challenge.data, "md5").hexdigest().encode()
    assert isinstance(await exchange.step(b"tim " + digest), Accepted)


async def test_external_needs_an_account_of_the_certificates_name() -> None:
    client = AuthClient("203.0.113.5", tls=True, certificate="tim")
    accepted = await talk(authenticator(), "EXTERNAL", b"", client=client)
    assert accepted == Accepted(Identity("tim", "EXTERNAL"), "certificate")
    step = await talk(authenticator(DictStore(ann="x")), "EXTERNAL", b"", client=client)
    assert isinstance(step, Refused)
    assert (step.reply, step.reason) == (replies.AUTH_FAILED, "no such account")
    step = await talk(authenticator(), "EXTERNAL", b"ann", client=client)
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_FAILED


# Tokens

OAUTH = b"n,a=tim,\x01auth=Bearer %s\x01\x01"


async def introspect(token: str) -> TokenOwner | None:
    if token == "down":
        raise TokensUnavailable("no answer")
    return {"tims": TokenOwner("Tim"), "anns": TokenOwner("ann"), "odd": TokenOwner("a b")}.get(token)


async def test_a_valid_token_of_the_account_is_accepted() -> None:
    auth = authenticator(introspect=introspect)
    for mechanism, message in (
        ("OAUTHBEARER", OAUTH % b"tims"),
        ("OAUTHBEARER", b"n,,\x01auth=Bearer tims\x01\x01"),
        ("XOAUTH2", b"user=tim\x01auth=Bearer tims\x01\x01"),
    ):
        assert await talk(auth, mechanism, message) == Accepted(Identity("tim", mechanism), "token")


@pytest.mark.parametrize("token", [b"expired", b"anns", b"odd"])
async def test_another_token_is_explained_and_then_refused(token: bytes) -> None:
    exchange = authenticator(introspect=introspect).begin("OAUTHBEARER", PRIVATE)
    explained = await exchange.step(OAUTH % token)
    assert isinstance(explained, Challenge)
    assert json.loads(explained.data)["status"] == "invalid_token"
    step = await exchange.step(b"\x01")  # RFC 7628 §3.2.3
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_FAILED


async def test_a_token_of_somebody_without_an_account_is_refused() -> None:
    step = await talk(
        authenticator(introspect=introspect), "XOAUTH2", b"user=ann\x01auth=Bearer anns\x01\x01", b""
    )
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_FAILED


async def test_a_client_without_a_token_learns_what_is_wanted_as_often_as_it_asks() -> None:
    auth = authenticator(introspect=introspect, config=no_delay(free_failures=1))
    for _ in range(3):
        assert isinstance(await talk(auth, "OAUTHBEARER", b"n,,\x01auth=\x01\x01"), Challenge)
    for _ in range(3):  # and an old token again is no new guess
        assert isinstance(await talk(auth, "OAUTHBEARER", OAUTH % b"expired"), Challenge | Refused)


async def test_what_cannot_be_asked_is_454_and_no_failure(autojump_clock: object) -> None:
    store = DictStore(tim="tanstaaftanstaaf")
    auth = authenticator(store, introspect=introspect, config=no_delay(free_failures=1, failure_delay=5.0))
    for _ in range(3):
        before = trio.current_time()
        step = await talk(auth, "OAUTHBEARER", OAUTH % b"down")
        assert isinstance(step, Refused)
        assert (step.reply, step.reason) == (replies.AUTH_LATER, "cannot be checked now")
        assert trio.current_time() - before == pytest.approx(5)
    store.down = True
    for mechanism, message in (("PLAIN", PLAIN), ("SCRAM-SHA-256", b"n,,n=tim,r=x")):
        step = await talk(auth, mechanism, message)
        assert isinstance(step, Refused)
        assert step.reply == replies.AUTH_LATER
    store.down = False
    assert isinstance(await talk(auth, "PLAIN", PLAIN), Accepted)


# Brakes


async def test_too_many_failures_are_454_for_right_and_wrong_alike(autojump_clock: object) -> None:
    store = DictStore(tim="tanstaaftanstaaf")
    auth = authenticator(store, no_delay(free_failures=2))
    for guess in ("a", "b"):
        step = await log_in(auth, "tim", guess)
        assert isinstance(step, Refused)
        assert step.reply == replies.AUTH_FAILED
    asked = store.asked["check"]
    for guess in ("c", "tanstaaftanstaaf"):
        step = await log_in(auth, "tim", guess)
        assert isinstance(step, Refused)
        assert step.reply == replies.AUTH_LATER
        assert step.reason.startswith("too many failures")
    assert store.asked["check"] == asked  # not looked at
    await trio.sleep(2)
    assert isinstance(await log_in(auth, "tim", "tanstaaftanstaaf"), Accepted)


async def test_a_right_scram_proof_is_kept_back_too_while_the_brake_is_on(autojump_clock: object) -> None:
    auth = authenticator(config=no_delay(free_failures=1))
    await log_in(auth, "tim", "a")
    exchange = auth.begin("SCRAM-SHA-256", PRIVATE)
    first = b"n,,n=tim,r=abc"
    challenge = await exchange.step(first)
    assert isinstance(challenge, Challenge)
    step = await exchange.step(scram_answer(first, challenge.data, "tanstaaftanstaaf"))
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_LATER


async def test_an_exchange_that_is_cancelled_while_checked_counts_as_a_failure(
    autojump_clock: object,
) -> None:
    class Hanging(DictStore):
        async def check_password(self, name: str, password: str) -> None:  # type: ignore[override]
            await trio.sleep_forever()

    auth = authenticator(Hanging(tim="x"), no_delay(free_failures=1))
    with trio.move_on_after(5) as scope:
        await log_in(auth, "tim", "a")
    assert scope.cancelled_caught
    step = await log_in(auth, "tim", "b")
    assert isinstance(step, Refused)
    assert step.reply == replies.AUTH_LATER


async def test_a_name_in_a_refusal_is_fit_for_logs() -> None:
    step = await log_in(authenticator(), "N\u00e9@" + "x" * 100, "wrong")
    assert isinstance(step, Refused)
    assert step.account.startswith("n\u00e9@x")
    assert len(step.account) == 64
    assert (await log_in(authenticator(), "Tim", "wrong")).account == "tim"  # type: ignore[union-attr]


async def test_a_password_in_the_place_of_the_name_is_not_told() -> None:
    step = await log_in(authenticator(), "correct-horse", "tim")
    assert isinstance(step, Refused)
    assert step.account == ""


async def test_a_name_with_control_characters_is_none() -> None:
    assert (await log_in(authenticator(), "a\x1b[2Jb", "wrong")).account == ""  # type: ignore[union-attr]


async def test_statistics_count_verdicts() -> None:
    auth = authenticator()
    await log_in(auth, "tim", "tanstaaftanstaaf")
    await log_in(auth, "tim", "wrong")
    await log_in(auth, "tim", "wrong2")
    await talk(auth, "GSSAPI", None)
    statistics = auth.statistics()
    assert statistics.accepted == 1
    assert statistics.refused == {"wrong password or no such account": 2, "mechanism not offered": 1}
    assert statistics.throttle.known == 1
    assert statistics.hashing is None
