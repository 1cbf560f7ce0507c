"""Messages for programs: what they get, what their end means, and that nothing of them stays."""

import signal
from pathlib import Path
from random import Random

import pytest
import trio
from delivery_helpers import FakeContent, make_context, make_parcel, recipient, streamed

from elemta.config import TransportKind
from elemta.delivery import make_transport
from elemta.delivery.pipe import outcome_of
from elemta.delivery.program import Ended
from elemta.mail import Cause, Deferred, Delivered, DsnOptions, Failed
from elemta.routing import Route
from elemta.runtime import SystemClock
from elemta.testing.network import open_memory_network

SHELL = "/bin/sh"  # as a program like any other
LIMIT = 64 * 1024 * 1024


async def run(script, *more, to="ann@example.org", seconds=20.0, memory=LIMIT, parcel=None, **settings):
    """The outcome of a message for a small script."""
    route = Route(
        TransportKind.PIPE,
        SHELL,
        command=(SHELL, "-c", script, "script", *more),
        time_limit=seconds,
        memory=memory,
    )
    async with open_memory_network() as network:
        context = make_context(network, clock=SystemClock(), random=Random(1))
        connection = await make_transport(route, context).connect()
        assert connection.limits.first_part([recipient(), recipient()]) == [0]
        with trio.fail_after(60):
            [outcome] = await connection.deliver(parcel or make_parcel(to, **settings))
        assert connection.usable
        assert not connection.dot_sent
        return outcome


@pytest.mark.parametrize("content", [FakeContent(), streamed(b"Subject: hello\r", b"\n\r\nBody\r\n")])
async def test_program_gets_the_message_as_it_would_be_stored(content, tmp_path):
    outcome = await run('cat > "$1"', str(tmp_path / "got"), content=content)
    assert isinstance(outcome, Delivered)
    assert (tmp_path / "got").read_bytes() == (
        b"Return-Path: <bob@example.net>\nDelivered-To: ann@example.org\n"
        b"Received: from client by mx.example\nSubject: hello\n\nBody\n"
    )
    assert (tmp_path / "got").stat().st_mode & 0o777 == 0o600


async def test_program_knows_the_envelope_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    person = recipient("a+b@example.org", dsn=DsnOptions(original_recipient="rfc822;o@example.org"))
    parcel = make_parcel(person)
    script = 'env > "$1"; pwd >> "$1"; shift; printf "<%s>" "$@" >> "$1.args"; exit 0'
    outcome = await run(
        script, str(tmp_path / "got"), str(tmp_path / "a"), "{local_part}|{domain}", "{sender}", parcel=parcel
    )
    assert isinstance(outcome, Delivered), outcome
    lines = (tmp_path / "got").read_text().splitlines()
    assert lines[-1] == "/"
    known = dict(line.partition("=")[::2] for line in lines[:-1])
    for shells_own in ("PWD", "OLDPWD", "SHLVL", "_"):
        known.pop(shells_own, None)
    assert known == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOSTNAME": "mx.example",
        "SENDER": "bob@example.net",
        "RECIPIENT": "a+b@example.org",
        "LOCAL_PART": "a+b",
        "DOMAIN": "example.org",
        "MESSAGE_ID": "0123456789abcdef",
        "ORIGINAL_RECIPIENT": "rfc822;o@example.org",
    }
    arguments = (tmp_path / "a.args").read_text()
    assert arguments.endswith("<a+b|example.org><bob@example.net>")


async def test_nothing_in_an_address_is_read_as_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "v"
    address = '"$(touch v);`touch v`|touch v;"@example.org'
    outcome = await run('printf %s "$1" > "$2"', "{local_part}", str(tmp_path / "got"), to=address)
    assert isinstance(outcome, Delivered)
    assert not victim.exists()
    assert not Path("/v").exists()
    assert (tmp_path / "got").read_text().startswith("$(touch ")


async def test_address_that_would_be_an_option_is_refused():
    outcome = await run("exit 0", "{local_part}", to="-rf@example.org")
    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced_text == "5.1.3"
    assert isinstance(await run("exit 0", "--user={local_part}", to="-rf@example.org"), Delivered)
    assert isinstance(await run("exit 0", to="-rf@example.org"), Delivered)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (0, Delivered, "2.0.0"),
        (64, Failed, "5.3.0"),
        (65, Failed, "5.6.0"),
        (67, Failed, "5.1.1"),
        (68, Failed, "5.1.2"),
        (69, Failed, "5.3.0"),
        (70, Failed, "5.3.0"),
        (71, Deferred, "4.3.0"),
        (73, Failed, "5.2.0"),
        (74, Deferred, "4.3.0"),
        (75, Deferred, "4.3.0"),
        (77, Failed, "5.7.0"),
        (78, Deferred, "4.3.5"),
        (1, Deferred, None),
        (127, Deferred, None),
        (-signal.SIGSEGV, Deferred, None),
        (None, Deferred, None),
    ],
)
def test_status_means_what_sysexits_says(status, kind, code):
    outcome = outcome_of(Ended(status, b"\n  its\x1b words\nmore\n"), "/bin/x")
    assert isinstance(outcome, kind)
    assert code in (None, outcome.reply.enhanced_text)
    assert "words" not in outcome.reply.text  # strangers are told nothing of our machine
    if kind is not Delivered:
        assert outcome.detail.endswith("its? words")


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (67, b"5.2.1 mailbox closed\n", "550 5.2.1 mailbox closed"),
        (75, b"4.2.2 mailbox full\nmore\n", "451 4.2.2 mailbox full"),
        (0, b"2.1.5 stored as 7\n", "250 2.1.5 stored as 7"),
        (75, b"5.2.1 of another class\n", "451 4.3.0 the program cannot take the message now"),
        (67, b"5.2.1x\n", "550 5.1.1 there is no such recipient"),
        (67, b"5.1.1\n", "550 5.1.1 the program said no more"),
    ],
)
def test_word_with_a_code_goes_to_the_sender(status, said, expected):
    assert str(outcome_of(Ended(status, said), "/bin/x").reply) == expected


