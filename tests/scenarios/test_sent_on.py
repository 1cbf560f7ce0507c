"""An alias leads to another provider: what its server sees, and how its bounce comes back."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio
import trio.testing

from elemta.config import DomainPattern, RouteConfig, RoutePattern, SrsConfig, TransportKind
from elemta.events import NoticeQueued, RecipientDelivered
from elemta.mail import Domain, Reply
from elemta.testing import MemoryStream, SinkPeer, open_test_server
from elemta.testing.server import DEFAULT

ZONE = {
    "partner.example": {"MX": [(10, "mx.partner.example")]},
    "mx.partner.example": {"A": ["192.0.2.25"]},
    "origin.example": {"MX": [(10, "mx.origin.example")]},
    "mx.origin.example": {"A": ["192.0.2.26"]},
}
FILE = """
alice@example.org
team@example.org: alice, agency@partner.example, other@partner.example
"""


def config_in(folder: Path):
    recipients, secrets = folder / "recipients", folder / "secrets"
    recipients.write_text(FILE)
    secrets.write_text("a-secret-of-some-length\n")
    secrets.chmod(0o600)
    return attrs.evolve(
        DEFAULT,
        domains=attrs.evolve(DEFAULT.domains, recipients=recipients),
        srs=SrsConfig(Domain("example.org"), secrets),
        routes=(
            RouteConfig(
                RoutePattern(domain=DomainPattern(Domain("example.org"))),
                transport=TransportKind.LMTP,
                host="192.0.2.27",
                port=24,
            ),
        ),
    )


async def send(stream: MemoryStream, sender: str, recipient: str) -> bytes:
    said = await stream.receive_some()
    for command in ("EHLO c.example", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
        await stream.send_all(f"{command}\r\n".encode())
        said += await stream.receive_some()
    await stream.send_all(b"Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n")
    while piece := await stream.receive_some():
        said += piece
    return said


async def test_the_other_provider_sees_our_domain_and_its_bounce_finds_the_sender(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    partner, origin, store = SinkPeer(), SinkPeer(), SinkPeer(lmtp=True)
    async with open_test_server(config_in(tmp_path), zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, partner.serve)
        server.network.listen("192.0.2.26", 25, origin.serve)
        server.network.listen("192.0.2.27", 24, store.serve)
        assert b"queued as" in await send(server.connect(), "bob@origin.example", "team@example.org")
        while len(server.seen(RecipientDelivered)) < 3:
            await trio.sleep(1)
        (there,) = partner.messages  # both recipients in one transaction
        assert len(there.recipients) == 2
        sender = there.mail.path.mailbox
        assert sender is not None
        assert str(sender.domain.text) == "example.org"
        assert sender.local_part.endswith("=origin.example=bob")
        (here,) = store.messages
        assert str(here.mail.path) == "<bob@origin.example>"

        assert b"queued as" in await send(server.connect(), "", str(sender))
        await server.wait_for(RecipientDelivered, lambda event: event.recipient == "bob@origin.example")
        (bounce,) = origin.messages
        assert bounce.mail.path.is_null
        assert [str(each.path) for each in bounce.recipients] == ["<bob@origin.example>"]


async def test_our_own_notice_goes_to_the_sender_without_a_detour(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    refused = Reply.of(550, "5.1.1", "nobody here")
    partner, origin, store = SinkPeer(answers={"RCPT": refused}), SinkPeer(), SinkPeer(lmtp=True)
    async with open_test_server(config_in(tmp_path), zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, partner.serve)
        server.network.listen("192.0.2.26", 25, origin.serve)
        server.network.listen("192.0.2.27", 24, store.serve)
        await send(server.connect(), "bob@origin.example", "team@example.org")
        notice = await server.wait_for(NoticeQueued)
        assert notice.recipient == "bob@origin.example"
        await server.wait_for(RecipientDelivered, lambda event: event.recipient == "bob@origin.example")
        assert origin.messages[0].mail.path.is_null
