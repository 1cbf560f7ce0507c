"""Watches every test: nothing that is logged at any level, published or written by a server tells a secret.

Secrets are learned where they come into use: passwords that are hashed or compared, tokens, keys that are
read or made, what is said in AUTH on either side, and what stands in the secret files beside the output of a
server. They are looked for as they are and in base64. Shorter ones than `SHORTEST` are words of other meanings.
"""

from __future__ import annotations

import base64
import functools
import os
import re
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SHORTEST = 8
MOST_OCTETS = 64 * 1024 * 1024
"""Of a file that are looked through; of more only the end."""
_SECRET_FILES = ("admin.token", "*.pem", "*.key", "*.secret", "*password*", "users")
_PEM_LINE = re.compile(rb"[A-Za-z0-9+/=]{32,}")
_STORED_SECRET = re.compile(rb"[$:]([A-Za-z0-9+/=_-]{20,})")


class SecretWatch:
    """One for each process of tests; what it has learned and heard is forgotten behind each test."""

    def __init__(self) -> None:
        self._secrets: dict[bytes, str] = {}
        self._heard: list[bytes] = []
        self._files: dict[Path, int] = {}
        """Output of servers, and how much of it has been read."""

    def learn(self, secret: str | bytes | None, what: str) -> None:
        """Look for it until the end of the test."""
        if secret is None:
            return
        octets = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else bytes(secret)
        if len(octets) >= SHORTEST:
            self._secrets.setdefault(octets, what)

    def learn_exchange(self, response: bytes | None) -> None:
        """What a client says in AUTH, as it is sent; a name alone is no secret."""
        if response is None:
            return
        self.learn(base64.b64encode(response), "AUTH exchange")
        if b"\0" in response:
            self.learn(response, "AUTH exchange")

    def learn_key(self, pem: bytes) -> None:
        """The lines of a private key."""
        if b"PRIVATE KEY" in pem:
            for part in pem.split(b"-----BEGIN")[1:]:
                if b"PRIVATE KEY" in part.partition(b"\n")[0]:
                    for line in _PEM_LINE.findall(part.partition(b"-----END")[0])[1:-1]:
                        self.learn(line, "private key")

    def hear(self, text: str | bytes) -> None:
        """What was told."""
        self._heard.append(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)

    def watch_output(self, path: Path) -> None:
        """What a server writes there."""
        self._files.setdefault(path, 0)

    def findings(self) -> list[str]:
        """Which secrets were told since the last time; forgets all that it knows."""
        for path, offset in list(self._files.items()):
            self._read(path, offset)
        told = b"\n".join(self._heard)
        found = sorted({f"{self._secrets[secret]}: {around}" for around, secret in self._told(told)})
        self._secrets.clear()
        self._heard.clear()
        return found

    def _told(self, told: bytes) -> Iterator[tuple[str, bytes]]:
        if not told:
            return
        for secret in self._secrets:
            for form in _forms(secret):
                at = told.find(form)
                if at >= 0:
                    around = told[max(0, at - 80) : at + len(form) + 40]
                    yield repr(around.decode("utf-8", "replace")), secret
                    break

    def _read(self, path: Path, offset: int) -> None:
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                file.seek(max(offset, size - MOST_OCTETS))
                self._heard.append(file.read())
        except OSError:
            del self._files[path]
            return
        if size > offset:
            self._learn_files(path.parent)
        self._files[path] = size

    def _learn_files(self, folder: Path) -> None:
        for pattern in _SECRET_FILES:
            for path in (*folder.glob(pattern), *folder.glob(f"*/{pattern}")):
                try:
                    data = path.read_bytes()[: 64 * 1024]
                except OSError:
                    continue
                if path.suffix == ".pem":
                    self.learn_key(data)
                elif path.name == "users":
                    for word in _STORED_SECRET.findall(data):
                        self.learn(word, "stored secret")
                else:
                    self.learn(data.strip(), f"content of {path.name}")