async def test_program_that_ends_early_need_not_read_all():
    content = streamed(b"Subject: x\r\n\r\n", *[b"x" * 60_000] * 20)
    assert isinstance(await run("exit 0", content=content), Delivered)
    assert isinstance(await run("exec 0<&-; exit 75", content=content), Deferred)


async def test_program_that_hangs_is_killed_with_all_that_it_started(tmp_path):
    script = 'sleep 1000 & echo $! > "$1"; echo $$ > "$2"; wait'
    outcome = await run(script, str(tmp_path / "child"), str(tmp_path / "self"), seconds=1.0)
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.TIMEOUT
    for name in ("child", "self"):
        await wait_gone(int((tmp_path / name).read_text()))


async def test_what_a_program_leaves_behind_is_ended(tmp_path):
    outcome = await run('sleep 1000 & echo $! > "$1"; exit 0', str(tmp_path / "child"))
    assert isinstance(outcome, Delivered)
    await wait_gone(int((tmp_path / "child").read_text()))


async def test_cancelled_the_program_is_killed_and_gets_no_end_of_input(tmp_path):
    script = 'echo $$ > "$1"; cat > "$2" && touch "$3"'
    names = [tmp_path / name for name in ("self", "got", "whole")]

    class Stuck(FakeContent):
        def open(self):
            return stuck()

    def stuck():
        class Manager:
            async def __aenter__(self):
                return self

            async def __aexit__(self, *_):
                return None

            async def read(self):
                if not self.sent:
                    self.sent = True
                    return b"Subject: x\r\n\r\nhalf"
                await trio.sleep_forever()
                return b""

            sent = False

        return Manager()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def deliver():
                parcel = make_parcel(content=Stuck(pieces=[b"x"]))
                await run(script, *map(str, names), parcel=parcel)

            nursery.start_soon(deliver)
            with trio.fail_after(30):
                while not (names[1].exists() and names[1].stat().st_size):
                    await trio.sleep(0.01)
            scope.cancel()
    await wait_gone(int(names[0].read_text()))
    assert not names[2].exists()


async def test_body_that_breaks_off_is_not_taken_for_a_whole_one(tmp_path):
    def pieces():
        yield b"Subject: x\r\n\r\nhalf\r\n"
        raise OSError("bad sector")

    content = streamed()
    content.pieces = pieces()
    with pytest.raises(ExceptionGroup) as caught:  # of the network around it
        await run('cat > "$1" && touch "$2"', str(tmp_path / "got"), str(tmp_path / "whole"), content=content)
    assert [str(error) for error in caught.value.exceptions] == ["bad sector"]
    assert not (tmp_path / "whole").exists()


async def test_limits_hold():
    # The address space of the limit does not hold what is asked for; of the output only the beginning is kept.
    script = "ulimit -v; ulimit -c; ulimit -n; i=0; while [ $i -lt 2000 ]; do echo xxxxxxxxxxxxxxx; i=$((i+1)); done; exit 75"
    outcome = await run("read line; " + script, memory=LIMIT)
    assert outcome.detail == f"it ended with status 75: {LIMIT // 1024}"


async def test_program_that_is_not_there_lets_mail_wait(tmp_path):
    route = Route(
        TransportKind.PIPE, "/none", command=(str(tmp_path / "none"),), time_limit=5.0, memory=LIMIT
    )
    async with open_memory_network() as network:
        connection = await make_transport(route, make_context(network)).connect()
        [outcome] = await connection.deliver(make_parcel())
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.LOCAL
    assert "No such file" in outcome.detail


async def test_message_that_was_there_before_is_a_loop():
    content = FakeContent(prefix=b"Delivered-To: ann@example.org\r\n")
    outcome = await run("exit 0", content=content)
    assert isinstance(outcome, Failed)
    assert outcome.cause is Cause.LOOP


async def wait_gone(pid):
    """Until there is no such process, or only what its parent has to collect."""
    with trio.fail_after(30):
        while is_running(pid):
            await trio.sleep(0.01)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
