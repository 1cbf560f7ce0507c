"""The server as a whole over HTTP: its configuration, a reload, the orderly stop."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio.testing
from admin_bed import open_bed

from elemta.admin.resources.control import HIDDEN, redacted
from elemta.config import Config, PluginConfig
from elemta.events import AuditEvent, ServerReloaded


async def test_the_configuration_is_shown_with_its_defaults(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        shown = (await bed.request("GET", "/api/v1/config")).json()["config"]
        assert (shown["hostname"], shown["queue"]["lifetime"]) == ("mx.example.org", "5d")
        assert shown["auth"]["users"] is None


def test_what_sounds_like_a_secret_is_not_shown() -> None:
    plugin = PluginConfig(
        "one",
        path=Path("one.py"),
        config={"api_key": "abc", "key_file": "k", "deep": [{"Password": "abc", "password_file": "p"}]},
    )
    shown = redacted(attrs.evolve(Config("mx.example.org"), plugins=(plugin,)))
    assert shown["plugins"][0]["config"] == {  # type: ignore[index]
        "api_key": HIDDEN,
        "key_file": "k",
        "deep": [{"Password": HIDDEN, "password_file": "p"}],
    }


async def test_a_reload_tells_what_it_did_or_what_is_wrong(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        assert (await bed.request("POST", "/api/v1/reload")).status == 503
        told: list[ServerReloaded | None] = [
            ServerReloaded(time=1.0, changed=("queue",), restart=("state_dir",)),
            ServerReloaded(time=1.0, changed=(), error="elemta.toml:3: queue.retri: unknown"),
            None,
        ]

        async def reload() -> ServerReloaded | None:
            await trio.lowlevel.checkpoint()
            return told.pop(0)

        bed.facts.reload = reload
        done = await bed.request("POST", "/api/v1/reload")
        assert (done.status, done.json()) == (200, {"changed": ["queue"], "restart": ["state_dir"]})
        wrong = await bed.request("POST", "/api/v1/reload")
        assert (wrong.status, wrong.json()["detail"]) == (422, "elemta.toml:3: queue.retri: unknown")
        assert (await bed.request("POST", "/api/v1/reload")).status == 409
        (audit,) = [event for event in bed.events if isinstance(event, AuditEvent)]
        assert (audit.operation, audit.detail) == ("reload", "queue")


async def test_a_drain_begins_with_its_reason(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        bed.facts.begin_drain = lambda reason: bed.facts.drain.begin(reason, 20, 5)
        answer = await bed.request("POST", "/api/v1/drain", body=b'{"reason": "new kernel"}')
        assert (answer.status, answer.json()) == (202, {"draining": True, "seconds": 25.0})
        assert (bed.facts.drain.draining, bed.facts.drain.reason) == (True, "new kernel")
        assert (await bed.request("GET", "/readyz")).body == b"stopping: new kernel\n"
