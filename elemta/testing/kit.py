"""For authors of plugins: an MTA in memory, on virtual time, with their plugin in it.

Everything is real but the outside: the plugin is loaded from its file, asked by real sessions and by the
queue, under its deadline; clients speak SMTP. The servers of all other domains, DNS and web services are
played (`Mta.remote`, `Mta.dns`, `Mta.http`), and days pass in milliseconds (`Mta.advance`).

A plugin that fails makes the test fail, with its name, the hook, the error and the line; where a failure is
the subject of the test, say `mta.failures_allowed = True` and look at `mta.failures`.

Not here: workers. `isolation` is always `task` in a test, and who keeps the loop busy is not noticed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import trio

from elemta.config import Config, format_value, parse_config, parse_duration, read_toml
from elemta.events import Event, PluginCallFailed, PluginDecided
from elemta.plugin.api import HttpAnswer
from elemta.plugin.outside import read_url, split_address
from elemta.runtime import leaves
from elemta.spool import MemoryStore, QueueFilter, RecipientState

from .client import HungUp, Sent, SmtpClient, send_message
from .http import Answering, HttpPeer
from .internet import Internet, Letter, Remote
from .network import Handler
from .server import RunningServer, open_test_server

STRANGER: Final = "198.51.100.7"
"""The address that clients come from, if no other is said."""
OWN: Final = "127.0.0.1"
"""An address that may send anywhere, such as that of our own users."""
_OK: Final = HttpAnswer(200)
_GATEWAY: Final = "127.0.0.99"
"""Says by XCLIENT who it speaks for."""
_SETTLE: Final = 0.1
_SHOWN: Final = 20
"""Events that a failure tells of, the last ones."""
_LONGEST_SETTLE: Final = 300.0
"""Seconds that first attempts may take."""

BASE: Final = """
hostname = "mx.example.org"

[[listeners]]
name = "mx"
address = "192.0.2.1:25"
role = "mx"

[domains]
local = ["example.org"]

[relay]
networks = ["127.0.0.0/8"]

[proxies]
xclient = ["127.0.0.99"]

