"""The same accounts in a store of every kind, and servers in memory for those that are asked over the network."""

from __future__ import annotations

import json
import os
import random
import ssl
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import h11
import sansldap
import trio
import trio.testing
from auth_bed import QUICK, SALT, DictStore, SteadyClock

from elemta.auth import Account, CredentialStore, FileStore, Ownership, TableStore, edit_users, recordstore
from elemta.auth.hashing import HashingPool
from elemta.auth.httpstore import HttpStore
from elemta.auth.ldapstore import LdapStore
from elemta.auth.passwords import PasswordHash, Recipe, find_match
from elemta.auth.recent import RecentChecks
from elemta.auth.scram import derive_keys
from elemta.auth.sealing import Sealer
from elemta.auth.senders import parse_sender_pattern
from elemta.auth.users import ScramPart, Secret, UserRecord
from elemta.auth.usertable import edit_table
from elemta.config import HttpAccountsConfig, LdapConfig

NAME, PASSWORD = "tim@example.org", "tanstaaftanstaaf"
DISABLED = "gone@example.org"
BASE = "ou=people,dc=example,dc=org"
SEALER = Sealer(b"k" * 32)


def secret(name: str, credential: str, password: str) -> Secret:
    return Secret(
        credential,
        PasswordHash.of(password, Recipe(QUICK, SALT)),
        ScramPart(4096, SALT, derive_keys(password, SALT, 4096, credential)),
        SEALER.seal(name, credential, password),
    )


def record(name: str, password: str, *, disabled: bool = False, send_as: tuple[str, ...] = ()) -> UserRecord:
    account = Account(name, tuple(map(parse_sender_pattern, send_as)))
    return UserRecord(account, (secret(name, "password", password),), disabled)


class StoreBed(ABC):
    """A store with the account `NAME`, which may also send as anybody of its domain, and a disabled one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SteadyClock()
        self.recent = RecentChecks(b"r" * 32, 0.0, self.clock)
        self.work: Counter[str] = Counter()
        """What was done to check passwords."""

    def count(self, what: str) -> None:
        self.work[what] += 1

    @abstractmethod
    def open(self) -> CredentialStore: ...

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove an account behind the store's back."""

    @abstractmethod
    def go_down(self) -> None:
        """Let the store's source be out of order."""


class InDict(StoreBed):
    def open(self) -> CredentialStore:
        self.store = DictStore(**{NAME: PASSWORD})
        self.store.send_as[NAME] = ("*@example.org",)
        return self.store

    def remove(self, name: str) -> None:
        del self.store.passwords[name]

    def go_down(self) -> None:
        self.store.down = True


class _WithRecords(StoreBed):
    """Counts argon2."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hashing = _CountingPool(self.count)


class _CountingPool(HashingPool):
    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__(2, 10)
        self.count = count

    async def run(self, function, *args):  # type: ignore[no-untyped-def] - as HashingPool's
        assert function is find_match
        assert function is recordstore.find_match
        self.count(f"argon2 of {len(args[1])}")
        return await super().run(function, *args)


class InFile(_WithRecords):
    def open(self) -> CredentialStore:
        self.path = self.folder / "users"
        with edit_users(self.path, Ownership()) as users:
            users.put(record(NAME, PASSWORD, send_as=("*@example.org",)))
            users.put(record(DISABLED, PASSWORD, disabled=True))
        return FileStore(
            self.path,
            hashing=self.hashing,
            recent=self.recent,
            random=random.Random(2),
            cost=QUICK,
            iterations=5000,
            sealer=SEALER,
        )

    def remove(self, name: str) -> None:
        with edit_users(self.path, Ownership()) as users:
            users.remove(name)

    def go_down(self) -> None:
        """A file that is gone changes nothing: all of it is in memory."""


class InTable(_WithRecords):
    def open(self) -> CredentialStore:
        self.path = self.folder / "accounts.sqlite"
        with edit_table(self.path, Ownership()) as table:
            table.put(record(NAME, PASSWORD, send_as=("*@example.org",)))
            table.put(record(DISABLED, PASSWORD, disabled=True))
        return TableStore(
            self.path,
            hashing=self.hashing,
            recent=self.recent,
            random=random.Random(2),
            cost=QUICK,
            iterations=5000,
            sealer=SEALER,
        )

    def remove(self, name: str) -> None:
        with edit_table(self.path, Ownership()) as table:
            table.remove(name)

    def go_down(self) -> None:
        os.rename(self.path, self.folder / "elsewhere")


class _OverNetwork(StoreBed):
    """A server in memory, one task for each connection; `open` must be called in a test's task."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.accounts = {NAME: PASSWORD}
        self.down = self.silent = False
        self.connections = 0
        self.hosts: list[tuple[str, int]] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.hosts.append((host, port))
        if self.down:
            raise ConnectionRefusedError("no")
        ours, theirs = trio.testing.memory_stream_pair()
        self.connections += 1
        trio.lowlevel.spawn_system_task(self._serve_until_left, theirs)
        return ours

    async def _serve_until_left(self, stream: trio.abc.Stream) -> None:
        try:
            if self.silent:
                await stream.receive_some()
                await stream.receive_some()
            else:
                await self.serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass
        finally:
            self.connections -= 1
            await trio.aclose_forcefully(stream)

    @abstractmethod
    async def serve(self, stream: trio.abc.Stream) -> None: ...

    def remove(self, name: str) -> None:
        del self.accounts[name]

    def go_down(self) -> None:
        self.down = True


