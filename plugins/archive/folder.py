"""A folder with a copy of each message, by day, durable when a call returns. Blocking: for a thread."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final, cast

import attrs

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
ACCEPTED: Final = "accepted.jsonl"


@attrs.frozen
class Folder:
    root: Path
    compress: bool = True
    _settled: set[str] = attrs.field(factory=set, init=False, eq=False, repr=False)
    """Days whose entry in the root is on stable storage."""

    def keep(self, now: float, pieces: Iterable[bytes], record: dict[str, Any]) -> str:
        """Write the message, and the record beside it; both are on stable storage when this returns.

        Returns:
          Its name below the root, without an ending.

        Raises:
          OSError: it is not kept, or not durably.
        """
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        day = self._day(moment)
        name = f"{moment:%H%M%S}-{uuid.uuid4().hex[:16]}"
        digest, size = hashlib.sha256(), 0
        end = ".eml.gz" if self.compress else ".eml"
        part = day / f"{name}.part"
        try:
            with _create(part) as file:
                with gzip.GzipFile("", "wb", 6, file, mtime=0) if self.compress else _Left(file) as packed:
                    for piece in pieces:
                        digest.update(piece)
                        size += len(piece)
                        packed.write(piece)
                _settle(file)
            facts = {"file": name + end, "kept": now, **record, "size": size, "sha256": digest.hexdigest()}
            described = day / f"{name}.json.part"
            with _create(described) as file:
                file.write(json.dumps(facts, indent=1).encode() + b"\n")
                _settle(file)
            described.rename(day / f"{name}.json")
            # last of all, so that a message there is always described
            part.rename(day / (name + end))
        except BaseException:
            part.unlink(missing_ok=True)
            (day / f"{name}.json.part").unlink(missing_ok=True)
            (day / f"{name}.json").unlink(missing_ok=True)
            raise
        _settle_folder(day)
        return f"{day.name}/{name}"

    def accepted(self, name: str, record: dict[str, Any]) -> None:
        """Note that what was kept under that name has become a message of the queue.

        Raises:
          OSError: that could not be noted.
        """
        day, _, file = name.partition("/")
        line = json.dumps({"file": file, **record}) + "\n"
        handle = os.open(self.root / day / ACCEPTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def clean(self, now: float, seconds: float) -> tuple[int, list[str]]:
        """Remove the days that ended so long ago; returns how many, and what was in the way of others.

        Raises:
          OSError: the root cannot be read.
        """
        last = f"{datetime.datetime.fromtimestamp(now - seconds, datetime.UTC):%Y-%m-%d}"
        removed, wrong = 0, []
        for day in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if _DAY.fullmatch(day.name) and day.name < last:
                try:
                    shutil.rmtree(day)
                except OSError as error:
                    wrong.append(str(error))
                else:
                    removed += 1
        return removed, wrong

    def _day(self, moment: datetime.datetime) -> Path:
        day = self.root / f"{moment:%Y-%m-%d}"
        if day.name not in self._settled or not day.is_dir():
            missing = [each for each in day.parents if not each.exists()]
            day.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Also where another thread has just made it: that one may not be as far yet
            for parent in dict.fromkeys((self.root, *(each.parent for each in missing))):
                _settle_folder(parent)
            self._settled.add(day.name)
        return day


class _Left:
    """A file that is left open at the end of a block."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __enter__(self) -> IO[bytes]:
        return self._file

    def __exit__(self, *_: object) -> None:
        return


def _create(path: Path) -> IO[bytes]:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    return cast("IO[bytes]", os.fdopen(handle, "wb"))


def _settle(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _settle_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
