"""The envelope of the next message goes in the write that ends the present one (RFC 2920 §3.1)."""

from __future__ import annotations

from typing import Any

import pytest
from delivery_helpers import connected, deliver_one, make_parcel

from elemta.delivery import ConnectionStale, Parcel
from elemta.mail import Cause, Deferred, Delivered, Failed, Outcome
from elemta.testing.peers import (
    BODY_OK,
    DATA_OK,
    GREETING,
    LOCKSTEP_HELLO,
    MAIL_OK,
    PIPELINING_HELLO,
    RCPT_OK,
    TRANSACTION,
    Expect,
    Fault,
    ScriptedPeer,
)

ENVELOPE = (MAIL_OK, RCPT_OK, DATA_OK)


def lined_up(connection: Any, *parcels: Parcel) -> list[Parcel]:
    """Let the connection ask for these; gives what it has not asked for yet."""
    waiting = list(parcels)
    connection.following = lambda: waiting.pop(0) if waiting else None
    return waiting


async def deliver(connection: Any, parcel: Parcel) -> Outcome:
    (outcome,) = await connection.deliver(parcel)
    return outcome


async def test_next_envelope_is_there_before_the_dot_is_answered(autojump_clock) -> None:
    envelope_then_answers = (
        (b"MAIL FROM:", b""),
        (b"RCPT TO:", b""),
        (b"DATA", b"250 2.0.0 second\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
    )
    peer = ScriptedPeer(
        GREETING,
        PIPELINING_HELLO,
        *TRANSACTION,
        *ENVELOPE,
        (Expect.BODY, b""),
        *envelope_then_answers,
        (Expect.BODY, b"250 2.0.0 third\r\n"),
    )
    third = make_parcel("carol@example.org")
    async with connected(peer) as connection:
        assert isinstance(await deliver_one(connection), Delivered)
        waiting = lined_up(connection, third)
        second = await deliver_one(connection)
        assert (second.reply.text, waiting) == ("second", [])
        assert connection.usable
        outcome = await deliver(connection, third)
        assert (outcome.reply.text, connection.usable) == ("third", True)
    assert [line for line in peer.commands if line.startswith(b"RCPT")][-1] == b"RCPT TO:<carol@example.org>"
    assert len(peer.bodies) == 3


async def test_first_message_of_a_session_goes_alone(autojump_clock) -> None:
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION)
    async with connected(peer) as connection:
        waiting = lined_up(connection, make_parcel())
        await deliver_one(connection)
        assert len(waiting) == 1, "nobody knows yet how prompt the next hop is"


async def test_slow_next_hop_gets_nothing_ahead(autojump_clock) -> None:
    slow = (*ENVELOPE, (Expect.BODY, b""), (1.5, b"250 2.0.0 ok\r\n"))
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *slow, *TRANSACTION)
    async with connected(peer) as connection:
        await deliver_one(connection)
        waiting = lined_up(connection, make_parcel())
        assert isinstance(await deliver_one(connection), Delivered)
        assert len(waiting) == 1


async def test_next_hop_without_pipelining_gets_nothing_ahead(autojump_clock) -> None:
    peer = ScriptedPeer(GREETING, LOCKSTEP_HELLO, *TRANSACTION, *TRANSACTION, *TRANSACTION)
    async with connected(peer) as connection:
        await deliver_one(connection)
        third = make_parcel()
        lined_up(connection, third)
        assert isinstance(await deliver_one(connection), Delivered)
        assert isinstance(await deliver(connection, third), Delivered)
    assert [line[:4] for line in peer.commands[1:]] == [b"MAIL", b"RCPT", b"DATA"] * 3 + [b"QUIT"]


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        (b"550 5.7.1 no\r\n503 no\r\n503 no\r\n", Failed),
        (b"250 ok\r\n450 4.2.1 later\r\n554 none\r\n", Deferred),
        (b"250 ok\r\n250 ok\r\n451 4.3.0 later\r\n", Deferred),
    ],
)
async def test_refusal_of_what_went_ahead_is_the_next_message_s(
    replies: bytes, kind: type[Outcome], autojump_clock
) -> None:
    peer = ScriptedPeer(
        GREETING,
        PIPELINING_HELLO,
        *TRANSACTION,
        *ENVELOPE,
        (Expect.BODY, b"250 2.0.0 second\r\n"),
        (b"MAIL", b""),
        (b"RCPT", b""),
        (b"DATA", replies),
        *((b"RSET", b"250 ok\r\n") if replies[0:1] != b"5" else (b"MAIL", b"250 ok\r\n"),),
    )
    third = make_parcel()
    async with connected(peer) as connection:
        await deliver_one(connection)
        lined_up(connection, third)
        assert isinstance(await deliver_one(connection), Delivered)
        outcome = await deliver(connection, third)
        assert isinstance(outcome, kind)
        assert outcome.from_remote
        assert connection.usable
        connection._wire.broken = True  # the script ends here


async def test_session_that_ends_behind_the_dot_has_taken_nothing_of_the_next(autojump_clock) -> None:
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION, *ENVELOPE, BODY_OK, (b"MAIL", Fault.DROP))
    third = make_parcel()
    async with connected(peer) as connection:
        await deliver_one(connection)
        lined_up(connection, third)
        assert isinstance(await deliver_one(connection), Delivered)
        with pytest.raises(ConnectionStale):
            await connection.deliver(third)
        assert not connection.usable


async def test_session_that_ends_before_the_dot_is_answered_leaves_only_that_message_unknown(
    autojump_clock,
) -> None:
    peer = ScriptedPeer(
        GREETING, PIPELINING_HELLO, *TRANSACTION, *ENVELOPE, (Expect.BODY, b""), (b"MAIL", Fault.DROP)
    )
    async with connected(peer) as connection:
        await deliver_one(connection)
        lined_up(connection, make_parcel())
        outcome = await deliver_one(connection)
        assert isinstance(outcome, Deferred)
        assert outcome.cause is Cause.UNKNOWN_AFTER_DOT
        assert not connection.usable


async def test_another_parcel_than_the_one_that_was_named_needs_another_session(autojump_clock) -> None:
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION, *ENVELOPE, BODY_OK, *ENVELOPE)
    async with connected(peer) as connection:
        await deliver_one(connection)
        lined_up(connection, make_parcel())
        assert isinstance(await deliver_one(connection), Delivered)
        with pytest.raises(ConnectionStale):
            await deliver_one(connection)
    assert len(peer.bodies) == 2
