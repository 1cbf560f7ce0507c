"""What a message costs in the checks and in signing: milliseconds for SPF, DKIM, DMARC, and each kind of key.

Run: `python benchmarks/trust.py [seconds per row]`. DNS answers at once, from a dictionary, so this is what the
processor does. Rows are measured in turns, medians are shown. The last column is the longest time in which
nobody else got a turn.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from elemta.config import Config, DomainPattern, SigningAlgorithm, parse_config
from elemta.mail import Domain, Envelope, Origin, parse_reverse_path
from elemta.policy import MessageHead, Notary, PrivateKeys, SigningEntry, make_key
from elemta.runtime import SystemClock
from elemta.testing.dns import FakeResolver

SIZES = {"4 KiB": 4096, "25 MiB": 25 << 20}
PIECE = 64 * 1024
"""Octets that a session hands over at one time."""
ROUNDS = 3
LINE = b"The quick brown fox jumps over the lazy dog, again and again, until the end.\r\n"
HEADER = (
    b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: benchmark\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n"
)
SENDER = parse_reverse_path("<alice@example.org>")
ORIGIN = Origin("session", "192.0.2.7", hello="mail.example.org")
KEYS = {
    "rsa": make_key(SigningAlgorithm.RSA_SHA256, 2048),
    "ed": make_key(SigningAlgorithm.ED25519_SHA256),
}


def make_notary(*selectors: str, checks: bool = True) -> Notary:
    """One that signs with these keys, in a world where example.org has published them."""
    dns = FakeResolver()
    dns.add("example.org", "TXT", "v=spf1 ip4:192.0.2.0/24 -all")
    dns.add("_dmarc.example.org", "TXT", "v=DMARC1; p=reject")
    for name, key in KEYS.items():
        dns.add(f"{name}._domainkey.example.org", "TXT", key.record())
    off = "".join(f'[policy.{each}]\naction = "off"\n' for each in ("spf", "dkim", "dmarc", "arc"))
    config: Config = parse_config('hostname = "mx.example.net"\n' + ("" if checks else off), "benchmark")
    pattern = DomainPattern(Domain("example.org"))
    entries = tuple(SigningEntry(pattern, "example.org", name, KEYS[name]) for name in selectors)
    return Notary(config, PrivateKeys(entries), dns, SystemClock())


async def check(notary: Notary, message: bytes, expected: str = "") -> None:
    """All that becomes of a stranger's message between its octets and the commit."""
    hasher = notary.checks.hasher()
    for start in range(0, len(message), PIECE):
        await hasher.write(message[start : start + PIECE])
        await trio.lowlevel.checkpoint()
    verdict = await notary.checks.check_message(hasher.finish(), ORIGIN, Envelope(SENDER, ()))
    assert verdict.fields("mx.example.net", smtputf8=False)
    if expected:
        assert verdict.results.passed(expected), verdict


async def sign(notary: Notary, message: bytes) -> bytes:
    """The signatures of a message of ours."""
    signer = notary.signer
    assert signer is not None
    hasher = notary.checks.plain_hasher(lambda head: signer.needs(head, SENDER))
    for start in range(0, len(message), PIECE):
        await hasher.write(message[start : start + PIECE])
        await trio.lowlevel.checkpoint()
    hashed = hasher.finish()
    head = MessageHead(message[: message.index(b"\r\n\r\n") + 4]).below(b"Received: by us\r\n")
    fields = await signer.sign(head, hashed.hashes, SENDER)
    assert fields
    return fields


async def measure(once: Callable[[], Awaitable[object]], seconds: float) -> tuple[float, float]:
    """Milliseconds for one, and the longest stall of the loop in milliseconds."""
    stall = 0.0

    async def watch() -> None:
        nonlocal stall
        before = time.perf_counter()
        while True:
            await trio.lowlevel.checkpoint()
            now = time.perf_counter()
            stall, before = max(stall, now - before), now

    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < seconds:
        await once()
        count += 1
    each = (time.perf_counter() - start) / count * 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await once()
        nursery.cancel_scope.cancel()
    return each, stall * 1000


async def main(seconds: float) -> None:
    rows: list[tuple[str, str, Callable[[], Awaitable[object]]]] = []
    for name, size in SIZES.items():
        plain = HEADER + LINE * ((size - len(HEADER)) // len(LINE))
        for selector in KEYS:
            signed = await sign(make_notary(selector), plain) + plain
            label = f"SPF, DKIM ({selector}), DMARC: all pass"
            rows.append((label, name, partial(check, make_notary(), signed, "dmarc")))
        rows.append(("the same without a signature", name, partial(check, make_notary(), plain, "spf")))
        rows.append(("all checks off", name, partial(check, make_notary(checks=False), plain)))
        rows.append(("sign, RSA 2048", name, partial(sign, make_notary("rsa"), plain)))
        rows.append(("sign, Ed25519", name, partial(sign, make_notary("ed"), plain)))
        rows.append(("sign, both", name, partial(sign, make_notary("rsa", "ed"), plain)))
    found: dict[int, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for index, (_, _, once) in enumerate(rows):
            found.setdefault(index, []).append(await measure(once, seconds))
    print("| what | size | ms a message | longest stall, ms |\n| --- | --- | --- | --- |")
    for index, (label, name, _) in enumerate(rows):
        each = statistics.median(one for one, _ in found[index])
        stall = statistics.median(one for _, one in found[index])
        print(f"| {label} | {name} | {each:.2f} | {stall:.1f} |")


if __name__ == "__main__":
    trio.run(main, float(sys.argv[1]) if len(sys.argv) > 1 else 0.3)
