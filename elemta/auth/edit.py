"""Changes the users file: one writer at a time, each change whole or not at all, comments and order kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import attrs

from elemta.config import AuthConfig, AuthMechanism

from .filestore import MAX_FILE, parse_content
from .keyfile import AuthFilesError, Ownership, check_private, load_or_make_key, read_private
from .passwords import SALT_OCTETS, Cost, PasswordHash, Recipe
from .scram import SALT_OCTETS as SCRAM_SALT_OCTETS
from .scram import derive_keys
from .sealing import Sealer
from .users import ScramPart, Secret, UserRecord, UsersFile, parse_line

HEADER = "# Accounts of elemta, one per line: see 'elemta user --help' and docs/accounts.md.\n"

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""For generated passwords: none that looks like another."""
_GROUPS, _GROUP = 5, 5
"""25 letters of 31: 123 bits."""
_SCRAM = {AuthMechanism.SCRAM_SHA_256, AuthMechanism.SCRAM_SHA_256_PLUS}


class UsersBusy(Exception):
    """Somebody else is changing the file at this moment."""


class UsersText:
    """The lines of a users file, to be changed."""

    def __init__(self, text: str, users: UsersFile) -> None:
        self._lines = text.split("\n")
        self._records = dict(users.records)
        self.changed = False

    def find(self, name: str) -> UserRecord | None:
        return self._records.get(name)

    def put(self, record: UserRecord) -> None:
        """Write the account over its line, or behind the last one."""
        name = record.account.name
        if name in self._records:
            self._lines[self._line_of(name)] = record.format()
        else:
            end = len(self._lines) - 1 if self._lines[-1] == "" else len(self._lines)
            self._lines[end:] = [record.format(), ""]
        self._records[name] = record
        self.changed = True

    def remove(self, name: str) -> None:
        del self._lines[self._line_of(name)]
        del self._records[name]
        self.changed = True

    def render(self) -> str:
        return "\n".join(self._lines)

    def _line_of(self, name: str) -> int:
        for index, line in enumerate(self._lines):
            record = parse_line(line)
            if record is not None and record.account.name == name:
                return index
        raise KeyError(name)


@contextmanager
def edit_users(path: Path, ownership: Ownership) -> Iterator[UsersText]:
    """Change a users file in a `with` block; it is written at the end, if it was changed and nothing raised.

    A file that is not there is made. Blocking. A crash leaves the old file or the new one.

    Raises:
      AuthFilesError: the file cannot be used as it is.
      UsersBusy: somebody else is changing it.
      OSError: it cannot be written; it is as it was.
    """
    path = Path(os.path.realpath(path))  # the file itself is replaced, not a link to it
    with _locked(path, ownership):
        data, facts = read_private(path, MAX_FILE)
        text = UsersText(data.decode("utf-8", "replace") or HEADER, parse_content(path, data))
        yield text
        if text.changed:
            _replace(path, text.render().encode(), facts)


@contextmanager
def _locked(path: Path, ownership: Ownership) -> Iterator[None]:
    """Hold the lock of the file that is there now."""
    while True:
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                ownership.give(made)
            finally:
                os.close(made)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise AuthFilesError(path, f": cannot be read: {error.strerror}") from error
        try:
            check_private(path, os.fstat(descriptor))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsersBusy(f"{path}: somebody else is changing it") from None
            if _is_there(path, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether the open file is still that of the path: before it was locked, another may have replaced it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _replace(path: Path, data: bytes, facts: os.stat_result) -> None:
    """Put new content in the file's place, with its owner and mode."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if (facts.st_uid, facts.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, facts.st_uid, facts.st_gid)
            os.fchmod(descriptor, facts.st_mode & 0o640)
            os.fsync(descriptor)
        os.rename(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_password(random: Random) -> str:
    """A strong password; `random` is the system's."""
    groups = ("".join(random.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def with_secret(
    record: UserRecord,
    credential: str,
    password: str,
    config: AuthConfig,
    random: Random,
    ownership: Ownership,
) -> UserRecord:
    """The account with a prepared password set, new or in place of the one of that name.

    It is kept in the forms that the mechanisms of the configuration need. Secrets of an account share their
    salts: so each login costs one computation however many there are, and SCRAM can name one salt.

    Raises:
      AuthFilesError: the key file for recoverable secrets cannot be used.
    """
    others = tuple(secret for secret in record.secrets if secret.credential != credential)
    recipe = (
        others[0].hash.recipe
        if others
        else Recipe(
            Cost(memory=config.hash_memory // 1024, passes=config.hash_passes), random.randbytes(SALT_OCTETS)
        )
    )
    scram, sealed = None, None
    if _SCRAM & set(config.mechanisms):
        shared = [(secret.scram.salt, secret.scram.iterations) for secret in others if secret.scram]
        salt, iterations = (
            shared[0] if shared else (random.randbytes(SCRAM_SALT_OCTETS), config.scram_iterations)
        )
        scram = ScramPart(iterations, salt, derive_keys(password, salt, iterations, credential))
    if AuthMechanism.CRAM_MD5 in config.mechanisms and config.recovery_key is not None:
        sealer = Sealer(load_or_make_key(config.recovery_key, ownership))
        sealed = sealer.seal(record.account.name, credential, password)
    secret = Secret(credential, PasswordHash.of(password, recipe), scram, sealed)
    secrets = [secret if old.credential == credential else old for old in record.secrets]
    if len(others) == len(record.secrets):
        secrets.append(secret)
    return attrs.evolve(record, secrets=tuple(secrets))
