"""The pump writes all it gets, in batches, and nothing can stop it or be stopped by it.

Real descriptors and threads, so no virtual time: every test has the default deadline.
"""

import functools
import json
import os
import select
import socket
import threading
import time
from collections import deque

import pytest
import trio
import trio.testing

from elemta.runtime import LogPump
from elemta.runtime.output import Output


class Pipe:
    """A pipe whose reading end does not block."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def read(self):
        data = b""
        while True:
            try:
                piece = os.read(self.reader, 1 << 20)
            except BlockingIOError:
                return data
            if not piece:
                return data
            data += piece

    def records(self):
        return [json.loads(line) for line in self.read().splitlines()]

    async def wait_records(self, count):
        found = []
        while len(found) < count:
            await trio.lowlevel.wait_readable(self.reader)
            found += self.records()
        return found

    def fill(self):
        """Leave no room; returns how much was put in."""
        os.set_blocking(self.writer, False)
        size = 0
        try:
            while True:
                size += os.write(self.writer, b"x" * 4095 + b"\n")
        except BlockingIOError:
            os.set_blocking(self.writer, True)
        return size

    def close_reader(self):
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def close(self):
        self.close_reader()
        os.close(self.writer)


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def make_pump(pipe):
    pumps = []

    def make(fd=None, **options):
        pump = LogPump(pipe.writer if fd is None else fd, **{"interval": 0.002, "flush": 0.2, **options})
        pumps.append(pump)
        return pump

    yield make
    for pump in pumps:
        pump.close()


def record(number=0, **values):
    return {"time": 0.0, "level": "info", "type": "test", "number": number, **values}


def numbers(records):
    return [each["number"] for each in records if each["type"] == "test"]


def test_before_the_loop_records_are_written_directly(pipe, make_pump):
    pump = make_pump()
    pump.put(record(1))
    assert numbers(pipe.records()) == [1]
    assert pump.statistics().written == 1


async def test_while_it_runs_put_neither_writes_nor_checkpoints(pipe, make_pump):
    pump = make_pump()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        with trio.testing.assert_no_checkpoints():
            for number in range(500):
                pump.put(record(number))
        assert pipe.read() == b""
        assert pump.statistics().waiting == 500
        assert numbers(await pipe.wait_records(500)) == list(range(500))
        nursery.cancel_scope.cancel()
    assert pump.statistics().written == 500


async def test_records_are_gathered_between_writes(pipe, make_pump):
    pump = make_pump(interval=3600)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        pump.put(record(0))
        await pipe.wait_records(1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        pump.put(record(1))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert pipe.read() == b""
        nursery.cancel_scope.cancel()
    assert numbers(pipe.records()) == [1]


async def test_what_is_left_is_written_at_the_end_and_later_records_directly(pipe, make_pump):
    pump = make_pump()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(500):
            pump.put(record(number))
        nursery.cancel_scope.cancel()
    assert numbers(pipe.records()) == list(range(500))
    pump.put(record(500))
    assert numbers(pipe.records()) == [500]


async def test_it_may_run_again_after_it_ended(pipe, make_pump):
    pump = make_pump()
    for turn in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            await trio.testing.wait_all_tasks_blocked()
            pump.put(record(turn))
            assert numbers(await pipe.wait_records(1)) == [turn]
            nursery.cancel_scope.cancel()


async def test_records_put_from_threads_arrive(pipe, make_pump):
    pump = make_pump()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(pump.put, record(7))
        assert numbers(await pipe.wait_records(1)) == [7]
        nursery.cancel_scope.cancel()


async def test_a_record_put_by_a_thread_just_before_the_wait_is_not_left_lying(pipe, make_pump):
    class SeenLate(deque):
        looks = 0

        def __bool__(self):
            self.looks += 1
            return self.looks > 1 and len(self) > 0

    pump = make_pump(interval=3600)
    pump._records = SeenLate([record(1)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        assert numbers(await pipe.wait_records(1)) == [1]
        nursery.cancel_scope.cancel()


def test_a_thread_that_logs_as_the_loop_ends_writes_directly(pipe, make_pump):
    pump = make_pump()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main)
    pump._running = True  # as the thread saw it a moment ago
    thread = threading.Thread(target=pump.put, args=(record(1),))
    thread.start()
    thread.join()
    assert numbers(pipe.records()) == [1]


async def test_lazy_values_are_made_where_they_are_rendered(pipe, make_pump):
    pump = make_pump()
    made = []

    def make(value):
        made.append(value)
        return record(value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        pump.put_lazy(make, 5)
        assert made == []
        assert numbers(await pipe.wait_records(1)) == [5]
        nursery.cancel_scope.cancel()


async def test_a_stuck_reader_stops_nothing_and_drops_are_reported_when_room_returns(pipe, make_pump):
    pump = make_pump(size=50)
    filled = pipe.fill()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(50):
            pump.put(record(number))
        for number in range(50, 80):
            pump.put(record(number))
        assert pump.statistics().dropped == 30
        for _ in range(100):  # the loop runs on
            await trio.lowlevel.checkpoint()
        assert len(os.read(pipe.reader, filled)) == filled
        records = await pipe.wait_records(51)
        assert numbers(records) == list(range(50))
        [report] = [each for each in records if each["type"] == "log.dropped"]
        assert list(report) == ["time", "level", "type", "records"]
        assert report["records"] == 30
        pump.put(record(80))
        assert [each["type"] for each in await pipe.wait_records(1)] == ["test"]  # reported once
        nursery.cancel_scope.cancel()


async def test_a_stuck_reader_does_not_hold_up_the_end(pipe, make_pump):
    pump = make_pump(flush=0.05)
    pipe.fill()
    start = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(300):
            pump.put(record(number))
        nursery.cancel_scope.cancel()
    assert time.monotonic() - start < 2
    assert pump.statistics().dropped == 300
    start = time.monotonic()
    for number in range(100):  # known to be stuck: no patience for each
        pump.put(record(number))
    assert time.monotonic() - start < 0.5


def test_a_reader_that_comes_back_gets_records_and_the_count_directly(pipe, make_pump):
    pump = make_pump()
    pipe.fill()
    pump._stuck = True
    pump.put(record(1))
    pipe.read()
    pump.put(record(2))
    records = pipe.records()
    assert numbers(records) == [2]
    assert records[0]["type"] == "log.dropped"
    assert records[0]["records"] == 1


async def test_a_slow_reader_gets_everything(pipe, make_pump):
    pump = make_pump(flush=4)
    got = bytearray()
    ended = threading.Event()

    def read_slowly():
        while not ended.is_set() or select.select([pipe.reader], [], [], 0)[0]:
            if select.select([pipe.reader], [], [], 0.01)[0]:
                got.extend(os.read(pipe.reader, 30_000))

    reader = threading.Thread(target=read_slowly)
    reader.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(3000):
            pump.put(record(number, text="x" * 200))
        nursery.cancel_scope.cancel()
    ended.set()
    reader.join()
    assert numbers(json.loads(line) for line in got.splitlines()) == list(range(3000))


async def test_a_reader_that_is_gone_is_survived(pipe, make_pump):
    pump = make_pump()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        pipe.close_reader()
        pump.put(record(1))
        while pump.statistics().dropped < 1:
            await trio.sleep(0.001)
        pump.put(record(2))
        nursery.cancel_scope.cancel()
    pump.put(record(3))
    assert pump.statistics().dropped == 3


def test_a_closed_descriptor_is_survived_and_never_confused_with_another(tmp_path, make_pump):
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    pump = make_pump(fd)
    os.close(fd)
    other = os.open(tmp_path / "database", os.O_WRONLY | os.O_CREAT)
    assert other == fd
    pump.put(record(1))
    os.close(other)
    assert (tmp_path / "database").read_bytes() == b""
    assert json.loads((tmp_path / "log").read_bytes())["number"] == 1


async def test_a_descriptor_closed_from_the_start_drops_and_counts(make_pump):
    fd = os.open("/dev/null", os.O_WRONLY)
    os.close(fd)
    pump = make_pump(fd)
    pump.put(record(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        pump.put(record(2))
        nursery.cancel_scope.cancel()
    assert pump.statistics().dropped == 2


def test_after_close_records_are_dropped(pipe, make_pump):
    pump = make_pump()
    pump.close()
    pump.close()
    pump.put(record(1))
    assert pipe.read() == b""
    assert pump.statistics().dropped == 1


class ScriptedOutput:
    """An output that does what the script says: how much it takes, and its error."""

    keeps = False

    def __init__(self, *steps):
        self.steps = list(steps)
        self.taken = b""

    def write(self, data, patience):
        size, error = self.steps.pop(0) if self.steps else (len(data), None)
        size = min(size, len(data))
        self.taken += data[:size]
        return size, error

    def close(self):
        pass


def test_a_full_disk_loses_the_batch_ends_the_torn_line_and_is_reported_later(pipe, make_pump):
    pump = make_pump()
    full = OSError(28, "No space left on device")
    pump._output = ScriptedOutput((10, full), (0, full))
    pump.put(record(1))
    pump.put(record(2))
    pump.put(record(3))
    torn, report, line = pump._output.taken.splitlines()
    assert torn == b'{"time":"1'
    assert json.loads(report)["type"] == "log.dropped"
    assert json.loads(report)["records"] == 2
    assert json.loads(line)["number"] == 3
    assert pump.statistics().dropped == 2


def test_a_report_that_was_lost_itself_is_made_again(pipe, make_pump):
    pump = make_pump()
    full = OSError(28, "No space left on device")
    pump._output = ScriptedOutput((0, full), (0, full))
    for number in range(3):
        pump.put(record(number))
    report, line = pump._output.taken.splitlines()
    assert json.loads(report)["records"] == 2
    assert json.loads(line)["number"] == 2


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")

    __str__ = __repr__


def cyclic():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", ["\ud800", Unprintable(), cyclic(), {"x": Unprintable()}])
def test_an_unrenderable_value_costs_only_itself(pipe, make_pump, value):
    pump = make_pump()
    pump.put(record(1, value=value))
    pump.put(record(2))
    records = pipe.records()
    assert numbers(records) == [1, 2]
    shown = records[0]["value"]
    items = shown.values() if isinstance(shown, dict) else shown
    assert items
    assert all(isinstance(item, str) for item in items)
    assert pump.statistics().unrenderable == 1


def test_a_value_that_cannot_become_a_record_is_named(pipe, make_pump):
    pump = make_pump()

    def fail(value):
        raise ValueError("bug")

    pump.put_lazy(fail, 5)
    [shown] = pipe.records()
    assert (shown["level"], shown["type"], shown["class"]) == ("error", "log.unrenderable", "int")


async def test_what_is_no_record_at_all_is_only_counted(pipe, make_pump):
    pump = make_pump()
    pump.put(None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        pump.put(None)
        while pump.statistics().waiting:
            await trio.sleep(0.001)
        pump.put(record(1))
        assert numbers(await pipe.wait_records(1)) == [1]
        nursery.cancel_scope.cancel()
    assert pump.statistics().unrenderable == 2


def test_a_very_long_record_is_shortened(pipe, make_pump):
    pump = make_pump()
    pump.put(record(1, text="x" * 100_000))
    [shown] = pipe.records()
    assert len(shown["text"]) == 1000
    assert pump.statistics().unrenderable == 0


def test_logging_from_inside_the_writing_of_a_record_neither_deadlocks_nor_loses_it(pipe, make_pump):
    """What a signal handler does that logs while a record is written."""
    pump = make_pump()
    seen = []

    def render(item):
        seen.append(item["number"])
        if item["number"] == 1:
            pump.put(record(2))
        return b"%d\n" % item["number"]

    pump._renderer = render
    pump.put(record(1))
    assert seen == [1, 2]
    assert pipe.read() == b"1\n2\n"


async def test_a_socket_as_standard_error_of_journald_does_not_block():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = Output(ours.fileno())
        assert output.write(b"hello\n", 0.0) == (6, None)
        assert theirs.recv(100) == b"hello\n"
        start = time.monotonic()
        written, error = output.write(b"x" * 10_000_000, 0.02)
        assert error is None
        assert 0 < written < 10_000_000
        assert time.monotonic() - start < 1
        theirs.close()
        written, error = output.write(b"x", 0.02)
        assert isinstance(error, OSError)
        output.close()


async def test_a_socket_that_poll_calls_writable_and_is_not(monkeypatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = Output(ours.fileno())
        answers = [BlockingIOError(), 3, BlockingIOError()]

        def write_some(fd, view):
            answer = answers.pop(0) if answers else BlockingIOError()
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(output, "_write_some", write_some)
        assert output.write(b"hello", 0.01) == (3, None)
        output.close()


def test_a_terminal_that_is_stopped_does_not_block():
    ours, theirs = os.openpty()
    output = Output(theirs)
    assert output.write(b"hello\n", 0.0) == (6, None)
    assert os.read(ours, 100) == b"hello\r\n"
    written, error = output.write(b"x" * 1000 + b"\n" * 100_000, 0.02)  # nobody reads on
    assert error is None
    assert 0 < written < 100_000
    output.close()
    os.close(ours)
    os.close(theirs)


def test_a_full_pipe_does_not_block_and_stays_blocking_for_others(pipe):
    output = Output(pipe.writer)
    size = pipe.fill()
    assert output.write(b"y" * 100, 0.0) == (0, None)
    os.read(pipe.reader, 8192)
    written, error = output.write(b"y" * 100_000, 0.0)
    assert error is None
    assert 4096 <= written <= 8192
    assert len(pipe.read()) == size - 8192 + written
    assert os.get_blocking(pipe.writer)
    output.close()


def test_a_pipe_that_cannot_be_opened_again_is_written_in_pieces(pipe, monkeypatch):
    def denied(*_):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        output = Output(pipe.writer)
    size = pipe.fill()
    assert output.write(b"y" * 100_000, 0.0) == (0, None)
    os.read(pipe.reader, 8192)
    written, error = output.write(b"y" * 100_000, 0.0)
    assert error is None
    assert written == 8192
    assert len(pipe.read()) == size
    output.close()


async def test_putting_is_cheap(pipe, make_pump):
    pump = make_pump(size=100_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.testing.wait_all_tasks_blocked()
        put = functools.partial(pump.put, record(1))
        start = time.perf_counter()
        for _ in range(500):
            put()
        each = (time.perf_counter() - start) / 500
        nursery.cancel_scope.cancel()
    assert each < 20e-6  # about 0.3 µs; the bound only catches rendering or writing in put
