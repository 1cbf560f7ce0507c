"""Refuses recipients of one name: the smallest plugin that does something."""

from elemta.plugin.api import NoConfig, Plugin, Reject, hook


class Hello(Plugin[NoConfig]):
    @hook("rcpt")
    async def check(self, recipient: str) -> Reject | None:
        return Reject("Hello, nobody reads this") if recipient.startswith("nobody@") else None
