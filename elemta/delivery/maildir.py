"""Store messages in Maildir folders: tmp, fsync, new, fsync of the folder; one file per recipient.

A file appears in `new` only when all of it is on stable storage, so a reader never sees half a
message and a crash leaves at most a file in `tmp`. Lines are stored with LF, the line end of this
system, as every reader of Maildir expects; on the wire and in the spool they have CR LF. Before the
message stand Return-Path (RFC 5321 §4.4) and Delivered-To, by which a loop through a mailbox that
forwards to itself is seen.

Waits for the disk happen in threads. A message in memory is stored by one thread call, which cannot
be cancelled half-way (TRIO 3.1); a larger one is streamed, a block per call.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from elemta.mail import (
    Cause,
    Deferred,
    Delivered,
    Failed,
    Mailbox,
    Outcome,
    Reply,
    replies,
    split_header,
)
from elemta.routing import Route
from elemta.runtime import ThreadPool, ThreadPools, run_in_thread

from .context import DeliveryContext
from .final import (
    MAILBOX_LOOP,
    LineEnds,
    read_header,
    trace_fields,
    was_delivered_to,
    without_return_path,
)
from .reading import open_content
from .transport import Connection, Parcel, Transport

STORED = Reply.of(250, "2.0.0", "stored")
MAILBOX_FULL = Reply.of(452, "4.2.2", "mailbox full, try again later")
"""RFC 3463 §3.3."""

THREADS = 4
"""Deliveries that wait for disks at once (PERFORMANCE: eight reach 2.5 times the rate of one)."""

_REPLY_FOR: Final = {errno.ENOSPC: replies.STORAGE_FULL, errno.EDQUOT: MAILBOX_FULL}
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unique_name(*, time: float, random: random.Random, hostname: str) -> str:
    """A name that no other file has (cr.yp.to/proto/maildir.html): time, process, randomness, host."""
    seconds, microseconds = divmod(int(time * 1_000_000), 1_000_000)
    host = hostname.replace("/", "\\057").replace(":", "\\072")
    return f"{seconds}.M{microseconds}P{os.getpid()}R{random.getrandbits(64):016x}.{host}"


def check_folder(folder: str) -> Path:
    """The path, if it is one that nothing in an address can have bent.

    Raises:
      ValueError: it is empty, climbs up, or has a NUL.
    """
    if not folder or "\0" in folder or ".." in folder.split("/"):
        raise ValueError("not a safe folder name")
    return Path(folder)


@attrs.define(eq=False)
class MaildirFile:
    """One message on its way into a folder. Synchronous: every method waits for the disk."""

    folder: Path
    name: str
    _file: int = attrs.field(default=-1, init=False)
    _folders: dict[str, int] = attrs.field(factory=dict, init=False)
    _in_tmp: bool = attrs.field(default=False, init=False)

    def open(self) -> None:
        """Make what is missing of the folder (0700) and begin the file in its `tmp`.

        The folder itself and what is in it are never followed as symbolic links: whoever may write
        into the mailbox must not lead us elsewhere.
        """
        _make_folders(self.folder)
        root = os.open(self.folder, _FOLDER_FLAGS)
        try:
            for part in ("cur", "new", "tmp"):
                try:
                    os.mkdir(part, 0o700, dir_fd=root)
                    os.fsync(root)
                except FileExistsError:
                    pass
            for part in ("new", "tmp"):
                self._folders[part] = os.open(part, _FOLDER_FLAGS, dir_fd=root)
        finally:
            os.close(root)
        self._file = os.open(self.name, _FILE_FLAGS, 0o600, dir_fd=self._folders["tmp"])
        self._in_tmp = True

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def publish(self) -> None:
        """Make the file durable and visible. After an error it is not in `new`, if the disk lets us."""
        os.fsync(self._file)
        tmp, new = self._folders["tmp"], self._folders["new"]
        # The name is unique, so nothing is replaced.
        os.rename(self.name, self.name, src_dir_fd=tmp, dst_dir_fd=new)
        self._in_tmp = False
        try:
            os.fsync(new)
        except OSError:
            os.unlink(self.name, dir_fd=new)
            raise

    def close(self) -> None:
        """Close everything; what was not published is removed. Never raises; may be called twice."""
        if self._in_tmp:
            self._in_tmp = False
            _quietly(os.unlink, self.name, dir_fd=self._folders["tmp"])
        if self._file >= 0:
            _quietly(os.close, self._file)
            self._file = -1
        while self._folders:
            _quietly(os.close, self._folders.popitem()[1])


def _quietly(function: Callable[..., None], *args: object, **kwargs: object) -> None:
    try:
        function(*args, **kwargs)
    except OSError:
        # What is left is a file in tmp, which readers clear away after 36 hours.
        pass


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        return
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


class MaildirTransport(Transport):
    """Delivers into the one folder that the route names."""

    def __init__(self, route: Route, context: DeliveryContext) -> None:
        self._route = route
        self._context = context

    async def connect(self) -> MaildirConnection:
        return MaildirConnection(self._route, self._context)


class MaildirConnection(Connection):
    """Always usable. Cancelled, it leaves no file behind that `dot_sent` does not tell of."""

    def __init__(self, route: Route, context: DeliveryContext) -> None:
        self._folder = route.next_hop
        self._context = context
        self._pool = _thread_pool(context.pools)
        self._phase = "idle"
        self._progress = 0
        self._dot_sent = False

    @property
    def usable(self) -> bool:
        return True

    @property
    def phase(self) -> str:
        return self._phase

    @property
    def progress(self) -> int:
        return self._progress

    @property
    def dot_sent(self) -> bool:
        """Whether some recipient of a streamed parcel has its file already while others are on their way."""
        return self._dot_sent

    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        self._dot_sent = False
        try:
            folder = check_folder(self._folder)
        except ValueError as problem:
            refused = Deferred(Cause.LOCAL, replies.LOCAL_ERROR, self._folder, detail=str(problem))
            return [refused] * len(parcel.recipients)
        files = [MaildirFile(folder, self._name()) for _ in parcel.recipients]
        self._phase = "storing"
        try:
            body = parcel.content.body
            if body is not None:
                # Returns its result even when cancelled meanwhile: stored is reported as stored.
                return await run_in_thread(
                    self._pool, self._store_all, parcel, files, parcel.content.prefix + body
                )
            outcomes = []
            for recipient, file in zip(parcel.recipients, files, strict=True):
                outcomes.append(await self._stream(parcel, recipient.mailbox, file))
            self._dot_sent = False
            return outcomes
        finally:
            self._phase = "idle"

    async def aclose(self) -> None:
        """Nothing to end."""

    def _name(self) -> str:
        context = self._context
        return unique_name(time=context.clock.time(), random=context.random, hostname=context.hostname)

    def _store_all(self, parcel: Parcel, files: list[MaildirFile], content: bytes) -> list[Outcome]:
        split = split_header(content)
        header = content[:split]
        rest = content[split:].replace(b"\r\n", b"\n")
        outcomes: list[Outcome] = []
        for recipient, file in zip(parcel.recipients, files, strict=True):
            if was_delivered_to(header, recipient.mailbox):
                outcomes.append(self._loop())
                continue
            try:
                file.open()
                file.write(self._header(parcel, recipient.mailbox, header).replace(b"\r\n", b"\n") + rest)
                file.publish()
                outcomes.append(Delivered(STORED, self._folder))
            except OSError as error:
                outcomes.append(self._failure(error))
            finally:
                file.close()
        return outcomes

    async def _stream(self, parcel: Parcel, mailbox: Mailbox, file: MaildirFile) -> Outcome:
        pool = self._pool
        line_ends = LineEnds()
        async with open_content(parcel.content) as reader:
            header, rest = await read_header(parcel.content.prefix, reader)
            if was_delivered_to(header, mailbox):
                return self._loop()
            try:
                await run_in_thread(pool, file.open)
                piece = self._header(parcel, mailbox, header) + rest
                while piece:
                    await run_in_thread(pool, file.write, line_ends.convert(piece))
                    self._progress += 1
                    piece = await reader.read()
                earlier, self._dot_sent = self._dot_sent, True
                try:
                    await run_in_thread(pool, self._finish, file, line_ends.finish())
                except OSError:
                    self._dot_sent = earlier
                    raise
            except OSError as error:
                return self._failure(error)
            finally:
                # On the loop: a few quick system calls, which a cancel must not skip.
                file.close()
        return Delivered(STORED, self._folder)

    @staticmethod
    def _finish(file: MaildirFile, rest: bytes) -> None:
        file.write(rest)
        file.publish()

    @staticmethod
    def _header(parcel: Parcel, mailbox: Mailbox, header: bytes) -> bytes:
        return trace_fields(parcel.envelope.reverse_path, mailbox) + without_return_path(header)

    def _loop(self) -> Outcome:
        return Failed(Cause.LOOP, MAILBOX_LOOP, self._folder)

    def _failure(self, error: OSError) -> Outcome:
        reply = _REPLY_FOR.get(error.errno or 0, replies.LOCAL_ERROR)
        return Deferred(Cause.LOCAL, reply, self._folder, detail=str(error))


def _thread_pool(pools: ThreadPools) -> ThreadPool:
    try:
        return pools["maildir"]
    except KeyError:
        return pools.open("maildir", THREADS)
