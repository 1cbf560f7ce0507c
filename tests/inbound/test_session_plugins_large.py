"""A message too large for memory: plugins read it from its file, and what they change is written anew."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import attrs
import trio

from elemta.config import PluginConfig
from elemta.events import EventBus
from elemta.inbound import BoundListener, open_listeners
from elemta.plugin import LoadedPlugin, Member, TaskTier, Ward, open_plugins
from elemta.plugin.api import (
    Changes,
    Context,
    HeaderChange,
    Metrics,
    NoConfig,
    Plugin,
    hook,
    hook_methods,
)
from elemta.routing import Router
from elemta.runtime import Drain, SystemClock, get_logger
from elemta.spool import QueueFilter, open_spool
from elemta.testing.network import memory_connection
from elemta.testing.server import DEFAULT, _Listener


class Reading(Plugin[NoConfig]):
    @hook("message")
    async def check(self, message):
        assert message.content is None
        assert sum(map(len, message.chunks())) == message.size
        return Changes(headers=(HeaderChange("replace", "Subject", "new"),))


def ward(state: Callable[[], object] = object) -> Ward:
    loaded = LoadedPlugin(PluginConfig("p"), Reading, NoConfig(), hook_methods(Reading), {}, __file__)
    context = Context("p", get_logger("p"), SystemClock(), Metrics(), state())  # type: ignore[arg-type]
    return Ward(Member(loaded.entry, TaskTier(loaded, context), frozenset(loaded.hooks)))


async def test_a_large_message_is_read_from_its_file_and_written_anew(tmp_path: Path) -> None:
    bus, clock, listener = EventBus(), SystemClock(), _Listener()
    config = attrs.evolve(DEFAULT, state_dir=tmp_path)
    async with (
        open_spool(
            tmp_path, config.spool, message_size=config.limits.message_size, lease=60.0,
            clock=clock, random=Random(1), on_trouble=lambda what, detail: None,
        ) as spool,
        open_plugins([ward()], bus, clock) as host,
        open_listeners(
            [BoundListener(config.listeners[0], listeners=(listener,))], config=config, spool=spool,
            router=Router(config), bus=bus, clock=clock, random=Random(1), drain=Drain(), plugins=host,
        ),
    ):  # fmt: skip
        client, ours = memory_connection(("192.0.2.9", 4000), ("192.0.2.1", 25))
        listener.put(ours)
        body = (b"x" * 70 + b"\r\n") * 20_000
        reply = await client.receive_some(9999)
        for line in (b"EHLO a.example", b"MAIL FROM:<a@example.net>", b"RCPT TO:<b@example.org>", b"DATA"):
            await client.send_all(line + b"\r\n")
            await client.receive_some(9999)
        with trio.fail_after(5):
            await client.send_all(b"Subject: old\r\nFrom: a@b.example\r\n\r\n" + body + b".\r\n")
            reply = await client.receive_some(9999)
        assert reply.startswith(b"250 2.0.0")
        (entry,) = await spool.list(QueueFilter())
        message = await spool.stored(entry.id)
        assert message is not None
        content = b""
        async with spool.open_body(message) as reader:
            while piece := await reader.read():
                content += piece
        assert content == b"Subject: new\r\nFrom: a@b.example\r\n\r\n" + body
        assert [file.name for file in (tmp_path / "spool" / "bodies").iterdir()] == [entry.id]
        assert list((tmp_path / "spool" / "incoming").iterdir()) == []
