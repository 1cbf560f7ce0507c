"""A memo: hints that outlive a restart, bounded, and never in anybody's way."""

import os
import sqlite3
import threading

import apsw
import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.runtime import Memo
from elemta.spool import FileMemo, MemoLimits, open_memo
from elemta.spool.memo_file import MemoDamaged, MemoFile, MemoUnusable, set_aside

QUICK = MemoLimits(write_pause=0.0, sweep_pause=0.001, retry_pause=0.001)
PATIENT = MemoLimits(write_pause=60.0)
"""Writes only when it is closed."""
LATER = 2_000_000_000.0


class SetClock:
    def __init__(self):
        self.now = 1_750_000_000.0

    def time(self):
        return self.now


class Troubles(list):
    def __call__(self, what, detail):
        self.append((what, detail))

    @property
    def kinds(self):
        return [what for what, _ in self]


def in_memory(limits=None, clock=None):
    clock = clock or SetClock()
    return FileMemo(None, clock=clock, on_trouble=Troubles(), limits=limits or MemoLimits())


async def until(condition):
    """Wait for a thread to have done something."""
    while not condition():
        await trio.sleep(0.0005)


# --- In memory alone ------------------------------------------------------------------------------------------


async def test_what_was_put_is_there_until_it_expires():
    clock = SetClock()
    memo = in_memory(clock=clock)
    memo.put("space/key", b"value", clock.now + 10)
    assert await memo.get("space/key") == b"value"
    clock.now += 9.9
    assert await memo.get("space/key") == b"value"
    clock.now += 0.1
    assert await memo.get("space/key") is None
    assert await memo.get("space/other") is None


async def test_what_is_put_again_is_replaced_and_what_is_forgotten_is_gone():
    memo = in_memory()
    memo.put("space/key", b"one", LATER)
    memo.put("space/key", b"two", LATER)
    assert await memo.get("space/key") == b"two"
    memo.forget("space/key")
    memo.forget("never/seen")
    assert await memo.get("space/key") is None


async def test_it_is_what_services_ask_for():
    memo: Memo = in_memory()
    with trio.testing.assert_checkpoints():
        await memo.get("space/key")


@pytest.mark.parametrize("key", ["", "no namespace", "/rest", "space/", "space/" + "x" * 200])
async def test_keys_that_are_refused(key):
    memo = in_memory()
    with pytest.raises(ValueError, match=r"namespace|too large"):
        memo.put(key, b"", LATER)
    with pytest.raises(ValueError, match=r"namespace|too large"):
        memo.forget(key)
    with pytest.raises(ValueError, match=r"namespace|too large"):
        await memo.get(key)


@pytest.mark.parametrize(
    ("value", "expires"), [(b"x" * 4097, LATER), (b"", float("inf")), (b"", float("nan"))]
)
def test_values_that_are_refused(value, expires):
    with pytest.raises(ValueError, match=r"too large|must expire"):
        in_memory().put("space/key", value, expires)


async def test_each_namespace_is_bounded_by_itself_and_forgets_what_was_used_longest_ago():
    memo = in_memory(MemoLimits(memory_entries=3))
    memo.put("calm/key", b"calm", LATER)
    for number in range(3):
        memo.put(f"flood/{number}", b"", LATER)
    assert await memo.get("flood/0") == b""  # used
    for number in range(3, 5):
        memo.put(f"flood/{number}", b"", LATER)
    assert [await memo.get(f"flood/{number}") for number in range(5)] == [b"", None, None, b"", b""]
    assert await memo.get("calm/key") == b"calm"
    assert memo.statistics().in_memory == {"calm": 1, "flood": 3}


async def test_memory_is_bounded_in_octets_too():
    memo = in_memory(MemoLimits(memory_octets=10_000))
    for number in range(100):
        memo.put(f"space/{number}", b"x" * 4000, LATER)
    assert memo.statistics().in_memory == {"space": 2}
    memo.put("space/99", b"", LATER)
    memo.put("space/a", b"x" * 4000, LATER)
    assert memo.statistics().in_memory == {"space": 3}


