"""A gate over a fake resolver and a memo in a dict, on a clock that a test may set."""

from random import Random

import attrs
import trio

from elemta.config import Config, parse_config
from elemta.mail import Mailbox, ReversePath, parse_mailbox, parse_reverse_path
from elemta.policy import Client, Gate
from elemta.testing.dns import FakeResolver

PEER = "192.0.2.7"
PEER_LABELS = "7.2.0.192"


class SetClock:
    """Stands still until it is moved."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


class DictMemo:
    """A memo that forgets nothing before its time; with a delay it answers late."""

    def __init__(self, clock: SetClock) -> None:
        self._clock = clock
        self.entries: dict[str, tuple[bytes, float]] = {}
        self.delay = 0.0
        self.puts = 0

    async def get(self, key: str) -> bytes | None:
        await trio.sleep(self.delay)
        value, expires = self.entries.get(key, (None, 0.0))
        return value if expires > self._clock.time() else None

    def put(self, key: str, value: bytes, expires: float) -> None:
        self.puts += 1
        self.entries[key] = (value, expires)

    def forget(self, key: str) -> None:
        self.entries.pop(key, None)


def config(text: str = "") -> Config:
    """A configuration with these lines behind what every one needs."""
    return parse_config(
        'hostname = "mx.example.org"\n[domains]\nlocal = ["example.org"]\n'
        '[[routes]]\nmatch = "example.org"\ntransport = "discard"\n' + text,
        "test.toml",
    )


@attrs.define
class Bed:
    gate: Gate
    resolver: FakeResolver
    clock: SetClock
    memo: DictMemo

    async def meet(self, client: Client, sender: str = "<s@sender.example>", to: str = "r@example.org"):
        """A whole session with one message: the first refusal, and at which step it came."""
        refusal = await self.gate.connected(client)
        if refusal is not None:
            return "connect", refusal
        refusal = await self.gate.hello(client, "client.example")
        if refusal is not None:
            return "hello", refusal
        return await self.send(client, sender, to)

    async def send(self, client: Client, sender: str = "<s@sender.example>", to: str = "r@example.org"):
        """A message in a session that has begun."""
        path = parse_reverse_path(sender)
        refusal = await self.gate.sender(client, path)
        if refusal is not None:
            return "sender", refusal
        refusal = await self.gate.recipient(client, path, parse_mailbox(to))
        if refusal is not None:
            return "recipient", refusal
        self.gate.accepted(client, 1)
        return None


def bed(text: str = "", zone=None, **resolver) -> Bed:
    clock = SetClock()
    memo = DictMemo(clock)
    answers = FakeResolver(zone, **resolver)
    return Bed(Gate(config(text), answers, clock, Random(1), memo), answers, clock, memo)


def client(peer: str = PEER, **fields) -> Client:
    return Client(peer, 40000, "mx", **fields)


def mailbox(text: str = "r@example.org") -> Mailbox:
    return parse_mailbox(text)


def path(text: str = "<s@sender.example>") -> ReversePath:
    return parse_reverse_path(text)
