"""What aliases send on has a sender of ours, and bounces to it find who sent it."""

from pathlib import Path

import attrs
import pytest
import trio
from inbound_bed import FRIEND, STRANGER, FakeSpool, make_config, open_bed

from elemta.config import PluginConfig, SrsConfig
from elemta.config.units import parse_network
from elemta.mail import Domain, Envelope
from elemta.testing import SinkPeer, open_test_server
from elemta.testing.server import DEFAULT

ZONE = {
    "elsewhere.example": {"MX": [(10, "mx.elsewhere.example")]},
    "mx.elsewhere.example": {"A": ["192.0.2.31"]},
    "third.example": {"MX": [(10, "mx.third.example")]},
    "mx.third.example": {"A": ["192.0.2.32"]},
}

FILE = """
alice@ours.example
team@ours.example: alice, far@elsewhere.example
away@ours.example: far@elsewhere.example
"""


def srs_config(folder: Path, *, bounces_only: bool = True):
    recipients, secrets = folder / "recipients", folder / "secrets"
    recipients.write_text(FILE)
    secrets.write_text("a-secret-of-some-length\n")
    secrets.chmod(0o600)
    config = make_config()
    return attrs.evolve(
        config,
        domains=attrs.evolve(config.domains, recipients=recipients),
        srs=SrsConfig(Domain("ours.example"), secrets, bounces_only=bounces_only),
    )


async def stored(bed, sender: str, recipients: list[str], peer: str = STRANGER) -> Envelope:
    client = bed.dial(peer)
    await client.hello()
    await client.begin(sender, recipients)
    assert (await client.data())[:3] == "250"
    envelope, *_ = list(bed.spool.stored.values())[-1]
    return envelope


def senders(envelope: Envelope) -> dict[str, str | None]:
    return {str(each.mailbox): each.sender and each.sender.local_part[:5] for each in envelope.recipients}


async def test_only_what_goes_to_a_domain_of_others_has_another_sender(autojump_clock, tmp_path):
    async with open_bed(srs_config(tmp_path), spool=FakeSpool()) as bed:
        envelope = await stored(bed, "a@else.example", ["team@ours.example"])
        assert senders(envelope) == {"alice@ours.example": None, "far@elsewhere.example": "SRS0="}
        assert str(envelope.reverse_path) == "<a@else.example>"  # our own notices go there


@pytest.mark.parametrize("sender", ["", "alice@ours.example"])
async def test_bounces_and_senders_of_our_domains_are_sent_on_as_they_are(
    autojump_clock, tmp_path, sender: str
):
    async with open_bed(srs_config(tmp_path), spool=FakeSpool()) as bed:
        envelope = await stored(bed, sender, ["away@ours.example"])
        assert senders(envelope) == {"far@elsewhere.example": None}


async def test_what_a_client_itself_sends_elsewhere_keeps_its_sender(autojump_clock, tmp_path):
    async with open_bed(srs_config(tmp_path), spool=FakeSpool()) as bed:
        envelope = await stored(
            bed, "a@else.example", ["away@ours.example", "far@elsewhere.example"], peer=FRIEND
        )
        assert senders(envelope) == {"far@elsewhere.example": None}


async def test_a_bounce_finds_the_sender_and_nobody_else_gets_anywhere(autojump_clock, tmp_path):
    async with open_bed(srs_config(tmp_path), spool=FakeSpool()) as bed:
        envelope = await stored(bed, "a@else.example", ["away@ours.example"])
        address = str(envelope.recipients[0].sender)
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<spammer@else.example>")
        assert (await client.say(f"RCPT TO:<{address}>"))[:9] == "550 5.7.1"
        await client.say("RSET")
        await client.say("MAIL FROM:<>")
        assert (await client.say(f"RCPT TO:<{address.replace('else', 'evil')}>"))[:9] == "550 5.1.1"
        assert (await client.say("RCPT TO:<SRS0=AAAAAA=AA=else.example=a@ours.example>"))[:9] == "550 5.1.1"
        assert (await client.say(f"RCPT TO:<{address.lower()}>"))[:3] == "250"
        back = await stored(bed, "", [address])
        assert senders(back) == {"a@else.example": None}
        assert back.reverse_path.is_null


