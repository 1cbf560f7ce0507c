"""Accounts from an LDAP directory: a search finds the entry, and a bind as it checks the password."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from urllib.parse import urlsplit

import trio

from elemta.config import BadValue, LdapConfig
from elemta.runtime import get_logger

from .directory import Conversation, DirectoryFailed, Entry, account_filter
from .keyfile import AuthFilesError, read_private
from .posting import Connect, verifying_context
from .recent import RecentChecks
from .remotestore import RemoteStore
from .senders import SenderPattern, parse_sender_pattern
from .store import Account, Proved, ScramAccount, StoreUnavailable
from .users import PASSWORD

_MAX_SECRET = 4096
_LDAP, _LDAPS = 389, 636
_log = get_logger(__name__)


class LdapStore(RemoteStore):
    """A directory. It never shows a password or its hash, so there is no SCRAM.

    Raises:
      AuthFilesError: of the constructor, which reads the secret and the authorities.
    """

    has_scram = False

    def __init__(
        self,
        config: LdapConfig,
        *,
        recent: RecentChecks,
        random: Random,
        connect: Connect = trio.open_tcp_stream,
    ) -> None:
        assert config.server is not None
        assert config.base is not None
        super().__init__("auth.ldap", config.timeout, recent)
        self._config = config
        self._base = config.base
        self._random = random
        self._connect = connect
        self._secret = _read_secret(config)
        parts = urlsplit(config.server)
        self._host = parts.hostname or ""
        self._implicit = parts.scheme == "ldaps"
        self._port = parts.port or (_LDAPS if self._implicit else _LDAP)
        self._context: ssl.SSLContext | None = None
        if self._implicit or config.starttls:
            self._context = verifying_context(config.authorities)

    def scram_iterations(self) -> int:
        raise AssertionError("SCRAM is not offered")

    async def scram(self, name: str) -> ScramAccount | None:
        await trio.lowlevel.checkpoint()
        return None

    async def _look_up(self, name: str) -> Account | None:
        async with self._talking() as conversation:
            entry = await self._find_entry(conversation, name)
            return None if entry is None else self._account(name, entry)

    async def _verify(self, name: str, password: str) -> Proved | None:
        async with self._talking() as conversation:
            entry = await self._find_entry(conversation, name)
            # who is not there costs a bind, too: as somebody who cannot be there either
            nobody = f"cn={self._random.randbytes(16).hex()},{self._base}"
            right = await conversation.bind(entry.name if entry else nobody, password)
            if entry is None or not right:
                return None
            return Proved(self._account(name, entry), PASSWORD)

    async def _find_entry(self, conversation: Conversation, name: str) -> Entry | None:
        wanted = [self._config.send_as] if self._config.send_as else []
        found = await conversation.search(self._base, account_filter(self._config.filter, name), wanted)
        if len(found) > 1:
            raise DirectoryFailed("the filter finds two entries for one name")
        return found[0] if found else None

    def _account(self, name: str, entry: Entry) -> Account:
        patterns: list[SenderPattern] = []
        for text in entry.attributes.get((self._config.send_as or "").lower(), ()):
            try:
                patterns.append(parse_sender_pattern(text))
            except BadValue as error:
                _log.warning("a sender address of the directory is none", account=name, reason=str(error))
        return Account(name, tuple(patterns))

    @asynccontextmanager
    async def _talking(self) -> AsyncGenerator[Conversation, None]:
        """A connection for one question, logged in as who may search."""
        try:
            stream = await self._connect(self._host, self._port)
        except OSError as error:
            raise StoreUnavailable(f"auth.ldap: cannot be reached: {type(error).__name__}") from error
        if self._implicit:
            assert self._context is not None
            stream = trio.SSLStream(stream, self._context, server_hostname=self._host, https_compatible=True)
        conversation = Conversation(stream)
        try:
            if self._context is not None and not self._implicit:
                await conversation.start_tls(self._context, self._host)
            if self._config.bind_name is not None and not await conversation.bind(
                self._config.bind_name, self._secret
            ):
                raise DirectoryFailed("our own name and secret are refused")
            yield conversation
        except DirectoryFailed as error:
            raise StoreUnavailable(f"auth.ldap: {error}") from error
        finally:
            await trio.aclose_forcefully(conversation.stream)


def _read_secret(config: LdapConfig) -> str:
    if config.bind_secret is None:
        return ""
    data, _ = read_private(config.bind_secret, _MAX_SECRET)
    try:
        return data.decode("utf-8").strip("\r\n")
    except UnicodeDecodeError as error:
        raise AuthFilesError(config.bind_secret, ": is not UTF-8") from error
