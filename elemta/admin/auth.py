"""The operator's own token, in a file that only he and the server can read; it may do everything."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

MIN_TOKEN = 16


class TokenError(Exception):
    """The token file cannot be used; the text says why and what to do."""


def load_or_make_token(path: Path) -> str:
    """The token of the file, which is made (mode 0600, 256 random bits) where there is none or it is empty.

    Raises:
      TokenError: unreadable, too short or readable by others.
    """
    try:
        return _load(path) or _make(path)
    except FileNotFoundError:
        return _make(path)


def _make(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    unfinished = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(unfinished, flags, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(token + "\n")
            file.flush()
            # A file that is there and empty after a power cut would keep the next start from succeeding.
            os.fsync(descriptor)
        unfinished.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise TokenError(f"cannot make the token file {path}: {error.strerror}") from error
    return token


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> str:
    """What is in the file; empty where a crash came between its making and its writing."""
    try:
        mode = path.stat().st_mode
        token = path.read_text("ascii").strip()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise TokenError(f"cannot read the token file {path}: {error}") from error
    if mode & 0o077:
        raise TokenError(f"{path} can be read by others: chmod 600 {path}")
    if 0 < len(token) < MIN_TOKEN:
        raise TokenError(
            f"the token in {path} is shorter than {MIN_TOKEN} characters: remove the file, a new one is made"
        )
    return token
