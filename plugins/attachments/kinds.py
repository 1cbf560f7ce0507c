"""What begins how: kinds of archives and of programs by their first octets. Pure."""

from __future__ import annotations

from typing import Final

HEAD: Final = 512
"""Octets by which the kind of a file is told."""
OPAQUE: Final = ("7z", "rar", "cab")
"""Archives that are recognised and cannot be looked into."""
_ARCHIVES: Final = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"MSCF", "cab"),
)
_PROGRAMS: Final = (
    (b"\x7fELF", "a program for Linux"),
    (b"\xfe\xed\xfa\xce", "a program for macOS"),
    (b"\xfe\xed\xfa\xcf", "a program for macOS"),
    (b"\xce\xfa\xed\xfe", "a program for macOS"),
    (b"\xcf\xfa\xed\xfe", "a program for macOS"),
    (b"\xca\xfe\xba\xbe", "a Java class"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", "a shortcut"),
)


def kind_of(head: bytes) -> str:
    """Which kind of archive begins so; empty: none."""
    for magic, kind in _ARCHIVES:
        if head.startswith(magic):
            return kind
    return "tar" if head[257:262] == b"ustar" else ""


def program_of(head: bytes) -> str:
    """Which kind of program begins so; empty: none."""
    # Not every text that begins with MZ is one: a program says where its second header is
    if head.startswith(b"MZ") and len(head) >= 64 and int.from_bytes(head[60:64], "little") < 1 << 20:
        return "a program for Windows"
    return next((words for magic, words in _PROGRAMS if head.startswith(magic)), "")