[[routes]]
match = "example.org"
transport = "smtp"
host = "mx.example.org"
"""
"""The configuration of the MTA, before settings of the test: mail for example.org goes on to a server."""


class PluginBroken(AssertionError):
    """A plugin of the test failed."""


@attrs.frozen
class Queued:
    """One recipient whose mail waits."""

    message: str
    sender: str
    recipient: str
    state: str
    """`queued` or `held`."""
    reason: str
    """Why it waits."""
    reply: str
    """The last one of the other side."""
    attempts: int
    wait: float | None
    """Seconds until the next attempt; None: held."""


class Mta:
    """A running MTA. Made by the fixture `mta`, or by `open_mta`."""

    def __init__(self, server: RunningServer, internet: Internet, store: MemoryStore) -> None:
        self.server = server
        """What it is made of."""
        self.dns = internet
        """`mta.dns.add("example.net", "TXT", "v=spf1 -all")`; `missing` holds domains that do not exist."""
        self.failures_allowed = False
        """Whether the test goes on when a plugin fails."""
        self._store = store
        self._told = 0

    # --- In -----------------------------------------------------------------------------------------------

    async def send(
        self,
        to: str | Sequence[str] = "bob@example.org",
        *,
        sender: str = "alice@client.example",
        subject: str = "Hello",
        body: str = "Hello.\n",
        headers: Mapping[str, str] | None = None,
        content: bytes | str | EmailMessage | None = None,
        peer: str = STRANGER,
        account: str | None = None,
        hello: str = "client.example",
        listener: str | None = None,
        wait: bool = True,
    ) -> Sent:
        """Send a message as a client at that address, and wait until each recipient was tried once.

        Args:
          headers: more fields; one of the usual ones takes its place.
          content: the whole message in the place of subject, body and headers.
          peer: `OWN` may send anywhere, others only to our domains.
          account: the client has proved to be this user, who may send anywhere.
          wait: False: return when the client has its reply.
        """
        __tracebackhide__ = True
        recipients = [to] if isinstance(to, str) else list(to)
        data = as_octets(
            content if content is not None else _letter(sender, recipients, subject, body, headers)
        )
        async with self.session(peer=peer, account=account, hello=None, listener=listener) as client:
            reply = client.greeting
            assert reply is not None
            if reply.is_positive:
                reply = await client.hello(hello)
            self.check()
            if reply.is_positive:
                sent = await send_message(client, sender, recipients, data, check=self.check)
            else:
                sent = Sent(reply, {}, tuple(client.transcript))
        if wait:
            await self.settle()
        self.check()
        return sent

    @asynccontextmanager
    async def session(
        self,
        *,
        peer: str = STRANGER,
        account: str | None = None,
        hello: str | None = "client.example",
        listener: str | None = None,
    ) -> AsyncIterator[SmtpClient]:
        """A client that is connected and, if `hello` is not None, has said EHLO. It quits at the end."""
        address = peer if account is None else _GATEWAY
        client = SmtpClient(self.server.connect(peer=address, listener=listener))
        try:
            client.greeting = await client.read()
            if account is not None and client.greeting.is_positive:
                # As a gateway in front of the server would say it: passwords are the server's own affair
                await client.hello("gateway.example")
                name = account.replace("+", "+2B").replace("=", "+3D")
                client.greeting = await client.command(f"XCLIENT ADDR={peer} LOGIN={name}")
                client.transcript.clear()
            if hello is not None and client.greeting.is_positive:
                await client.hello(hello)
            yield client
            try:
                await client.quit()
            except HungUp:
                pass  # as after a 421
        finally:
            with trio.move_on_after(1, shield=True):
                await client.close()

    # --- Out ----------------------------------------------------------------------------------------------

    def remote(self, domain: str) -> Remote:
        """The server of a domain: what it took, and how it is to answer. Each domain has one that takes
        everything, so this is for those that are to do otherwise."""
        return self.dns.remote(domain)

    def http(self, url: str, answer: Answering | HttpAnswer = _OK) -> HttpPeer:
        """Play the web service at that URL for `context.http`; `requests` has what it was asked.

        `http://` only, or `unix:/path` for one behind a socket of the file system. A path in the URL says
        nothing: the service is asked for all paths.
        """
        peer = HttpPeer(answer if callable(answer) else lambda request: answer)
        if url.startswith("unix:"):
            self.listen(url, peer.serve)
        else:
            if urlsplit(url).scheme != "http":
                raise ValueError(f"{url} cannot be played: only http:// and unix:/path can")
            self.listen(read_url(url).address, peer.serve)
        return peer

    def listen(self, address: str, handler: Handler) -> None:
        """Let `handler(stream)` serve each connection of `context.connect` to `host:port` or `unix:/path`."""
        network = self.server.network
        if address.startswith("unix:"):
            network.listen_local(address.removeprefix("unix:"), handler)
            return
        host, port = split_address(address)
        for each in self._addresses(host):
            network.listen(each, port, handler)

    def listen_itself(self, address: str, *, peer: str = OWN) -> None:
        """Let connections of `context.connect` to `host:port` reach this server, from a client at `peer`: for
        plugins that send mail, and for notices that come back."""

        async def pump(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await source.receive_some(65536):
                    await sink.send_all(data)
            await sink.aclose()

        async def serve(stream: trio.abc.Stream) -> None:
            async with self.server.connect(peer=peer) as inside, trio.open_nursery() as nursery:
                nursery.start_soon(pump, stream, inside)
                await pump(inside, stream)
                nursery.cancel_scope.cancel(reason="the server has closed the connection")

        self.listen(address, serve)

    def _addresses(self, host: str) -> Sequence[str]:
        if host == "localhost":
            return ("127.0.0.1", "::1")
        if ":" in host or re.fullmatch(r"[0-9.]+", host):
            return (host,)
        return (self.dns.host(host),)

    @property
    def delivered(self) -> list[Letter]:
        """What other servers took, in order."""
        return self.dns.letters

    def letter(self, to: str | None = None) -> Letter:
        """The one message that was delivered, or the one that was to that recipient."""
        __tracebackhide__ = True
        found = [each for each in self.delivered if to is None or to in each.recipients]
        if len(found) == 1:
            return found[0]
        whom = "" if to is None else f" to {to}"
        raise AssertionError(f"{len(found)} messages were delivered{whom}, not 1\n{self.story()}")

    # --- Time ---------------------------------------------------------------------------------------------

    async def advance(self, duration: str) -> None:
        """Let that much time pass, such as `90s` or `5d`: what is due in it happens."""
        __tracebackhide__ = True
        await trio.sleep(parse_duration(duration))
        self.check()

    async def settle(self) -> None:
        """Wait until nothing in the queue is due or under way, and plugins that observe were told of it."""
        __tracebackhide__ = True
        with trio.move_on_after(_LONGEST_SETTLE):
            await trio.sleep(_SETTLE)
            while self._is_busy():  # noqa: ASYNC110 - the store tells nobody, and virtual time is free
                await trio.sleep(_SETTLE)
            return
        raise AssertionError(f"the queue is not idle after {_LONGEST_SETTLE:g} s\n{self.story()}")

    def _is_busy(self) -> bool:
        now = trio.current_time()
        _, offset = self._clocks()
        return any(
            each.leased or (each.due is not None and each.due - offset <= now)
            for entry in self._entries()
            for each in entry.recipients
        )

    def _clocks(self) -> tuple[float, float]:
        now = self.server.server.facts.clock.time()
        return now, now - trio.current_time()

    # --- What happened ------------------------------------------------------------------------------------

    @property
    def queue(self) -> list[Queued]:
        """Recipients whose mail waits or is held, in the order of coming."""
        now, _ = self._clocks()
        return [
            Queued(
                str(entry.id),
                entry.sender.strip("<>"),
                each.address,
                each.state.name.lower(),
                each.reason,
                each.reply,
                each.attempts,
                None if each.due is None else each.due - now,
            )
            for entry in self._entries()
            for each in entry.recipients
            if each.state in (RecipientState.QUEUED, RecipientState.HELD)
        ]

    def _entries(self) -> Sequence[Any]:  # Any: QueueEntry, whose package names its list `list`
        return self._store.list(QueueFilter(), after=None, limit=10_000)

    @property
    def events(self) -> list[Event]:
        """Everything that happened, in order."""
        return self.server.events

    def seen(self, kind: str) -> list[Any]:
        """The events of one type, such as `message.rejected`."""
        return [event for event in self.events if event.type == kind]

    def decisions(self, plugin: str | None = None) -> list[PluginDecided]:
        """What plugins decided or changed, or one of them."""
        return [each for each in self.server.seen(PluginDecided) if plugin in (None, each.plugin)]

    @property
    def log(self) -> list[dict[str, Any]]:
        """What plugins, and the server itself, logged beside the events."""
        return self.server.log

    def counts(self, plugin: str | None = None) -> dict[str, float]:
        """What a plugin counts and sets in `context.metrics`; without a name the only one."""
        statuses = self.server.server.facts.plugins.statuses()  # type: ignore[union-attr]  # there from the start
        found = [each for each in statuses if plugin in (None, each.name)]
        assert len(found) == 1, f"name one of the plugins {', '.join(each.name for each in statuses)}"
        return found[0].measured.values

    @property
    def failures(self) -> list[str]:
        """How plugins failed, one line each."""
        lines = [
            f"plugin {each.plugin} failed at the hook {each.hook} ({each.kind}): {each.detail}"
            for each in self.server.seen(PluginCallFailed)
        ]
        crashes = [
            f"plugin {each.get('plugin')} crashed: {each.get('error')}"
            for each in self.log
            if each.get("text") == "plugin crashed"
        ]
        return lines + crashes

    def check(self) -> None:
        """Fail if a plugin failed since the last check. All that waits here does so; the end of a test, too.

        Raises:
          PluginBroken: one did.
        """
        __tracebackhide__ = True
        failures = self.failures
        fresh, self._told = failures[self._told :], len(failures)
        if fresh and not self.failures_allowed:
            raise PluginBroken("\n".join(fresh))

    def story(self) -> str:
        """All that happened, in lines for people."""
        lines = [f"  {each.type}: {_fields(each)}" for each in self.events[-_SHOWN:]]
        waiting = [f"  {each}" for each in self.queue] or ["  nothing"]
        delivered = [f"  {each}" for each in self.delivered] or ["  nothing"]
        return "\n".join(["delivered:", *delivered, "in the queue:", *waiting, "events:", *lines])


def _fields(event: Event) -> str:
    shown = attrs.asdict(
        event, filter=lambda field, value: field.name != "time" and value not in ("", None, ())
    )
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _letter(
    sender: str, recipients: Sequence[str], subject: str, body: str, headers: Mapping[str, str] | None
) -> str:
    fields = {
        "From": sender or "postmaster@client.example",
        "To": ", ".join(recipients),
        "Subject": subject,
        "Date": "Thu, 01 Jan 2026 12:00:00 +0000",
        "Message-ID": "<1@client.example>",
    }
    by_name = {name.lower(): name for name in fields}
    for name, value in (headers or {}).items():
        fields[by_name.get(name.lower(), name)] = value
    return "".join(f"{name}: {value}\n" for name, value in fields.items()) + "\n" + body


def as_octets(content: bytes | str | EmailMessage) -> bytes:
    """A message as it is sent. Octets stay as they are, line ends of text become CRLF."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, EmailMessage):
        return content.as_bytes(policy=SMTP)
    return re.sub(r"\r?\n", "\r\n", content).encode()


