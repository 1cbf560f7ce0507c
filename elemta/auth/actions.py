"""What a mechanism wants next. Mechanisms are pure: each message of the client gives one of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from .store import ScramKeys


@attrs.frozen(slots=True)
class Ask:
    """Send a challenge and go on with the client's answer."""

    challenge: bytes = attrs.field(repr=False)
    then: Callable[[bytes], Action] = attrs.field(repr=False)


@attrs.frozen(slots=True)
class CheckPassword:
    """Accept the account if the password is its own."""

    name: str
    password: str = attrs.field(repr=False)
    permitted: bool = True
    """Whether it may act as who it asked to be. If not, the password is checked all the same."""


@attrs.frozen(slots=True)
class FindScram:
    """Look up the keys of an account, and go on with salt, iterations and keys, real or not."""

    name: str
    then: Callable[[bytes, int, tuple[ScramKeys, ...]], Action] = attrs.field(repr=False)


@attrs.frozen(slots=True)
class FindSecrets:
    """Look up secrets in the clear, and go on with them: pairs of credential and secret."""

    name: str
    then: Callable[[tuple[tuple[str, bytes], ...]], Action] = attrs.field(repr=False)


@attrs.frozen(slots=True)
class CheckToken:
    """Ask whose token it is; accept the account if it is that of `name`, or where that is None, anybody's."""

    name: str | None
    token: str = attrs.field(repr=False)
    failure: bytes
    """Challenge that tells a client of its failure, before 535."""


@attrs.frozen(slots=True)
class Proved:
    """The client has proved to be this account."""

    name: str
    credential: str
    permitted: bool = True
    final: bytes | None = attrs.field(default=None, repr=False)
    """A last challenge for the client, which it answers with nothing."""


@attrs.frozen(slots=True)
class Disproved:
    """The client has not; it counts as a guess. The name is empty where it can be nobody's."""

    name: str
    reason: str


@attrs.frozen(slots=True)
class Malformed:
    """The message is not one of the mechanism."""

    reason: str


Action: TypeAlias = (
    Ask | CheckPassword | FindScram | FindSecrets | CheckToken | Proved | Disproved | Malformed
)


@attrs.frozen(slots=True)
class Situation:
    """What a mechanism knows besides the client's messages."""

    hostname: str
    nonce: str = attrs.field(repr=False)
    """Printable ASCII without commas, `<` and `>`; never used before and not to be guessed."""
    bindings: dict[str, bytes] = attrs.field(factory=dict, repr=False)
    """Channel bindings of this connection by type."""
    plus_offered: bool = False
    """Whether SCRAM-SHA-256-PLUS was announced."""
    certificate: str | None = None


Mechanism: TypeAlias = Callable[[Situation, bytes | None], Action]
"""Begins an exchange with the initial response, or None where the AUTH command had none."""