def test_the_number_of_namespaces_is_bounded():
    memo = in_memory()
    for number in range(1000):
        memo.put(f"space{number}/key", b"", LATER)
    with pytest.raises(ValueError, match="more than 1000"):
        memo.put("another/key", b"", LATER)
    memo.put("space7/other", b"", LATER)


async def test_without_a_path_nothing_is_written():
    async with open_memo(None, clock=SetClock(), on_trouble=Troubles()) as memo:
        memo.put("space/key", b"value", LATER)
        statistics = memo.statistics()
        assert (statistics.pending, statistics.usable, statistics.in_file) == (0, False, {})


# --- With a file ----------------------------------------------------------------------------------------------


@attrs.define
class Bed:
    """A memo in a folder, opened as often as a test likes."""

    path: object
    clock: SetClock = attrs.field(factory=SetClock)
    troubles: Troubles = attrs.field(factory=Troubles)

    def open(self, limits=QUICK, open_file=MemoFile):
        return open_memo(
            self.path, clock=self.clock, on_trouble=self.troubles, limits=limits, open_file=open_file
        )


@pytest.fixture
def bed(tmp_path):
    return Bed(tmp_path / "memo.sqlite")


async def test_what_was_put_outlives_a_restart(bed):
    async with bed.open(PATIENT) as memo:
        memo.put("space/key", b"value", LATER)
        memo.put("space/gone", b"value", LATER)
        memo.forget("space/gone")
        memo.put("space/short", b"value", bed.clock.now + 10)
    bed.clock.now += 60
    async with bed.open() as memo:
        assert await memo.get("space/key") == b"value"
        assert await memo.get("space/gone") is None
        assert await memo.get("space/short") is None
        assert memo.statistics().reads == 3
        assert await memo.get("space/key") == b"value"
        assert memo.statistics().reads == 3  # from memory now
    assert bed.troubles == []


async def test_what_is_forgotten_stays_so_while_the_file_still_has_it(bed):
    async with bed.open() as memo:
        memo.put("space/key", b"value", LATER)
    async with bed.open(PATIENT) as memo:
        memo.forget("space/key")
        assert await memo.get("space/key") is None
    async with bed.open() as memo:
        assert await memo.get("space/key") is None


async def test_values_of_a_namespace_are_there_at_a_start(bed):
    async with bed.open(PATIENT) as memo:
        for number in range(5):
            memo.put(f"space/{number}", b"%d" % number, LATER + number)
        memo.put("space/old", b"old", bed.clock.now - 1)
        memo.put("other/x", b"x", LATER)
    async with bed.open() as memo:
        assert await memo.values("space", 3) == [b"4", b"3", b"2"]
        assert len(await memo.values("space", 10)) == 5
        assert await memo.values("nothing", 10) == []
    assert await in_memory().values("space", 10) == []


async def test_what_memory_had_no_room_for_is_read_from_the_file(bed):
    async with bed.open(attrs.evolve(QUICK, memory_entries=2)) as memo:
        for number in range(20):
            memo.put(f"space/{number}", b"%d" % number, LATER)
        for number in range(20):  # whether written yet or not
            assert await memo.get(f"space/{number}") == b"%d" % number
        assert memo.statistics().in_memory == {"space": 2}
        await until(lambda: memo.statistics().pending == 0)
        assert memo.statistics().in_file == {"space": 20}
        for number in range(20):
            assert await memo.get(f"space/{number}") == b"%d" % number


async def test_changes_are_written_in_batches(bed, monkeypatch):
    monkeypatch.setattr("elemta.spool.memo._BATCH", 10)
    sizes = []

    class Counting(MemoFile):
        def write(self, changes):
            sizes.append(len(changes))
            super().write(changes)

    async with bed.open(PATIENT, Counting) as memo:
        for number in range(25):
            memo.put(f"space/{number}", b"", LATER)
        for number in range(25):
            memo.put(f"space/{number}", b"again", LATER)
        assert memo.statistics().pending == 25
    assert sizes == [10, 10, 5]


