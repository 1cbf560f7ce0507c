"""From MAIL to the commit: what is refused, and what each failure of the spool becomes."""

import pytest
import trio
from inbound_bed import FakeSpool, make_config, open_bed

from elemta.config import LineEndPolicy, NulPolicy
from elemta.events import CommandRejected, MessageAccepted, MessageRejected, SessionClosed, TaskCrashed
from elemta.spool import SpoolError, SpoolFull, SpoolUnavailable


def raising(step: str, error: Exception):
    def on_step(name: str) -> None:
        if name == step:
            raise error

    return on_step


@pytest.mark.parametrize(
    ("body", "limits", "code", "reason"),
    [
        (b"a\nb\r\n", {}, "554 5.6.0", "bare-lf"),
        (b"a\rb\r\n", {}, "554 5.6.0", "bare-cr"),
        (b"a\n.\nMAIL FROM:<x@y.example>\r\n", {}, "554 5.6.0", "bare-lf"),
        (b"a\r\n.\nb\r\n", {}, "554 5.6.0", "bare-lf"),
        (b"a\0b\r\n", {}, "554 5.6.0", "nul"),
        (b"x" * 200 + b"\r\n", {"message_size": 100}, "552 5.3.4", "too-big"),
        (b"x" * 200 + b"\r\n", {"text_line": 100}, "500 5.6.0", "line-too-long"),
        (b"X: " + b"x" * 200 + b"\r\n\r\n", {"header_size": 100}, "552 5.3.4", "header-too-big"),
    ],
)
async def test_a_body_with_a_problem_is_refused_at_its_real_end_and_discarded(
    autojump_clock, body: bytes, limits: dict[str, int], code: str, reason: str
):
    spool = FakeSpool()
    async with open_bed(make_config(limits=limits), spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data(body))[:9] == code
        assert await client.say("NOOP") == "250 2.0.0 ok"  # nothing of the body was taken as a command
        [draft] = spool.drafts
        assert draft.state == "discarded"
        [rejected] = bed.seen(MessageRejected)
        assert (rejected.reason, rejected.reply[:9]) == (reason, code)
        assert (rejected.sender, rejected.recipients) == ("a@else.example", ("b@ours.example",))
        assert bed.seen(SessionClosed) == []


async def test_line_ends_are_repaired_where_the_configuration_says_so(autojump_clock):
    async with open_bed(make_config(limits={"line_ends": LineEndPolicy.REPAIR})) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data(b"a\nb\r\n"))[:3] == "250"
        [(_, body)] = bed.stored()
        assert body == b"a\r\nb\r\n"


async def test_nul_is_repaired_where_the_configuration_says_so(autojump_clock):
    async with open_bed(make_config(limits={"nul": NulPolicy.REPAIR})) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data(b"a\0b\r\n"))[:3] == "250"
        [(_, body)] = bed.stored()
        assert body == b"a?b\r\n"


