"""What authors of plugins test with: the fixture `mta`, its parts, and how it tells of a plugin that fails."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest
import trio
import trio.testing

from elemta.config import SettingsError
from elemta.plugin.api import HttpAnswer
from elemta.testing import Mta, PluginBroken, open_mta
from elemta.testing.kit import OWN

TOP = Path(__file__).parents[2]
HEAD = """
import trio
from elemta.plugin.api import *


class P(Plugin[NoConfig]):
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a plugin of these methods."""

    def make(methods: str, name: str = "p") -> Path:
        file = tmp_path / f"{name}.py"
        file.write_text(HEAD + textwrap.indent(textwrap.dedent(methods), "    "))
        file.chmod(0o600)
        return file

    return make


# --- Without plugins ------------------------------------------------------------------------------------------


async def test_mail_goes_in_and_out(mta: Mta) -> None:
    sent = await mta.send(subject="Grüße", headers={"X-Test": "1", "from": "Alice <alice@client.example>"})
    sent.assert_accepted()
    letter = mta.letter(to="bob@example.org")
    assert (letter.domain, letter.sender) == ("example.org", "alice@client.example")
    assert (letter.header("subject"), letter.header("x-test")) == ("Grüße", "1")
    assert letter.headers("From") == ["Alice <alice@client.example>"]
    assert letter.body == b"Hello.\r\n"
    assert mta.queue == []
    assert [each.message for each in mta.seen("recipient.delivered")] == [sent.message]


async def test_a_domain_that_nobody_named_takes_mail_too_and_only_our_own_may_send_there(mta: Mta) -> None:
    (await mta.send("carol@else.example")).assert_rejected(code=550)
    (await mta.send("carol@else.example", peer=OWN)).assert_accepted()
    assert mta.letter().domain == "else.example"


async def test_an_account_may_send_anywhere(mta: Mta) -> None:
    (await mta.send("carol@else.example", account="bob@example.org")).assert_accepted()
    assert [each.account for each in mta.seen("session.authenticated")] == ["bob@example.org"]
    async with mta.session(account="bob@example.org") as client:
        assert (await client.mail("bob@example.org")).code == 250


async def test_a_remote_answers_as_told_and_days_pass_at_once(mta: Mta) -> None:
    remote = mta.remote("else.example")
    remote.reply("RCPT", "452 4.2.2 mailbox full")
    await mta.send("carol@else.example", peer=OWN)
    (waiting,) = mta.queue
    assert (waiting.state, waiting.recipient, waiting.attempts) == ("queued", "carol@else.example", 1)
    assert "mailbox full" in waiting.reply
    assert 200 < (waiting.wait or 0) < 400
    await mta.advance("2h")
    assert mta.queue[0].attempts > 2
    remote.reply("RCPT", None)
    await mta.advance("3h")
    assert mta.letter().recipients == ("carol@else.example",)


async def test_mail_that_expires_comes_back(mta: Mta) -> None:
    mta.remote("else.example").down()
    await mta.send("carol@else.example", sender="bob@example.org", peer=OWN)
    await mta.advance("6d")
    assert mta.queue == []
    # A notice of the delay and one of the failure
    assert [(each.sender, each.recipients) for each in mta.delivered] == [("", ("bob@example.org",))] * 2
    mta.remote("else.example").up()
    await mta.send("carol@else.example", peer=OWN)
    mta.letter(to="carol@else.example")


async def test_a_domain_can_be_missing(mta: Mta) -> None:
    mta.dns.missing.add("gone.example")
    await mta.send("carol@gone.example", sender="bob@example.org", peer=OWN)
    assert mta.letter().sender == ""


async def test_a_session_by_hand(mta: Mta) -> None:
    async with mta.session(peer="203.0.113.9", hello=None) as client:
        assert client.greeting is not None
        assert client.greeting.code == 220
        assert (await client.rcpt("bob@example.org")).code == 503
        await client.hello("me.example")
        assert (await client.mail("")).code == 250
        assert (await client.rcpt("bob@example.org")).code == 250
        assert (await client.data(b"Subject: x\r\n\r\n.dot\r\n")).code == 250
    await mta.settle()
    assert mta.letter().body == b".dot\r\n"
    assert client.transcript[-1].startswith("S: 221 ")
    assert mta.seen("session.opened")[0].peer == "203.0.113.9"


async def test_messages_in_many_forms(mta: Mta) -> None:
    message = EmailMessage()
    message["From"], message["Subject"] = "alice@client.example", "by the library"
    message.set_content("x\n")
    for content in (message, "Subject: text\n\nx\n", b"Subject: octets\r\n\r\n\xff\r\n"):
        (await mta.send(content=content)).assert_accepted()
    subjects = [each.header("Subject") for each in mta.delivered]
    assert subjects == ["by the library", "text", "octets"]
    with pytest.raises(AssertionError, match="3 messages were delivered, not 1\ndelivered:\n"):
        mta.letter()


async def test_what_was_refused_is_told_with_the_dialogue(mta: Mta) -> None:
    sent = await mta.send("x@nowhere.example")
    with pytest.raises(
        AssertionError, match=r"(?s)not accepted:.*C: RCPT TO:<x@nowhere.example>\nS: 550 5.7.1"
    ):
        sent.assert_accepted()
    with pytest.raises(AssertionError, match="not deferred"):
        sent.assert_deferred()
    with pytest.raises(AssertionError, match="does not say 'nonsense'"):
        sent.assert_rejected("nonsense")
    with pytest.raises(AssertionError, match="the code is 550 and not 554"):
        sent.assert_rejected(code=554)


@pytest.mark.mta(
    "[queue]\nretry = ['1m']\n[domains]\nlocal = ['a.example', 'example.org']\n[[routes]]\nmatch = '*'\ntransport = 'discard'"
)
async def test_settings_are_those_of_the_file(mta: Mta) -> None:
    (await mta.send("x@a.example")).assert_accepted()
    assert mta.delivered == []
    assert len(mta.seen("recipient.delivered")) == 1


# --- With plugins ---------------------------------------------------------------------------------------------


async def test_what_a_plugin_decides_counts_and_logs(
    write: Callable[[str], Path], autojump_clock: trio.testing.MockClock
) -> None:
    plugin = write(
        """
        @hook("message")
        async def look(self, message: MessageView) -> Answer:
            self.context.metrics.count("seen")
            self.context.log.warning("hmm", subject=message.header("Subject"))
            if message.header("Subject") == "odd":
                return Quarantine("odd")
            return add_header("X-Seen", "1")
        """
    )
    async with open_mta(plugin) as mta:
        await mta.send()
        await mta.send(subject="odd")
        assert mta.letter().header("X-Seen") == "1"
        (held,) = mta.queue
        assert (held.state, held.wait) == ("held", None)
        assert "odd" in held.reason
        assert [each.decision for each in mta.decisions("p")] == ["Continue", "Quarantine"]
        assert mta.counts() == {"seen": 2}
        assert [each["subject"] for each in mta.log if each["text"] == "hmm"] == ["Hello", "odd"]


async def test_web_services_and_others_are_played(
    write: Callable[[str], Path], autojump_clock: trio.testing.MockClock
) -> None:
    plugin = write(
        """
        @hook("rcpt")
        async def ask(self, recipient: str) -> Reject | None:
            for url in ("http://a.example:81/x", "http://localhost/x"):
                answer = await self.context.http.request("POST", url, body=recipient.encode())
                if answer.body != b"yes":
                    return Reject("The service says no")
            await self.context.http.request("GET", "http://x/", through="unix:/run/x")
            async with self.context.connect("192.0.2.7:3310") as stream:
                await stream.send_all(b"PING")
            return None
        """
    )
    pinged = []

    async def ping(stream: trio.abc.Stream) -> None:
        pinged.append(await stream.receive_some())

    async with open_mta(plugin) as mta:
        service = mta.http("http://a.example:81/", HttpAnswer(200, body=b"yes"))
        local = mta.http("http://localhost", lambda request: HttpAnswer(200, body=b"no"))
        socket = mta.http("unix:/run/x")
        mta.listen("192.0.2.7:3310", ping)
        (await mta.send()).assert_rejected("The service says no")
        local.answer = service.answer
        (await mta.send()).assert_accepted()
        assert [(each.method, each.target, each.body) for each in service.requests] == [
            ("POST", "/x", b"bob@example.org")
        ] * 2
        assert (len(socket.requests), pinged) == (1, [b"PING"])
        with pytest.raises(ValueError, match="only http://"):
            mta.http("https://a.example/")


async def test_periodic_tasks_run_while_time_passes(
    write: Callable[[str], Path], autojump_clock: trio.testing.MockClock
) -> None:
    plugin = write(
        """
        @periodic(3600)
        async def hourly(self) -> None:
            self.context.metrics.count("hours")
        """
    )
    async with open_mta(plugin) as mta:
        await mta.advance("1d")
        assert mta.counts("p") == {"hours": 25}  # at once, and after each hour


# --- Plugins that fail ----------------------------------------------------------------------------------------

RAISES = """
@hook("rcpt")
async def check(self, recipient: str) -> None:
    raise ValueError("boom")
