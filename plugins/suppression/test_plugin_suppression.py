"""Return paths, bounces and the list of addresses, in a whole server."""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from elemta.config import SettingsError
from elemta.spool import Suppressed, Suppression, SuppressionUnavailable
from elemta.testing import Mta, PluginBroken, open_mta
from elemta.testing.kit import OWN

HERE = str(Path(__file__).with_name("plugin.py"))
NEWS = "news@example.org"
SETTINGS = """
[domains]
local = ["example.org", "bounces.example.org"]
[[routes]]
match = "example.org"
transport = "smtp"
host = "mx.example.org"
[[routes]]
match = "bounces.example.org"
transport = "smtp"
host = "192.0.2.1"
"""


@asynccontextmanager
async def sending(folder: Path, **config: Any) -> AsyncIterator[Mta]:
    secret = folder / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    settings = {
        "senders": ["example.org"],
        "domain": "bounces.example.org",
        "secret_file": str(secret),
        **config,
    }
    async with open_mta({"path": HERE, "config": settings, "timeout": "10s"}, settings=SETTINGS) as mta:
        mta.listen_itself("192.0.2.1:25", peer="192.0.2.1")
        yield mta


async def send(mta: Mta, *to: str, sender: str = NEWS) -> Any:
    return await mta.send(list(to), sender=sender, account=NEWS)


def bounce(status: str, recipient: str, action: str = "failed", more: str = "") -> str:
    return f"""From: MAILER-DAEMON@far.example
To: x
Subject: Undelivered
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.far.example

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
{more}
--b--
"""


async def come_back(mta: Mta, path: str, content: str) -> Any:
    return await mta.send(path, sender="", content=content)


