"""What a deep queue costs: the start, memory, accepting beside it, looking into it.

    benchmarks/depth.py [--messages 100000] [--state DIR] [--seconds 2] [--rounds 3] [--domains 2000]

Seeds a spool with so many messages of 4 KiB that wait for their next attempt: half of them for one dead domain, the rest
spread over `--domains`. Then a real server starts on it (time to its banner, resident memory), new mail is accepted beside
it and into an empty spool in turn, and listings are timed: pages, filters, counts, the audit.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import trio

from elemta.config import SpoolConfig
from elemta.mail import Envelope, MessageId, Origin, Recipient, ReversePath, make_id, parse_mailbox
from elemta.runtime import SystemClock
from elemta.spool import (
    NewMessage,
    QueueFilter,
    RecipientState,
    ShareKey,
    SqliteStore,
    open_readonly_spool,
    open_spool,
)

BODY = b"Subject: depth\r\n\r\n" + b"x" * 4000 + b"\r\n"
DIGEST = blake2b(BODY, digest_size=16).digest()
ORIGIN = Origin("0123456789abcdef", "192.0.2.1", 40000, "client.example.org", "ESMTP", "mx")
BATCH = 5000
CLIENTS = 50
DEAD = "dead.example"


def seed(state: Path, messages: int, domains: int, *, due_in: float = 86400.0) -> None:
    """Half of the messages, and without `domains` all, are for the dead domain. Due in so many seconds: with the
    usual a server has nothing to do with them."""
    folder = state / "spool"
    for part in (state, folder, folder / "bodies", folder / "incoming"):
        part.mkdir(mode=0o700, exist_ok=True)
    store = SqliteStore.open(folder)
    now = time.time()
    for start in range(0, messages, BATCH):
        store.begin()
        for number in range(start, min(start + BATCH, messages)):
            domain = DEAD if number % 2 or not domains else f"d{number // 2 % domains}.example"
            envelope = Envelope(
                ReversePath(parse_mailbox(f"s{number % 1000}@client.example")),
                (Recipient(parse_mailbox(f"r{number}@{domain}")),),
            )
            received = now - 86400 + number * 86000 / messages
            id = MessageId(make_id(int(received * 1000), number & 0x7FFFFFFFF))
            message = NewMessage(id, envelope, ORIGIN, b"", BODY, len(BODY), DIGEST, received)
            store.accept(message, lease=None, lease_until=0.0)
        # As after a first attempt that found nobody.
        store.connection.execute(
            "UPDATE recipient SET due = ?, attempts = 1, reason = 'connect' WHERE due < ?",
            (int((now + due_in) * 1000), int(now * 1000)),
        )
        store.commit()
        store.checkpoint()
    store.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start_server(state: Path) -> tuple[float, float]:
    """Seconds to the banner, and MiB of resident memory five seconds later."""
    port = free_port()
    settings = state / "elemta.toml"
    settings.write_text(
        f'hostname = "mx.example.org"\nstate_dir = "{state}"\n[[listeners]]\nname = "mx"\nrole = "mx"\n'
        f'address = "127.0.0.1:{port}"\ntls = "off"\n[domains]\nlocal = ["example.org"]\n'
        f'[[routes]]\nmatch = "example.org"\ntransport = "discard"\n[admin]\naddress = "127.0.0.1:{free_port()}"\n'
    )
    begun = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-m", "elemta", "run", "-c", str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
                    assert sock.recv(4) == b"220 "
                    seconds = time.monotonic() - begun
                    break
            except ConnectionRefusedError:
                assert server.poll() is None, "the server ended"
                assert time.monotonic() - begun < 120
                time.sleep(0.02)
        time.sleep(5)
        status = Path(f"/proc/{server.pid}/status").read_text()
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return seconds, int(resident.split()[1]) / 1024
    finally:
        server.terminate()
        server.wait(60)


async def accept(state: Path, seconds: float) -> float:
    """Messages a second that so many clients commit."""
    count, ids = 0, random.Random(time.time_ns())
    envelope = Envelope(
        ReversePath(parse_mailbox("s@client.example")), (Recipient(parse_mailbox("r@new.example")),)
    )

    async def client() -> None:
        nonlocal count
        while trio.current_time() < deadline:
            message = make_id(time.time_ns() // 1_000_000, ids.getrandbits(35))
            draft = spool.new_draft(message)
            await draft.write(BODY)
            await spool.commit(draft, message=message, envelope=envelope, origin=ORIGIN, prefix=b"")
            count += 1

    async with open_spool(
        state,
        SpoolConfig(ballast=0),
        message_size=1 << 20,
        clock=SystemClock(),
        random=random.Random(1),
        on_trouble=lambda what, detail: None,
    ) as spool:
        start = trio.current_time()
        deadline = start + seconds
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(client)
        return count / (trio.current_time() - start)


def looks(state: Path, messages: int) -> None:
    now = time.time()
    with open_readonly_spool(state) as reader:
        middle = reader.matching(QueueFilter(received_after=now - 43200), after=None, limit=1).messages[0]

        def page(which: QueueFilter, after: MessageId | None = None) -> Callable[[], int]:
            return lambda: len(reader.list(which, after=after, limit=500))

        everything = QueueFilter()
        cases: list[tuple[str, Callable[[], int]]] = [
            ("first page", page(everything)),
            ("page in the middle", page(everything, middle)),
            ("domain, dead one", page(QueueFilter(domain=DEAD))),
            ("domain, a small one", page(QueueFilter(domain="d7.example"))),
            ("recipient", page(QueueFilter(recipient=f"r{messages // 2 | 1}@{DEAD}"))),
            ("sender", page(QueueFilter(sender="s7@client.example"))),
            ("held (none)", page(QueueFilter(state=RecipientState.HELD))),
            ("cause, all", page(QueueFilter(reason="connect"))),
            ("cause, none", page(QueueFilter(reason="dns"))),
            ("older than half a day", page(QueueFilter(received_before=now - 43200))),
            ("newer than an hour", page(QueueFilter(received_after=now - 3600))),
            ("statistics", lambda: reader.statistics().messages),
            ("shares by domain", lambda: len(reader.shares(ShareKey.DOMAIN, 20))),
            ("audit", lambda: len(reader.audit(20))),
        ]
        print(f"\n{'look':26}{'found':>9}{'ms':>9}")
        for name, look in cases:
            begun = time.perf_counter()
            found = look()
            print(f"{name:26}{found:9}{(time.perf_counter() - begun) * 1000:9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--domains", type=int, default=2000)
    parser.add_argument("--state", type=Path, help="where to make the spools; default: the temporary folder")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="elemta-depth-", dir=arguments.state))
    try:
        deep = base / "deep"
        begun = time.monotonic()
        seed(deep, arguments.messages, arguments.domains)
        size = sum(entry.stat().st_size for entry in (deep / "spool").iterdir() if entry.is_file()) >> 20
        print(f"{arguments.messages} messages, {size} MiB, seeded in {time.monotonic() - begun:.0f} s")
        empty = base / "empty"
        empty.mkdir(mode=0o700)
        for name, state in (("empty", empty), ("deep", deep)):
            seconds, resident = start_server(state)
            print(f"{name:6} banner after {seconds:.2f} s, resident {resident:.0f} MiB")
        rates: dict[str, list[float]] = {"empty": [], "deep": []}
        for number in range(arguments.rounds):
            for name, state in (("empty", base / f"empty{number}"), ("deep", deep)):
                state.mkdir(mode=0o700, exist_ok=True)
                rates[name].append(trio.run(accept, state, arguments.seconds))
        medians = {name: statistics.median(found) for name, found in rates.items()}
        print(
            f"accepted a second by {CLIENTS} clients: {medians['empty']:.0f} into the empty one, "
            f"{medians['deep']:.0f} into the deep one: {medians['deep'] / medians['empty']:.2f}"
        )
        looks(deep, arguments.messages)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    os.umask(0o077)
    main()