def configure(plugins: Sequence[Mapping[str, Any]], settings: str = "") -> Config:
    """The configuration of a test: `BASE`, over it the settings as TOML, and these entries of `[[plugins]]`.

    An entry needs only a path; its name is that of the folder then.

    Raises:
      ConfigError: it cannot be used; says why.
    """
    document = read_toml(BASE)
    _merge(document, read_toml(settings))
    entries = [_entry(each) for each in plugins]
    if entries:
        document["plugins"] = [*document.get("plugins", ()), *entries]
    text = "".join(f"{key} = {format_value(value)}\n" for key, value in document.items())
    return parse_config(text, "settings of the test")


def _entry(plugin: Mapping[str, Any]) -> dict[str, Any]:
    entry = {**plugin, "isolation": "task"}
    if "path" in entry:
        path = Path(entry["path"]).absolute()
        named = path.parent.name if path.name == "plugin.py" else path.stem
        entry["path"] = str(path)
        entry.setdefault("name", named.replace("_", "-"))
    return entry


def _merge(document: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value


@asynccontextmanager
async def _bare_errors() -> AsyncIterator[None]:
    """What fails a test is read by people: one error comes without the groups that nurseries put it into."""
    try:
        yield
    except BaseExceptionGroup as group:
        found = leaves(group)
        raise (found[0] if len(found) == 1 else group) from None


@asynccontextmanager
async def open_mta(
    *plugins: Mapping[str, Any] | str | Path, settings: str = "", seed: int = 0
) -> AsyncIterator[Mta]:
    """Run an MTA with these plugins around the block. The clock of the test has to be virtual.

    Args:
      plugins: paths of plugins, or tables as in `[[plugins]]`: `{"path": "no_root.py", "config": {…}}`.
      settings: more configuration, as TOML.

    Raises:
      ConfigError, SettingsError: a plugin or a setting cannot be used.
      PluginBroken: a plugin failed.
    """
    entries = [each if isinstance(each, Mapping) else {"path": str(each)} for each in plugins]
    config = configure(entries, settings)
    internet, store = Internet(), MemoryStore()
    async with _bare_errors(), open_test_server(config, resolver=internet, store=store, seed=seed) as server:
        internet.network = server.network
        for domain in config.domains.local:
            internet.remote(str(domain))
        mta = Mta(server, internet, store)
        await trio.sleep(_SETTLE)
        mta.check()
        yield mta
        await mta.settle()
        mta.check()
