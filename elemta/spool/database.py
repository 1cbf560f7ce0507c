"""Opening the database file: whose it is, whether it is sound, how it must be set, which schema it has."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import apsw

from .errors import SpoolError, SpoolForeign, SpoolFull, SpoolUnavailable

APPLICATION_ID = 0x454C4D54
"""`ELMT`: tells our file from any other SQLite database."""
PAGE_SIZE = 8192
"""Octets; measured (benchmarks/spool.py)."""
_CACHE = 16 * 1024
"""KiB. Above what a batch may hold, because nothing is spilled in the middle of one (see `_SETTINGS`)."""
_KEPT_WAL = 64 * 1024 * 1024
"""Octets of the write-ahead log that stay allocated, so that a full disk leaves room for completions."""
_BUSY_MILLISECONDS = 1000
"""Nobody else writes. A tool that holds the database for a moment gets this long, then we stop."""
_CHECK_LIMIT = 256 * 1024 * 1024
"""Octets up to which the whole file is checked at start-up: about a second of reading."""
_CHECK_STEPS = 200_000
"""Virtual machine steps between looks at the clock, about 10 ms."""

# RELIABILITY 0.1: WAL with FULL is the one pair that keeps every acknowledged commit at one fdatasync
# each; mmap would turn an I/O error into a signal. Spilling is off so that statements, which run in
# the event loop, never write: only COMMIT and the checkpoint do, and they run in the writer thread.
_SETTINGS: dict[str, tuple[str, object]] = {
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "mmap_size": ("0", 0),
    "temp_store": ("MEMORY", 2),
    "trusted_schema": ("OFF", 0),
    "cell_size_check": ("ON", 1),
    "wal_autocheckpoint": ("0", 0),
    "journal_size_limit": (str(_KEPT_WAL), _KEPT_WAL),
    "cache_size": (str(-_CACHE), -_CACHE),
    "cache_spill": ("OFF", 0),
}

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def translate(error: apsw.Error, connection: apsw.Connection) -> SpoolError:
    """What an error of SQLite means for mail.

    Full is raised before the commit mark is written, so nothing of the batch is stored. After any
    other error of the file nobody knows (RELIABILITY 0.1 item 3).
    """
    if isinstance(error, apsw.FullError):
        return SpoolFull("the disk is full")
    if (
        isinstance(error, apsw.IOError)
        and error.extendedresult == apsw.SQLITE_IOERR_WRITE  # type: ignore[attr-defined]  # not in its stub
        and connection.system_errno in _NO_ROOM
    ):
        # SQLite calls only ENOSPC full; a quota and a limit on file sizes strike at the same write.
        return SpoolFull(f"the database may not grow: {os.strerror(connection.system_errno)}")
    if isinstance(error, (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)):
        return SpoolError(f"cannot be stored: {error}")
    return SpoolUnavailable(f"{type(error).__name__}: {error}")


def open_database(path: Path) -> apsw.Connection:
    """Open the spool's database for writing, making it where there is none, with our settings and schema.

    Raises:
      SpoolForeign: it is not ours, damaged, newer than this program, or not writable.
      SpoolUnavailable: it does not take the settings that durability needs.
    """
    _make_private(path)
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error as cause:
        raise SpoolForeign(f"{path} cannot be opened: {cause}") from cause
    try:
        _prepare(connection, path)
    except apsw.Error as cause:
        abandon(connection)
        raise _refusal(path, cause) from cause
    except BaseException:
        abandon(connection)
        raise
    return connection


def open_readonly(path: Path) -> apsw.Connection:
    """A connection that can neither write nor checkpoint; works beside a running server.

    Raises:
      SpoolForeign: there is no such database, or it is not ours.
    """
    try:
        connection = apsw.Connection(
            f"{path.absolute().as_uri()}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
    except apsw.Error as cause:
        raise SpoolForeign(f"there is no readable spool at {path}: {cause}") from cause
    try:
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        for name in ("mmap_size", "temp_store", "trusted_schema", "cell_size_check"):
            connection.pragma(name, _SETTINGS[name][0])
        _check_identity(connection, path)
    except apsw.Error as cause:
        connection.close()
        raise _refusal(path, cause) from cause
    except BaseException:
        connection.close()
        raise
    return connection


def abandon(connection: apsw.Connection) -> None:
    """Close without a checkpoint: what is on the disk stays as it is for the next start to read."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close()


