"""The users file as text: one account per line, read strictly and written back; pure.

    # comment
    NAME [disabled] [send-as=PATTERN]… [password=SECRET] [app:LABEL=SECRET]…

    SECRET   HASH [;SCRAM] [;SEALED]
    HASH     $argon2id$v=19$m=…,t=…,p=…$SALT$HASH
    SCRAM    SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY       (RFC 5803)
    SEALED   AES-256-GCM$…       only for CRAM-MD5

Fields are separated by blanks. All SCRAM parts of an account have one salt and one count, as a client
is told a single one before it says which secret it has.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

import attrs

from elemta.config import BadValue

from .passwords import Cost, PasswordHash, parse_hash
from .prepare import NotPrepared, prepare_name
from .scram import MAX_ITERATIONS, MIN_ITERATIONS
from .sealing import MARK
from .senders import SenderPattern, parse_sender_pattern
from .store import Account, ScramAccount, ScramKeys

T = TypeVar("T", bound=Hashable)

MAX_LINE = 64 * 1024
"""Characters: some two hundred app passwords."""
PASSWORD = "password"  # noqa: S105 - its name
"""The credential that is no app password."""
APP = "app:"

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SCRAM = re.compile(
    r"SCRAM-SHA-256\$([0-9]{1,8}):([A-Za-z0-9+/]{4,172}={0,2})"
    r"\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)"
)
_SEALED = re.compile(re.escape(MARK) + r"[A-Za-z0-9+/]{78,8192}={0,2}")


class UsersSyntaxError(ValueError):
    """The text is no users file; holds every problem as line number and reason, never a secret."""

    def __init__(self, problems: tuple[tuple[int, str], ...]) -> None:
        super().__init__("; ".join(f"line {line}: {reason}" for line, reason in problems))
        self.problems = problems


class _BadLine(ValueError):
    """Why a line cannot be taken."""


@attrs.frozen(slots=True)
class ScramPart:
    """What the file has of SCRAM for one secret."""

    iterations: int
    salt: bytes = attrs.field(repr=False)
    keys: ScramKeys

    def format(self) -> str:
        stored, server = _base64(self.keys.stored_key), _base64(self.keys.server_key)
        return f"SCRAM-SHA-256${self.iterations}:{_base64(self.salt)}${stored}:{server}"


@attrs.frozen(slots=True)
class Secret:
    """One password of an account, in all the forms in which it is kept."""

    credential: str
    """`password`, or `app:LABEL`."""
    hash: PasswordHash
    scram: ScramPart | None = None
    sealed: str | None = attrs.field(default=None, repr=False)

    def format(self) -> str:
        parts = [self.hash.format()]
        if self.scram is not None:
            parts.append(self.scram.format())
        if self.sealed is not None:
            parts.append(self.sealed)
        return f"{self.credential}={';'.join(parts)}"


@attrs.frozen(slots=True)
class UserRecord:
    """One line of the file."""

    account: Account
    secrets: tuple[Secret, ...] = ()
    disabled: bool = False

    def format(self) -> str:
        """The line, without its end."""
        words = [self.account.name]
        if self.disabled:
            words.append("disabled")
        words += [f"send-as={pattern}" for pattern in self.account.send_as]
        words += [secret.format() for secret in self.secrets]
        return " ".join(words)

    def shown(self) -> dict[str, object]:
        """What may be shown of it: of secrets only how they are called."""
        return {
            "account": self.account.name,
            "enabled": not self.disabled,
            "send_as": [str(pattern) for pattern in self.account.send_as],
            "credentials": [secret.credential for secret in self.secrets],
            "scram": self.scram() is not None,
        }

    def hashes(self) -> tuple[tuple[str, PasswordHash], ...]:
        return tuple((secret.credential, secret.hash) for secret in self.secrets)

    def scram(self) -> ScramAccount | None:
        parts = [secret.scram for secret in self.secrets if secret.scram is not None]
        if not parts:
            return None
        return ScramAccount(
            self.account, parts[0].salt, parts[0].iterations, tuple(part.keys for part in parts)
        )


@attrs.frozen(eq=False)
class UsersFile:
    """All accounts of a file, by name."""

    records: Mapping[str, UserRecord] = MappingProxyType({})

    def usual_cost(self, default: Cost) -> Cost:
        """The cost that most accounts have: that of an unknown name."""
        costs = (secret.hash.recipe.cost for record in self.records.values() for secret in record.secrets[:1])
        return _most_common(costs) or default

    def usual_iterations(self, default: int) -> int:
        """The count that most accounts have."""
        accounts = (record.scram() for record in self.records.values())
        return _most_common(account.iterations for account in accounts if account is not None) or default


def app_credential(label: str) -> str:
    """The credential of an app password.

    Raises:
      ValueError: it cannot be called so.
    """
    if not _LABEL.fullmatch(label):
        raise ValueError("an app password is named with up to 63 letters, digits, dots, hyphens, underscores")
    return APP + label


def parse_users(text: str) -> UsersFile:
    """Read a whole file.

    Raises:
      UsersSyntaxError: with every line that is wrong.
    """
    records: dict[str, UserRecord] = {}
    lines: dict[str, int] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            record = parse_line(line)
        except _BadLine as error:
            problems.append((number, str(error)))
            continue
        if record is None:
            continue
        earlier = lines.setdefault(record.account.name, number)
        if earlier != number:
            problems.append((number, f"the account is on line {earlier} already"))
        records[record.account.name] = record
    if problems:
        raise UsersSyntaxError(tuple(problems))
    return UsersFile(MappingProxyType(records))


def parse_line(line: str) -> UserRecord | None:
    """Read one line; None for a comment or an empty one. Raises a ValueError that says what is wrong."""
    words = [word for word in line.rstrip("\r").replace("\t", " ").split(" ") if word]
    if not words or words[0].startswith("#"):
        return None
    if len(line) > MAX_LINE:
        raise _BadLine(f"longer than {MAX_LINE} characters")
    try:
        name = prepare_name(words[0])
    except NotPrepared as error:
        raise _BadLine(f"not the name of an account: {error}") from None
    patterns: list[SenderPattern] = []
    secrets: list[Secret] = []
    disabled = False
    for number, word in enumerate(words[1:], start=2):
        key, equals, value = word.partition("=")
        # the words themselves are not repeated: what is misplaced may be a password
        if word == "disabled":
            disabled = True
        elif key == "send-as" and equals:
            try:
                patterns.append(parse_sender_pattern(value))
            except BadValue as error:
                raise _BadLine(f"send-as: {error}") from None
        elif equals and (key == PASSWORD or key.startswith(APP)):
            if any(secret.credential == key for secret in secrets):
                raise _BadLine(f"a second secret of the same name in field {number}")
            secrets.append(_parse_secret(key, value))
        else:
            raise _BadLine(f"field {number} is not disabled, send-as=…, password=… or app:LABEL=…")
    salts = {(secret.scram.salt, secret.scram.iterations) for secret in secrets if secret.scram}
    if len(salts) > 1:
        raise _BadLine("its SCRAM parts differ in salt or count: keep one, and set the other passwords anew")
    return UserRecord(Account(name, tuple(patterns)), tuple(secrets), disabled)


def _parse_secret(credential: str, value: str) -> Secret:
    first, *rest = value.split(";")
    scram, sealed = None, None
    try:
        if credential != PASSWORD:
            app_credential(credential.removeprefix(APP))
        hashed = parse_hash(first)
        for part in rest:
            if part.startswith("SCRAM-SHA-256$") and scram is None:
                scram = parse_scram(credential, part)
            elif _SEALED.fullmatch(part) and sealed is None:
                sealed = part
            else:
                raise ValueError("a part behind the hash is not known, or there twice")
    except ValueError as error:
        raise _BadLine(f"{credential}: {error}") from None
    return Secret(credential, hashed, scram, sealed)


def parse_scram(credential: str, text: str) -> ScramPart:
    """Read what `ScramPart.format` writes. Raises a ValueError that says what is wrong."""
    match = _SCRAM.fullmatch(text)
    if match is None:
        raise ValueError("not SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY")
    iterations = int(match[1])
    if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:  # RFC 7677 §4
        raise ValueError(f"SCRAM with fewer than {MIN_ITERATIONS} or more than {MAX_ITERATIONS} iterations")
    try:
        salt, stored, server = (base64.b64decode(match[group], validate=True) for group in (2, 3, 4))
    except binascii.Error:
        raise ValueError("SCRAM with bad base64") from None
    return ScramPart(iterations, salt, ScramKeys(credential, stored, server))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _most_common(values: Iterable[T]) -> T | None:
    found = Counter(values).most_common(1)
    return found[0][0] if found else None