async def test_mail_goes_out_with_a_return_path_that_only_we_can_make(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with sending(tmp_path, lifetime="2h") as mta:
        await send(mta, "bob@far.example")
        path = mta.letter().sender
        local, _, domain = path.partition("@")
        assert (local[:8], len(local), domain) == ("bounces+", 40, "bounces.example.org")
        forged = local[:-1] + ("a" if local[-1] != "a" else "b")
        for wrong in (forged, "bounces+", "bounces+x", "bounces+" + "a" * 32, f"{local}a"):
            (await mta.send(f"{wrong}@{domain}", sender="")).assert_rejected("No such return path")
        await mta.send("dave@example.org", sender="x@far.example")
        await send(mta, "carol@far.example", sender="news@other.example")
        assert [each.sender for each in mta.delivered[1:]] == ["x@far.example", "news@other.example"]
        await mta.advance("185m")
        (await come_back(mta, path, bounce("5.1.1", "bob@far.example"))).assert_rejected("its time is over")


async def test_who_bounced_for_good_gets_nothing_more_and_the_sender_is_told(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with sending(tmp_path, keep="2h") as mta:
        await send(mta, "Bob@far.example", "carol@far.example")
        path = mta.letter().sender
        content = bounce("5.0.0", "bob@FAR.example", more="Diagnostic-Code: smtp; 550 5.1.1 no such user")
        await come_back(mta, path.upper(), content)
        assert mta.delivered[-1].recipients == (NEWS,)
        assert mta.delivered[-1].header("Subject") == "Undelivered"
        sent = await send(mta, "bob@far.example", "carol@far.example")
        assert str(sent.refused["bob@far.example"]) == "550 5.1.6 This address does not exist any more: 5.1.1"
        assert mta.delivered[-1].recipients == ("carol@far.example",)
        # mail of others is not our affair
        (await send(mta, "bob@far.example", sender="news@other.example")).assert_accepted()
        assert mta.counts() == {"bounces": 1, "suppressed": 1, "rejected": 1}
        await mta.advance("2h")
        (await send(mta, "bob@far.example")).assert_accepted()


async def test_failures_for_now_count(tmp_path: Path, autojump_clock: object) -> None:
    async with sending(tmp_path, soft_limit=3, forward=False) as mta:
        for number in range(3):
            (await send(mta, "bob@far.example")).assert_accepted()
            path = mta.delivered[-1].sender
            await come_back(mta, path, bounce("4.4.1", "bob@far.example", "delayed"))
            await come_back(mta, path, bounce(("4.4.7", "5.2.2", "5.7.1")[number], "bob@far.example"))
        (await send(mta, "bob@far.example")).assert_rejected("5.7.1, again and again")
        assert len(mta.delivered) == 3
        assert mta.counts()["soft bounces"] == 3


async def test_old_failures_for_now_are_forgotten(tmp_path: Path, autojump_clock: object) -> None:
    async with sending(tmp_path, soft_limit=2, soft_window="1h") as mta:
        for _ in range(3):
            await send(mta, "bob@far.example")
            path = next(each.sender for each in reversed(mta.delivered) if each.domain == "far.example")
            await come_back(mta, path, bounce("4.4.7", "bob@far.example"))
            await mta.advance("61m")
        (await send(mta, "bob@far.example")).assert_accepted()


async def test_what_a_next_hop_says_at_once_counts_and_our_notice_reaches_the_sender(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with sending(tmp_path) as mta:
        mta.remote("far.example").reply("RCPT", "550 5.1.1 No such user")
        await send(mta, "bob@far.example")
        await mta.settle()
        notice = mta.letter(to=NEWS)
        assert notice.sender == ""
        assert b"Action: failed" in notice.content
        (await send(mta, "bob@far.example")).assert_rejected("5.1.1")
        mta.remote("far.example").reply("RCPT", "550 5.7.1 We do not like you")
        await send(mta, "carol@far.example")
        (await send(mta, "carol@far.example")).assert_accepted()


async def test_the_sender_need_not_be_told(tmp_path: Path, autojump_clock: object) -> None:
    async with sending(tmp_path, suppressed="discard") as mta:
        await send(mta, "bob@far.example")
        await come_back(mta, mta.letter().sender, bounce("5.1.1", "bob@far.example"))
        (await send(mta, "bob@far.example", "carol@far.example")).assert_accepted()
        assert mta.delivered[-1].recipients == ("carol@far.example",)
        count = len(mta.delivered)
        (await send(mta, "bob@far.example")).assert_accepted()
        assert len(mta.delivered) == count
        assert mta.counts()["left out"] == 2


async def test_a_bounce_suppresses_nobody_but_recipients_of_its_message(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with sending(tmp_path) as mta:
        await send(mta, "bob@far.example", "carol@far.example")
        path = mta.letter().sender
        await come_back(mta, path, bounce("5.1.1", "victim@far.example"))
        (await send(mta, "victim@far.example")).assert_accepted()
        await come_back(mta, path, "Subject: I am away\n\nSo long.\n")
        assert mta.delivered[-1].recipients == (NEWS,)
        assert mta.counts() == {"bounces": 1, "bounces of nobody known": 1, "other answers": 1}
        await send(mta, "bob@far.example")
        # of one recipient alone, whatever name the other side has for it
        await come_back(mta, mta.delivered[-1].sender, bounce("5.1.1", "bob.b@inside.far.example"))
        (await send(mta, "bob@far.example")).assert_rejected()
        (await mta.send([path, "dave@example.org"], sender="")).assert_rejected("has one recipient")


async def test_the_list_can_be_changed_by_hand(tmp_path: Path, autojump_clock: object) -> None:
    file = tmp_path / "list"
    file.write_text("Stop@far.example  # asked us to\nnonsense\n")
    async with sending(tmp_path, file=str(file)) as mta:
        (await send(mta, "stop@far.example")).assert_rejected("suppressed")
        assert [each["reason"] for each in mta.log if "left out" in each["text"]] == [
            f"{file}:2: 'nonsense' is no address"
        ]
        await send(mta, "bob@far.example")
        path = mta.letter().sender
        await come_back(mta, path, bounce("5.1.1", "bob@far.example"))
        (await send(mta, "bob@far.example")).assert_rejected()
        file.write_text("! bob@far.example\n")
        os.utime(file, (1, 1))
        await mta.advance("1m")
        (await send(mta, "bob@far.example")).assert_accepted()
        (await send(mta, "stop@far.example")).assert_accepted()
        await come_back(mta, path, bounce("5.1.1", "bob@far.example"))
        file.write_text("\n")
        await mta.advance("1m")
        (await send(mta, "bob@far.example")).assert_accepted()
        file.unlink()
        await mta.advance("1m")
        assert any(each["text"] == "the file of addresses cannot be read" for each in mta.log)


async def test_what_is_known_outlives_the_instance(tmp_path: Path, autojump_clock: object) -> None:
    async with sending(tmp_path) as mta:
        await send(mta, "bob@far.example")
        path = mta.letter().sender
        await mta.server.server.facts.keeper.reload("suppression")  # type: ignore[union-attr]
        await come_back(mta, path, bounce("5.1.1", "bob@far.example"))
        await mta.server.server.facts.keeper.reload("suppression")  # type: ignore[union-attr]
        (await send(mta, "bob@far.example")).assert_rejected("5.1.1")


@pytest.mark.parametrize(
    "content",
    [
        bounce("5.1.1", "x" * 400 + "@far.example"),
        bounce("five", "bob@far.example"),
        bounce("5.1.1", "bob@far.example", ""),
        bounce("5.1.1", "bob"),
        bounce("5.1.1", "bob@far.example").replace("rfc822;", "x400;"),
        bounce("5.1.1", "bob@far.example").replace("\n\n", "\n"),
        "Content-Type: message/delivery-status\n\nx",
        "Content-Type: multipart/report; boundary=b\n\n" + "--b\n" * 5000,
        "x" * 900,
    ],
)
async def test_what_makes_no_sense_suppresses_nobody(
    tmp_path: Path, autojump_clock: object, content: str
) -> None:
    async with sending(tmp_path) as mta:
        await send(mta, "bob@far.example", "carol@far.example")
        (await come_back(mta, mta.letter().sender, content)).assert_accepted()
        (await send(mta, "bob@far.example")).assert_accepted()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"domain": "-"}, "domain is '-'"),
        ({"prefix": "A+"}, "prefix"),
        ({"suppressed": "hold"}, "not one of reject"),
        ({"soft_limit": -1}, "soft_limit"),
    ],
)
async def test_mistaken_settings_are_refused(
    tmp_path: Path, autojump_clock: object, config: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        async with sending(tmp_path, **config):
            pass


@pytest.mark.parametrize(("content", "complaint"), [("short", "16 octets"), (None, "cannot be read")])
async def test_a_secret_that_is_none_is_told(
    tmp_path: Path, autojump_clock: object, content: str | None, complaint: str
) -> None:
    other = tmp_path / "other"
    if content is not None:
        other.write_text(content)
    with pytest.raises(PluginBroken, match=complaint):
        async with sending(tmp_path, secret_file=str(other)):
            pass


def test_a_value_of_the_state_holds_the_most_recipients() -> None:
    from elemta.config import parse_config
    from elemta.plugin import load_plugin

    toml = Path(HERE).with_name("plugin.toml").read_text()
    (entry,) = parse_config(f'hostname = "x.example"\n{toml}', "test").plugins
    load_plugin(entry)
    memory = sys.modules["elemta_plugin_suppression.memory"]
    kept: dict[str, bytes] = {}

    class State:
        def put(self, key: str, value: bytes, seconds: float) -> None:
            kept[key] = value

    many = tuple(f"{number}@far.example" for number in range(300))
    memory.Memory(None, State(), None, 1, 1, 1).remember(
        b"123456", memory.Sent.of("s" * 300 + "@x.example", many), 1
    )
    (value,) = kept.values()
    assert len(value) <= 4096


def notice() -> Any:
    """The module of that name beside the plugin."""
    return runpy.run_path(str(Path(HERE).with_name("notice.py")))


def nested(depth: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (each, each)
        for each in range(depth)
    )


@pytest.mark.parametrize(
    "content",
    [
        nested(150) + b"\r\n" + b"--\n" * 80_000,
        nested(2000),
        b'Content-Type: multipart/mixed; a="' + b";" * 200_000 + b'"; boundary=x\r\n\r\n--x\r\n\r\n',
    ],
    ids=["lines", "depth", "parameters"],
)
def test_a_notice_that_is_made_to_cost_time_costs_little(content: bytes) -> None:
    began = time.process_time()
    assert notice()["read_notice"](content) == ()
    assert time.process_time() - began < 1


def test_a_notice_in_front_of_a_message_of_many_parts_is_read() -> None:
    content = bounce("5.1.1", "bob@far.example").replace("\n--b--", "\n--b\n").encode()
    content += b"Content-Type: message/rfc822\n\n" + nested(100) + b"x\n--b--\n"
    (told,) = notice()["read_notice"](content)
    assert (told.addresses, told.status) == (("bob@far.example",), "5.1.1")


async def test_several_failures_of_one_recipient_in_one_bounce_count_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    again = "".join(
        f"\nFinal-Recipient: rfc822; {each}@far.example\nOriginal-Recipient: rfc822; bob@far.example\n"
        "Action: failed\nStatus: 4.2.2\n"
        for each in "abcdef"
    )
    async with sending(tmp_path, soft_limit=2) as mta:
        await send(mta, "bob@far.example")
        await come_back(mta, mta.letter().sender, bounce("4.2.2", "bob@far.example", more=again))
        (await send(mta, "bob@far.example")).assert_accepted()


@pytest.mark.parametrize("status", ["5.1.7", "5.1.8"])
async def test_what_is_wrong_with_the_sender_suppresses_no_recipient(
    tmp_path: Path, autojump_clock: object, status: str
) -> None:
    async with sending(tmp_path) as mta:
        await send(mta, "bob@far.example")
        await come_back(mta, mta.letter().sender, bounce(status, "bob@far.example"))
        (await send(mta, "bob@far.example")).assert_accepted()


async def test_a_message_that_has_its_return_path_keeps_it(tmp_path: Path, autojump_clock: object) -> None:
    async with sending(tmp_path, senders=["*.example.org", "example.org"]) as mta:
        await send(mta, "bob@far.example")
        path = mta.letter().sender
        await mta.send("bob@far.example", sender=path, peer=OWN)
        assert mta.delivered[-1].sender == path


async def test_what_operators_say_on_the_list_of_the_server_counts(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with sending(tmp_path) as mta:
        listed = mta.server.server.facts.suppression
        assert listed is not None
        await listed.put(
            [Suppressed("stop@far.example", "asked us"), Suppressed("vip@far.example", never=True)]
        )
        (await send(mta, "Stop@far.example")).assert_rejected("asked us")
        for _ in range(2):
            await send(mta, "vip@far.example")
            await come_back(mta, mta.delivered[-1].sender, bounce("5.1.1", "vip@far.example"))
        (await send(mta, "vip@far.example")).assert_accepted()
        await send(mta, "bob@far.example")
        await come_back(mta, mta.delivered[-1].sender, bounce("5.1.1", "bob@far.example"))
        found = await listed.find("bob@far.example")
        assert found is not None
        assert (found.why, found.source) == ("5.1.1", "suppression")
        await listed.remove(["bob@far.example"])
        (await send(mta, "bob@far.example")).assert_accepted()


async def test_a_list_that_does_not_answer_puts_mail_off(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise SuppressionUnavailable("disk I/O error")

    async with sending(tmp_path) as mta:
        mta.failures_allowed = True
        monkeypatch.setattr(Suppression, "find", fail)
        (await send(mta, "bob@far.example")).assert_deferred()
