"""A server in memory with one of the shipped plugins, as its own plugin.toml has it, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from elemta.config import PluginConfig, parse_config
from elemta.events import PluginCallFailed
from elemta.spool import QueueFilter
from elemta.testing import RunningServer, open_test_server
from elemta.testing.dns import Zone
from elemta.testing.server import DEFAULT

ROOT = Path(__file__).resolve().parents[2]
MESSAGE = "From: s@example.net\r\nSubject: x\r\n\r\nbody\r\n"
PEER = "192.0.2.200"


def entry_of(plugin: str, config: dict[str, Any] | None = None, **entry: Any) -> PluginConfig:
    """The entry that the plugin comes with, and what is different."""
    folder = ROOT / "plugins" / plugin
    text = (folder / "plugin.toml").read_text()
    (found,) = parse_config(f'hostname = "mx.example.org"\n{text}', "plugin.toml").plugins
    assert found.path == Path("plugins") / plugin
    return attrs.evolve(found, path=folder, config={**found.config, **(config or {})}, **entry)


class Client:
    """Speaks SMTP, line by line."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def reply(self) -> str:
        """The last line of the next reply."""
        while True:
            lines = self.buffer.split(b"\r\n")
            for index, line in enumerate(lines[:-1]):
                if line[3:4] == b" ":
                    self.buffer = b"\r\n".join(lines[index + 1 :])
                    return line.decode()
            piece = await self.stream.receive_some(65536)
            if not piece:
                return ""
            self.buffer += piece

    async def say(self, line: str) -> str:
        await self.stream.send_all(line.encode() + b"\r\n")
        return await self.reply()

    async def hello(self, name: str = "client.example") -> None:
        assert (await self.reply()).startswith("220")
        assert (await self.say(f"EHLO {name}")).startswith("250")

    async def deliver(
        self,
        message: str = MESSAGE,
        sender: str = "s@example.net",
        recipients: tuple[str, ...] = ("a@example.org",),
    ) -> str:
        """The first reply that is a refusal, or the last one."""
        lines = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients), "DATA"]
        for line in lines:
            reply = await self.say(line)
            if reply[0] not in "23":
                return reply
        return await self.say(message + ".")

    async def send(self, message: str = MESSAGE) -> str:
        """A whole session up to its message."""
        await self.hello()
        return await self.deliver(message)


@attrs.define(eq=False)
class Shipped:
    """A running server with the plugin."""

    running: RunningServer

    @property
    def network(self):
        return self.running.network

    def dial(self, peer: str = PEER) -> Client:
        return Client(self.running.connect(peer=peer))

    def failures(self) -> list[str]:
        """What calls of the plugin failed with."""
        return [event.detail for event in self.running.seen(PluginCallFailed)]

    def metrics(self) -> dict[str, int]:
        (status,) = self.running.server.facts.plugins.statuses()
        return status.measured.values

    async def stored(self) -> bytes:
        """The one message in the queue."""
        (entry,) = await self.running.spool.list(QueueFilter(), limit=10)
        message = await self.running.spool.stored(entry.id)
        async with self.running.spool.open_body(message) as body:
            return message.prefix + await body.read()


@asynccontextmanager
async def serving(*entries: PluginConfig, zone: Zone | None = None, **config: Any) -> AsyncIterator[Shipped]:
    async with open_test_server(attrs.evolve(DEFAULT, plugins=entries, **config), zone=zone) as running:
        yield Shipped(running)
