"""Accounts from a web service, which knows the passwords and judges them.

It is asked with a POST of JSON:

    {"ask": "account", "name": NAME}                             who is it?
    {"ask": "password", "name": NAME, "password": PASSWORD}      is that the password?

and answers 200 with one of

    {"account": null}                                            no such account, or not that password
    {"account": {"send_as": ["*@example.org"], "credential": "app:phone",
                 "scram": {"password": "SCRAM-SHA-256$…"}}}      each part may be left out

Anything else is a failure of the service: nobody is let in, and clients are told to try later.
"""

from __future__ import annotations

import json
import ssl
from typing import Any

import trio

from elemta.config import BadValue, HttpAccountsConfig

from .keyfile import AuthFilesError, read_private
from .posting import Connect, PostFailed, Request, post, verifying_context
from .recent import RecentChecks
from .remotestore import RemoteStore
from .senders import SenderPattern, parse_sender_pattern
from .store import Account, Proved, ScramAccount, StoreUnavailable
from .users import APP, PASSWORD, ScramPart, app_credential, parse_scram

_MAX_SECRET = 4096


class HttpStore(RemoteStore):
    """A web service with accounts.

    Raises:
      AuthFilesError: of the constructor, which reads the secret and the authorities.
    """

    def __init__(
        self,
        config: HttpAccountsConfig,
        *,
        recent: RecentChecks,
        iterations: int,
        connect: Connect = trio.open_tcp_stream,
    ) -> None:
        assert config.url is not None
        super().__init__("auth.http", config.timeout, recent)
        self.has_scram = config.scram
        self._url = config.url
        self._connect = connect
        self._iterations = iterations
        self._authorization = "" if config.secret is None else f"Bearer {_read_secret(config)}"
        self._context: ssl.SSLContext | None = None
        if config.url.startswith("https:"):
            self._context = verifying_context(config.authorities)

    def scram_iterations(self) -> int:
        return self._iterations

    async def scram(self, name: str) -> ScramAccount | None:
        answer = await self._asking(lambda: self._ask({"ask": "account", "name": name}))
        if answer is None:
            return None
        account = _account(name, answer)
        self._seen.put(name, account)
        parts = _scram_parts(answer)
        if not parts:
            return None
        self._iterations = parts[0].iterations
        return ScramAccount(account, parts[0].salt, parts[0].iterations, tuple(part.keys for part in parts))

    async def _look_up(self, name: str) -> Account | None:
        answer = await self._ask({"ask": "account", "name": name})
        return None if answer is None else _account(name, answer)

    async def _verify(self, name: str, password: str) -> Proved | None:
        answer = await self._ask({"ask": "password", "name": name, "password": password})
        if answer is None:
            return None
        return Proved(_account(name, answer), _credential(answer))

    async def _ask(self, question: dict[str, str]) -> dict[str, Any] | None:
        """The account in the answer. Any: a stranger's JSON; who reads a part of it looks at it first."""
        request = Request(self._url, "application/json", json.dumps(question).encode(), self._authorization)
        try:
            answer = await post(request, self._context, self._connect)
        except PostFailed as error:
            raise StoreUnavailable(f"auth.http: {error}") from error
        if answer.status != 200:
            raise StoreUnavailable(f"auth.http: status {answer.status}")
        try:
            content: Any = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise StoreUnavailable("auth.http: the answer is no JSON") from error
        if not isinstance(content, dict) or not isinstance(content.get("account", 0), (dict, type(None))):
            raise StoreUnavailable("auth.http: the answer does not say which account")
        account: dict[str, Any] | None = content["account"]
        return account


def _account(name: str, answer: dict[str, Any]) -> Account:
    texts = answer.get("send_as", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise StoreUnavailable("auth.http: send_as is no list of texts")
    return Account(name, tuple(_pattern(text) for text in texts))


def _pattern(text: str) -> SenderPattern:
    try:
        return parse_sender_pattern(text)
    except BadValue as error:
        raise StoreUnavailable(f"auth.http: send_as: {error}") from None


def _credential(answer: dict[str, Any]) -> str:
    credential = answer.get("credential", PASSWORD)
    try:
        if credential != PASSWORD:
            if not (isinstance(credential, str) and credential.startswith(APP)):
                raise ValueError("not a text that begins with app:")
            app_credential(credential.removeprefix(APP))
    except ValueError as error:
        raise StoreUnavailable(f"auth.http: credential: {error}") from None
    return str(credential)


def _scram_parts(answer: dict[str, Any]) -> list[ScramPart]:
    texts = answer.get("scram", {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise StoreUnavailable("auth.http: scram is no object of texts")
    try:
        parts = [parse_scram(_credential({"credential": key}), text) for key, text in texts.items()]
    except ValueError as error:
        raise StoreUnavailable(f"auth.http: scram: {error}") from None
    if len({(part.salt, part.iterations) for part in parts}) > 1:
        raise StoreUnavailable("auth.http: scram: the parts differ in salt or count")
    return parts


def _read_secret(config: HttpAccountsConfig) -> str:
    assert config.secret is not None
    data, _ = read_private(config.secret, _MAX_SECRET)
    try:
        secret = data.decode("ascii").strip("\r\n ")
    except UnicodeDecodeError as error:
        raise AuthFilesError(config.secret, ": is not ASCII") from error
    if not secret.isprintable() or not secret:
        raise AuthFilesError(config.secret, ": is empty, or has more than one line")
    return secret
