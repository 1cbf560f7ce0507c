"""Sessions ask plugins: at every hook, with refusals undone, changes made whole, failures as declared."""

import textwrap
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from elemta.config import OnFailure, PluginConfig
from elemta.events import MessageAccepted, MessageRejected, PluginCallFailed, RecipientDelivered
from elemta.spool import QueueFilter
from elemta.testing import SinkPeer, open_test_server
from elemta.testing.server import DEFAULT

HEAD = """
import trio
from elemta.plugin.api import *
class P(Plugin):
"""
ZONE = {"example.org": {"MX": [(10, "in.example.org")]}, "in.example.org": {"A": ["192.0.2.25"]}}


def plugin(folder: Path, text: str, name: str = "p", **entry: Any) -> PluginConfig:
    file = folder / f"{name}.py"
    file.write_text(HEAD + textwrap.indent(textwrap.dedent(text), "    "))
    file.chmod(0o600)
    return PluginConfig(name, path=file, **entry)


class Client:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def reply(self) -> str:
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

    async def begin(self, recipient: str = "a@example.org") -> None:
        assert (await self.reply()).startswith("220")
        assert (await self.say("EHLO client.example")).startswith("250")
        assert (await self.say("MAIL FROM:<s@example.net>")).startswith("250")
        assert (await self.say(f"RCPT TO:<{recipient}>")).startswith("250")

    async def send(self, message: str = "Subject: x\r\nX-Old: 1\r\n\r\nbody\r\n") -> str:
        await self.begin()
        assert (await self.say("DATA")).startswith("354")
        return await self.say(message + ".")


def server(*plugins: PluginConfig):
    return open_test_server(attrs.evolve(DEFAULT, plugins=plugins), zone=ZONE)


async def stored(running) -> bytes:
    (entry,) = await running.spool.list(QueueFilter(), limit=10)
    message = await running.spool.stored(entry.id)
    async with running.spool.open_body(message) as body:
        return message.prefix + await body.read()


async def test_a_refusal_at_connect_turns_the_client_away(tmp_path, autojump_clock):
    entry = plugin(
        tmp_path, '@hook("connect")\nasync def f(self, session): return Reject(session.peer, code=554)'
    )
    async with server(entry) as running:
        client = Client(running.connect())
        assert await client.reply() == "554 mx.example.org 192.0.2.200"


@pytest.mark.parametrize(
    ("hook", "lines"),
    [
        ("hello", ["EHLO c.example"]),
        ("mail", ["EHLO c.example", "MAIL FROM:<s@example.net>"]),
        ("rcpt", ["EHLO c.example", "MAIL FROM:<s@example.net>", "RCPT TO:<a@example.org>"]),
        ("data", ["EHLO c.example", "MAIL FROM:<s@example.net>", "RCPT TO:<a@example.org>", "DATA"]),
    ],
)
async def test_a_command_is_refused_and_undone_and_may_be_said_again(tmp_path, autojump_clock, hook, lines):
    text = f"""
    times = 0
    @hook("{hook}")
    async def f(self):
        self.times += 1
        return Defer("Once more", enhanced="4.7.9") if self.times == 1 else None
    """
    async with server(plugin(tmp_path, text)) as running:
        client = Client(running.connect())
        await client.reply()
        for line in lines[:-1]:
            assert (await client.say(line)).startswith("250")
        assert await client.say(lines[-1]) in ("451 4.7.9 Once more", "451 Once more")
        assert (await client.say(lines[-1]))[:3] in ("250", "354")


async def test_the_hook_for_the_message_is_told_what_the_checks_found(tmp_path, autojump_clock):
    text = """
    @hook("message")
    async def f(self, results):
        found = " ".join(f"{each.method}={each.result}" for each in results)
        return Reject(found)
    """
    async with server(plugin(tmp_path, text)) as running:
        message = "From: <s@example.net>\r\n\r\nbody\r\n"
        assert await Client(running.connect()).send(message) == "550 5.7.1 spf=none dkim=none dmarc=none"


async def test_a_refused_recipient_gets_no_mail(tmp_path, autojump_clock):
    text = """
    @hook("rcpt")
    async def f(self, recipient):
        return Reject("No \\u2603") if recipient.startswith("no@") else None
    """
    async with server(plugin(tmp_path, text)) as running:
        client = Client(running.connect())
        await client.begin()
        assert await client.say("RCPT TO:<no@example.org>") == "550 5.7.1 No ?"
        assert (await client.say("RCPT TO:<a@example.org>")).startswith("250")
        assert (await client.say("DATA")).startswith("354")
        assert (await client.say("\r\nx\r\n.")).startswith("250")
        assert running.seen(MessageAccepted)[0].recipients == ("a@example.org",)


