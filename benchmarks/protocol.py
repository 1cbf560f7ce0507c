"""How fast the protocol machines are alone: transactions a second on each side, and bodies in MiB a second.

Run: `python benchmarks/protocol.py [seconds per row]`. Rows are measured in turns, medians are shown, and
each run checks that every message arrived byte for byte.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from elemta.mail import MessageId, Reply, parse_forward_path, parse_reverse_path, replies
from elemta.smtp import (
    BodyChunk,
    BodyEnd,
    Capabilities,
    ClientConnection,
    CommandReceived,
    Data,
    Ehlo,
    Limits,
    Mail,
    MailParams,
    Rcpt,
    ReplyReceived,
    ServerConnection,
    Signal,
    dot_encode,
)

CAPABILITIES = Capabilities(pipelining=True, size=50 << 20, eight_bit_mime=True, enhanced_status_codes=True)
LIMITS = Limits(message_size=50 << 20, header_size=1 << 20)
HEADER = b"From: <a@example.org>\r\nTo: <u@example.org>\r\nSubject: benchmark\r\n\r\n"
LINE = b"The quick brown fox jumps over the lazy dog, again and again, until the end.\r\n"
ROUNDS = 5


def make_body(size: int) -> bytes:
    """A message of that many octets, with a line in ten that has to be stuffed."""
    lines = HEADER + (LINE * 9 + b"." + LINE) * (size // (len(LINE) * 10) + 1)
    return lines[: size - 2].rstrip(b"\r\n").ljust(size - 2, b"x") + b"\r\n"


GROUP = b"MAIL FROM:<a@example.org> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<u@example.org>\r\nDATA\r\n"
ANSWERS = {"MAIL": replies.SENDER_OK, "RCPT": replies.RECIPIENT_OK, "DATA": replies.START_DATA}
QUEUED = replies.queued(MessageId("0" * 16))


def serve(server: ServerConnection, data: bytes) -> tuple[int, bytes, bytes]:
    """Give octets to the server and answer all; number of events, what it said, the body."""
    server.receive_data(data)
    events, output, body = 0, [], []
    while not isinstance(event := server.next_event(), Signal):
        events += 1
        if isinstance(event, CommandReceived):
            output.append(server.reply(ANSWERS[event.command.verb]))
        elif isinstance(event, BodyChunk):
            body.append(event.data)
        elif isinstance(event, BodyEnd):
            assert event.problem is None
            output.append(server.reply(QUEUED))
    return events, b"".join(output), b"".join(body)


def ready_server() -> ServerConnection:
    server = ServerConnection(LIMITS, CAPABILITIES)
    server.greet(replies.banner("mx.example.org"))
    server.receive_data(b"EHLO client.example\r\n")
    server.next_event()
    server.reply(replies.hello(*CAPABILITIES.lines("mx.example.org")))
    return server


def server_transactions(seconds: float) -> tuple[int, int, float]:
    """Transactions with a 4 KiB message in two reads, as a pipelining client sends them."""
    server, body = ready_server(), make_body(4096)
    wire = dot_encode(body)
    count = events = 0
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for _ in range(100):
            first, _, _ = serve(server, GROUP)
            second, said, received = serve(server, wire)
            assert received == body
            assert said.startswith(b"250 2.0.0 queued")
            events += first + second
        count += 100
    return count, events, spent


def ready_client() -> ClientConnection:
    client = ClientConnection()
    client.receive_data(b"220 mx\r\n")
    client.next_event()
    client.send(Ehlo("client.example"))
    client.receive_data(b"250-mx\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n")
    client.next_event()
    return client


def take(client: ClientConnection, data: bytes) -> list[Reply]:
    client.receive_data(data)
    found = []
    while isinstance(event := client.next_event(), ReplyReceived):
        found.append(event.reply)
    return found


def client_transactions(seconds: float) -> tuple[int, int, float]:
    """The same from the client: a group, a 4 KiB message, four replies."""
    client, body = ready_client(), make_body(4096)
    wire = dot_encode(body)
    sender = Mail(parse_reverse_path("<a@example.org>"), MailParams(size=4096))
    user = Rcpt(parse_forward_path("<u@example.org>"))
    count = events = 0
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for _ in range(100):
            client.send(sender, user, Data())
            answers = take(client, b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n")
            assert [answer.code for answer in answers] == [250, 250, 354]
            assert client.send_body(body) + client.end_body() == wire
            assert take(client, b"250 2.0.0 queued\r\n")[0].code == 250
            events += 4
        count += 100
    return count, events, spent


def server_body(seconds: float) -> tuple[int, int, float]:
    """One large message in reads of 64 KiB; counted in KiB."""
    body = make_body(4 << 20)
    wire = dot_encode(body)
    parts = [wire[at : at + 65536] for at in range(0, len(wire), 65536)]
    count = events = 0
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        server = ready_server()
        serve(server, GROUP)
        received = []
        for part in parts:
            seen, _, some = serve(server, part)
            events += seen
            received.append(some)
        assert b"".join(received) == body
        count += len(body) >> 10
    return count, events, spent


def client_body(seconds: float) -> tuple[int, int, float]:
    """The same from the client; counted in KiB."""
    body = make_body(4 << 20)
    wire = dot_encode(body)
    parts = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    sender = Mail(parse_reverse_path("<a@example.org>"))
    user = Rcpt(parse_forward_path("<u@example.org>"))
    count = events = 0
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        client = ready_client()
        client.send(sender, user, Data())
        take(client, b"250 ok\r\n250 ok\r\n354 go\r\n")
        sent = [client.send_body(part) for part in parts]
        assert b"".join([*sent, client.end_body()]) == wire
        events += len(parts)
        count += len(body) >> 10
    return count, events, spent


ROWS: dict[str, tuple[str, Callable[[float], tuple[int, int, float]]]] = {
    "server, 4 KiB messages": ("message", server_transactions),
    "client, 4 KiB messages": ("message", client_transactions),
    "server, 4 MiB message in 64 KiB reads": ("KiB", server_body),
    "client, 4 MiB message in 64 KiB writes": ("KiB", client_body),
}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.3
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in ROWS}
    for _ in range(ROUNDS):
        for name, (_, measure) in ROWS.items():
            count, events, spent = measure(seconds)
            results[name].append((count / spent, events / spent))
    print(f"{'':40} {'per second':>14} {'µs each':>9} {'events/s':>10}")
    for name, (unit, _) in ROWS.items():
        rate = statistics.median(one for one, _ in results[name])
        events = statistics.median(one for _, one in results[name])
        print(f"{name:40} {rate:>10,.0f} {unit:<7} {1e6 / rate:>5.1f} {events:>10,.0f}")


if __name__ == "__main__":
    main()
