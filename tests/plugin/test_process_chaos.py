"""Real worker processes that fail in each way: it costs the call that failed its verdict, and nothing else."""

import contextlib
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from elemta.plugin import Failure, HookAnswer, HookArguments, PluginFailed
from elemta.plugin.process import ProcessTier
from elemta.plugin.worker import Limits, WorkerSettings

pytestmark = pytest.mark.deadline(30)


async def _question(name: str, content: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    if name == "fail":
        raise KeyError("nothing there")
    return name.encode() + b" " + content


@asynccontextmanager
async def _tier(
    folder: Path, *, timeout: float = 5.0, workers: int = 1, load: str = "", start: str = "", **more: object
) -> AsyncIterator[ProcessTier]:
    settings = attrs.evolve(
        WorkerSettings(
            name="failing",
            entry="failing_plugin:load",
            setup={"load": load, "start": start},
            directory=folder / "work",
            grace=0.3,
        ),
        **more,
    )
    tier = ProcessTier(
        settings, timeout=timeout, question=_question, random=random.Random(1), workers=workers
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(tier.start)
        yield tier
        nursery.cancel_scope.cancel()


async def _ask(tier: ProcessTier, how: str = "") -> HookAnswer:
    return await tier.call("rcpt", HookArguments(reason=how))


async def _failure(tier: ProcessTier, how: str) -> PluginFailed:
    with pytest.raises(PluginFailed) as caught:
        await _ask(tier, how)
    return caught.value


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_hook_is_asked_in_another_process(tmp_path: Path) -> None:
    async with _tier(tmp_path) as tier:
        answer = await _ask(tier)
        assert answer.notes["hook"] == "rcpt"
        assert answer.notes["pid"] == tier.statistics().workers[0] != os.getpid()
        pid = tier.statistics().workers[0]
    assert _gone(pid)


RAISING = ["raises", "system exit", "interrupt", "group", "leaked scope", "allocate", "kill the server", "leave the group",
           "fork bomb", "run a program", "open files", "long file", "huge answer"]  # fmt: skip


async def test_what_a_hook_raises_is_its_error_and_the_worker_lives(tmp_path: Path) -> None:
    async with _tier(tmp_path) as tier:
        pids = tier.statistics().workers
        for how in RAISING:
            failure = await _failure(tier, how)
            assert failure.kind is Failure.ERROR, how
            assert "\x1b" not in failure.detail
            if how == "open files":
                continue
            answer = await _ask(tier)
            assert (how, answer.notes["pid"]) == (how, pids[0])
        assert tier.statistics().failures[Failure.ERROR] == len(RAISING)
        assert tier.statistics().restarts == 0


async def test_an_error_is_told_with_its_place(tmp_path: Path) -> None:
    async with _tier(tmp_path) as tier:
        failure = await _failure(tier, "raises")
    assert "ValueError: a mistake\\x1b[2J of the plugin" in failure.detail
    assert "failing_plugin.py:" in failure.detail


CRASHING = ["leaked task", "segfault", "exit now", "exit in a thread", "kill itself", "gigabyte", "garbage", "huge frame",
            "unknown call", "other hook", "nameless question", "closes the wire", "leak slowly"]  # fmt: skip


@pytest.mark.deadline(90)
@pytest.mark.parametrize("how", CRASHING)
async def test_a_crash_costs_its_call_and_a_new_worker_comes(how: str, tmp_path: Path) -> None:
    async with _tier(tmp_path, timeout=30) as tier:  # long enough for the new one to start on a busy machine
        before = tier.statistics().workers[0]
        failure = await _failure(tier, how)
        assert failure.kind is (Failure.ERROR if how == "leak slowly" else Failure.CRASH), failure
        if failure.kind is Failure.CRASH:
            answer = await _ask(tier)
            assert answer.notes["pid"] != before
            assert _gone(before)
            assert tier.statistics().restarts == 1


async def test_what_is_no_answer_is_an_error(tmp_path: Path) -> None:
    async with _tier(tmp_path) as tier:
        assert (await _failure(tier, "no answer")).kind is Failure.ERROR
        assert await _ask(tier)


@pytest.mark.parametrize("how", ["hang", "swallow cancelled", "busy loop", "busy without python"])
async def test_a_call_that_does_not_end_is_over_at_its_deadline(how: str, tmp_path: Path) -> None:
    async with _tier(tmp_path, timeout=0.6) as tier:
        before = tier.statistics().workers[0]
        started = trio.current_time()
        failure = await _failure(tier, how)
        assert failure.kind is Failure.TIMEOUT
        assert trio.current_time() - started < 1.0
        # its worker is gone within the grace, unless it gave the call up
        while tier.statistics().workers in ((), (before,)) and how != "hang":
            await trio.sleep(0.02)
        with trio.fail_after(5):
            while True:
                with contextlib.suppress(PluginFailed):
                    answer = await _ask(tier)
                    break
        assert (answer.notes["pid"] == before) == (how == "hang")


@pytest.mark.parametrize("how", ["segfault", "exit now", "busy loop", "gigabyte", "swallow cancelled"])
async def test_the_other_calls_in_the_worker_are_answered_elsewhere(how: str, tmp_path: Path) -> None:
    answers: list[HookAnswer] = []
    failures: list[PluginFailed] = []

    async def other(tier: ProcessTier) -> None:
        answers.append(await _ask(tier, "sleep"))

    async def bad(tier: ProcessTier) -> None:
        failures.append(await _failure(tier, how))

    async with _tier(tmp_path, timeout=3, workers=2) as tier, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(other, tier)
        nursery.start_soon(bad, tier)
    assert len(answers) == 20
    assert [each.kind for each in failures] == [
        Failure.TIMEOUT if how in {"busy loop", "swallow cancelled"} else Failure.CRASH
    ]


async def test_a_call_that_computes_delays_no_other(tmp_path: Path) -> None:
    async with _tier(tmp_path, workers=2) as tier, trio.open_nursery() as nursery:
        nursery.start_soon(_ask, tier, "compute")
        await trio.sleep(0.05)
        started = trio.current_time()
        async with trio.open_nursery() as others:
            for _ in range(10):
                others.start_soon(_ask, tier)
        assert trio.current_time() - started < 0.7
    assert tier.statistics().restarts == 0


async def test_a_caller_that_leaves_costs_nobody_else(tmp_path: Path) -> None:
    async with _tier(tmp_path) as tier:
        with trio.move_on_after(0.05) as scope:
            await _ask(tier, "hang")
        assert scope.cancelled_caught
        assert await _ask(tier)
        assert tier.statistics().active == 0
        assert tier.statistics().restarts == 0


async def test_threads_are_welcome_and_questions_are_answered(tmp_path: Path) -> None:
    async with _tier(tmp_path) as tier:
        assert (await _ask(tier, "threads")).notes["said"] == "ran twice"
        assert (await _ask(tier, "asks")).notes["said"] == "echo hello"
        assert (await _ask(tier, "asks in vain")).notes["said"] == "KeyError: 'nothing there'"
        await _ask(tier, "prints")
        await _ask(tier, "logs")
        assert tier.statistics().restarts == 0


async def test_a_worker_sees_nothing_of_the_servers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMTA_SECRET", "hush")
    async with _tier(tmp_path) as tier:
        seen = json.loads(str((await _ask(tier, "environment")).notes["said"]))
    assert set(seen["env"]) == {"PATH", "LANG", "HOME", "TMPDIR", "MALLOC_ARENA_MAX"}
    assert seen["cwd"] == str(tmp_path / "work")
    assert seen["stdin"] == ""


async def test_a_worker_is_replaced_after_its_calls(tmp_path: Path) -> None:
    async with _tier(tmp_path, calls=5) as tier:
        pids = [(await _ask(tier)).notes["pid"] for _ in range(11)]
        assert len(set(pids)) == 3
        assert tier.statistics().restarts == 0


@pytest.mark.parametrize(
    ("load", "reason"),
    [("raise", "RuntimeError: no such list"), ("exit", "exited with status 4"), ("hang", "not ready after")],
)
async def test_a_plugin_that_does_not_come_up_says_why(load: str, reason: str, tmp_path: Path) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(PluginFailed, match=reason)):
        async with _tier(tmp_path, load=load, start_within=1.0 if load == "hang" else 20.0):
            pass  # pragma: no cover


async def test_what_is_asked_before_a_plugin_has_started_is_answered(tmp_path: Path) -> None:
    async with _tier(tmp_path, start="ask") as tier:
        assert (await _ask(tier, "heard at the start")).notes["said"] == "echo at the start"


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("garbage", "it sent a frame of 4294967295 octets"),
        ("an answer", "it sent an answer to a call that it was not given"),
        ("used up", "it sent that it is used up, before it was ready"),
    ],
)
async def test_what_is_no_word_of_a_plugin_that_starts_is_told(
    start: str, reason: str, tmp_path: Path
) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(PluginFailed, match=reason)):
        async with _tier(tmp_path, start=start):
            pass  # pragma: no cover


async def test_a_worker_that_ignores_sigterm_ends_with_the_tier(tmp_path: Path) -> None:
    async with _tier(tmp_path, load="ignore") as tier:
        pid = tier.statistics().workers[0]
        await _ask(tier)
    assert _gone(pid)


async def test_calls_that_are_under_way_fail_when_the_plugin_is_stopped(tmp_path: Path) -> None:
    failures: list[PluginFailed] = []

    async def ask(tier: ProcessTier) -> None:
        failures.append(await _failure(tier, "hang"))

    async with trio.open_nursery() as nursery, _tier(tmp_path) as tier:
        nursery.start_soon(ask, tier)
        await trio.sleep(0.1)
    assert [each.kind for each in failures] == [Failure.CRASH]
    assert (await _failure(tier, "")).kind is Failure.CRASH


async def test_child_processes_where_they_are_allowed_end_with_the_worker(tmp_path: Path) -> None:
    async with _tier(tmp_path, limits=Limits(processes=4096)) as tier:
        assert await _ask(tier, "run a program")
        assert (await _failure(tier, "leave the group")).kind is Failure.ERROR
