"""A body on its way in: where it lies, its head, its digest, and what is left of it."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
import trio
from spool_builders import message_id, spool_folder

from elemta.mail import MessageId
from elemta.runtime import ThreadPool
from elemta.spool import Draft, SpoolFull, SpoolUnavailable
from elemta.spool.budget import MemoryBudget

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return spool_folder(tmp_path)


def make_draft(
    folder: Path | None, failures: list[SpoolUnavailable] | None = None, inline: int = 100
) -> Draft:
    failed = [] if failures is None else failures
    return Draft(
        message_id(1), folder, inline_size=inline, pool=ThreadPool("files", 1), on_failure=failed.append
    )


async def fill(draft: Draft, data: bytes, piece: int) -> None:
    for start in range(0, len(data), piece):
        await draft.write(data[start : start + piece])


@pytest.mark.parametrize("piece", [1, 7, 10_000])
@pytest.mark.parametrize("size", [0, 99, 100, 101, 5000])
async def test_body_is_where_its_size_says_and_its_digest_is_right(
    folder: Path, size: int, piece: int
) -> None:
    data = os.urandom(size)
    draft = make_draft(folder)
    await fill(draft, data, piece)
    assert draft.size == size
    assert draft.body == (data if size <= 100 else None)
    await draft.finish()
    assert draft.digest(b"prefix") == hashlib.blake2b(data + b"prefix", digest_size=16).digest()
    final = folder / "bodies" / message_id(1)
    if size > 100:
        assert final.read_bytes() == data
        assert final.stat().st_mode & 0o777 == 0o600
    else:
        assert not final.exists()
    draft.keep()
    draft.discard()
    assert final.exists() == (size > 100)


async def test_large_body_goes_to_its_file_in_large_pieces(folder: Path) -> None:
    data = os.urandom(3 * MIB + 5)
    draft = make_draft(folder)
    await fill(draft, data, 65536)
    assert (folder / "incoming" / message_id(1)).stat().st_size == 3 * MIB
    await draft.finish()
    assert (folder / "bodies" / message_id(1)).read_bytes() == data
    assert list((folder / "incoming").iterdir()) == []
    draft.discard()
    assert list((folder / "bodies").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b"", b""),
        (b"Subject: a\r\n", b"Subject: a\r\n"),
        (b"Subject: a\r\n\r\nbody\r\n\r\n", b"Subject: a\r\n\r\n"),
        (b"\r\nbody\r\n\r\n", b"\r\n"),
    ],
)
@pytest.mark.parametrize("piece", [1, 100])
async def test_head_is_what_stands_before_the_empty_line(
    folder: Path, body: bytes, head: bytes, piece: int
) -> None:
    draft = make_draft(folder)
    await fill(draft, body, piece)
    assert draft.head == head
    draft.discard()


async def test_head_outlives_the_move_to_the_file_and_is_bounded(folder: Path) -> None:
    draft = make_draft(folder)
    await fill(draft, b"Subject: a\r\n\r\n" + bytes(2 * MIB), 65536)
    assert draft.head == b"Subject: a\r\n\r\n"
    draft.discard()
    endless = make_draft(folder)
    await endless.write(b"x" * (MIB + 5))
    assert endless.head == b"x" * MIB
    endless.discard()


async def test_without_a_folder_everything_stays_in_memory() -> None:
    draft = make_draft(None)
    await draft.write(b"x" * MIB * 2)
    await draft.finish()
    assert draft.body == b"x" * MIB * 2
    draft.discard()


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "x", "0" * 15 + "/"])
def test_name_that_is_no_id_makes_no_draft(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="id"):
        Draft(MessageId(name), folder, inline_size=1, pool=ThreadPool("files", 1), on_failure=print)


async def test_cancelled_write_can_be_discarded(folder: Path) -> None:
    draft = make_draft(folder)
    with trio.CancelScope() as scope:
        scope.cancel()
        await draft.write(b"x")
    assert scope.cancelled_caught
    assert draft.size == 0
    draft.discard()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, SpoolFull),
        (errno.EDQUOT, SpoolFull),
        (errno.EMFILE, SpoolFull),
        (errno.EIO, SpoolUnavailable),
    ],
)
async def test_write_error_says_whether_the_disk_is_full_or_broken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    failures: list[SpoolUnavailable] = []
    draft = make_draft(folder, failures)

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("elemta.spool.draft.os.write", fail)
    with pytest.raises(kind) as caught:
        await draft.write(bytes(MIB))
    monkeypatch.undo()
    assert failures == ([caught.value] if kind is SpoolUnavailable else [])
    draft.discard()
    assert list((folder / "incoming").iterdir()) == []


async def test_failed_sync_is_not_tried_again_and_leaves_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[SpoolUnavailable] = []
    draft = make_draft(folder, failures)
    await draft.write(bytes(500))
    calls = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("elemta.spool.draft.os.fsync", fail)
    with pytest.raises(SpoolUnavailable):
        await draft.finish()
    assert len(calls) == len(failures) == 1
    draft.discard()
    assert list((folder / "incoming").iterdir()) == list((folder / "bodies").iterdir()) == []


async def test_discard_survives_a_file_that_cannot_be_unlinked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = make_draft(folder)
    await draft.write(bytes(MIB))

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "unlink", fail)
    draft.discard()
    assert draft.size == MIB


# While the memory for all drafts is used up


def scarce_draft(folder: Path, memory: MemoryBudget, number: int = 1) -> Draft:
    return Draft(
        message_id(number),
        folder,
        inline_size=MIB,
        pool=ThreadPool("files", 1),
        on_failure=lambda error: None,
        memory=memory,
    )


async def test_bodies_go_to_their_files_early_while_memory_is_scarce(folder: Path) -> None:
    # RELIABILITY P7
    memory = MemoryBudget(100_000)
    drafts = [scarce_draft(folder, memory, number) for number in range(20)]
    data = b"Subject: a\r\n\r\n" + os.urandom(60_000)
    for start in range(0, len(data), 5000):
        for draft in drafts:
            await draft.write(data[start : start + 5000])
            assert memory.used <= 100_000 + 20 * (16 * 1024 + 5000)
    for number, draft in enumerate(drafts):
        assert draft.head == b"Subject: a\r\n\r\n"
        assert draft.body is None
        await draft.finish()
        assert draft.head == b"Subject: a\r\n\r\n"
        assert (folder / "bodies" / message_id(number)).read_bytes() == data
        assert draft.digest(b"") == hashlib.blake2b(data, digest_size=16).digest()
        draft.keep()
    assert memory.used == 0


async def test_a_small_body_stays_in_memory_even_then(folder: Path) -> None:
    memory = MemoryBudget(0)
    draft = scarce_draft(folder, memory)
    await draft.write(b"Subject: a\r\n\r\nb\r\n")
    await draft.finish()
    assert draft.body == b"Subject: a\r\n\r\nb\r\n"
    assert memory.used == 17
    draft.discard()
    draft.discard()
    assert memory.used == 0


@pytest.mark.parametrize("finished", [False, True])
async def test_a_large_head_is_read_back_from_its_file(folder: Path, finished: bool) -> None:
    memory = MemoryBudget(0)
    draft = scarce_draft(folder, memory)
    head = b"".join(b"X-%d: " % number + b"y" * 900 + b"\r\n" for number in range(60)) + b"\r\n"
    await fill(draft, head + b"body\r\n\r\n" * 10, 1000)
    assert memory.used < 16 * 1024 + 1000
    if finished:
        await draft.finish()
    assert draft.head == head
    draft.discard()
    assert list((folder / "bodies").iterdir()) == list((folder / "incoming").iterdir()) == []


async def test_a_body_that_went_to_its_file_stays_there_when_memory_is_free_again(folder: Path) -> None:
    memory = MemoryBudget(20_000)
    other = scarce_draft(folder, memory, 2)
    await other.write(bytes(20_000))
    draft = scarce_draft(folder, memory)
    await draft.write(b"x" * 17_000)
    other.discard()
    await draft.write(b"y" * 3)
    await draft.finish()
    assert (folder / "bodies" / message_id(1)).read_bytes() == b"x" * 17_000 + b"yyy"
    draft.discard()
    assert memory.used == 0


@pytest.mark.parametrize("size", [50, 5_000, MIB + 7])
async def test_what_was_written_can_be_read_before_it_is_finished(folder: Path, size: int) -> None:
    data = b"Subject: x\r\n\r\n" + os.urandom(size)
    draft = make_draft(folder)
    await fill(draft, data, 65536)
    path = await draft.written()
    assert (path is None) == (len(data) <= 100)
    if path is not None:
        assert path.read_bytes() == data
    assert await draft.read(14, 20) == data[14:34]
    assert await draft.read(len(data) - 5, 100) == data[-5:]
    assert await draft.read(len(data), 100) == b""
    await draft.write(b"more")
    assert await draft.read(len(data), 100) == b"more"
    assert draft.head == b"Subject: x\r\n\r\n"
    await draft.finish()
    assert draft.digest(b"") == hashlib.blake2b(data + b"more", digest_size=16).digest()
    draft.discard()
