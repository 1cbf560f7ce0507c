"""Looks into archives: names and first octets of what is in them, and in archives in them. Bounded, pure.

What is unpacked counts against one budget for the whole message, whatever the archive says of its size.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

import attrs

from .kinds import HEAD, OPAQUE, kind_of
from .parts import TooMuch

_PIECE: Final = 64 * 1024
_DIRECTORY_ENTRY: Final = 46
"""Octets that an entry has at least in the directory of a zip."""
_LZMA_MEMORY: Final = 64 * 1024 * 1024

_SUFFIXES: Final = {"gzip": (".gz", ".tgz"), "bzip2": (".bz2", ".tbz"), "xz": (".xz", ".txz")}


@attrs.frozen
class Member:
    """A file in an archive."""

    name: str
    head: bytes = b""
    encrypted: bool = False
    opaque: str = ""
    """It is an archive of a kind that cannot be looked into."""


@attrs.define
class Budget:
    """What may still be unpacked of one message."""

    octets: int
    members: int
    depth: int

    def take(self, octets: int) -> None:
        self.octets -= octets
        if self.octets < 0:
            raise TooMuch("more is packed in it than may be unpacked")

    def take_member(self) -> None:
        self.members -= 1
        if self.members < 0:
            raise TooMuch("too many files in archives")


def members_of(name: str, content: bytes, budget: Budget, depth: int = 1) -> Iterator[Member]:
    """All files in an archive, and in archives in it; nothing where it is none.

    Raises:
      TooMuch: it is too large, too deep or broken.
    """
    kind = kind_of(content[:HEAD])
    if not kind:
        return
    if kind in OPAQUE:
        yield Member(name, content[:HEAD], opaque=kind)
        return
    if depth > budget.depth:
        raise TooMuch(f"archives in archives, more than {budget.depth} deep")
    try:
        if kind == "zip":
            yield from _zip(content, budget, depth)
        elif kind == "tar":
            yield from _tar(content, budget, depth)
        else:
            yield from _packed(kind, name, content, budget, depth)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise TooMuch(f"a broken archive ({kind}: {error})") from error
    except (struct.error, ValueError, NotImplementedError, UnicodeError) as error:
        raise TooMuch(f"an archive that cannot be read ({kind}: {error})") from error


def _zip(content: bytes, budget: Budget, depth: int) -> Iterator[Member]:
    end = content.rfind(b"PK\x05\x06")
    if end < 0 or len(content) < end + 22:
        raise TooMuch("a zip without an end")
    size = int.from_bytes(content[end + 12 : end + 16], "little")
    if size // _DIRECTORY_ENTRY > budget.members:  # before it is read
        raise TooMuch("too many files in archives")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            budget.take_member()
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                yield Member(info.filename, encrypted=True)
                continue
            with archive.open(info) as file:
                yield from _file(info.filename, file, budget, depth)


def _tar(content: bytes, budget: Budget, depth: int) -> Iterator[Member]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for info in archive:
            budget.take_member()
            file = archive.extractfile(info) if info.isreg() else None
            if file is not None:
                with file:
                    yield from _file(info.name, file, budget, depth)


def _file(name: str, file: IO[bytes], budget: Budget, depth: int) -> Iterator[Member]:
    """A member, and what is in it if it is an archive; of others only the beginning is unpacked."""
    data = file.read(HEAD)
    budget.take(len(data))
    if kind_of(data) and kind_of(data) not in OPAQUE:
        while piece := file.read(_PIECE):
            budget.take(len(piece))
            data += piece
    yield Member(name, data[:HEAD])
    yield from members_of(name, data, budget, depth + 1)


def _packed(kind: str, name: str, content: bytes, budget: Budget, depth: int) -> Iterator[Member]:
    """What is packed by itself, and has its name from outside."""
    makers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY),
    }
    data, rest = bytearray(), content
    while kind_of(rest[:HEAD]) == kind:  # several may stand one after the other, and are one file
        budget.take_member()
        unpacker = makers[kind]()
        while not unpacker.eof:
            unpacked = unpacker.decompress(rest, _PIECE)
            rest = unpacker.unconsumed_tail if kind == "gzip" else b""
            budget.take(len(unpacked))
            data += unpacked
            if not (unpacked or rest or unpacker.eof):
                raise EOFError("it is cut off")
        rest = unpacker.unused_data
    inner = name
    for suffix in _SUFFIXES[kind]:
        if name.lower().endswith(suffix):
            inner = name[: -len(suffix)]
    yield Member(inner, bytes(data[:HEAD]))
    yield from members_of(inner, bytes(data), budget, depth + 1)
