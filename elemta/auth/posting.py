"""One question to a web service: a POST over HTTP/1.1 with verified TLS, on a connection of its own.

Logins are rare, and a connection that was kept may be broken just then.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import attrs
import h11
import trio

from elemta.runtime import harden

from .keyfile import AuthFilesError

MAX_ANSWER = 64 * 1024
"""Octets of an answer; honest ones have some hundred."""

Connect: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]


class PostFailed(Exception):
    """There was no answer; the text is for the operator and has nothing of the question in it."""


@attrs.frozen
class Request:
    """What is asked, and where."""

    url: str
    """As `parse_service_url` takes it: TLS, except to this machine."""
    content_type: str
    body: bytes = attrs.field(repr=False)
    authorization: str = attrs.field(default="", repr=False)
    """The field of that name; empty: none."""


@attrs.frozen
class Answer:
    """What a service said, whatever it was."""

    status: int
    body: bytes = attrs.field(repr=False)


def verifying_context(authorities: Path | None) -> ssl.SSLContext:
    """TLS that requires a certificate for the host, from these authorities or those of the system. Blocking.

    Raises:
      AuthFilesError: the file of authorities cannot be used.
    """
    try:
        return harden(ssl.create_default_context(cafile=None if authorities is None else str(authorities)))
    except (OSError, ssl.SSLError) as error:
        assert authorities is not None
        raise AuthFilesError(authorities, f": cannot be used: {error}") from error


async def post(
    request: Request, context: ssl.SSLContext | None, connect: Connect = trio.open_tcp_stream
) -> Answer:
    """Ask. Open a deadline around it; cancelled, it leaves nothing behind.

    Redirections are not followed: what is asked is secret.

    Raises:
      PostFailed: no answer.
    """
    try:
        return await _ask(request, context, connect)
    except (OSError, trio.BrokenResourceError, ssl.SSLError) as error:
        raise PostFailed(f"cannot be reached: {type(error).__name__}") from error
    except h11.ProtocolError as error:
        raise PostFailed("does not speak HTTP") from error


async def _ask(request: Request, context: ssl.SSLContext | None, connect: Connect) -> Answer:
    parts = urlsplit(request.url)
    host = parts.hostname or ""
    stream = await connect(host, parts.port or (443 if context else 80))
    try:
        if context is not None:
            stream = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return await _talk(stream, parts.netloc, target, request)
    finally:
        await trio.aclose_forcefully(stream)


async def _talk(stream: trio.abc.Stream, authority: str, target: str, request: Request) -> Answer:
    headers = [
        ("Host", authority),
        ("Content-Type", request.content_type),
        ("Content-Length", str(len(request.body))),
        ("Accept", "application/json"),
        ("Connection", "close"),
    ]
    if request.authorization:
        headers.append(("Authorization", request.authorization))
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
    head = h11.Request(method="POST", target=target, headers=headers)
    sent = [connection.send(event) for event in (head, h11.Data(data=request.body), h11.EndOfMessage())]
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
            return Answer(status, bytes(body))
