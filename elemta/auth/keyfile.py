"""Files that others must not read or change: how they are opened and made, and keys in them."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path

import attrs

KEY_OCTETS = 32


class AuthFilesError(Exception):
    """Accounts or a key file cannot be used. Each line of the text names the file and what is wrong."""

    def __init__(self, path: Path | str, *reasons: str) -> None:
        super().__init__("\n".join(f"{path}{reason}" for reason in reasons))
        self.path = path
        self.reasons = reasons


@attrs.frozen
class Ownership:
    """Whose a new file is, and who may read it."""

    group: int | None = None
    """The group that may read it, else only its owner."""

    @classmethod
    def beside(cls, folder: Path) -> Ownership:
        """What root makes is for the server that owns the folder; what anybody else makes, for himself."""
        try:
            facts = folder.stat()
        except OSError:
            return cls()
        foreign = os.geteuid() == 0 and facts.st_uid != 0
        return cls(facts.st_gid) if foreign else cls()

    @property
    def mode(self) -> int:
        return 0o600 if self.group is None else 0o640

    def give(self, descriptor: int) -> None:
        """Make an open file so, whatever the umask."""
        if self.group is not None:
            os.fchown(descriptor, -1, self.group)
        os.fchmod(descriptor, self.mode)


def read_private(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """The content of a file that only its owner may write, and only he and his group may read.

    Root may read what belongs to anybody: it also runs the commands that look after the files of a server.

    Raises:
      AuthFilesError: it cannot be read, is somebody else's, open to others, or larger than `limit`.
    """
    try:
        # without O_NONBLOCK a FIFO would hang the start
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise AuthFilesError(path, f": cannot be read: {error.strerror}") from error
    try:
        facts = os.fstat(descriptor)
        check_private(path, facts)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise AuthFilesError(path, f": cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise AuthFilesError(path, f": is larger than {limit} octets")
    return data, facts


def check_private(path: Path, facts: os.stat_result) -> None:
    """Refuse what is no file, somebody else's, or open to others, with AuthFilesError."""
    if not stat.S_ISREG(facts.st_mode):
        raise AuthFilesError(path, ": is not a file")
    user = os.geteuid()
    if user != 0 and facts.st_uid not in (0, user):
        raise AuthFilesError(path, f": belongs to user {facts.st_uid}: chown it to root or to user {user}")
    if stat.S_IMODE(facts.st_mode) & 0o027:
        raise AuthFilesError(path, ": is open to others: chmod 640 or 600")


def load_key(path: Path) -> bytes:
    """The key of a file.

    Raises:
      AuthFilesError: there is none that can be used.
    """
    data, _ = read_private(path, 1024)
    try:
        key = base64.b64decode(data.strip(b" \r\n"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_OCTETS:
        raise AuthFilesError(path, f": is no key, which is {KEY_OCTETS} octets in base64")
    return key


def load_or_make_key(path: Path, ownership: Ownership | None = None) -> bytes:
    """The key of a file, which is made where there is none; its folder must be there.

    Raises:
      AuthFilesError: there is none that can be used, and none can be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return load_key(path)
    except OSError as error:
        raise AuthFilesError(path, f": cannot be made: {error.strerror}") from error
    key = secrets.token_bytes(KEY_OCTETS)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(key) + b"\n")
        file.flush()
        (ownership or Ownership()).give(descriptor)
        os.fsync(descriptor)
    return key
