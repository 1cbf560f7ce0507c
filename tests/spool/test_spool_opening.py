"""Start-up: one process per spool, only for us, only what is ours; and what a dead process left is put in order."""

import errno
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import attrs
import pytest
import trio
from spool_builders import (
    BODY,
    NOW,
    ORIGIN,
    PREFIX,
    SettableClock,
    Troubles,
    attempt,
    envelope,
    message_id,
    new_message,
)

from elemta.config import SpoolConfig
from elemta.spool import (
    Corrupt,
    MemoryStore,
    QueueFilter,
    RecipientState,
    SpoolError,
    SpoolForeign,
    SpoolFull,
    SpoolInUse,
    SpoolUnavailable,
    SqliteStore,
    open_offline,
    open_readonly_spool,
    open_spool,
)
from elemta.spool.database import APPLICATION_ID, PAGE_SIZE, check_soundness
from elemta.spool.folder import prepare, refusal
from elemta.spool.lock import SpoolLock
from elemta.spool.recover import Recovery, recover

ALL = QueueFilter()
LARGE = b"x" * 5000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state"


def clock() -> SettableClock:
    return SettableClock()


def opening(state: Path, troubles: Troubles | None = None):  # type: ignore[no-untyped-def]
    return open_spool(
        state,
        SpoolConfig(inline_size=1000, ballast=4096),
        message_size=1000,
        clock=SettableClock(),
        random=random.Random(1),
        on_trouble=troubles or Troubles(),
    )


async def make(state: Path, *numbers: int, body: bytes = BODY) -> None:
    """A spool with these messages."""
    async with opening(state) as spool:
        for number in numbers:
            draft = spool.new_draft(message_id(number))
            await draft.write(body)
            await spool.commit(
                draft, message=message_id(number), envelope=envelope(), origin=ORIGIN, prefix=PREFIX
            )


async def refused(state: Path, kind: type[Exception] = SpoolForeign) -> str:
    with pytest.raises(kind) as caught:
        async with opening(state):
            pass
    text = str(caught.value)
    assert "\n" not in text
    return text


# Folders and files


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
async def test_everything_is_made_for_us_alone_whatever_the_umask(state: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        state.parent.mkdir(0o700)
        state.parent.chmod(0o700)
        async with opening(state) as spool:
            draft = spool.new_draft(message_id(1))
            await draft.write(bytes(2 << 20))
            incoming = state / "spool" / "incoming" / message_id(1)
            assert incoming.stat().st_mode & 0o777 == 0o600
            await spool.commit(
                draft, message=message_id(1), envelope=envelope(), origin=ORIGIN, prefix=PREFIX
            )
            while not (state / "spool" / "ballast").exists():
                await trio.sleep(0.001)
            modes = {
                str(path.relative_to(state)): path.stat().st_mode & 0o777
                for path in [state, *state.rglob("*")]
            }
    finally:
        os.umask(before)
    folders = {".", "spool", "spool/bodies", "spool/incoming"}
    files = {"lock", "spool/ballast", f"spool/bodies/{message_id(1)}"}
    files |= {f"spool/spool.db{end}" for end in ("", "-wal", "-shm")}
    assert modes == dict.fromkeys(folders, 0o700) | dict.fromkeys(files, 0o600)


async def test_state_folder_that_exists_keeps_its_mode_and_may_be_a_link(state: Path) -> None:
    state.mkdir(0o755, parents=True)
    state.chmod(0o755)
    link = state.parent / "link"
    link.symlink_to(state)
    await make(link, 1)
    assert state.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", [".", "spool", "spool/bodies", "spool/incoming"])
async def test_folder_that_others_may_write_is_refused(state: Path, name: str) -> None:
    await make(state)
    (state / name).chmod(0o770)
    assert "chmod go-w" in await refused(state)


@pytest.mark.parametrize("name", ["spool", "spool/bodies", "spool/incoming"])
async def test_linked_folder_is_refused(state: Path, name: str) -> None:
    await make(state)
    (state / name).rename(state / "elsewhere")
    (state / name).symlink_to(state / "elsewhere")
    assert "symbolic link" in await refused(state)


async def test_file_in_place_of_a_folder_is_refused(state: Path) -> None:
    state.mkdir(parents=True)
    (state / "spool").write_text("")
    assert "not a folder" in await refused(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [".", "spool", "spool/bodies", "spool/spool.db"])
async def test_what_belongs_to_someone_else_is_refused(state: Path, name: str) -> None:
    await make(state)
    os.chown(state / name, 12345, 12345)
    assert "belongs to user 12345" in await refused(state)


async def test_linked_database_is_refused(state: Path) -> None:
    await make(state)
    database = state / "spool" / "spool.db"
    database.rename(state / "elsewhere")
    database.symlink_to(state / "elsewhere")
    assert "symbolic links" in await refused(state)


async def test_database_that_is_a_pipe_is_refused(state: Path) -> None:
    await make(state)
    database = state / "spool" / "spool.db"
    database.unlink()
    os.mkfifo(database)
    assert "regular file" in await refused(state)


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (errno.EROFS, SpoolForeign, "read-only"),
        (errno.EACCES, SpoolForeign, "cannot be written"),
        (errno.ENOSPC, SpoolFull, "No space"),
        (errno.EIO, SpoolUnavailable, "error"),
    ],
)
def test_file_system_says_why_we_cannot_begin(code: int, kind: type[Exception], word: str) -> None:
    error = refusal(Path("/x"), OSError(code, os.strerror(code)))
    assert type(error) is kind
    assert word in str(error)


