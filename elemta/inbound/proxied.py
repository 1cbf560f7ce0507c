"""Reads the PROXY header before a session, where the listener is behind a load balancer."""

from __future__ import annotations

import trio

from elemta import smtp

from .ending import SessionEnds

_SIZE = 4096
"""Octets asked for at once."""


async def receive_header(stream: trio.abc.Stream) -> tuple[smtp.ProxyHeader, bytes]:
    """The header, and what came behind it.

    Raises:
      SessionEnds: there is none; nothing can be said to whoever that is.
    """
    parser = smtp.ProxyParser()
    while True:
        data = await stream.receive_some(_SIZE)
        if not data:
            raise SessionEnds("eof")
        try:
            header = parser.feed(bytes(data))
        except smtp.RemoteProtocolError as cause:
            raise SessionEnds("proxy", detail=str(cause)) from cause
        if header is not None:
            return header, parser.rest
