"""The file of API tokens: who may do what through the admin port. Of each token only its digest is kept.

A token is 256 random bits, so a plain SHA-256 of it is as good as a slow hash: there is nothing to guess
from. One line per token: name, scopes joined by commas, `sha256:` and the digest, when it was made and, where
it ends by itself, when; both in RFC 3339 UTC.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs

from elemta.auth import AuthFilesError, Ownership, read_private
from elemta.runtime import get_logger, rfc3339

FILE_NAME = "api-tokens"
"""In the state folder."""
PREFIX = "elemta_"
"""Before the random part, so that a token that leaked is known for what it is."""
MAX_FILE = 1024 * 1024
RESERVED = frozenset({"operator", "local"})
"""How the log names the token of `token_file` and the socket in the state folder."""

_HEADER = "# API tokens of elemta, one per line: see 'elemta token --help' and docs/api.md.\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_log = get_logger(__name__)


class Scope(enum.StrEnum):
    """What a token is for. Each of the first three includes those before it; `admin` is everything."""

    READ = "read"
    """Look at everything that is no secret: status, metrics, events, queue, sessions, accounts."""
    OPERATE = "operate"
    """Steer: hold, retry, remove, pause, limit, let go; plugins in and out of service."""
    ADMIN = "admin"
    """Change accounts and the suppression list, see the configuration, reload, stop."""
    SUBMIT = "submit"
    """Hand in messages, and see what becomes of them."""


_INCLUDED = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.OPERATE: frozenset({Scope.READ, Scope.OPERATE}),
    Scope.ADMIN: frozenset(Scope),
    Scope.SUBMIT: frozenset({Scope.SUBMIT}),
}


def everything_in(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """The scopes with all that they include."""
    return frozenset().union(*(_INCLUDED[scope] for scope in scopes))


@attrs.frozen
class ApiToken:
    """One line of the file."""

    name: str
    scopes: frozenset[Scope]
    digest: str
    """SHA-256 of the token, in hexadecimal."""
    made: float
    """Seconds since the epoch, as is the next."""
    ends: float | None = None

    @property
    def rights(self) -> frozenset[Scope]:
        """The scopes with all that they include."""
        return everything_in(self.scopes)

    def format(self) -> str:
        """The line, without its end."""
        parts = [self.name, ",".join(sorted(self.scopes)), f"sha256:{self.digest}", rfc3339(self.made)]
        return " ".join(parts if self.ends is None else [*parts, rfc3339(self.ends)])


class TokensBusy(Exception):
    """Somebody else is changing the file at this moment."""


def check_name(name: str) -> str:
    """The name of a token.

    Raises:
      ValueError: it can be none.
    """
    if name in RESERVED:
        raise ValueError(f"{name} is the name of another way in")
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits or . _ @ -, and begins with a letter or digit")
    return name


def digest_of(token: str | bytes) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).hexdigest()


def make_token() -> str:
    """A new token; nobody can tell it again from what is kept."""
    return PREFIX + secrets.token_urlsafe(32)


def parse_tokens(path: Path, data: bytes) -> dict[str, ApiToken]:
    """The tokens by name.

    Raises:
      AuthFilesError: names every line that is wrong.
    """
    tokens: dict[str, ApiToken] = {}
    wrong = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            token = _parse_line(line)
            if token.name in tokens:
                raise ValueError(f"{token.name} is there twice")
        except ValueError as error:
            wrong.append(f":{number}: {error}")
        else:
            tokens[token.name] = token
    if wrong:
        raise AuthFilesError(path, *wrong)
    return tokens


def _parse_line(line: str) -> ApiToken:
    parts = line.split()
    if len(parts) not in (4, 5):
        raise ValueError("a line is: NAME SCOPES sha256:DIGEST MADE [ENDS]")
    name, scopes, digest, *times = parts
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError("the digest is sha256: and 64 hexadecimal digits")
    try:
        chosen = frozenset(map(Scope, scopes.split(",")))
    except ValueError:
        raise ValueError(f"scopes are of {', '.join(Scope)}") from None
    made, ends = _time(times[0]), _time(times[1]) if len(times) > 1 else None
    return ApiToken(check_name(name), chosen, match[1], made, ends)


def _time(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def load_tokens(path: Path) -> dict[str, ApiToken]:
    """The tokens of a file by name; none where there is no file. Blocking.

    Raises:
      AuthFilesError: it cannot be used.
    """
    if not os.path.lexists(path):
        return {}
    return parse_tokens(path, read_private(path, MAX_FILE)[0])


@contextmanager
def edit_tokens(path: Path, ownership: Ownership) -> Iterator[dict[str, ApiToken]]:
    """Change the tokens in a `with` block; the file is written at its end, if they were changed and nothing
    raised. Blocking. A crash leaves the old file or the new one.

    Raises:
      AuthFilesError: the file cannot be used as it is.
      TokensBusy: somebody else is changing it.
      OSError: it cannot be written; it is as it was.
    """
    held = os.open(
        path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TokensBusy(f"{path}: somebody else is changing it") from None
        tokens = load_tokens(path)
        before = dict(tokens)
        yield tokens
        if tokens != before:
            _write(path, tokens, ownership)
    finally:
        os.close(held)


def _write(path: Path, tokens: dict[str, ApiToken], ownership: Ownership) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write((_HEADER + "".join(f"{token.format()}\n" for token in tokens.values())).encode())
        file.flush()
        ownership.give(descriptor)
        os.fsync(descriptor)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class TokenFile:
    """The tokens in effect: the file is read again when it has changed. A file that cannot be used is told in
    the log, and those before stay in effect, except what has ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._by_digest: dict[str, ApiToken] = {}

    def find(self, token: bytes, now: float) -> ApiToken | None:
        """Which token this is, if it is one that has not ended. Sync: a stat, and rarely a small file."""
        self._refresh()
        # A dictionary's time tells something of digests, from which no token can be made.
        found = self._by_digest.get(digest_of(token))
        return found if found is not None and (found.ends is None or now < found.ends) else None

    def _refresh(self) -> None:
        try:
            facts = os.stat(self._path)
            stamp: tuple[int, ...] = (
                facts.st_dev,
                facts.st_ino,
                facts.st_size,
                facts.st_mtime_ns,
                facts.st_ctime_ns,
            )
        except OSError:
            stamp = ()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            tokens = load_tokens(self._path)
        except AuthFilesError as error:
            for line in str(error).splitlines():
                _log.error("the file of API tokens cannot be used", reason=line)
            return
        self._by_digest = {token.digest: token for token in tokens.values()}