@pytest.mark.parametrize("hook", ["headers", "body", "message"])
async def test_a_message_is_refused_at_its_end(tmp_path, autojump_clock, hook):
    argument = "chunk" if hook == "body" else "message"
    text = f'@hook("{hook}")\nasync def f(self, {argument}): return Reject("Not this", code=554, enhanced="5.6.0")'
    async with server(plugin(tmp_path, text)) as running:
        client = Client(running.connect())
        assert await client.send() == "554 5.6.0 Not this"
        assert running.seen(MessageRejected)[0].reason == "plugin p"
        assert (await client.say("NOOP")).startswith("250")


async def test_a_message_is_seen_whole_and_changed_whole(tmp_path, autojump_clock):
    text = """
    @hook("message")
    async def f(self, message, envelope):
        assert message.header("subject") == "x"
        assert b"".join(message.chunks()).endswith(b"body\\r\\n")
        return Changes(
            headers=(
                HeaderChange("add", "X-Last", "z"), HeaderChange("insert", "X-First", "a"),
                HeaderChange("replace", "Subject", "new " + "word " * 30), HeaderChange("remove", "X-Old"),
            ),
            recipients=(RecipientChange("add", "b@example.org"), RecipientChange("remove", "a@example.org")),
            sender="other@example.net", priority=3,
        )
    """
    async with server(plugin(tmp_path, text)) as running:
        assert (await Client(running.connect()).send()).startswith("250")
        accepted = running.seen(MessageAccepted)[0]
        assert accepted.recipients == ("b@example.org",)
        assert accepted.sender == "other@example.net"
        (entry,) = await running.spool.list(QueueFilter(), limit=10)
        content = await stored(running)
        head, _, body = content.partition(b"\r\n\r\n")
        assert body == b"body\r\n"
        assert b"X-Old" not in head
        assert head.endswith(b"X-Last: z")
        assert b"\r\nX-First: a\r\nSubject: new word" in head
        assert all(len(line) <= 78 for line in head.split(b"\r\n"))
        assert entry.id == accepted.message


async def test_the_end_of_a_session_is_told(tmp_path, autojump_clock):
    text = """
    @hook("connect")
    async def f(self): return Answer(notes={"word": "x"})
    @hook("disconnect")
    async def g(self, session, reason, notes):
        self.context.metrics.count(f"{session.hello} {reason} {notes['p.word']}")
    """
    async with server(plugin(tmp_path, text)) as running:
        client = Client(running.connect())
        await client.begin()
        client.stream.reset()
        await trio.sleep(1)
        (status,) = running.server.facts.plugins.statuses()
        assert status.measured.values == {"client.example reset x": 1}


async def test_a_change_that_cannot_be_made_changes_nothing_and_defers(tmp_path, autojump_clock):
    text = """
    @hook("message")
    async def f(self):
        return Changes(sender="s2@example.net", recipients=(RecipientChange("add", "no address"),))
    """
    async with server(plugin(tmp_path, text)) as running:
        assert (await Client(running.connect()).send()).startswith("451")
        assert running.seen(MessageRejected)[0].sender == "s@example.net"
        assert not running.seen(MessageAccepted)


@pytest.mark.parametrize("decision", ["Hold('look')", "Quarantine('virus')"])
async def test_a_held_message_waits_for_an_operator(tmp_path, autojump_clock, decision):
    text = f'@hook("message")\nasync def f(self): return {decision}'
    async with server(plugin(tmp_path, text)) as running:
        assert (await Client(running.connect()).send()).startswith("250")
        await trio.sleep(1)
        totals = await running.spool.totals()
        assert totals.held == 1
        assert not running.seen(RecipientDelivered)


async def test_a_discarded_message_is_answered_and_told_and_not_kept(tmp_path, autojump_clock):
    text = '@hook("message")\nasync def f(self): return Discard("spam trap")'
    async with server(plugin(tmp_path, text)) as running:
        assert (await Client(running.connect()).send()).startswith("250 2.0.0")
        assert running.seen(MessageRejected)[0].reason == "discarded: plugin p: spam trap"
        assert (await running.spool.totals()).queued == 0


async def test_a_redirected_message_goes_elsewhere(tmp_path, autojump_clock):
    text = '@hook("message")\nasync def f(self): return Redirect(("box@example.org",))'
    async with server(plugin(tmp_path, text)) as running:
        peer = SinkPeer()
        running.network.listen("192.0.2.25", 25, peer.serve)
        assert (await Client(running.connect()).send()).startswith("250")
        assert (await running.wait_for(RecipientDelivered)).recipient == "box@example.org"


FAILURES = {
    "error": "raise ValueError('x')",
    "exit": "raise SystemExit(3)",
    "group": "raise BaseExceptionGroup('g', [KeyboardInterrupt()])",
    "hang": "await trio.sleep_forever()",
    "swallow": "\n    while True:\n        try: await trio.sleep_forever()\n        except trio.Cancelled: pass",
    "scope": "self.s = trio.CancelScope(); self.s.__enter__()",
    "nursery": "self.n = trio.open_nursery(); await self.n.__aenter__()",
    "nonsense": "return 42",
}
POINTS = ["connect", "hello", "mail", "rcpt", "data", "headers", "body", "message"]