async def test_a_flood_of_changes_is_written_without_pauses_and_stays_within_the_bound(bed, monkeypatch):
    monkeypatch.setattr("elemta.spool.memo._BATCH", 10)
    limits = attrs.evolve(QUICK, write_pause=0.001, sweep_pause=60.0, file_entries=15, memory_entries=1)
    async with bed.open(limits) as memo:
        for number in range(55):
            memo.put(f"space/{number}", b"", LATER + number)
        await until(lambda: memo.statistics().pending <= 5)
        assert memo.statistics().in_file["space"] <= 15 + 10
        await until(lambda: memo.statistics().pending == 0)
        await until(lambda: memo.statistics().in_file == {"space": 15})
        assert await memo.get("space/54") == b""
        assert await memo.get("space/39") is None


async def test_changes_that_wait_are_bounded_and_the_oldest_are_not_written(bed):
    limits = attrs.evolve(PATIENT, pending=10, memory_entries=5)
    async with bed.open(limits) as memo:
        for number in range(15):
            memo.put(f"space/{number}", b"", LATER)
        statistics = memo.statistics()
        assert (statistics.pending, statistics.dropped) == (10, 5)
    async with bed.open() as memo:
        assert memo.statistics().in_file == {"space": 10}
        assert await memo.get("space/4") is None
        assert await memo.get("space/5") == b""


async def test_what_has_expired_is_swept_and_the_rest_stays(bed, monkeypatch):
    monkeypatch.setattr("elemta.spool.memo._SWEEP", 5)
    async with bed.open(attrs.evolve(QUICK, sweep_pause=60.0)) as memo:
        for number in range(40):
            memo.put(f"space/{number}", b"", bed.clock.now + (10 if number % 2 else 1000))
        memo.put("other/key", b"", bed.clock.now + 1000)
        await until(lambda: memo.statistics().in_file == {"space": 40, "other": 1})
        bed.clock.now += 11
        memo.put("other/key", b"", bed.clock.now + 1000)  # wakes it; it sweeps until nothing has expired
        await until(lambda: memo.statistics().in_file == {"space": 20, "other": 1})
        assert await memo.get("space/2") == b""


async def test_the_file_is_bounded_and_what_expires_first_goes(bed):
    async with bed.open(attrs.evolve(QUICK, file_entries=10, memory_entries=1)) as memo:
        memo.put("calm/key", b"", bed.clock.now + 1)
        for number in range(30):
            memo.put(f"flood/{number}", b"", LATER + number)
        await until(lambda: memo.statistics().in_file == {"calm": 1, "flood": 10})
        assert await memo.get("flood/5") is None
        assert await memo.get("flood/25") == b""
        assert await memo.get("calm/key") == b""


async def test_the_file_is_for_us_alone(bed):
    umask = os.umask(0)
    try:
        async with bed.open():
            pass
    finally:
        os.umask(umask)
    assert bed.path.stat().st_mode & 0o777 == 0o600


async def test_leaving_by_an_error_or_a_cancel_writes_what_is_left(bed):
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="boom")):
        async with bed.open(PATIENT) as memo:
            memo.put("space/one", b"1", LATER)
            raise RuntimeError("boom")
    with trio.CancelScope() as scope:
        async with bed.open(PATIENT) as memo:
            memo.put("space/two", b"2", LATER)
            scope.cancel()
            await trio.sleep_forever()
    async with bed.open() as memo:
        assert await memo.get("space/one") == b"1"
        assert await memo.get("space/two") == b"2"


async def test_what_is_changed_while_it_is_read_is_what_was_changed(bed):
    async with bed.open() as memo:
        memo.put("space/key", b"old", LATER)
    entered, leave = threading.Event(), threading.Event()

    class Slow(MemoFile):
        def read(self, key):
            found = super().read(key)
            entered.set()
            leave.wait()
            return found

    async with bed.open(PATIENT, Slow) as memo, trio.open_nursery() as nursery:
        found = []

        async def read():
            found.append(await memo.get("space/key"))

        nursery.start_soon(read)
        await until(entered.is_set)
        memo.put("space/key", b"new", LATER)
        leave.set()
    assert found == [b"new"]


