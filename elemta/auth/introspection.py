"""Asks an authorization server whose token it is (RFC 7662), over HTTP/1.1."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import quote_plus, urlencode, urlsplit

import attrs
import h11
import trio

from elemta.config import AuthConfig

from .exchange import Introspect, TokenOwner, TokensUnavailable
from .keyfile import AuthFilesError, read_private
from .prepare import NotPrepared, prepare_name

MAX_ANSWER = 64 * 1024
"""Octets of an answer; honest ones have some hundred."""
_MAX_SECRET = 4096

Connect: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]


def make_introspection(config: AuthConfig) -> Introspect | None:
    """Who is asked about tokens; None where the configuration has nobody. Reads files.

    Raises:
      AuthFilesError: the secret or the authorities cannot be used.
    """
    if config.introspection is None:
        return None
    authorization = ""
    if config.introspection_client is not None and config.introspection_secret is not None:
        data, _ = read_private(config.introspection_secret, _MAX_SECRET)
        try:
            secret = data.decode("utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise AuthFilesError(config.introspection_secret, ": is not UTF-8") from error
        # RFC 6749 §2.3.1: both are coded like a form first
        pair = f"{quote_plus(config.introspection_client)}:{quote_plus(secret)}"
        authorization = "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")
    context = None
    if urlsplit(config.introspection).scheme == "https":
        authorities = config.introspection_authorities
        try:
            context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
        except (OSError, ssl.SSLError) as error:
            assert authorities is not None
            raise AuthFilesError(authorities, f": cannot be used: {error}") from error
    return Introspection(config, authorization, context)


@attrs.frozen(eq=False)
class Introspection:
    """One authorization server. Each question has a connection of its own: logins are rare, and a
    connection that was kept may be broken just then."""

    config: AuthConfig
    authorization: str = attrs.field(repr=False)
    context: ssl.SSLContext | None
    connect: Connect = attrs.field(default=trio.open_tcp_stream, repr=False)

    async def __call__(self, token: str) -> TokenOwner | None:
        """Whose it is; None: nobody's, expired, or not for mail. Cancelled, it leaves nothing behind.

        Raises:
          TokensUnavailable: the server cannot be asked, or gives no answer that makes sense.
        """
        failure = "no answer in time"
        with trio.move_on_after(self.config.introspection_timeout):
            try:
                status, body = await self._ask(token)
            except (OSError, trio.BrokenResourceError, ssl.SSLError) as error:
                failure = f"cannot be reached: {type(error).__name__}"
            except h11.ProtocolError:
                failure = "does not speak HTTP"
            else:
                return self._read(status, body)
        raise TokensUnavailable(f"introspection: {failure}")

    async def _ask(self, token: str) -> tuple[int, bytes]:
        assert self.config.introspection is not None
        parts = urlsplit(self.config.introspection)
        host = parts.hostname or ""
        stream = await self.connect(host, parts.port or (443 if self.context else 80))
        try:
            if self.context is not None:
                stream = trio.SSLStream(stream, self.context, server_hostname=host, https_compatible=True)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return await self._talk(stream, parts.netloc, target, token)
        finally:
            await trio.aclose_forcefully(stream)

    async def _talk(
        self, stream: trio.abc.Stream, authority: str, target: str, token: str
    ) -> tuple[int, bytes]:
        form = urlencode({"token": token, "token_type_hint": "access_token"}).encode("ascii")
        headers = [
            ("Host", authority),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(len(form))),
            ("Accept", "application/json"),
            ("Connection", "close"),
        ]
        if self.authorization:
            headers.append(("Authorization", self.authorization))
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
        request = h11.Request(method="POST", target=target, headers=headers)
        sent = [connection.send(event) for event in (request, h11.Data(data=form), h11.EndOfMessage())]
        await stream.send_all(b"".join(piece for piece in sent if piece))
        status, body = 0, bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(16384)))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_ANSWER:
                    raise h11.RemoteProtocolError("the answer is too long")
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return status, bytes(body)

    def _read(self, status: int, body: bytes) -> TokenOwner | None:
        """What an answer says (RFC 7662 §2.2)."""
        if status != 200:  # §2.3: also 401, where our own name or secret is wrong
            raise TokensUnavailable(f"introspection: status {status}")
        try:
            answer: Any = json.loads(body)  # Any: a stranger's JSON; each part is looked at below
        except (ValueError, RecursionError) as error:
            raise TokensUnavailable("introspection: the answer is no JSON") from error
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise TokensUnavailable("introspection: the answer does not say whether it is active")
        if not answer["active"]:
            return None
        wanted = self.config.introspection_scope
        scope = answer.get("scope")
        if wanted is not None and not (isinstance(scope, str) and wanted in scope.split(" ")):
            return None
        name = answer.get(self.config.introspection_claim)
        if not isinstance(name, str):
            raise TokensUnavailable(f"introspection: no {self.config.introspection_claim} in the answer")
        try:
            return TokenOwner(prepare_name(name))
        except NotPrepared:
            return None
