"""One HTTPS request to a host that strangers named: certificate checked, no redirects, bounded in size.

No deadline: the caller opens the scope. Nothing is kept: one connection, one request.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Container, Sequence

import attrs
import h11
import trio

from elemta.dns import Resolver, Status, addresses
from elemta.runtime import Network
from elemta.tls import TlsFailed, start_tls

HTTPS_PORT = 443
MAX_ADDRESSES = 4
"""Of one host that are tried."""
_MAX_HEAD = 16 * 1024
_RECEIVE = 16 * 1024


class HttpsFailed(Exception):
    """No answer; the text says why. `tls`: the handshake or the certificate was the trouble."""

    def __init__(self, reason: str, *, tls: bool = False) -> None:
        super().__init__(reason)
        self.tls = tls


@attrs.frozen
class HttpsAnswer:
    """What the server said."""

    status: int
    content_type: str
    """Media type in lower case, without parameters."""
    body: bytes


@attrs.frozen
class HttpsClient:
    """Makes requests by the ways that the server has for connections."""

    resolver: Resolver
    network: Network
    context: Callable[[], ssl.SSLContext]
    """A context that verifies certificate and name."""
    prohibited: Callable[[], Container[str]] = tuple
    """Addresses that no stranger's name leads us to."""
    port: int = HTTPS_PORT

    async def request(
        self,
        method: str,
        host: str,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        most: int,
    ) -> HttpsAnswer:
        """The answer, whatever its status; redirects are answers like others.

        Raises:
          HttpsFailed: there is none, or its body has more than `most` octets.
        """
        stream = await self._connect(host)
        try:
            try:
                tls, _ = await start_tls(stream, self.context(), server_side=False, hostname=host)
            except TlsFailed as error:
                raise HttpsFailed(error.reason, tls=True) from error
            fields = [("Host", host), ("User-Agent", "elemta"), ("Connection", "close"), *headers]
            if body:
                fields.append(("Content-Length", str(len(body))))
            request = h11.Request(method=method, target=path, headers=fields)
            try:
                return await _exchange(tls, request, body, most)
            except h11.ProtocolError as error:
                raise HttpsFailed(f"no HTTP: {error}") from error
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise HttpsFailed("connection lost") from error
        finally:
            await trio.aclose_forcefully(stream)

    async def _connect(self, host: str) -> trio.abc.Stream:
        found = await addresses(self.resolver, host)
        if found.status is not Status.OK:
            raise HttpsFailed(f"{host} has no address ({found.detail or found.status.value})")
        prohibited = self.prohibited()
        usable = [address for address in found.addresses if address not in prohibited]
        reason = "its addresses are not to be connected to"
        for address in usable[:MAX_ADDRESSES]:
            try:
                return await self.network.connect(address, self.port, source=None)
            except OSError as error:
                reason = error.strerror or type(error).__name__
        raise HttpsFailed(f"{host} cannot be reached: {reason}")


async def _exchange(stream: trio.abc.Stream, request: h11.Request, body: bytes, most: int) -> HttpsAnswer:
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    head = machine.send(request) or b""
    content = (machine.send(h11.Data(data=body)) or b"") if body else b""
    await stream.send_all(head + content + (machine.send(h11.EndOfMessage()) or b""))
    response: h11.Response | None = None
    received = bytearray()
    while True:
        event = machine.next_event()
        match event:
            case h11.NEED_DATA:
                machine.receive_data(bytes(await stream.receive_some(_RECEIVE)))
            case h11.Response():
                response = event
            case h11.Data():
                received += event.data
                if len(received) > most:
                    raise HttpsFailed(f"an answer of more than {most} octets")
            case h11.EndOfMessage():
                assert response is not None
                return HttpsAnswer(response.status_code, _content_type(response), bytes(received))
            case h11.ConnectionClosed() | h11.PAUSED:
                raise HttpsFailed("the connection ended before the answer")


def _content_type(response: h11.Response) -> str:
    for name, value in response.headers:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower().decode("latin-1")
    return ""