async def test_read_only_file_system_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(state)
    real = os.open

    def read_only(path: object, flags: int, *values: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", read_only)
    assert "read-only" in await refused(state)


# The lock


async def test_second_instance_is_told_who_has_the_spool(state: Path) -> None:
    async with opening(state):
        assert f"process {os.getpid()}" in await refused(state, SpoolInUse)
    await make(state, 1)


@pytest.mark.deadline(20)
async def test_second_process_is_refused_and_the_first_goes_on(state: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from elemta.spool import open_offline, SpoolInUse\n"
        "try:\n  with open_offline(Path(sys.argv[1])): print('open')\n"
        "except SpoolInUse as error: print('in use:', error)"
    )
    async with opening(state):
        found = await trio.run_process([sys.executable, "-c", code, str(state)], capture_stdout=True)
        assert found.stdout.startswith(b"in use:")
        assert f"process {os.getpid()}".encode() in found.stdout
    found = await trio.run_process([sys.executable, "-c", code, str(state)], capture_stdout=True)
    assert found.stdout == b"open\n"


async def test_tasks_of_the_spool_have_names_for_people(state: Path) -> None:
    with trio.fail_after(30):
        async with opening(state):
            nurseries = trio.lowlevel.current_task().child_nurseries
            names = {task.name for nursery in nurseries for task in nursery.child_tasks}
    assert {"spool writer", "spool janitor", "index of searches"} <= names


def test_lock_that_holds_nonsense_is_taken_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("\x1b[2J")
    lock = SpoolLock(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    (tmp_path / "lock").write_text("\x1b[2J")
    with pytest.raises(SpoolInUse, match="another process"):
        SpoolLock(tmp_path)
    lock.release()


def test_lock_must_be_a_file_and_lockable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(SpoolForeign):
        SpoolLock(tmp_path)
    (tmp_path / "lock").rmdir()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("elemta.spool.lock.fcntl.flock", fail)
    with pytest.raises(SpoolForeign, match="local file system"):
        SpoolLock(tmp_path)


# The database


async def test_database_has_the_settings_that_durability_needs(state: Path) -> None:
    async with opening(state) as spool:
        connection = spool._store.connection  # type: ignore[attr-defined]
        found = {
            name: connection.pragma(name)
            for name in ("journal_mode", "synchronous", "mmap_size", "trusted_schema", "wal_autocheckpoint")
        }
        assert found == {
            "journal_mode": "wal",
            "synchronous": 2,
            "mmap_size": 0,
            "trusted_schema": 0,
            "wal_autocheckpoint": 0,
        }
        assert connection.pragma("page_size") == PAGE_SIZE
        assert connection.pragma("application_id") == APPLICATION_ID
        assert connection.pragma("user_version") == 4


async def test_setting_that_does_not_take_is_fatal(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        __import__("elemta.spool.database").spool.database._SETTINGS, "synchronous", ("NORMAL", 2)
    )
    assert "synchronous is 1" in await refused(state, SpoolUnavailable)


def edit(state: Path, *statements: str) -> None:
    connection = apsw.Connection(str(state / "spool" / "spool.db"))
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("PRAGMA user_version = 99", "schema 99"),
        ("PRAGMA application_id = 7", "another program"),
    ],
)
async def test_database_that_is_not_ours_is_refused_and_left_alone(
    state: Path, statement: str, word: str
) -> None:
    await make(state, 1)
    edit(state, statement)
    before = (state / "spool" / "spool.db").read_bytes()
    assert word in await refused(state)
    with pytest.raises(SpoolForeign, match=word), open_readonly_spool(state):
        pass
    assert (state / "spool" / "spool.db").read_bytes() == before


