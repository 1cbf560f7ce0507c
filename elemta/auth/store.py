"""Accounts and where they are kept: what every kind of store must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod

import attrs

from .senders import SenderPattern


class StoreUnavailable(Exception):
    """The store cannot answer now; the text is for the operator. Clients are told to try later."""


@attrs.frozen(slots=True)
class Account:
    """An account that may be used, without its secrets."""

    name: str
    """Prepared, see `prepare_name`."""
    send_as: tuple[SenderPattern, ...] = ()
    """Sender addresses besides its own name."""


@attrs.frozen(slots=True)
class Proved:
    """An account, and which of its secrets was shown: `password` or `app:LABEL`."""

    account: Account
    credential: str


@attrs.frozen(slots=True)
class ScramKeys:
    """What proves one secret in SCRAM without holding it (RFC 5802 §3)."""

    credential: str
    stored_key: bytes = attrs.field(repr=False)
    server_key: bytes = attrs.field(repr=False)


@attrs.frozen(slots=True)
class ScramAccount:
    """Salt and count of an account, and the keys of all its secrets, which share them."""

    account: Account
    salt: bytes = attrs.field(repr=False)
    iterations: int
    keys: tuple[ScramKeys, ...]


class CredentialStore(ABC):
    """Looks accounts up and checks secrets. Names and secrets come prepared; disabled accounts do not exist.

    The async methods may be cancelled at any time and raise `StoreUnavailable`.
    """

    has_scram: bool = True
    """Whether it may have keys for SCRAM; without them SCRAM is not offered."""
    has_recoverable_secrets: bool = True
    """The same for secrets in the clear and CRAM-MD5."""

    @abstractmethod
    async def find(self, name: str) -> Account | None:
        """The account of that name."""

    @abstractmethod
    async def check_password(self, name: str, password: str) -> Proved | None:
        """The account, if the password is one of its own. An unknown name takes as long as a wrong one."""

    @abstractmethod
    async def scram(self, name: str) -> ScramAccount | None:
        """What SCRAM-SHA-256 needs; None where the name is unknown or has no such keys."""

    @abstractmethod
    async def recoverable_secrets(self, name: str) -> tuple[tuple[str, bytes], ...]:
        """Credential and secret in the clear, for CRAM-MD5; empty where there is none."""

    @abstractmethod
    async def refresh(self) -> None:
        """Bring up to date what `known` says. Does not raise for a store in trouble: it says what it said."""

    @abstractmethod
    def known(self, name: str) -> Account | None:
        """The account as it was last seen; never waits."""

    @abstractmethod
    def scram_iterations(self) -> int:
        """The count that an unknown name is to be told: that of most accounts."""
