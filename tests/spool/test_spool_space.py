"""When new mail is refused for want of room, and the ballast."""

import os
from pathlib import Path

import attrs
import pytest

from elemta.config import SpoolConfig
from elemta.spool import SpoolFull, SpoolUnavailable
from elemta.spool.space import Space

MIB = 1 << 20
GIB = 1 << 30


@attrs.define(slots=False)
class FakeDisk:
    """A file system of some size."""

    total: int = 1000 * MIB
    free: int = 500 * MIB
    files: int = 100_000
    files_free: int = 50_000
    looks: int = 0
    now: float = 0.0

    def statvfs(self, folder: Path) -> os.statvfs_result:
        self.looks += 1
        block = 4096
        return os.statvfs_result(
            (
                *(block, block, self.total // block, self.free // block, self.free // block),
                *(self.files, self.files_free, self.files_free, 0, 255),
            )
        )


def watch(
    disk: FakeDisk, tmp_path: Path, *, message_size: int = 10 * MIB, min_free: int = 0, ballast: int = 0
) -> Space:
    return Space(
        tmp_path,
        SpoolConfig(min_free=min_free, ballast=ballast),
        message_size=message_size,
        current_time=lambda: disk.now,
        statvfs=disk.statvfs,
    )


@pytest.mark.parametrize(
    ("total", "message_size", "min_free", "reserve"),
    [
        (100 * MIB, 10 * MIB, 0, 15 * MIB),
        (1000 * MIB, 10 * MIB, 0, 50 * MIB),
        (1000 * GIB, 10 * MIB, 0, GIB),
        (1000 * GIB, 10 * MIB, 2 * MIB, 2 * MIB),
        (1000 * GIB, 2 * GIB, 0, 3 * GIB),
    ],
)
def test_reserve_follows_the_largest_message_and_the_disk(
    tmp_path: Path, total: int, message_size: int, min_free: int, reserve: int
) -> None:
    disk = FakeDisk(total, reserve + MIB)
    space = watch(disk, tmp_path, message_size=message_size, min_free=min_free)
    space.check()
    space.check(MIB)
    with pytest.raises(SpoolFull, match="MiB"):
        space.check(MIB + 4096)
    disk.free, disk.now = reserve - 4096, 2.0
    with pytest.raises(SpoolFull):
        space.check()


def test_files_run_out_too(tmp_path: Path) -> None:
    disk = FakeDisk(files_free=999)
    with pytest.raises(SpoolFull, match="files"):
        watch(disk, tmp_path).check()
    disk.files_free = 1000
    watch(disk, tmp_path).check()
    watch(FakeDisk(files=0, files_free=0), tmp_path).check()
    watch(FakeDisk(files=100, files_free=6), tmp_path).check()


def test_file_system_is_asked_once_a_second(tmp_path: Path) -> None:
    disk = FakeDisk()
    space = watch(disk, tmp_path)
    for _ in range(5):
        space.check()
    disk.now = 0.9
    space.check()
    assert disk.looks == 1
    disk.now = 1.0
    space.check()
    assert disk.looks == 2


def test_file_system_that_does_not_answer_is_no_room(tmp_path: Path) -> None:
    def fail(folder: Path) -> os.statvfs_result:
        raise OSError(5, "Input/output error")

    disk = FakeDisk()
    disk.statvfs = fail  # type: ignore[method-assign]
    space = watch(disk, tmp_path, ballast=100)
    with pytest.raises(SpoolUnavailable):
        space.check()
    assert not space.make_ballast()


def test_ballast_is_made_given_up_and_made_again(tmp_path: Path) -> None:
    disk = FakeDisk()
    space = watch(disk, tmp_path, ballast=100_000)
    assert not space.has_ballast
    assert space.make_ballast()
    assert space.make_ballast()
    path = tmp_path / "ballast"
    assert path.stat().st_size == 100_000
    assert path.stat().st_blocks * 512 >= 100_000
    assert path.stat().st_mode & 0o777 == 0o600
    disk.free = 0
    assert space.give_up()
    assert not space.give_up()
    assert not space.make_ballast(), "room is looked at afresh"
    assert not path.exists()
    disk.free, disk.now = 500 * MIB, 2.0
    assert space.make_ballast()


def test_ballast_of_nothing_needs_no_file(tmp_path: Path) -> None:
    space = watch(FakeDisk(), tmp_path)
    assert space.has_ballast
    assert space.make_ballast()
    assert list(tmp_path.iterdir()) == []


def test_ballast_that_does_not_fit_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("elemta.spool.space.os.posix_fallocate", fail)
    assert not watch(FakeDisk(), tmp_path, ballast=100_000).make_ballast()
    assert list(tmp_path.iterdir()) == []