async def test_who_waits_for_a_disk_that_does_not_answer_can_leave(bed):
    leave = threading.Event()

    class Stuck(MemoFile):
        def read(self, key):
            leave.wait()

    async with bed.open(QUICK, Stuck) as memo:
        with trio.move_on_after(0.002) as scope:
            await memo.get("space/key")
        assert scope.cancelled_caught
        with trio.move_on_after(0.002) as scope:  # and so can who waits behind it
            await memo.get("space/other")
        assert scope.cancelled_caught
        memo.put("space/other", b"value", LATER)
        assert await memo.get("space/other") == b"value"
        leave.set()


async def test_closing_does_not_wait_for_ever(bed, monkeypatch):
    monkeypatch.setattr("elemta.spool.memo._CLOSING", 0.005)
    leave = threading.Event()

    class Stuck(MemoFile):
        def write(self, changes):
            leave.wait()

    async with bed.open(PATIENT, Stuck) as memo:
        memo.put("space/key", b"value", LATER)
    assert not leave.is_set()  # the block was left all the same
    leave.set()


# --- Trouble --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"not a database" * 500, b"SQLite format 3\x00" + b"\xff" * 5000])
async def test_a_damaged_file_is_set_aside_and_begun_anew(bed, content):
    bed.path.write_bytes(content)
    async with bed.open() as memo:
        memo.put("space/key", b"value", LATER)
        assert memo.statistics().usable
    assert bed.troubles.kinds == ["memo-damaged"]
    assert "begun anew; the old one is memo.sqlite.damaged" in bed.troubles[0][1]
    assert bed.path.with_name("memo.sqlite.damaged").read_bytes() == content
    async with bed.open() as memo:
        assert await memo.get("space/key") == b"value"


async def test_a_file_that_is_damaged_while_in_use_is_begun_anew_without_losing_what_waits(bed):
    async with bed.open(attrs.evolve(QUICK, memory_entries=1)) as memo:
        memo.put("space/old", b"", LATER)
        await until(lambda: memo.statistics().pending == 0)
        with sqlite3.connect(bed.path) as other:
            other.execute("DROP TABLE memo")
        other.close()
        memo.put("space/one", b"1", LATER)
        memo.put("space/two", b"2", LATER)
        await until(lambda: bed.troubles and memo.statistics().pending == 0)
        assert memo.statistics().in_file == {"space": 2}
        assert await memo.get("space/one") == b"1"
    assert bed.troubles.kinds == ["memo-damaged"]


@pytest.mark.parametrize("whole_namespace", [False, True])
async def test_a_read_that_finds_damage_finds_nothing(bed, whole_namespace):
    async with bed.open() as memo:
        memo.put("space/key", b"value", LATER)
    async with bed.open(attrs.evolve(PATIENT, sweep_pause=60.0)) as memo:
        with sqlite3.connect(bed.path) as other:
            other.execute("DROP TABLE memo")
        other.close()
        assert not await (memo.values("space", 9) if whole_namespace else memo.get("space/key"))
        assert memo.statistics().usable
    assert bed.troubles.kinds == ["memo-damaged"]


class Faulty(MemoFile):
    """Raises what it is told to."""

    error = None
    fails_to_open = False

    def __init__(self, path):
        if Faulty.fails_to_open:
            raise MemoUnusable("told to")
        super().__init__(path)

    def read(self, key):
        if Faulty.error is not None:
            raise Faulty.error
        return super().read(key)

    def write(self, changes):
        if Faulty.error is not None:
            raise Faulty.error
        super().write(changes)

    def delete_until(self, namespace, expires, limit):
        if Faulty.error is not None:
            raise Faulty.error
        return super().delete_until(namespace, expires, limit)


@pytest.fixture
def faulty():
    Faulty.error, Faulty.fails_to_open = None, False
    yield Faulty
    Faulty.error, Faulty.fails_to_open = None, False