def _forms(secret: bytes) -> Iterator[bytes]:
    """As it may stand in a log: plain, escaped, and in base64 at each of its three places."""
    yield secret
    if any(octet < 32 or octet > 126 for octet in secret):
        yield repr(secret)[2:-1].encode()
        yield secret.decode("utf-8", "replace").encode("unicode_escape")
    for lead in range(3):
        coded = base64.b64encode(b"\0" * lead + secret)
        form = coded[4 if lead else 0 : (lead + len(secret)) // 3 * 4]
        if len(form) >= SHORTEST:
            yield form


watch = SecretWatch()


def _replace_everywhere(original: Any, replacement: Any) -> None:
    """Also where it was imported by name."""
    for name, module in list(sys.modules.items()):
        if name.startswith("elemta"):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    setattr(module, attribute, replacement)


def _before(owner: Any, name: str, look: Callable[..., None]) -> None:
    """Show the arguments of a method to `look` first."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(*arguments: Any, **named: Any) -> Any:
        look(*arguments, **named)
        return original(*arguments, **named)

    setattr(owner, name, method)


def install() -> None:
    """Listen to everything of this process, once."""
    _learn_from_accounts()
    _learn_from_sessions()
    _learn_from_keys()
    _hear_logs_and_events()
    _hear_servers()


def _learn_from_accounts() -> None:
    from elemta.admin import tokens
    from elemta.auth import passwords, scram

    def learn_password(recipe: object, password: str) -> None:
        watch.learn(password, "password")

    _before(passwords.Recipe, "compute", learn_password)
    formatted = passwords.PasswordHash.format

    def learn_hash(self: passwords.PasswordHash) -> str:
        text = formatted(self)
        watch.learn(text.rpartition("$")[2], "hash of a password")
        return text

    passwords.PasswordHash.format = learn_hash  # type: ignore[method-assign]
    derive, digest = scram.derive_keys, tokens.digest_of

    def learn_scram(password: str, salt: bytes, *more: Any, **named: Any) -> Any:
        watch.learn(password, "password")
        keys = derive(password, salt, *more, **named)
        for each in (keys.stored_key, keys.server_key):
            watch.learn(base64.b64encode(each), "SCRAM key")
        return keys

    def learn_token(token: str | bytes) -> str:
        watch.learn(token, "token of the admin port")
        return digest(token)

    _replace_everywhere(derive, learn_scram)
    _replace_everywhere(digest, learn_token)


def _learn_from_sessions() -> None:
    from elemta.auth import exchange
    from elemta.delivery import sasl
    from elemta.smtp import commands

    def learn_initial(self: object, mechanism: str, initial: bytes | None = None) -> None:
        watch.learn_exchange(initial)

    def learn_response(self: object, data: bytes | None = None) -> None:
        watch.learn_exchange(data)

    def learn_step(self: object, response: bytes | None) -> None:
        watch.learn_exchange(response)

    def learn_login(self: object, username: str, password: str, *more: object) -> None:
        watch.learn(password, "password for a next hop")

    def learn_client(self: smtplib.SMTP, *more: object, **named: object) -> None:
        watch.learn(getattr(self, "password", None), "password of a client")

    _before(commands.Auth, "__init__", learn_initial)
    _before(commands.AuthResponse, "__init__", learn_response)
    _before(exchange.SaslExchange, "step", learn_step)
    for mechanism in (sasl.ClientMechanism, sasl.Login, sasl.ScramSha256):
        _before(mechanism, "__init__", learn_login)
    _before(smtplib.SMTP, "auth", learn_client)


def _learn_from_keys() -> None:
    from elemta.policy import keyring

    def learn_pem(data: bytes, name: str) -> None:
        watch.learn_key(data)

    parse, pem = keyring.parse_key, keyring.SigningKey.pem

    def parse_and_learn(data: bytes, name: str) -> Any:
        learn_pem(data, name)
        return parse(data, name)

    def made_pem(self: keyring.SigningKey) -> bytes:
        data = pem(self)
        watch.learn_key(data)
        return data

    _replace_everywhere(parse, parse_and_learn)
    keyring.SigningKey.pem = made_pem  # type: ignore[method-assign]


def _hear_logs_and_events() -> None:
    from elemta.events.bus import EventBus
    from elemta.runtime import log

    def hear_event(self: EventBus, event: object) -> None:
        watch.hear(repr(event))

    _before(EventBus, "publish", hear_event)

    def listening(level: str) -> Callable[..., None]:
        # what no test asks for is heard all the same, and goes no further
        original = getattr(log.Logger, level)

        @functools.wraps(original)
        def method(self: log.Logger, text: str, **values: Any) -> None:
            if log._route.threshold > log.LEVELS[level]:
                (record,), _ = log._make_record(
                    self._logger, level, {**self._context, **values, "event": text}
                )
                watch.hear(repr(record))
            original(self, text, **values)

        return method

    for level in ("debug", "info", "warning"):
        setattr(log.Logger, level, listening(level))
    put = log._Outlet._put

    def hear_record(self: log._Outlet, record: Any) -> None:
        watch.hear(repr(record))
        put(self, record)

    for level in ("debug", "info", "warning", "error"):
        setattr(log._Outlet, level, hear_record)


def _hear_servers() -> None:
    start = subprocess.Popen.__init__

    @functools.wraps(start)
    def starting(self: Any, args: Any, *more: Any, **named: Any) -> None:
        words = [os.fsdecode(each) for each in args] if isinstance(args, (list, tuple)) else str(args).split()
        if "run" in words and any("elemta" in word for word in words):
            for stream in (named.get("stdout"), named.get("stderr")):
                descriptor = getattr(stream, "fileno", lambda stream=stream: stream)()
                if isinstance(descriptor, int) and descriptor >= 0:
                    path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
                    if path.is_file():
                        watch.watch_output(path)
        start(self, args, *more, **named)

    subprocess.Popen.__init__ = starting  # type: ignore[method-assign]
