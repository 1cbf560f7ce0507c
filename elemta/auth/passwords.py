"""Password hashes as text (argon2id, PHC form) and the computation behind them. Blocking: for threads."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable

import attrs
from argon2.low_level import Type, hash_secret_raw

SALT_OCTETS = 16
HASH_OCTETS = 32
MAX_MEMORY = 1 << 20
"""KiB. More would be a mistake in the file, or somebody's way to stop the server."""
MAX_PASSES = 20
MAX_LANES = 16

_NUMBER = r"([1-9][0-9]{0,9})"
_BASE64 = r"([A-Za-z0-9+/]{8,128})"
_PHC = re.compile(rf"\$argon2id\$v=19\$m={_NUMBER},t={_NUMBER},p={_NUMBER}\${_BASE64}\${_BASE64}")


@attrs.frozen(slots=True)
class Cost:
    """What one computation takes (RFC 9106 §3.1): KiB of memory, passes over it, lanes."""

    memory: int
    passes: int
    lanes: int = 1


@attrs.frozen(slots=True)
class Recipe:
    """Cost, salt and length: all hashes with the same recipe are compared after one computation."""

    cost: Cost
    salt: bytes = attrs.field(repr=False)
    octets: int = HASH_OCTETS

    def compute(self, password: str) -> bytes:
        """The hash. Takes tens of milliseconds and the memory; releases the interpreter."""
        return hash_secret_raw(
            password.encode(),
            self.salt,
            time_cost=self.cost.passes,
            memory_cost=self.cost.memory,
            parallelism=self.cost.lanes,
            hash_len=self.octets,
            type=Type.ID,
        )


@attrs.frozen(slots=True)
class PasswordHash:
    """What is kept of a password."""

    recipe: Recipe
    value: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, password: str, recipe: Recipe) -> PasswordHash:
        """Hash a prepared password."""
        return cls(recipe, recipe.compute(password))

    def format(self) -> str:
        """`$argon2id$v=19$m=…,t=…,p=…$SALT$HASH`, as other software writes it too."""
        cost = self.recipe.cost
        return (
            f"$argon2id$v=19$m={cost.memory},t={cost.passes},p={cost.lanes}"
            f"${_encode(self.recipe.salt)}${_encode(self.value)}"
        )


def parse_hash(text: str) -> PasswordHash:
    """Read what `format` writes.

    Raises:
      ValueError: it is something else, or asks for more than this server gives; never repeats the text.
    """
    match = _PHC.fullmatch(text)
    if match is None:
        raise ValueError("not an argon2id hash ($argon2id$v=19$m=…,t=…,p=…$SALT$HASH)")
    memory, passes, lanes = (int(number) for number in match.groups()[:3])
    if memory > MAX_MEMORY or passes > MAX_PASSES or lanes > MAX_LANES:
        raise ValueError(f"the hash costs more than m={MAX_MEMORY},t={MAX_PASSES},p={MAX_LANES}")
    if memory < 8 * lanes:  # RFC 9106 §3.1
        raise ValueError("the hash has less memory than argon2 can use")
    salt, value = _decode(match[4]), _decode(match[5])
    if len(value) < 16:
        raise ValueError("the hash is too short")
    return PasswordHash(Recipe(Cost(memory, passes, lanes), salt, len(value)), value)


def find_match(password: str, hashes: Iterable[tuple[str, PasswordHash]]) -> str | None:
    """The label of the hash that the password has, after one computation for each recipe.

    All hashes are compared, whichever is right, so that the time says nothing about which.
    """
    computed: dict[Recipe, bytes] = {}
    found = None
    for label, stored in hashes:
        recipe = stored.recipe
        if recipe not in computed:
            computed[recipe] = recipe.compute(password)
        if hmac.compare_digest(computed[recipe], stored.value):
            found = label
    return found


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")  # PHC strings have no padding


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("the hash is not in base64") from None