async def test_where_the_configuration_says_so_anybody_may_write_to_such_an_address(autojump_clock, tmp_path):
    async with open_bed(srs_config(tmp_path, bounces_only=False), spool=FakeSpool()) as bed:
        envelope = await stored(bed, "a@else.example", ["away@ours.example"])
        back = await stored(bed, "b@third.example", [str(envelope.recipients[0].sender)])
        assert senders(back) == {"a@else.example": "SRS0="}


async def test_an_address_that_is_too_old_does_not_exist(autojump_clock, tmp_path):
    async with open_bed(srs_config(tmp_path), spool=FakeSpool()) as bed:
        envelope = await stored(bed, "a@else.example", ["away@ours.example"])
        await trio.sleep(23 * 86400)
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<>")
        assert (await client.say(f"RCPT TO:<{envelope.recipients[0].sender}>"))[:9] == "550 5.1.1"


class DictMemo:
    """Values in a dict, whatever their age."""

    def __init__(self):
        self.values = {}

    async def get(self, key):
        await trio.lowlevel.checkpoint()
        return self.values.get(key)

    def put(self, key, value, expires):
        self.values[key] = value

    def forget(self, key):
        self.values.pop(key, None)


LONG = "bounces+1234567-89ab-alice=partner.example@mailings.origin.example"


async def test_a_bounce_finds_a_sender_that_does_not_fit_into_an_address(autojump_clock, tmp_path):
    memo = DictMemo()
    async with open_bed(srs_config(tmp_path), spool=FakeSpool(), memo=memo) as bed:
        envelope = await stored(bed, LONG, ["away@ours.example"])
        address = str(envelope.recipients[0].sender)
        assert len(address.partition("@")[0]) <= 64
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<spammer@else.example>")
        assert (await client.say(f"RCPT TO:<{address}>"))[:9] == "550 5.7.1"
    async with open_bed(srs_config(tmp_path), spool=FakeSpool(), memo=memo) as bed:  # after a restart
        back = await stored(bed, "", [address.lower()])
        assert senders(back) == {LONG: None}
        memo.values.clear()
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<>")
        assert (await client.say(f"RCPT TO:<{address}>"))[:9] == "550 5.1.1"


async def test_without_a_memo_a_sender_that_is_too_long_stays(autojump_clock, tmp_path):
    async with open_bed(srs_config(tmp_path), spool=FakeSpool()) as bed:
        envelope = await stored(bed, LONG, ["away@ours.example"])
        assert senders(envelope) == {"far@elsewhere.example": None}


PLUGIN = """
from elemta.plugin.api import *
class P(Plugin):
    @hook("message")
    async def add(self, message):
        return Changes(recipients=(RecipientChange("add", "copy@third.example"),))
"""


@pytest.mark.parametrize("sender", ["a@else.example", "alice@ours.example"])
async def test_what_a_plugin_sends_to_others_has_a_sender_of_ours(autojump_clock, tmp_path, sender):
    file = tmp_path / "copying.py"
    file.write_text(PLUGIN)
    file.chmod(0o600)
    config = srs_config(tmp_path)
    config = attrs.evolve(
        DEFAULT,
        domains=config.domains,
        srs=config.srs,
        routes=config.routes,
        relay=attrs.evolve(config.relay, networks=(parse_network("192.0.2.201/32"),)),
        plugins=(PluginConfig("copying", path=file),),
    )
    sink = SinkPeer()
    async with open_test_server(config, zone=ZONE) as server:
        for host in ("192.0.2.31", "192.0.2.32"):
            server.network.listen(host, 25, sink.serve)
        stream = server.connect(peer="192.0.2.201")
        await stream.receive_some()
        for command in ("EHLO c.example", f"MAIL FROM:<{sender}>", "RCPT TO:<far@elsewhere.example>", "DATA"):
            await stream.send_all(f"{command}\r\n".encode())
            assert (await stream.receive_some())[:1] in b"23"
        await stream.send_all(b"Subject: x\r\n\r\nhello\r\n.\r\n")
        assert (await stream.receive_some())[:3] == b"250"
        with trio.fail_after(60):
            while len(sink.messages) < 2:
                await trio.sleep(0.1)
    found = {str(each.recipients[0].path): str(each.mail.path) for each in sink.messages}
    assert found["<far@elsewhere.example>"] == f"<{sender}>"
    if sender == "a@else.example":
        assert found["<copy@third.example>"].startswith("<SRS0=")
    else:
        assert found["<copy@third.example>"] == f"<{sender}>"
