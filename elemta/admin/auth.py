"""Who may use the admin port: a bearer token, or the socket in the state folder."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

import attrs

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


@attrs.frozen
class Guard:
    """Decides about one request by its headers."""

    token: str
    hosts: frozenset[str]
    """Names that a Host header may carry (against DNS rebinding), lower case, without port."""

    def refusal(self, headers: dict[bytes, bytes], *, needs_token: bool) -> tuple[int, str] | None:
        """Status and text where the request may not pass."""
        host = _host_of(headers.get(b"host", b"").decode("latin-1"))
        if host not in self.hosts:
            return 421, "this server has another name"
        origin = headers.get(b"origin")
        if origin is not None and _host_of(origin.decode("latin-1").partition("://")[2]) not in self.hosts:
            return 403, "requests from other sites are refused"
        if not needs_token:
            return None
        scheme, _, presented = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(presented.strip(), self.token.encode()):
            return None
        return 401, "a bearer token is needed: see [admin] token_file"


def _host_of(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()
