"""The folders of the spool: made for us alone, and refused where others could reach into them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from .errors import SpoolError, SpoolForeign, SpoolFull, SpoolUnavailable

SPOOL = "spool"
"""In the state folder; holds everything below."""
BODIES = "bodies"
"""Bodies that are too large for the database, named by message."""
INCOMING = "incoming"
"""Bodies on their way in; nothing in it outlives the process."""
BALLAST = "ballast"

_SHORTAGES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_WRONG_PLACE = (
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOENT,
)


def storage_error(error: OSError, what: str) -> SpoolError:
    """What an error of the file system means for mail: no room for this one, or no trust in the disk."""
    text = f"{what}: {error.strerror or error}"
    return SpoolFull(text) if error.errno in _SHORTAGES else SpoolUnavailable(text)


def prepare(state_dir: Path) -> Path:
    """Make and check the state folder and the spool in it; returns the spool folder.

    Raises:
      SpoolForeign: a folder is a link, belongs to someone else, may be written by others, or
        cannot be written.
      SpoolFull: there is no room for it.
    """
    _make(state_dir, parents=True)
    # The state folder itself may be a link: that is how systemd's StateDirectory works.
    _check(state_dir, follow_symlinks=True)
    spool = state_dir / SPOOL
    for folder in (spool, spool / BODIES, spool / INCOMING):
        _make(folder)
        _check(folder, follow_symlinks=False)
    return spool


def _make(folder: Path, *, parents: bool = False) -> None:
    if os.path.lexists(folder):
        return
    try:
        if parents:
            folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(0o700)
        folder.chmod(0o700)  # whatever the umask was
    except OSError as cause:
        raise refusal(folder, cause) from cause


def _check(folder: Path, *, follow_symlinks: bool) -> None:
    try:
        status = os.stat(folder, follow_symlinks=follow_symlinks)
    except OSError as cause:
        raise refusal(folder, cause) from cause
    if stat.S_ISLNK(status.st_mode):
        raise SpoolForeign(f"{folder} is a symbolic link; put the folder itself there")
    if not stat.S_ISDIR(status.st_mode):
        raise SpoolForeign(f"{folder} is not a folder; move it away, or choose another state_dir")
    if status.st_uid != os.geteuid():
        raise SpoolForeign(f"{folder} belongs to user {status.st_uid}; run as that user, or give it away")
    if status.st_mode & 0o022:
        raise SpoolForeign(f"{folder} may be written by others; run: chmod go-w {folder}")


def refusal(path: Path, error: OSError) -> SpoolError:
    """Why we cannot begin there, in one line with its remedy."""
    if error.errno == errno.EROFS:
        return SpoolForeign(f"{path} is on a read-only file system; mount it writable")
    if error.errno in _WRONG_PLACE:
        return SpoolForeign(
            f"{path} cannot be written ({error.strerror}); run as its owner, or choose another one"
        )
    return storage_error(error, str(path))


def sync_folder(folder: Path) -> None:
    """Make names in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
