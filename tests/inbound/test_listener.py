"""Accepting: what the system does to it, and that a crash stays in its session."""

import errno
import os
import socket

import pytest
import trio
from inbound_bed import FakeSpool, make_config, open_bed

from elemta.config import HostPort
from elemta.events import SessionClosed, SessionRefused, TaskCrashed
from elemta.inbound import BoundListener


def system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_out_of_something_pauses_accepting_and_is_told_once_per_interval(autojump_clock, number: int):
    async with open_bed(spool=FakeSpool()) as bed:
        for _ in range(50):
            bed.listener.put(system_error(number))
        client = bed.dial()
        await client.hello()
        assert trio.current_time() == pytest.approx(5.0)  # 50 pauses of 100 ms
        [told] = bed.seen(SessionRefused)
        assert told.reason == f"accepting pauses: {errno.errorcode[number]} (1 times)"
        assert told.peer == ""
        await trio.sleep(60)
        bed.listener.put(system_error(number))
        await trio.sleep(1)
        assert bed.seen(SessionRefused)[1].reason.endswith("(50 times)")
        assert bed.listeners.statistics().paused == 51
        assert (await client.say("NOOP"))[:3] == "250"  # sessions go on


@pytest.mark.parametrize(
    "number",
    [errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ECONNRESET, errno.ETIMEDOUT],
)
async def test_a_connection_that_died_before_it_was_accepted_is_passed_over(autojump_clock, number: int):
    async with open_bed(spool=FakeSpool()) as bed:
        for _ in range(20):
            bed.listener.put(system_error(number))
        await bed.dial().hello()
        assert trio.current_time() == 0
        assert bed.seen(SessionRefused) == []


async def test_any_other_error_is_reported_and_accepting_begins_again(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        bed.listener.put(system_error(errno.EINVAL))
        client = bed.dial()
        await client.hello()
        [crash] = bed.seen(TaskCrashed)
        assert crash.task == "listener test"
        assert "Invalid argument" in crash.error
        assert 0 < trio.current_time() < 10


async def test_a_connection_whose_peer_cannot_be_told_is_passed_over(autojump_clock):
    class Vanished(trio.abc.Stream):
        closed = False

        @property
        def peer_address(self):
            raise system_error(errno.ENOTCONN)

        async def send_all(self, data):
            raise AssertionError

        async def wait_send_all_might_not_block(self):
            raise AssertionError

        async def receive_some(self, max_bytes=None):
            raise AssertionError

        async def aclose(self):
            self.closed = True

    vanished = Vanished()
    async with open_bed(spool=FakeSpool()) as bed:
        bed.listener.put(vanished)
        await bed.dial().hello()
        assert vanished.closed
        assert bed.listeners.statistics().accepted == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("bug"),
        MemoryError(),
        RecursionError(),
        OSError(5, "EIO"),
        ExceptionGroup("", [ValueError()]),
    ],
)
async def test_a_crash_ends_its_session_only_with_421_and_a_report(
    autojump_clock, monkeypatch, error: Exception
):
    async with open_bed(spool=FakeSpool()) as bed:
        victim, other = bed.dial(), bed.dial()
        await victim.hello()
        await other.hello()
        await victim.begin()

        def crash(step: str) -> None:
            raise error

        bed.spool.on_step = crash
        assert await victim.say("DATA") == "421 4.3.0 mx.ours.example internal error, closing connection"
        assert await victim.line() == ""
        bed.spool.on_step = lambda name: None
        await other.begin()
        assert (await other.data())[:3] == "250"
        [report] = bed.seen(TaskCrashed)
        [closed] = bed.seen(SessionClosed)
        assert report.session == closed.session
        assert closed.cause == "crash"
        assert bed.listeners.statistics().crashed == 1
        assert len(bed.listeners.sessions) == 1


async def test_a_session_that_cannot_even_begin_harms_nobody(autojump_clock, monkeypatch):
    async with open_bed(spool=FakeSpool()) as bed:
        with monkeypatch.context() as patch:

            def broken(*args: object) -> None:
                raise MemoryError

            patch.setattr("elemta.inbound.visitor.is_trusted", broken)
            assert await bed.dial().line() == ""
        assert len(bed.seen(TaskCrashed)) == 1
        assert bed.listeners.statistics().sessions.sessions == 0
        await bed.dial().hello()


async def test_a_crash_whose_last_word_fails_too_is_contained(autojump_clock, monkeypatch):
    async with open_bed(spool=FakeSpool()) as bed:
        victim = bed.dial()
        await victim.hello()

        def broken(*args: object) -> None:
            raise RuntimeError("bug")

        with monkeypatch.context() as patch:
            patch.setattr("elemta.inbound.dialogue.Dialogue._make_origin", broken)
            patch.setattr("elemta.smtp.ServerConnection.reply", broken)
            await victim.send(b"MAIL FROM:<a@else.example>\r\n")
            assert await victim.line() == ""
        await bed.dial().hello()


async def test_a_crash_behind_the_commit_never_says_that_the_message_was_not_taken(
    autojump_clock, monkeypatch
):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")

        def broken(*args: object) -> None:
            raise RuntimeError("bug")

        monkeypatch.setattr("elemta.smtp.ServerConnection.reply", broken)
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        assert await client.rest() == []
        assert len(spool.stored) == 1
        assert bed.seen(SessionClosed)[0].cause == "crash"


async def test_a_cancel_from_outside_ends_sessions_at_once_and_discards(autojump_clock):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n")
        await trio.testing.wait_all_tasks_blocked()
    assert spool.drafts[0].state == "discarded"
    assert bed.seen(SessionClosed)[0].cause == "cancelled"


async def test_sessions_are_listed_with_what_they_wait_for(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        first = bed.dial(port=1)
        await first.hello()
        await trio.sleep(10)
        second = bed.dial("192.0.2.7", port=2)
        await second.hello()
        await second.begin()
        await second.say("DATA")
        await trio.sleep(5)
        one, two = bed.listeners.sessions
        assert (one.port, one.phase, one.seconds, one.seconds_left, one.commands) == (
            1,
            "command",
            15,
            285,
            1,
        )
        assert (two.port, two.phase, two.seconds, two.seconds_left) == (2, "body", 5, 55)
        assert two.peer == "192.0.2.7"


async def test_listeners_of_any_kind_can_be_injected():
    assert BoundListener(make_config().listeners[0]).addresses == ()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    bound = BoundListener(make_config().listeners[0], (sock,))
    assert bound.addresses == (HostPort("127.0.0.1", sock.getsockname()[1]),)
    bound.close()
    assert sock.fileno() == -1
