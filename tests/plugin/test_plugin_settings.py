"""Settings of single hooks: they take the place of the plugin's, at that hook only."""

from typing import Any

import pytest
import trio
from plugin_bed import hosting, loaded

from elemta.config import (
    ConfigError,
    DomainPattern,
    HookConfig,
    OnFailure,
    PluginConfig,
    SettingsError,
    locate,
    parse_config,
)
from elemta.mail import Domain
from elemta.plugin import Continue, Defer, Hold, HookArguments, OutcomeView, Reject, SessionView, load_plugins
from elemta.plugin.api import Plugin, hook
from elemta.plugin.settings import settings_of

SESSION = SessionView("s", "mx", "mx", "192.0.2.1")
ABOUT = HookArguments(recipient="a@example.org", session=SESSION)
HEAD = 'hostname = "mx.example.org"\n[[listeners]]\nname = "mx"\naddress = ":25"\n[[plugins]]\nname = "p"\npath = "p.py"\n'
CODE = """
from elemta.plugin.api import Plugin, hook

class P(Plugin):
    @hook("rcpt", "mail")
    async def check(self):
        return None
"""


class Slow(Plugin[Any]):
    @hook("rcpt", "mail")
    async def check(self) -> None:
        await trio.sleep(5)


def naming(name: str) -> type[Plugin[Any]]:
    class Naming(Plugin[Any]):
        @hook("rcpt", "mail")
        async def check(self) -> Reject:
            return Reject(name)

    return Naming


async def decision(host: Any, at: str, arguments: HookArguments = ABOUT) -> Any:
    return (await host.ask(at, arguments, {})).decision


async def test_a_hook_has_its_own_time_and_verdict(autojump_clock: object) -> None:
    own = HookConfig("rcpt", timeout=1.0, on_timeout=OnFailure.HOLD)
    async with hosting(loaded(Slow, timeout=10.0, hooks=(own,))) as (host, _, _):
        begun = trio.current_time()
        assert isinstance(await decision(host, "rcpt"), Hold)
        assert trio.current_time() - begun == 1.0
        assert await decision(host, "mail") == Continue()
        assert trio.current_time() - begun == 6.0


@pytest.mark.parametrize("kind", ["on_error", "on_crash"])
async def test_each_kind_of_failure_has_its_own_verdict_at_a_hook(kind: str, autojump_clock: object) -> None:
    class Failing(Plugin[Any]):
        @hook("rcpt", "mail")
        async def check(self) -> None:
            raise ValueError("no")

        @hook("startup")
        async def begin(self) -> None:
            if kind == "on_crash":
                raise ValueError("never")

    own = HookConfig("rcpt", **{kind: OnFailure.CONTINUE})
    async with hosting(loaded(Failing, hooks=(own,))) as (host, _, _):
        assert await decision(host, "rcpt") == Continue()
        assert isinstance(await decision(host, "mail"), Defer)


async def test_a_hook_can_be_switched_off() -> None:
    async with hosting(loaded(naming("p"), hooks=(HookConfig("rcpt", enabled=False),))) as (host, _, _):
        assert not host.has("rcpt")
        assert await decision(host, "mail") == Reject("p")


async def test_the_order_is_another_one_at_a_hook() -> None:
    plugins = [
        loaded(naming("a"), "a"),
        loaded(naming("b"), "b", hooks=(HookConfig("rcpt", before=("a",)),)),
    ]
    async with hosting(*plugins) as (host, _, _):
        assert await decision(host, "mail") == Reject("a")
        assert await decision(host, "rcpt") == Reject("b")


async def test_conditions_of_a_hook_take_the_place_of_those_of_the_plugin() -> None:
    own = HookConfig("rcpt", listeners=("submission",), sample=0.0)
    async with hosting(loaded(naming("p"), listeners=("mx",), hooks=(own,))) as (host, _, _):
        assert await decision(host, "rcpt") == Continue()
        assert await decision(host, "mail") == Reject("p")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('name = "rcpt"\ntimeout = "0s"', r":10: plugins\[0\]\.hooks\[0\]\.timeout"),
        ('name = "rcpt"\nbefore = ["q"]', r":10: plugins\[0\]\.hooks\[0\]\.before: there is no other plugin"),
        ('name = "rcpt"\nlisteners = ["m"]', r"there is no listener .m."),
        ('name = "rcpt"\n[[plugins.hooks]]\nname = "rcpt"', r":11: .*already"),
    ],
)
def test_what_is_wrong_with_settings_of_a_hook_is_told_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_config(HEAD + "[[plugins.hooks]]\n" + text, "f")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("rctp", "there is no hook 'rctp'"), ("data", "the plugin has no hook 'data'")],
)
def test_settings_of_a_hook_that_is_not_there_are_refused(
    name: str, reason: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text(CODE)
    (tmp_path / "p.py").chmod(0o600)
    text = f'{HEAD}[[plugins.hooks]]\nname = "{name}"\n'
    (tmp_path / "f").write_text(text)
    with pytest.raises(SettingsError) as refused:
        load_plugins(parse_config(text, "f").plugins)
    told = str(locate(refused.value, tmp_path / "f"))
    assert ":9: plugins[0].hooks[0].name:" in told
    assert reason in told


def test_a_circle_at_one_hook_is_refused(tmp_path) -> None:
    entries = []
    for name, other in (("a", "b"), ("b", "a")):
        file = tmp_path / f"{name}.py"
        file.write_text(CODE)
        file.chmod(0o600)
        entries.append(PluginConfig(name, path=file, hooks=(HookConfig("rcpt", before=(other,)),)))
    with pytest.raises(SettingsError, match="circle at the hook 'rcpt'"):
        load_plugins(entries)


@pytest.mark.parametrize(("domain", "asked"), [("example.org", True), ("example.net", False)])
def test_a_domain_holds_for_the_recipient_of_an_outcome(domain: str, asked: bool) -> None:
    settings = settings_of(PluginConfig("p", domains=(DomainPattern(Domain(domain)),)), "failed")
    outcome = OutcomeView("m", "a@example.org", "failed", "550 5.1.1 no")
    assert settings.wants(HookArguments(outcome=outcome)) is asked