@pytest.mark.parametrize("what", [OnFailure.DEFER, OnFailure.CONTINUE, OnFailure.REJECT, OnFailure.HOLD])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("way", list(FAILURES))
async def test_each_failure_at_each_hook_gives_its_verdict_and_loses_no_mail(
    tmp_path, autojump_clock, way, point, what
):
    entry = plugin(
        tmp_path,
        f'@hook("{point}")\nasync def f(self):\n    {FAILURES[way]}',
        timeout=2.0,
        on_error=what,
        on_timeout=what,
        on_crash=what,
        domains=(),
    )
    with trio.fail_after(120):
        async with server(entry) as running:
            client = Client(running.connect())
            said = [await client.reply()]
            for line in (
                "EHLO c.example",
                "MAIL FROM:<s@example.net>",
                "RCPT TO:<a@example.org>",
                "DATA",
                "Subject: x\r\n\r\nbody\r\n.",
            ):
                if said[-1][:1] in "45":
                    break
                said.append(await client.say(line))
            failed = running.seen(PluginCallFailed)
            assert {event.hook for event in failed} == {point}
            totals = await running.spool.totals()
            expected = {OnFailure.DEFER: "4", OnFailure.REJECT: "5"}.get(what, "2")
            assert said[-1][:1] == expected
            assert totals.queued + totals.held == (expected == "2")
            assert bool(totals.held) is (what is OnFailure.HOLD)


async def test_a_session_beside_a_hanging_one_is_not_kept_waiting(tmp_path, autojump_clock):
    text = """
    @hook("mail")
    async def f(self, session):
        if session.hello == "slow.example":
            await trio.sleep_forever()
    """
    async with server(plugin(tmp_path, text, timeout=10.0)) as running:
        slow = Client(running.connect())
        await slow.reply()
        await slow.say("EHLO slow.example")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.say, "MAIL FROM:<s@example.net>")
            before = trio.current_time()
            assert (await Client(running.connect()).send()).startswith("250")
            assert trio.current_time() == before


async def test_the_shipped_hello_refuses_nobody(autojump_clock):
    folder = Path(__file__).parents[2] / "plugins" / "hello"
    async with server(PluginConfig("hello", path=folder)) as running:
        client = Client(running.connect())
        await client.begin()
        assert await client.say("RCPT TO:<nobody@example.org>") == "550 5.7.1 Hello, nobody reads this"


async def test_notes_of_a_message_end_with_it_and_those_of_the_session_stay(tmp_path, autojump_clock):
    text = """
    @hook("connect")
    async def c(self): return Answer(notes={"of": "session"})
    @hook("rcpt")
    async def r(self, recipient): return Answer(notes={recipient: True})
    @hook("data")
    async def d(self, notes):
        return Reject(" ".join(sorted(notes)), code=554)
    """
    async with server(plugin(tmp_path, text)) as running:
        client = Client(running.connect())
        await client.begin("a@example.org")
        assert await client.say("DATA") == "554 5.7.1 p.a@example.org p.of"
        await client.say("RSET")
        await client.say("MAIL FROM:<s@example.net>")
        await client.say("RCPT TO:<b@example.org>")
        assert await client.say("DATA") == "554 5.7.1 p.b@example.org p.of"


async def test_a_check_that_failed_holds_the_message_it_was_about_and_no_other(tmp_path, autojump_clock):
    text = """
    @hook("rcpt")
    async def f(self, recipient): assert recipient != "a@example.org"
    """
    entry = plugin(tmp_path, text, on_error=OnFailure.HOLD)
    async with server(entry) as running:
        client = Client(running.connect())
        await client.begin("a@example.org")
        await client.say("RSET")
        await client.say("MAIL FROM:<s@example.net>")
        await client.say("RCPT TO:<b@example.org>")
        await client.say("DATA")
        assert (await client.say("x\r\n.")).startswith("250")
        assert not (await running.spool.totals()).held


async def test_a_check_of_the_session_that_failed_holds_each_of_its_messages(tmp_path, autojump_clock):
    entry = plugin(tmp_path, '@hook("connect")\nasync def f(self): assert False', on_error=OnFailure.HOLD)
    async with server(entry) as running:
        client = Client(running.connect())
        assert (await client.send()).startswith("250")
        await client.say("MAIL FROM:<s@example.net>")
        await client.say("RCPT TO:<b@example.org>")
        await client.say("DATA")
        assert (await client.say("x\r\n.")).startswith("250")
        assert (await running.spool.totals()).held == 2