async def test_database_of_another_program_without_marks_is_refused(state: Path) -> None:
    prepare(state)
    edit(state, "CREATE TABLE t (x)")
    assert "another program" in await refused(state)


async def test_file_that_is_no_database_is_refused_and_left_alone(state: Path) -> None:
    path = prepare(state) / "spool.db"
    path.write_bytes(b"not a database at all\n" * 100)
    assert "not a database" in await refused(state)
    with pytest.raises(SpoolForeign), open_readonly_spool(state):
        pass
    assert path.read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("where", ["page", "truncated"])
async def test_damaged_database_is_refused_with_a_way_out(state: Path, where: str) -> None:
    await make(state, *range(30), body=b"x" * 900)
    path = state / "spool" / "spool.db"
    with path.open("r+b") as file:
        if where == "page":
            file.seek(PAGE_SIZE * 2)
            file.write(b"\xff" * PAGE_SIZE * 2)
        else:
            file.truncate(PAGE_SIZE * 3)
    assert ".recover" in await refused(state)


async def test_half_made_database_is_made_anew(state: Path) -> None:
    (prepare(state) / "spool.db").touch()
    await make(state, 1)
    assert (state / "spool" / "spool.db").stat().st_mode & 0o777 == 0o600


def test_migration_that_fails_leaves_the_database_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare(tmp_path)
    steps = ["CREATE TABLE one (x)", "CREATE TABLE one (x)"]
    monkeypatch.setattr("elemta.spool.database._migrations", lambda: steps)
    with pytest.raises(SpoolForeign):
        SqliteStore.open(folder)
    monkeypatch.undo()
    SqliteStore.open(folder).close()


def test_later_migration_is_applied_to_an_older_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare(tmp_path)
    SqliteStore.open(folder).close()
    from elemta.spool import database

    steps = [*database._migrations(), "ALTER TABLE message ADD COLUMN later TEXT"]
    monkeypatch.setattr("elemta.spool.database._migrations", lambda: steps)
    store = SqliteStore.open(folder)
    assert store.connection.pragma("user_version") == len(steps)
    store.connection.execute("SELECT later FROM message")
    store.close()


def test_large_or_slow_database_is_not_checked_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(prepare(tmp_path))
    path = tmp_path / "spool" / "spool.db"
    assert check_soundness(store.connection, path, seconds=5, monotonic=lambda: 0.0) == ""
    monkeypatch.setattr("elemta.spool.database._CHECK_STEPS", 1)
    times = iter([0.0, *[9.0] * 1000])
    assert "more than 5 s" in check_soundness(
        store.connection, path, seconds=5, monotonic=lambda: next(times)
    )
    monkeypatch.setattr("elemta.spool.database._CHECK_LIMIT", 10)
    assert "too long" in check_soundness(store.connection, path, seconds=5, monotonic=lambda: 0.0)
    store.close()