@pytest.mark.parametrize("how", ["write", "sweep"])
async def test_while_a_file_cannot_be_used_memory_goes_on_and_later_all_is_written(bed, faulty, how):
    async with bed.open(QUICK, faulty) as memo:
        memo.put("space/before", b"0", LATER)
        await until(lambda: memo.statistics().in_file == {"space": 1})
        faulty.error = MemoUnusable("disk I/O error")
        faulty.fails_to_open = True
        if how == "write":
            memo.put("space/during", b"1", LATER)
        await until(lambda: bed.troubles)
        memo.put("space/during", b"1", LATER)
        assert await memo.get("space/during") == b"1"
        await trio.sleep(0.005)
        assert bed.troubles.kinds == ["memo-unusable"]  # told once
        assert not memo.statistics().usable
        assert memo.statistics().pending == 1
        faulty.error, faulty.fails_to_open = None, False
        await until(lambda: memo.statistics().pending == 0)
        assert bed.troubles.kinds == ["memo-unusable", "memo-recovered"]
    async with bed.open() as memo:
        assert await memo.get("space/during") == b"1"


async def test_a_read_that_fails_finds_nothing(bed, faulty):
    async with bed.open(PATIENT, faulty) as memo:
        faulty.error = MemoUnusable("disk I/O error")
        assert await memo.get("space/key") is None
        assert await memo.get("space/key") is None
    assert bed.troubles.kinds == ["memo-unusable"]


async def test_of_two_that_find_the_same_trouble_one_tells_it(bed, faulty):
    async with bed.open(PATIENT, faulty) as memo:
        faulty.error = MemoUnusable("disk I/O error")
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(memo.get, f"space/{number}")
    assert bed.troubles.kinds == ["memo-unusable"]


async def test_after_an_error_of_the_disk_a_file_that_seems_damaged_is_left_as_it_is(bed, faulty):
    # SQLite calls a sound file damaged then (RELIABILITY 0.1 item 5)
    async with bed.open(QUICK, faulty) as memo:
        memo.put("space/key", b"value", LATER)
        await until(lambda: memo.statistics().pending == 0)
        faulty.error = MemoUnusable("disk I/O error")
        memo.put("space/key", b"again", LATER)
        await until(lambda: bed.troubles)
        faulty.error = MemoDamaged("malformed")
        await trio.sleep(0.005)
        faulty.error = None
        await until(lambda: memo.statistics().pending == 0)
    assert not bed.path.with_name("memo.sqlite.damaged").exists()
    async with bed.open() as memo:
        assert await memo.get("space/key") == b"again"


async def test_a_damaged_file_that_was_unusable_before_is_not_opened_anew(bed):
    bed.path.write_bytes(b"not a database" * 500)
    opened = []

    def open_file(path):
        opened.append(path)
        if len(opened) == 1:
            raise MemoUnusable("no such disk")
        return MemoFile(path)

    async with bed.open(QUICK, open_file) as memo:
        await until(lambda: len(opened) > 3)
        assert not memo.statistics().usable
    assert bed.troubles.kinds == ["memo-unusable"]
    assert bed.path.read_bytes() == b"not a database" * 500


async def test_a_file_in_a_folder_that_is_not_there_cannot_be_used(tmp_path):
    troubles = Troubles()
    async with open_memo(tmp_path / "none" / "memo.sqlite", clock=SetClock(), on_trouble=troubles) as memo:
        memo.put("space/key", b"value", LATER)
        assert await memo.get("space/key") == b"value"
        assert await memo.get("space/other") is None
    assert troubles.kinds == ["memo-unusable"]


async def test_a_file_that_cannot_be_set_aside_is_left_and_not_used(bed):
    bed.path.write_bytes(b"not a database" * 500)
    bed.path.with_name("memo.sqlite.damaged").mkdir()
    async with bed.open() as memo:
        memo.put("space/key", b"value", LATER)
    assert bed.troubles.kinds == ["memo-unusable"]