"""


async def test_an_error_is_told_with_its_place(
    write: Callable[[str], Path], autojump_clock: trio.testing.MockClock
) -> None:
    plugin = write(RAISES)
    line = 1 + plugin.read_text().split("\n").index('        raise ValueError("boom")')
    with pytest.raises(PluginBroken) as caught:
        async with open_mta(plugin) as mta:
            await mta.send()
    assert str(caught.value) == (
        f"plugin p failed at the hook rcpt (error): ValueError: boom ({plugin}:{line})"
    )


async def test_a_failure_may_be_the_subject(
    write: Callable[[str], Path], autojump_clock: trio.testing.MockClock
) -> None:
    async with open_mta({"path": str(write(RAISES)), "on_error": "reject"}) as mta:
        mta.failures_allowed = True
        (await mta.send()).assert_rejected()
        assert len(mta.failures) == 1


@pytest.mark.parametrize(
    ("methods", "complaint"),
    [
        (
            "@hook('connect')\nasync def slow(self): await trio.sleep(11)",
            r"hook connect \(timeout\): no answer",
        ),
        ("@hook('startup')\nasync def start(self): 1 / 0", r"hook startup .*ZeroDivisionError.*p.py:\d+"),
        ("@hook('delivered')\nasync def see(self, outcome): 1 / 0", r"hook delivered .*ZeroDivisionError"),
        ("@hook('rcpt')\nasync def no(self): return 'no'", r"hook rcpt .*answered with str"),
        (
            "@background\nasync def run(self): await trio.sleep(9); 1 / 0",
            r"plugin p crashed: ZeroDivision.*p.py:\d+",
        ),
    ],
)
async def test_all_failures_are_told(
    write: Callable[[str], Path], autojump_clock: trio.testing.MockClock, methods: str, complaint: str
) -> None:
    with pytest.raises(PluginBroken, match=complaint):
        async with open_mta(write(methods)) as mta:
            await mta.send()
            await mta.advance("10s")


async def test_a_plugin_that_cannot_be_loaded_is_told(
    write: Callable[[str], Path], autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(SettingsError, match="there is no hook 'nonsense'"):
        async with open_mta(write("@hook('nonsense')\nasync def check(self): ...")):
            pass


# --- In somebody's own project --------------------------------------------------------------------------------


def test_without_trio_mode_and_with_marks(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(
        textwrap.dedent(
            """
            import attrs
            from elemta.plugin.api import Plugin, Reject, hook

            @attrs.frozen
            class Settings:
                names: tuple[str, ...] = ("root",)

            class P(Plugin[Settings]):
                Config = Settings

                @hook("rcpt")
                async def check(self, recipient: str) -> Reject | None:
                    return Reject("no") if recipient.partition("@")[0] in self.config.names else None
            """
        )
    )
    (tmp_path / "plugin.py").chmod(0o600)
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import pytest

            async def test_default(mta):
                (await mta.send("root@example.org")).assert_rejected("no")

            @pytest.mark.plugin(config={"names": ["admin"]}, name="first")
            @pytest.mark.plugin(config={"names": ["ada"]}, name="second")
            async def test_marks(mta):
                (await mta.send("root@example.org")).assert_accepted()
                (await mta.send("admin@example.org")).assert_rejected("no")
                (await mta.send("ada@example.org")).assert_rejected("no")
                assert [each.plugin for each in mta.decisions()] == ["first", "second"]

            @pytest.mark.plugin(config={"nmaes": []})
            async def test_mistake(mta):
                pass
            """
        )
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "elemta.testing.pytest_plugin",
            "--tb=short",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP)},
        check=False,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "nmaes" in done.stdout