class OverHttp(_OverNetwork):
    answer: bytes | None = None
    """In place of the true one."""
    scram = True

    def open(self) -> CredentialStore:
        secret = self.folder / "secret"
        secret.write_text("s3cret\n")
        secret.chmod(0o600)
        return HttpStore(
            HttpAccountsConfig(url="http://127.0.0.1:8000/accounts?x=y", secret=secret, scram=self.scram),
            recent=self.recent,
            iterations=5000,
            connect=self.connect,
        )

    async def serve(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        body, head = b"", None
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return
        assert head is not None
        assert dict(head.headers)[b"authorization"] == b"Bearer s3cret"
        data = self.answer or self.reply(json.loads(body))
        await stream.send_all(data)

    def reply(self, question: dict[str, str]) -> bytes:
        self.count(question["ask"])
        name = question["name"]
        right = self.accounts.get(name)
        account: dict[str, object] | None = None
        if right is not None and question.get("password", right) == right:
            part = ScramPart(4096, SALT, derive_keys(right, SALT, 4096, "password"))
            account = {"send_as": ["*@example.org"], "scram": {"password": part.format()}}
        return http_answer({"account": account})


def http_answer(content: object, status: str = "200 OK") -> bytes:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


class OverLdap(_OverNetwork):
    settings: Mapping[str, Any] = MappingProxyType({})
    result: sansldap.LDAPResultCode | None = None
    """Of each bind but the first, in place of the true one."""
    twice = False
    context: ssl.SSLContext | None = None
    """What STARTTLS is answered with."""

    def open(self) -> CredentialStore:
        secret = self.folder / "secret"
        secret.write_text("manager's\n")
        secret.chmod(0o600)
        config = LdapConfig(
            server="ldap://127.0.0.1",
            starttls=False,
            bind_name="cn=manager",
            bind_secret=secret,
            base=BASE,
            send_as="mailAlternate",
        )
        return LdapStore(
            attrs.evolve(config, **self.settings),
            recent=self.recent,
            random=random.Random(3),
            connect=self.connect,
        )

    async def serve(self, stream: trio.abc.Stream) -> None:
        session = sansldap.LDAPServer()
        bound = ""
        while data := await stream.receive_some():
            for message in session.receive(data):
                if isinstance(message, sansldap.BindRequest):
                    code = self.bind(message, first=not bound)
                    if code is sansldap.LDAPResultCode.SUCCESS:
                        bound = message.name
                    session.bind_response(message.message_id, result_code=code)
                elif isinstance(message, sansldap.SearchRequest):
                    assert bound == "cn=manager"
                    self.search(session, message)
                elif isinstance(message, sansldap.ExtendedRequest):
                    code = (
                        sansldap.LDAPResultCode.SUCCESS
                        if self.context
                        else sansldap.LDAPResultCode.UNAVAILABLE
                    )
                    session.extended_response(message.message_id, name=message.name, result_code=code)
                await stream.send_all(session.data_to_send())
                if isinstance(message, sansldap.ExtendedRequest):
                    if self.context is None:
                        return
                    stream = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)

    def bind(self, request: sansldap.BindRequest, *, first: bool) -> sansldap.LDAPResultCode:
        assert isinstance(request.authentication, sansldap.SimpleCredential)
        password = request.authentication.password
        assert password, "RFC 4513 5.1.2: an unauthenticated bind would be taken"
        if first:
            right = (request.name, password) == ("cn=manager", "manager's")
            return sansldap.LDAPResultCode.SUCCESS if right else sansldap.LDAPResultCode.INVALID_CREDENTIALS
        self.count("bind")
        if self.result is not None:
            return self.result
        for name, right_password in self.accounts.items():
            if request.name == f"mail={name},{BASE}":
                right = right_password == password
                return (
                    sansldap.LDAPResultCode.SUCCESS if right else sansldap.LDAPResultCode.INVALID_CREDENTIALS
                )
        return sansldap.LDAPResultCode.INVALID_CREDENTIALS

    def search(self, session: sansldap.LDAPServer, request: sansldap.SearchRequest) -> None:
        self.count("search")
        assert request.base_object == BASE
        assert isinstance(request.filter, sansldap.FilterEquality), "a name changed the filter"
        assert request.filter.attribute == "mail"
        name = request.filter.value.decode()
        if name in self.accounts:
            attribute = sansldap.PartialAttribute("mailAlternate", [b"*@example.org", b"not an address"])
            for _ in range(1 + self.twice):
                session.search_result_entry(request.message_id, f"mail={name},{BASE}", [attribute])
        session.search_result_done(request.message_id, result_code=sansldap.LDAPResultCode.SUCCESS)