async def test_a_crash_of_the_task_is_told_and_the_memo_goes_on(bed, monkeypatch):
    class Crashing(MemoFile):
        def write(self, changes):
            raise RuntimeError("a bug")

    async with bed.open(QUICK, Crashing) as memo:
        memo.put("space/key", b"value", LATER)
        await until(lambda: bed.troubles)
        assert await memo.get("space/key") == b"value"
        memo.forget("space/key")
        monkeypatch.setattr(Crashing, "write", MemoFile.write)
    assert bed.troubles == [("memo-crashed", "memo: RuntimeError: a bug")]


# --- The file by itself ---------------------------------------------------------------------------------------


def test_a_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "memo.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(MemoUnusable, match="another program"):
        MemoFile(path)
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "memo.sqlite"
    file = MemoFile(path)
    file.close_reader()
    file.close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(MemoUnusable, match="newer version"):
        MemoFile(path)


def test_a_link_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"")
    (tmp_path / "memo.sqlite").symlink_to(target)
    with pytest.raises(MemoUnusable):
        MemoFile(tmp_path / "memo.sqlite")
    assert target.read_bytes() == b""


def test_a_write_that_fails_stores_nothing_of_its_batch(tmp_path):
    file = MemoFile(tmp_path / "memo.sqlite")
    file.write({("a", "1"): (b"one", LATER)})
    with pytest.raises(MemoUnusable):
        file.write({("a", "1"): (b"two", LATER), ("a", "2"): (None, LATER)})
    assert file.read(("a", "1")) == (b"one", LATER)
    assert file.counts == {"a": 1}
    file.close_reader()
    file.close()
    file.close()
    with pytest.raises(MemoUnusable):
        file.read(("a", "1"))
    with pytest.raises(MemoUnusable):
        file.delete_until("a", LATER, 1)


def test_setting_aside_takes_the_log_along(tmp_path):
    path = tmp_path / "memo.sqlite"
    for name in ("memo.sqlite", "memo.sqlite-wal", "memo.sqlite-shm"):
        (tmp_path / name).write_bytes(b"x")
    assert set_aside(path).name == "memo.sqlite.damaged"
    assert [entry.name for entry in tmp_path.iterdir()] == ["memo.sqlite.damaged"]


@settings(max_examples=30, deadline=None)  # it opens files
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from("123"),
            st.none() | st.binary(max_size=3),
            st.integers(0, 9),
        ),
        max_size=30,
    ),
    st.integers(0, 9),
)
def test_the_file_is_a_dict_with_expiry_and_counts_right(tmp_path_factory, changes, until_then):
    file = MemoFile(tmp_path_factory.mktemp("memo") / "memo.sqlite")
    expected = {}
    for namespace, rest, value, expires in changes:
        entry = None if value is None else (value, float(expires))
        file.write({(namespace, rest): entry})
        expected[namespace, rest] = entry
    expected = {key: entry for key, entry in expected.items() if entry is not None}
    for namespace in "ab":
        file.delete_until(namespace, until_then, 100)
    expected = {key: entry for key, entry in expected.items() if entry[1] > until_then}
    for namespace in "ab":
        assert file.counts.get(namespace, 0) == sum(key[0] == namespace for key in expected)
        for rest in "123":
            assert file.read((namespace, rest)) == expected.get((namespace, rest))
    file.close_reader()
    file.close()


def test_a_power_cut_leaves_a_sound_file(tmp_path):
    # What is on the disk when the process dies: the database and its log as they are
    path = tmp_path / "memo.sqlite"
    file = MemoFile(path)
    file.write({("a", str(number)): (b"x" * 100, LATER) for number in range(100)})
    other = tmp_path / "after"
    other.mkdir()
    for name in ("memo.sqlite", "memo.sqlite-wal"):
        (other / name).write_bytes((tmp_path / name).read_bytes())
    file.close_reader()
    file.close()
    again = MemoFile(other / "memo.sqlite")
    assert again.counts == {"a": 100}
    assert apsw.Connection(str(other / "memo.sqlite")).pragma("quick_check") == "ok"
    again.close_reader()
    again.close()