async def test_what_was_not_checked_is_told_at_the_start(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(state, 1)
    monkeypatch.setattr("elemta.spool.database._CHECK_LIMIT", 10)
    troubles = Troubles()
    async with opening(state, troubles) as spool:
        assert len(spool.recovery.notes) == 1
    assert troubles.seen == [("note", spool.recovery.notes[0])]


# Recovery


async def test_leftovers_are_swept_and_damage_is_held(state: Path) -> None:
    await make(state, 1, 2, 3, 4, body=LARGE)
    bodies, incoming = state / "spool" / "bodies", state / "spool" / "incoming"
    (bodies / message_id(2)).unlink()
    (bodies / message_id(3)).write_bytes(b"short")
    (bodies / message_id(9)).write_bytes(b"orphan")
    (incoming / message_id(8)).write_bytes(b"half")
    troubles = Troubles()
    async with opening(state, troubles) as spool:
        assert attrs.evolve(spool.recovery, corrupt=()) == Recovery(0, 1, 1, ())
        assert [corrupt.message for corrupt in spool.recovery.corrupt] == [message_id(2), message_id(3)]
        assert troubles.names == ["corrupt", "corrupt"]
        entries = await spool.list(QueueFilter(state=RecipientState.HELD))
        assert [(entry.id, entry.recipients[0].reason) for entry in entries] == [
            (message_id(2), "corrupt"),
            (message_id(3), "corrupt"),
        ]
        assert {claim.message.id for claim in await spool.claim(10)} == {message_id(1), message_id(4)}
    assert {path.name for path in bodies.iterdir()} == {message_id(1), message_id(3), message_id(4)}
    assert list(incoming.iterdir()) == []


def test_recovery_may_be_repeated(tmp_path: Path) -> None:
    store = SqliteStore.open(prepare(tmp_path))
    store.begin()
    store.accept(new_message(), lease=5, lease_until=NOW + 900)
    store.commit()
    assert recover(store, NOW + 1) == Recovery(1)
    assert recover(store, NOW + 2) == Recovery()
    assert store.next_due() == NOW + 1
    store.close()


def test_store_in_memory_recovers_its_leases() -> None:
    store = MemoryStore()
    store.begin()
    store.accept(new_message(), lease=5, lease_until=NOW + 900)
    store.commit()
    assert recover(store, NOW) == Recovery(1)


async def test_start_on_a_full_disk_uses_the_ballast(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(state, 1)
    ballast = state / "spool" / "ballast"
    ballast.write_bytes(b"x")
    real = SqliteStore.seal

    def seal(store: SqliteStore) -> None:
        if ballast.exists():
            raise SpoolFull("full")
        real(store)

    monkeypatch.setattr(SqliteStore, "seal", seal)
    with open_offline(state, clock=clock()) as store:
        assert store.statistics().queued == 1
    monkeypatch.setattr("elemta.spool.space.BALLAST", "another")
    ballast.write_bytes(b"x")
    await refused(state, SpoolFull)


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for place in (tmp_path / "file" / "state", tmp_path / "link", Path("/proc/nothing")):
        with pytest.raises(SpoolForeign, match="cannot be written"):
            prepare(place)


def test_recovery_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(SqliteStore):
        def seal(self) -> None:
            raise SpoolFull("full")

    store = Full.open(prepare(tmp_path))
    with pytest.raises(SpoolFull):
        recover(store, NOW)
    assert not store.connection.in_transaction
    store.close()


@pytest.mark.parametrize("row", ["../../etc/passwd", "x"], ids=["outside", "no id"])
async def test_row_with_a_name_that_is_no_id_reaches_no_file(state: Path, row: str) -> None:
    await make(state, 1, body=LARGE)
    edit(state, f"UPDATE message SET id = '{row}'")
    async with opening(state) as spool:
        assert spool.recovery.corrupt == (Corrupt(row, "its body file is missing"),)  # type: ignore[arg-type]


async def test_body_file_that_cannot_be_looked_at_is_corrupt(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(state, 1, body=LARGE)
    real = os.lstat

    def fail(path: Path) -> os.stat_result:
        if path.name == message_id(1):
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr("elemta.spool.recover.os.lstat", fail)
    async with opening(state) as spool:
        assert "Input/output" in spool.recovery.corrupt[0].problem


@pytest.mark.parametrize("folder", ["bodies", "incoming"])
async def test_sweep_that_fails_stops_the_start(
    state: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    await make(state)
    (state / "spool" / folder / message_id(1)).write_bytes(b"")

    def fail(path: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("elemta.spool.recover.os.unlink", fail)
    await refused(state, SpoolUnavailable)


# Without a server


async def test_queue_can_be_changed_without_a_server(state: Path) -> None:
    await make(state, 1, 2, body=LARGE)
    with open_offline(state, clock=clock()) as store:
        store.begin()
        assert store.hold(QueueFilter(messages=(message_id(1),)), "why not") == 1
        store.remove(QueueFilter(messages=(message_id(2),)), NOW)
        store.commit()
    assert [path.name for path in (state / "spool" / "bodies").iterdir()] == [message_id(1)]
    with open_readonly_spool(state) as reader:
        assert [entry.id for entry in reader.list(ALL, after=None, limit=9)] == [message_id(1)]
        assert reader.statistics().held == 1


async def test_spool_can_be_read_beside_a_running_server(state: Path) -> None:
    async with opening(state) as spool:
        with open_readonly_spool(state) as reader:
            assert reader.statistics().accepted == 0
            draft = spool.new_draft(message_id(1))
            await draft.write(BODY)
            await spool.commit(
                draft, message=message_id(1), envelope=envelope(), origin=ORIGIN, prefix=PREFIX
            )
            assert reader.body(message_id(1)) == BODY
            with pytest.raises(apsw.ReadOnlyError):
                reader.connection.execute("DELETE FROM message")  # type: ignore[attr-defined]


@pytest.mark.parametrize("look", [open_offline, open_readonly_spool])
def test_looking_for_a_spool_makes_none(state: Path, look: Callable[[Path], object]) -> None:
    with pytest.raises(SpoolForeign, match="no"), look(state):  # type: ignore[attr-defined]
        pass
    assert not state.exists()


# Errors of SQLite


def test_full_database_is_full_and_nothing_of_the_batch_is_there(tmp_path: Path) -> None:
    store = SqliteStore.open(prepare(tmp_path))
    store.begin()
    store.accept(new_message(1), lease=1, lease_until=NOW)
    store.commit()
    store.connection.pragma("max_page_count", store.connection.pragma("page_count") + 3)
    store.begin()
    store.accept(new_message(2), lease=None, lease_until=0)
    with pytest.raises(SpoolFull):
        store.accept(new_message(3, body=bytes(500_000)), lease=None, lease_until=0)
    store.rollback()
    assert store.statistics().accepted == 1
    store.begin()
    assert store.record(attempt(1), NOW)
    store.commit()
    found = store.statistics()
    assert (found.accepted, found.delivered, found.messages) == (1, 1, 0)
    store.close()


@pytest.mark.deadline(30)
async def test_quota_on_file_sizes_is_full_too(state: Path) -> None:
    """RLIMIT_FSIZE makes the write of a commit fail with EFBIG, which SQLite calls an I/O error."""
    code = """
import sys, resource
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from elemta.spool import SqliteStore, SpoolFull
from spool_builders import new_message
store = SqliteStore.open(Path(sys.argv[1]))
store.begin(); store.accept(new_message(1), lease=None, lease_until=0); store.commit()
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
store.begin(); store.accept(new_message(2, body=bytes(600_000)), lease=None, lease_until=0); store.seal()
try:
    store.commit()
except SpoolFull as error:
    print(error)
store.rollback()
store.begin(); store.accept(new_message(3), lease=None, lease_until=0); store.commit()
print(store.statistics().accepted)
"""
    folder = prepare(state)
    found = await trio.run_process(
        [sys.executable, "-c", code, str(folder), str(Path(__file__).parent)], capture_stdout=True
    )
    assert found.stdout.decode().splitlines() == ["the database may not grow: File too large", "2"]


def test_database_that_someone_else_holds_is_out_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(prepare(tmp_path))
    store.connection.set_busy_timeout(0)
    other = apsw.Connection(str(tmp_path / "spool" / "spool.db"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolUnavailable, match="Busy"):
        store.begin()
    store.close()
    other.close()


def test_broken_store_is_closed_without_a_checkpoint(tmp_path: Path) -> None:
    store = SqliteStore.open(prepare(tmp_path))
    store.begin()
    store.accept(new_message(1), lease=None, lease_until=0)
    store.commit()
    store._broken = True
    store.close()
    assert (tmp_path / "spool" / "spool.db-wal").stat().st_size > 0
    store = SqliteStore.open(tmp_path / "spool")
    assert store.statistics().accepted == 1
    store.close()
    assert not (tmp_path / "spool" / "spool.db-wal").exists()


def test_checkpoint_moves_the_log(tmp_path: Path) -> None:
    store = SqliteStore.open(prepare(tmp_path))
    for number in range(5):
        store.begin()
        store.accept(new_message(number), lease=None, lease_until=0)
        store.commit()
    assert store.checkpoint_size > 5
    reader = apsw.Connection(str(tmp_path / "spool" / "spool.db"))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM message").fetchone()
    store.begin()
    store.accept(new_message(9), lease=None, lease_until=0)
    store.commit()
    store.checkpoint()
    assert store.checkpoint_size > 5, "a reader holds it up"
    reader.close()
    store.checkpoint()
    assert store.checkpoint_size == 0
    store.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (apsw.FullError, SpoolFull),
        (apsw.ReadOnlyError, SpoolForeign),
        (apsw.CorruptError, SpoolForeign),
        (apsw.NotADBError, SpoolForeign),
        (apsw.BusyError, SpoolUnavailable),
    ],
)
def test_error_while_opening_says_who_must_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[apsw.Error], kind: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error("so it is")

    monkeypatch.setattr("elemta.spool.database._migrate", fail)
    with pytest.raises(kind):
        SqliteStore.open(prepare(tmp_path))


def test_database_that_cannot_be_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise apsw.CantOpenError("unable to open database file")

    monkeypatch.setattr("elemta.spool.database.apsw.Connection", fail)
    with pytest.raises(SpoolForeign, match="cannot be opened"):
        SqliteStore.open(prepare(tmp_path))


def test_error_while_checking_is_refused(tmp_path: Path) -> None:
    store = SqliteStore.open(prepare(tmp_path))

    def fail() -> float:
        raise apsw.CorruptError("database disk image is malformed")

    with pytest.raises(apsw.CorruptError):
        check_soundness(store.connection, tmp_path / "spool" / "spool.db", seconds=1, monotonic=fail)
    store.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (apsw.SQLITE_FULL, SpoolFull),
        (apsw.SQLITE_IOERR_FSYNC, SpoolUnavailable),
        (apsw.SQLITE_IOERR_WRITE, SpoolUnavailable),
        (apsw.SQLITE_BUSY, None),
    ],
)
def test_error_of_a_checkpoint_says_what_it_means(
    tmp_path: Path, code: int, kind: type[Exception] | None
) -> None:
    class Failing:
        system_errno = 5

        def __init__(self, connection: apsw.Connection) -> None:
            self.status = connection.status

        def wal_checkpoint(self, mode: int) -> tuple[int, int]:
            raise apsw.exception_for(code)

    store = SqliteStore.open(prepare(tmp_path))
    connection = store.connection
    store._connection = Failing(connection)  # type: ignore[assignment]
    if kind is None:
        store.checkpoint()
    else:
        with pytest.raises(kind):
            store.checkpoint()
    store._connection = connection
    assert store._broken == (kind is SpoolUnavailable)
    store.close()


def test_bug_in_an_operation_leaves_the_batch_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(prepare(tmp_path))
    store.begin()
    store.accept(new_message(1), lease=None, lease_until=0)

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("elemta.spool.sqlite.sender_text", bug)
    with pytest.raises(ZeroDivisionError):
        store.accept(new_message(2), lease=None, lease_until=0)
    monkeypatch.undo()
    with pytest.raises(SpoolError, match="OverflowError"):
        store.accept(attrs.evolve(new_message(3), received=1e300), lease=None, lease_until=0)
    store.commit()
    assert store.statistics().accepted == 1
    store.close()