def check_soundness(
    connection: apsw.Connection, path: Path, *, seconds: float, monotonic: Callable[[], float]
) -> str:
    """Check the whole file if it is small enough; returns a note where that was not done.

    Raises:
      SpoolForeign: the file is damaged.
    """
    size = path.stat().st_size
    if size > _CHECK_LIMIT:
        return f"{path.name} was not checked: {size >> 20} MiB would take too long"
    deadline = monotonic() + seconds
    connection.set_progress_handler(lambda: monotonic() > deadline, _CHECK_STEPS)
    try:
        found = connection.pragma("quick_check", 1)
    except apsw.InterruptError:
        return f"{path.name} was not checked to its end: it took more than {seconds:g} s"
    except apsw.Error as cause:
        raise _refusal(path, cause) from cause
    finally:
        connection.set_progress_handler(None)
    if found != "ok":
        raise SpoolForeign(_damaged(path, found))
    return ""


def _make_private(path: Path) -> None:
    # SQLite would make it as the umask allows, and gives -wal and -shm the mode of this file.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as cause:
        raise SpoolForeign(f"{path} cannot be written: {cause.strerror}") from cause
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SpoolForeign(f"{path} is not a regular file")
        if status.st_uid != os.geteuid():
            raise SpoolForeign(f"{path} belongs to user {status.st_uid}; run as that user, or give it away")
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _prepare(connection: apsw.Connection, path: Path) -> None:
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    version = _check_identity(connection, path)
    if version == 0:
        connection.pragma("page_size", PAGE_SIZE)
    for name, (value, expected) in _SETTINGS.items():
        connection.pragma(name, value)
        found = connection.pragma(name)
        if found != expected:
            raise SpoolUnavailable(f"{path}: {name} is {found!r} where {expected!r} is needed")
    _migrate(connection, version)


def _check_identity(connection: apsw.Connection, path: Path) -> int:
    """The schema version, 0 for an empty database."""
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if not tables and not application and not version:
        return 0
    if application != APPLICATION_ID:
        raise SpoolForeign(f"{path} is the database of another program; choose another state_dir")
    newest = len(_migrations())
    if version > newest:
        raise SpoolForeign(
            f"{path} has schema {version} and this program knows up to {newest}; run the newer program"
        )
    return int(version)


def _migrations() -> list[str]:
    """The steps from an empty database to the present schema, in order."""
    folder = resources.files(__package__) / "schema"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return [entry.read_text(encoding="utf-8") for entry in files]


def _migrate(connection: apsw.Connection, version: int) -> None:
    steps = _migrations()
    if version == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            connection.execute(step)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refusal(path: Path, error: apsw.Error) -> SpoolError:
    if isinstance(error, apsw.NotADBError):
        return SpoolForeign(f"{path} is not a database; move it away, or choose another state_dir")
    if isinstance(error, (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError)):
        return SpoolForeign(f"{path} cannot be written; make it and its folder writable for this user")
    if isinstance(error, apsw.FullError):
        return SpoolFull(f"{path} cannot be prepared: the disk is full")
    if isinstance(error, (apsw.CorruptError, apsw.SQLError)):
        return SpoolForeign(_damaged(path, str(error)))
    return SpoolUnavailable(f"{path}: {type(error).__name__}: {error}")


def _damaged(path: Path, problem: str) -> str:
    line = " ".join(problem.replace("***", "").split())
    return (
        f"{path} is damaged ({line}). It was left as it is; restore a backup, "
        f"or save what can be read: sqlite3 {path.name} .recover"
    )
