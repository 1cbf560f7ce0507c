"""Which store a configuration has, and its accounts for those who change or list them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Protocol

from elemta.config import AuthConfig, Config, ListenerAuth
from elemta.runtime import WallClock

from .edit import edit_users
from .filestore import FileStore, load_users
from .hashing import HashingPool
from .httpstore import HttpStore
from .introspection import make_introspection
from .keyfile import KEY_OCTETS, AuthFilesError, Ownership, load_key
from .passwords import Cost
from .recent import RecentChecks
from .sealing import Sealer
from .store import CredentialStore
from .tablestore import TableStore
from .users import UserRecord, UsersFile
from .usertable import edit_table, load_table


class AccountsElsewhere(Exception):
    """The accounts are another program's to list and change; the text says where they are."""


class AccountsChange(Protocol):
    """Accounts that are being changed."""

    def find(self, name: str) -> UserRecord | None:
        """The account of that name."""

    def put(self, record: UserRecord) -> None:
        """Write the account, new or in place of the one of its name."""

    def remove(self, name: str) -> None:
        """Remove an account that is there."""


def make_store(config: AuthConfig, hashing: HashingPool, random: Random, clock: WallClock) -> CredentialStore:
    """The store of a configuration that has one. Blocking.

    Raises:
      AuthFilesError: a file of it cannot be used, or what it needs is not installed.
    """
    recent = RecentChecks(random.randbytes(KEY_OCTETS), config.remember, clock)
    if config.http.url is not None:
        return HttpStore(config.http, recent=recent, iterations=config.scram_iterations)
    if config.ldap.server is not None:
        try:
            from .ldapstore import LdapStore  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise AuthFilesError("auth.ldap", ": needs sansldap: pip install 'elemta[ldap]'") from error
        return LdapStore(config.ldap, recent=recent, random=random)
    sealer = Sealer(load_key(config.recovery_key)) if config.recovery_key is not None else None
    cost, iterations = cost_of(config), config.scram_iterations
    if config.database is not None:
        return TableStore(
            config.database,
            hashing=hashing,
            recent=recent,
            random=random,
            cost=cost,
            iterations=iterations,
            sealer=sealer,
        )
    assert config.users is not None, "a configuration with auth on has accounts"
    return FileStore(
        config.users,
        hashing=hashing,
        recent=recent,
        random=random,
        cost=cost,
        iterations=iterations,
        sealer=sealer,
    )


def has_logins(config: Config) -> bool:
    """Whether anybody could log in: otherwise the accounts need not be there (development mode)."""
    return bool(config.auth.stores) and any(each.auth is not ListenerAuth.OFF for each in config.listeners)


def examine_store(config: Config, random: Random, clock: WallClock) -> CredentialStore:
    """The store of a configuration with logins, and the other files for them, read as a server would and to
    the last account. Blocking.

    Raises:
      AuthFilesError: something cannot be used; has a line for each mistake.
      TableUnusable: the table cannot be read now.
    """
    auth = config.auth
    store = make_store(auth, HashingPool(auth.hash_threads, auth.hash_waiting, None), random, clock)
    if auth.database is not None:
        load_table(auth.database)
    make_introspection(auth)
    return store


@contextmanager
def edit_accounts(config: AuthConfig, ownership: Ownership) -> Iterator[AccountsChange]:
    """Change the accounts in a `with` block: all of it at the end, or nothing where the block raised.

    Blocking.

    Raises:
      AccountsElsewhere: they are not ours to change.
      AuthFilesError, UsersBusy, TableUnusable, OSError: they are as they were.
    """
    if config.database is not None:
        with edit_table(config.database, ownership) as table:
            yield table
    elif config.users is not None:
        with edit_users(config.users, ownership) as text:
            yield text
    else:
        raise AccountsElsewhere(_elsewhere(config))


def list_accounts(config: AuthConfig) -> UsersFile:
    """All accounts. Blocking.

    Raises:
      AccountsElsewhere: they are not ours to list.
      AuthFilesError, TableUnusable: they cannot be read.
    """
    if config.database is not None:
        return load_table(config.database)
    if config.users is not None:
        return load_users(config.users)
    raise AccountsElsewhere(_elsewhere(config))


def cost_of(config: AuthConfig) -> Cost:
    """What a password that is set now costs to check."""
    return Cost(memory=config.hash_memory // 1024, passes=config.hash_passes)


def _elsewhere(config: AuthConfig) -> str:
    place = config.http.url or config.ldap.server
    if place is None:
        return "the configuration has no accounts: set users or database in [auth]"
    return f"the accounts are at {place}, and are changed there"
