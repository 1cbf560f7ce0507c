"""Ways to run a machine: whole, in pieces of any size, and to the end of its input."""

from collections.abc import Iterable, Iterator

from elemta.smtp import (
    NEED_DATA,
    PAUSED,
    BodyChunk,
    BodyEnd,
    BodyProblem,
    Capabilities,
    ChunkDecoder,
    ChunkEnd,
    CommandReceived,
    ConnectionClosed,
    DotDecoder,
    Limits,
    RemoteProtocolError,
    ServerConnection,
    ServerEvent,
    State,
)
from elemta.testing.pairs import EVERYTHING, ConnectionPair


def pieces(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """The data, cut at the given places; never an empty piece."""
    start = 0
    for cut in [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]:
        if cut > start:
            yield data[start:cut]
        start = cut


def splits(data: bytes) -> list[list[bytes]]:
    """The data whole, byte by byte, in threes, and cut in two at each place."""
    return [
        [data] if data else [],
        [bytes([octet]) for octet in data],
        [data[start : start + 3] for start in range(0, len(data), 3)],
        *([data[:cut], data[cut:]] for cut in range(1, len(data))),
    ]


def decode(parts: Iterable[bytes], limits: Limits) -> tuple[bytes, int, BodyProblem | None, bytes | None]:
    """Content, size, problem, and what came behind the end (None: there was no end)."""
    decoder = DotDecoder(limits)
    content = b""
    rest: bytes | None = None
    for part in parts:
        if rest is not None:
            rest += part
            continue
        data, rest = decoder.feed(part)
        content += data
    return content, decoder.size, decoder.problem, rest


def decode_chunks(
    parts: Iterable[bytes], limits: Limits, *, binary: bool = False
) -> tuple[bytes, int, BodyProblem | None]:
    """Content, size and problem of a message in chunks."""
    decoder = ChunkDecoder(limits, binary=binary)
    content = b"".join(decoder.feed(part) for part in parts) + decoder.end()
    return content, decoder.size, decoder.problem


def run(
    parts: Iterable[bytes],
    *,
    limits: Limits | None = None,
    capabilities: Capabilities = EVERYTHING,
    lmtp: bool = False,
    after: str = "EHLO",
) -> tuple[list[ServerEvent | str], ServerConnection]:
    """Events of a server that was led to a state first, neighbouring body chunks joined, errors as text."""
    pair = ConnectionPair(after, limits=limits, capabilities=capabilities, lmtp=lmtp)
    server = pair.server
    events: list[ServerEvent | str] = []
    try:
        for part in [*parts, b""]:
            server.receive_data(part)
            while (event := server.next_event()) is not NEED_DATA:
                assert event is not PAUSED
                if isinstance(event, BodyChunk) and events and isinstance(events[-1], BodyChunk):
                    events[-1] = BodyChunk(events[-1].data + event.data)
                else:
                    events.append(event)
                if isinstance(event, ConnectionClosed):
                    return events, server
                if isinstance(event, (CommandReceived, ChunkEnd, BodyEnd)):
                    assert server.next_event() is PAUSED
                    server.reply(pair.answer(event))
                    if server.state is State.TLS:
                        return events, server
    except RemoteProtocolError as error:
        events.append(str(error))
    return events, server
