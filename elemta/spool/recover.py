"""Start-up: what a process that died left behind is swept, released, or reported as damaged."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import attrs

from elemta.mail import MessageId, is_id

from .folder import BODIES, INCOMING, storage_error
from .store import Store
from .values import Corrupt, QueueFilter

HELD_AS_CORRUPT = "corrupt"


@attrs.frozen
class Recovery:
    """What was found."""

    released: int = 0
    """Recipients whose attempt was under way; they are due now."""
    temporaries: int = 0
    """Bodies that were on their way in; nobody was told that we have them."""
    orphans: int = 0
    """Body files without a message."""
    corrupt: tuple[Corrupt, ...] = ()
    """Messages that are now held, because their body file is missing or has the wrong size."""
    notes: tuple[str, ...] = ()


def recover(store: Store, now: float) -> Recovery:
    """Put a store in order before it is used. Only for the holder of the lock: it takes every lease
    for that of a process that is gone. May be repeated, and may be killed at any point.

    Raises:
      SpoolFull: there is no room to write it down; nothing was changed.
      SpoolUnavailable: the disk does not work.
    """
    corrupt = _missing_bodies(store)
    store.begin(careful=True)
    try:
        released = store.release_leases(now)
        for entry in corrupt:
            store.hold(QueueFilter(messages=(entry.message,)), HELD_AS_CORRUPT)
        store.commit()
    except BaseException:
        store.rollback()
        raise
    store.take_aftermath()
    if store.directory is None:
        return Recovery(released)
    try:
        temporaries = _sweep(store.directory / INCOMING, ())
    except OSError as cause:
        raise storage_error(cause, "the spool cannot be swept") from cause
    orphans = sweep_orphans(store)
    return Recovery(released, temporaries, orphans, tuple(corrupt))


def sweep_orphans(store: Store) -> int:
    """Unlink body files that no message refers to; returns how many. Not beside a running server.

    Raises:
      SpoolUnavailable: the disk does not work.
    """
    if store.directory is None:
        return 0
    try:
        return _sweep(store.directory / BODIES, store.body_files().keys())
    except OSError as cause:
        raise storage_error(cause, "the spool cannot be swept") from cause


def _missing_bodies(store: Store) -> list[Corrupt]:
    found = []
    for message, size in store.body_files().items():
        problem = _problem(store.directory, message, size)
        if problem:
            found.append(Corrupt(message, problem))
    return found


def _problem(directory: Path | None, message: MessageId, size: int) -> str:
    if directory is None or not is_id(message):
        return "its body file is missing"
    try:
        found = os.lstat(directory / BODIES / message).st_size
    except FileNotFoundError:
        return "its body file is missing"
    except OSError as cause:
        return f"its body file cannot be read: {cause.strerror}"
    return "" if found == size else f"its body file has {found} octets where {size} were stored"


def _sweep(folder: Path, keep: Collection[str]) -> int:
    swept = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in keep and not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                swept += 1
    return swept
