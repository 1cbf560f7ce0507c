"""A plugin that has every hook, and fails at one of them in the way that its order says: once, then all is well.

`test_plugin_chaos` copies it as `plugin.py` of a folder, beside `failing_plugin.py` with the ways of failing.
"""

import contextlib
import os
from pathlib import Path

import attrs
import trio

from elemta.plugin.api import Plugin, Reject, hook
from elemta.plugin.hooks import HOOKS

from .failing_plugin import Failing  # type: ignore[import-not-found]


class Ways(Failing):
    """More ways, and that of not failing."""

    async def do_well(self) -> None:
        await trio.lowlevel.checkpoint()

    async def too_late(self) -> None:
        with trio.move_on_after(20, shield=True):
            await trio.sleep(8)


@attrs.frozen
class Settings:
    orders: str = "/nonexistent"


class Chaos(Plugin[Settings]):
    Config = Settings

    @hook("rcpt")
    async def rcpt(self, recipient: str) -> Reject | None:
        if recipient.startswith("alive"):
            await trio.sleep(0.1)  # so that another question at the same time goes to another worker
            return Reject(f"{self.context.name} in {os.getpid()} is alive")
        await self.obey("rcpt")
        return None

    async def obey(self, here: str) -> None:
        order = Path(self.config.orders) / self.context.name
        with contextlib.suppress(FileNotFoundError):
            where, _, way = order.read_text().partition(" ")  # noqa: ASYNC240
            if where == here:
                # A worker that does not come up is tried again: that order stands until it is withdrawn
                if here != "startup":
                    order.unlink()  # noqa: ASYNC240
                await getattr(Ways(None), way.replace(" ", "_"))()


def _at(name: str) -> object:
    @hook(name)
    async def obey(self: Chaos) -> None:
        await self.obey(name)

    return obey


for _name in HOOKS:
    if _name != "rcpt":
        setattr(Chaos, f"at_{_name}", _at(_name))
