"""One question to one server: over UDP, and over TCP where the response did not fit. No deadlines."""

from __future__ import annotations

import socket

import trio

from elemta.config import HostPort

from .wire import MAX_MESSAGE, Question, Response, Verdict, read_response

MAX_STRAY_DATAGRAMS = 64
"""Unrelated datagrams before we take the exchange for attacked and give the server up for this question."""
_UDP_BUFFER = 65535


class ExchangeFailed(Exception):
    """The server broke the exchange off or sent nonsense; the text says how."""


async def exchange_udp(server: HostPort, question: Question, *, trust_ad: bool) -> Response:
    """Send the question and wait for its response; waits for ever if none comes.

    A fresh socket per question: the kernel picks a random port (RFC 5452 §9.2), and since it is
    connected, only the server's datagrams arrive and a dead one is noticed at once.

    Raises:
      OSError: the server's machine said that nobody listens, or the network is down.
      ExchangeFailed: too many datagrams that are no response.
    """
    with trio.socket.socket(_family(server), trio.socket.SOCK_DGRAM) as udp:
        await udp.connect((server.host, server.port))
        await udp.send(question.wire)
        for _ in range(MAX_STRAY_DATAGRAMS):
            response = read_response(question, await udp.recv(_UDP_BUFFER), trust_ad=trust_ad)
            if response.verdict is not Verdict.UNRELATED:
                return response
    raise ExchangeFailed("only unrelated datagrams")


async def exchange_tcp(server: HostPort, question: Question, *, trust_ad: bool) -> Response:
    """The same over TCP (RFC 7766); the connection serves one question.

    Raises:
      OSError: no connection.
      ExchangeFailed: no whole, related response came.
    """
    raw = trio.socket.socket(_family(server), trio.socket.SOCK_STREAM)
    with raw:
        await raw.connect((server.host, server.port))
        stream = trio.SocketStream(raw)
        try:
            await stream.send_all(len(question.wire).to_bytes(2, "big") + question.wire)
            length = int.from_bytes(await _receive_exactly(stream, 2), "big")
            if length > MAX_MESSAGE:
                raise ExchangeFailed(f"a response of {length} octets")
            data = await _receive_exactly(stream, length)
        except trio.BrokenResourceError as error:
            raise ExchangeFailed("connection lost") from error
    response = read_response(question, data, trust_ad=trust_ad)
    if response.verdict in (Verdict.UNRELATED, Verdict.TRUNCATED):
        raise ExchangeFailed(f"{response.verdict.value} response over TCP")
    return response


async def _receive_exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = await stream.receive_some(count - len(data))
        if not piece:
            raise ExchangeFailed("connection closed in mid response")
        data += piece
    return bytes(data)


def _family(server: HostPort) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server.host else socket.AF_INET