@pytest.mark.parametrize(("fields", "code"), [(5, "250"), (6, "554")])
async def test_a_message_that_was_relayed_too_often_is_a_loop(autojump_clock, fields: int, code: str):
    async with open_bed(make_config(max_hops=5), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        body = b"Received: from a\r\n\tby b; x\r\n" * fields + b"Subject: x\r\n\r\nReceived: in the text\r\n"
        reply = await client.data(body)
        assert reply[:3] == code
        if code == "554":
            assert reply == "554 5.4.6 too many hops, mail loop"
            assert bed.seen(MessageRejected)[0].reason == "loop"


async def test_a_return_path_of_the_sender_stays_for_final_delivery_to_remove(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.data(b"Return-Path: <x@y.example>\r\nSubject: x\r\n\r\n")
        [(message, body)] = bed.stored()
        assert body.startswith(b"Return-Path: <x@y.example>\r\n")
        assert b"Return-Path" not in message.prefix  # RFC 5321 §4.4


async def test_messages_without_header_or_without_anything(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        for body in (b"", b"\r\n", b"no header\r\n"):
            await client.begin()
            assert (await client.data(body))[:3] == "250"
        assert sorted(body for _, body in bed.stored()) == [b"", b"\r\n", b"no header\r\n"]


async def test_no_room_at_mail_is_452_and_the_session_goes_on(autojump_clock):
    spool = FakeSpool()
    asked = []

    def room(size: int) -> None:
        asked.append(size)
        raise SpoolFull

    spool.room = room
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        assert await client.say("MAIL FROM:<a@else.example> SIZE=12345") == (
            "452 4.3.1 insufficient storage, try again later"
        )
        assert asked == [12345]
        spool.room = lambda size: None
        await client.begin()
        assert (await client.data())[:3] == "250"
        assert bed.seen(CommandRejected)[0].verb == "MAIL"


async def test_a_broken_spool_at_mail_is_421(autojump_clock):
    spool = FakeSpool()

    def room(size: int) -> None:
        raise SpoolUnavailable

    spool.room = room
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        assert (await client.say("MAIL FROM:<a@else.example>"))[:9] == "421 4.3.0"
        assert await client.line() == ""
        assert bed.seen(SessionClosed)[0].cause == "storage"


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [("draft", SpoolFull(), "452 4.3.1"), ("draft", SpoolUnavailable(), "421 4.3.0")],
)
async def test_no_draft_no_354(autojump_clock, step: str, error: Exception, code: str):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        spool.on_step = raising(step, error)
        assert (await client.say("DATA"))[:9] == code
        spool.on_step = lambda name: None
        if code.startswith("452"):
            assert (await client.data())[:3] == "250"


@pytest.mark.parametrize("step", ["submit", "decide"])
async def test_a_full_disk_at_the_commit_is_452_and_the_session_goes_on(autojump_clock, step: str):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        spool.on_step = raising(step, SpoolFull())
        assert (await client.data())[:9] == "452 4.3.1"
        spool.on_step = lambda name: None
        await client.begin()
        assert (await client.data())[:3] == "250"
        assert [draft.state for draft in spool.drafts] == ["discarded", "kept"]
        assert len(bed.seen(MessageAccepted)) == 1


@pytest.mark.parametrize("error", [SpoolUnavailable("EIO"), RuntimeError("bug")])
async def test_a_commit_of_unknown_outcome_gets_no_reply_at_all(autojump_clock, error: Exception):
    spool = FakeSpool()
    spool.on_step = raising("decide", error)
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\n.\r\nNOOP\r\n")
        assert await client.rest() == []  # RELIABILITY D4: neither 250 nor 4yz
        assert bed.seen(SessionClosed)[0].cause == "storage"
        assert bed.seen(MessageRejected)[0].reply == ""
        assert bool(bed.seen(TaskCrashed)) is isinstance(error, RuntimeError)


async def test_a_message_that_the_spool_cannot_store_is_451_and_reported(autojump_clock):
    spool = FakeSpool()
    spool.on_step = raising("decide", SpoolError("poison"))
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data())[:9] == "451 4.3.0"
        assert spool.drafts[0].state == "discarded"
        assert "poison" in bed.seen(TaskCrashed)[0].error
        await client.quit()


async def test_a_bug_before_the_commit_is_451_and_nothing_is_stored(autojump_clock, monkeypatch):
    def broken(*args: object, **kwargs: object) -> bytes:
        raise ValueError("bug in the trace field")

    monkeypatch.setattr("elemta.inbound.transaction.received", broken)
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data())[:9] == "451 4.3.0"
        assert spool.stored == {}
        assert spool.drafts[0].state == "discarded"
        [crash] = bed.seen(TaskCrashed)
        assert (crash.task, crash.session != "", crash.message != "") == ("transaction", True, True)
        await client.quit()


async def test_storage_that_fails_while_the_body_comes_ends_the_session(autojump_clock):
    spool = FakeSpool()
    spool.on_step = raising("write", SpoolUnavailable())
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data())[:9] == "421 4.3.0"
        assert bed.seen(SessionClosed)[0].cause == "storage"
        assert spool.drafts[0].state == "discarded"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_in_the_body_leaves_nothing_behind(autojump_clock, reset: bool):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\nhalf")
        await trio.testing.wait_all_tasks_blocked()
        if reset:
            client.stream.reset()
        else:
            client.stream.close()
        await trio.testing.wait_all_tasks_blocked()
        assert spool.drafts[0].state == "discarded"
        cause = "reset" if reset else "eof"
        assert bed.seen(SessionClosed)[0].cause == cause
        assert bed.seen(MessageRejected)[0].reason == cause


async def test_a_client_that_leaves_while_the_reply_is_due_does_not_undo_the_message(autojump_clock, capsys):
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(5) if name == "decide" else None
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        await trio.sleep(1)
        client.stream.close()
        await trio.sleep(5)
        assert len(spool.stored) == 1
        assert spool.drafts[0].state == "kept"
        assert bed.seen(SessionClosed)[0].cause == "reset"
        assert "reply was lost" in capsys.readouterr().err
