"""What next hops said of recipients, remembered beyond a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from delivery_helpers import HOST, make_context
from test_mta_sts import FakeMemo

from elemta.config import (
    Config,
    DomainPattern,
    DomainsConfig,
    RouteConfig,
    RoutePattern,
    TransportKind,
    VerificationConfig,
)
from elemta.delivery import Verdict, make_transport, open_verifier
from elemta.events import EventBus
from elemta.mail import Domain, Reply, parse_mailbox
from elemta.routing import Router
from elemta.runtime import TrioWallClock
from elemta.smtp import Command, Rcpt
from elemta.testing.network import open_memory_network
from elemta.testing.peers import SinkPeer

RELAYED = DomainPattern(Domain("relayed.example"))
ANSWERS = {"alice": Reply.of(250, "2.1.5", "ok"), "later": Reply.of(451, "4.3.0", "not now")}


def knows_alice(command: Command) -> Reply:
    assert isinstance(command, Rcpt)
    assert command.path.mailbox is not None
    return ANSWERS.get(command.path.mailbox.local_part, Reply.of(550, "5.1.1", "nobody here"))


@asynccontextmanager
async def started(memo: FakeMemo, sink: SinkPeer, **settings: Any) -> AsyncIterator[Any]:
    """A verifier after a start, with what earlier ones left behind."""
    config = Config(
        hostname="mx.example",
        domains=DomainsConfig(relay=(RELAYED,)),
        routes=(RouteConfig(RoutePattern(), transport=TransportKind.SMTP, host=HOST),),
        verification=VerificationConfig(domains=(RELAYED,), **settings),
    )
    async with open_memory_network() as network:
        network.listen(HOST, 25, sink.serve)
        context = make_context(network)
        async with open_verifier(
            config,
            Router(config),
            lambda route: make_transport(route, context),
            EventBus(),
            TrioWallClock(),
            memo,
        ) as verifier:
            yield lambda name: verifier.ask(parse_mailbox(f"{name}@relayed.example"))


async def test_what_was_said_is_known_after_a_restart_until_its_time_is_over(autojump_clock) -> None:
    memo, sink = FakeMemo(), SinkPeer(answers={"RCPT": knows_alice})
    said = {"alice": Verdict.EXISTS, "nobody": Verdict.REFUSED, "later": Verdict.UNKNOWN}
    for questions in (3, 4):  # what was not known is asked again
        async with started(memo, sink) as ask:
            assert {name: await ask(name) for name in said} == said
        assert sink.sessions == questions
    await trio.sleep(3601)  # a refusal holds for an hour, also where it was read from the memo
    async with started(memo, sink) as ask:
        await ask("alice")
        assert sink.sessions == 4
        await ask("nobody")
        assert sink.sessions == 5
    async with started(memo, sink, exists_for=60.0) as ask:  # the time that holds is that of now
        await ask("alice")
        assert sink.sessions == 6
        await trio.sleep(61)
        await ask("alice")
        assert sink.sessions == 7
    memo.values = dict.fromkeys(memo.values, b"{")
    async with started(memo, sink) as ask:
        assert await ask("alice") is Verdict.EXISTS
        assert sink.sessions == 8
