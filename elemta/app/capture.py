"""Development mode: every message ends in a file and on the console; nothing is ever sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from email.errors import MessageError
from email.header import decode_header, make_header
from pathlib import Path

import attrs

from elemta.delivery import Connection, Parcel, Transport
from elemta.mail import Cause, Deferred, Delivered, Outcome, Reply, replies
from elemta.mail.header import HeaderBlock, split_header
from elemta.runtime import ThreadPool, escape_text, run_in_thread

PREVIEW_LINES = 12
PREVIEW_OCTETS = 16 * 1024


@attrs.frozen
class Captured:
    """What the console shows of one message. All text is a stranger's; the printer escapes it."""

    message: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    size: int
    path: Path
    preview: tuple[str, ...]


@attrs.define(eq=False)
class CaptureTransport(Transport):
    """Writes messages into `folder` and tells `show`."""

    folder: Path
    show: Callable[[Captured], None]
    pool: ThreadPool

    async def connect(self) -> Connection:
        return _CaptureConnection(self)


@attrs.define(eq=False)
class _CaptureConnection(Connection):
    transport: CaptureTransport

    @property
    def usable(self) -> bool:
        return True

    @property
    def phase(self) -> str:
        return "idle"

    @property
    def dot_sent(self) -> bool:
        return False

    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        path = self.transport.folder / f"{parcel.message}.eml"
        head = bytearray(parcel.content.prefix[:PREVIEW_OCTETS])
        try:
            async with parcel.content.open() as reader:
                descriptor = await run_in_thread(self.transport.pool, _create, path, parcel.content.prefix)
                try:
                    while piece := await reader.read():
                        head += piece[: max(0, PREVIEW_OCTETS - len(head))]
                        await run_in_thread(self.transport.pool, _write, descriptor, piece)
                finally:
                    os.close(descriptor)
        except OSError as error:
            outcome: Outcome = Deferred(Cause.LOCAL, replies.LOCAL_ERROR, detail=str(error))
            return [outcome] * len(parcel.recipients)
        self.transport.show(_describe(parcel, path, bytes(head)))
        return [Delivered(Reply.of(250, "2.0.0", "captured"), str(path))] * len(parcel.recipients)

    async def aclose(self) -> None:
        return


def _create(path: Path, prefix: bytes) -> int:
    # A retry writes the same message again.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, prefix)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _describe(parcel: Parcel, path: Path, head: bytes) -> Captured:
    end = split_header(head)
    field = HeaderBlock(head[:end]).find(b"subject")
    subject = ""
    if field is not None:
        raw = field.raw.partition(b":")[2].decode("utf-8", "replace")
        try:
            subject = str(make_header(decode_header(" ".join(raw.split()))))
        except (MessageError, ValueError, LookupError):  # a strange charset or a broken encoded word
            subject = " ".join(raw.split())
    lines = head[end:].decode("utf-8", "replace").split("\r\n")
    return Captured(
        message=parcel.message,
        sender=escape_text(str(parcel.envelope.reverse_path)),
        recipients=tuple(escape_text(str(recipient.mailbox)) for recipient in parcel.recipients),
        subject=escape_text(subject),
        size=parcel.content.size,
        path=path,
        preview=tuple(escape_text(line) for line in lines[:PREVIEW_LINES]),
    )
