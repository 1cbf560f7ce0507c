"""A message of the largest size passes through in a few megabytes of memory, whole; one octet more is refused."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ports import free_port

from .servers import Elemta, route_to, running_elemta, wait_until

LIMIT = 50 * 1024 * 1024
GROWTH = 8 * 1024
"""KiB by which resident memory may grow while the message passes."""
HEADER = b"From: <a@example.org>\r\nSubject: large\r\n\r\n"


def make_message(size: int) -> bytes:
    """Exactly so many octets, lines with dots in front among them."""
    rng = random.Random(size)
    block = b"".join(
        rng.choice([b"", b".", b".."]) + rng.randbytes(rng.randrange(1, 450)).hex().encode() + b"\r\n"
        for _ in range(500)
    )
    body = (block * (size // len(block) + 1))[: size - len(HEADER) - 2]
    # The cut must not leave half of a line end before the last one.
    return HEADER + body.rstrip(b"\r\n").ljust(size - len(HEADER) - 2, b"x") + b"\r\n"


@dataclass
class DigestSink:
    """Takes messages, keeps digest and length of what is behind the header field that elemta adds."""

    port: int = field(default_factory=free_port)
    messages: list[tuple[int, str]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """A thread for each connection: elemta opens a second one where the first is busy."""
        sessions = []
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:  # shut down: the test is over
                break
            sessions.append(threading.Thread(target=self._serve_one, args=[sock], daemon=True))
            sessions[-1].start()
        for session in sessions:
            session.join(65)

    def _serve_one(self, sock: socket.socket) -> None:
        sock.settimeout(60)
        try:
            with sock, sock.makefile("rb", buffering=1 << 20) as file:
                self._session(sock, file)
        except Exception as error:
            self.trouble.append(repr(error))

    def _session(self, sock: socket.socket, file: object) -> None:
        sock.sendall(b"220 sink.example ESMTP\r\n")
        for line in file:  # type: ignore[attr-defined]
            match line[:4].upper():
                case b"EHLO":
                    sock.sendall(b"250-sink.example\r\n250-8BITMIME\r\n250 SIZE 0\r\n")
                case b"DATA":
                    sock.sendall(b"354 go\r\n")
                    self._message(file)
                    sock.sendall(b"250 taken\r\n")
                case b"QUIT":
                    sock.sendall(b"221 bye\r\n")
                    return
                case _:
                    sock.sendall(b"250 ok\r\n")

    def _message(self, file: object) -> None:
        digest, size, in_trace = hashlib.sha256(), 0, False
        for number, line in enumerate(file):  # type: ignore[arg-type]
            if line == b".\r\n":
                self.messages.append((size, digest.hexdigest()))
                return
            line = line.removeprefix(b".")
            if number == 0 or (in_trace and line.startswith((b" ", b"\t"))):
                in_trace = number > 0 or line.startswith(b"Received: from ")
                if in_trace:
                    continue
            in_trace = False
            size += len(line)
            digest.update(line)
        raise EOFError("the message has no end")


@contextlib.contextmanager
def running_digest_sink() -> Iterator[DigestSink]:
    sink = DigestSink()
    with socket.create_server(("127.0.0.1", sink.port)) as listener:
        thread = threading.Thread(target=sink.serve, args=[listener], daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(70)
    assert sink.trouble == []


class Client:
    """One session of plain SMTP."""

    def __init__(self, server: Elemta) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        self.file = self.sock.makefile("rb")
        self.reply()

    def __enter__(self) -> Client:
        self.command(b"EHLO client.example")
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def reply(self) -> bytes:
        while True:
            line = self.file.readline()
            assert line.endswith(b"\r\n"), f"the session ended: {line!r}"
            if line[3:4] != b"-":
                return line

    def command(self, line: bytes) -> bytes:
        self.sock.sendall(line + b"\r\n")
        return self.reply()

    def send(self, content: bytes, mail: bytes = b"MAIL FROM:<a@example.org>") -> bytes:
        assert self.command(mail).startswith(b"250")
        assert self.command(b"RCPT TO:<b@sink.example>").startswith(b"250")
        assert self.command(b"DATA").startswith(b"354")
        self.sock.sendall(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
        return self.reply()


@contextlib.contextmanager
def watched(server: Elemta) -> Iterator[list[int]]:
    """Samples of VmRSS in KiB while the block runs; the high-water mark of the kernel is the last of them."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # VmHWM starts again at VmRSS, proc(5)
    samples: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.01):
            samples.append(server.memory()["VmRSS"])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        samples.append(server.memory()["VmHWM"])


@pytest.mark.proof
def test_the_largest_message_passes_in_little_memory(tmp_path: Path) -> None:
    content = make_message(LIMIT)
    expected = (len(content), hashlib.sha256(content).hexdigest())
    assert expected[0] == LIMIT
    with running_digest_sink() as sink, running_elemta(tmp_path, route_to(sink.port)) as server:
        with Client(server) as client:  # warm: every path has run once
            for _ in range(3):
                assert client.send(make_message(2000)).startswith(b"250")
                assert client.send(make_message(1024 * 1024)).startswith(b"250")
            wait_until(lambda: len(sink.messages) == 6, "the warm-up at the sink")
        warm = server.memory()["VmRSS"]
        begun = time.perf_counter()
        with watched(server) as samples:
            with Client(server) as client:
                answer = client.send(content, b"MAIL FROM:<a@example.org> SIZE=%d" % LIMIT)
                assert answer.startswith(b"250"), answer
            wait_until(lambda: len(sink.messages) == 7 or bool(sink.trouble), "the message at the sink", 120)
        seconds = time.perf_counter() - begun
        print(f"warm {warm} KiB, most {max(samples)} KiB in {len(samples)} samples, {seconds:.1f} s")
        assert sink.messages[-1] == expected
        assert max(samples) - warm < GROWTH


@pytest.mark.proof
def test_one_octet_more_is_refused_by_announcement_and_by_count(tmp_path: Path) -> None:
    content = make_message(LIMIT + 1)
    with running_digest_sink() as sink, running_elemta(tmp_path, route_to(sink.port)) as server:
        with Client(server) as client:
            # RFC 1870 6.1
            assert client.command(b"MAIL FROM:<a@example.org> SIZE=%d" % (LIMIT + 1)).startswith(b"552")
            assert client.send(content).startswith(b"552")
            # The session goes on, and nothing of the refused message is sent.
            assert client.send(make_message(2000)).startswith(b"250")
            wait_until(lambda: bool(sink.messages), "the small message at the sink")
        assert [size for size, _ in sink.messages] == [2000]
        bodies = [
            path for path in (tmp_path / "state").rglob("*") if path.is_file() and path.stat().st_size > LIMIT
        ]
        assert bodies == []
