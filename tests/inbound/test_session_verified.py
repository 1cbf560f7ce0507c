"""Recipients that are asked for at their next hop before mail for them is taken."""

from __future__ import annotations

import attrs
import pytest
import trio

from elemta.config import (
    Config,
    DomainPattern,
    DomainsConfig,
    RelayConfig,
    RouteConfig,
    RoutePattern,
    TransportKind,
    VerificationConfig,
    VerificationUnknown,
)
from elemta.delivery import Connection, Transport, open_verifier
from elemta.events import EventBus, RecipientVerified
from elemta.inbound import NotTaken, Wishes
from elemta.mail import Domain, Reply, ReversePath, parse_mailbox
from elemta.routing import Router
from elemta.runtime import TrioWallClock
from elemta.smtp import Command, Rcpt
from elemta.testing import Fault, MemoryStream, ScriptedPeer, SinkPeer, open_test_server
from elemta.testing.peers import GREETING
from elemta.testing.server import DEFAULT

HOST = "192.0.2.25"
RELAYED = DomainPattern(Domain("relayed.example"))
OTHER = DomainPattern(Domain("other.example"))


def config_with(kind: TransportKind = TransportKind.SMTP, **verification) -> Config:
    return attrs.evolve(
        DEFAULT,
        domains=DomainsConfig(relay=(RELAYED, OTHER)),
        relay=RelayConfig(),
        routes=(RouteConfig(RoutePattern(), transport=kind, host=HOST, port=25),),
        verification=VerificationConfig(domains=(RELAYED,), **verification),
    )


def knows_alice(command: Command) -> Reply:
    assert isinstance(command, Rcpt)
    mailbox = command.path.mailbox
    if mailbox is not None and mailbox.local_part == "alice":
        return Reply.of(250, "2.1.5", "ok")
    if mailbox is not None and mailbox.local_part == "later":
        return Reply.of(451, "4.3.0", "not now")
    if mailbox is not None and mailbox.local_part == "closed":
        return Reply.of(550, "5.7.1", "members only")
    if mailbox is not None and mailbox.local_part == "full":
        return Reply.of(552, "5.2.2", "mailbox full")
    return Reply.of(550, "5.1.1", "nobody here")


class Client:
    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream

    async def say(self, line: str) -> str:
        await self.stream.send_all(f"{line}\r\n".encode())
        said = b""
        while not said.endswith(b"\r\n") or said.split(b"\r\n")[-2][3:4] == b"-":
            said += await self.stream.receive_some()
        return said.decode()

    async def begin(self) -> Client:
        await self.stream.receive_some()
        await self.say("EHLO c.example")
        await self.say("MAIL FROM:<a@c.example>")
        return self

    async def rcpt(self, name: str, domain: str = "relayed.example") -> str:
        return (await self.say(f"RCPT TO:<{name}@{domain}>"))[:9]


async def test_what_the_next_hop_does_not_know_is_refused_and_asked_once(autojump_clock) -> None:
    sink = SinkPeer(answers={"RCPT": knows_alice})
    async with open_test_server(config_with()) as server:
        server.network.listen(HOST, 25, sink.serve)
        client = await Client(server.connect()).begin()
        assert await client.rcpt("alice") == "250 2.1.5"
        assert await client.rcpt("nobody") == "550 5.1.1"
        assert sink.commands == ["EHLO", "MAIL", "RCPT", "QUIT"] * 2
        assert sink.messages == []
        again = await Client(server.connect()).begin()
        assert await again.rcpt("nobody") == "550 5.1.1"
        assert await again.rcpt("alice") == "250 2.1.5"
        assert len(sink.commands) == 8
        events = server.seen(RecipientVerified)
        assert [each.verdict for each in events] == ["exists", "refused"]
        assert events[1].reply == "550 5.1.1 nobody here"
        assert server.server.facts.verifier.statistics().answered == 2


async def test_what_is_known_is_forgotten_after_its_time(autojump_clock) -> None:
    answers = {"RCPT": Reply.of(550, "5.1.1", "nobody here")}
    sink = SinkPeer(answers=answers)
    async with open_test_server(config_with(refused_for=60.0)) as server:
        server.network.listen(HOST, 25, sink.serve)
        client = await Client(server.connect()).begin()
        assert await client.rcpt("bob") == "550 5.1.1"
        del sink.answers["RCPT"]
        await trio.sleep(61)
        assert await client.rcpt("bob") == "250 2.1.5"


@pytest.mark.parametrize(
    ("unknown", "answer"),
    [(VerificationUnknown.ACCEPT, "250 2.1.5"), (VerificationUnknown.DEFER, "450 4.1.1")],
)
async def test_of_what_is_not_known_the_configuration_decides(
    autojump_clock, unknown: VerificationUnknown, answer: str
) -> None:
    sink = SinkPeer(answers={"RCPT": knows_alice})
    async with open_test_server(config_with(unknown=unknown)) as server:
        client = await Client(server.connect()).begin()
        server.network.refuse(HOST)
        assert await client.rcpt("x") == answer
        server.network.listen(HOST, 25, sink.serve)
        assert await client.rcpt("later") == answer
        # RFC 3463 §3.8: it is about who asks, and `<>` is not who will write
        assert await client.rcpt("closed") == answer
        # RFC 5321 §4.5.3.1.10: it is not for good, and who is full exists
        assert await client.rcpt("full") == answer
        sink.answers["MAIL"] = Reply.of(550, "5.1.8", "no null sender here")
        assert await client.rcpt("y") == answer


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.DROP, Fault.GARBAGE])
@pytest.mark.parametrize("verb", [b"EHLO", b"MAIL", b"RCPT"])
async def test_no_host_keeps_a_client_longer_than_the_configuration_says(
    autojump_clock, fault: Fault, verb: bytes
) -> None:
    steps = [(b"EHLO", b"250 x\r\n"), (b"MAIL", b"250 ok\r\n"), (b"RCPT", fault)]
    script = []
    for step, reply in steps:
        script.append((step, fault if step == verb else reply))
        if step == verb:
            break
    async with open_test_server(config_with(timeout=10.0, unknown=VerificationUnknown.DEFER)) as server:
        server.network.listen(HOST, 25, ScriptedPeer(GREETING, *script).serve)
        client = await Client(server.connect()).begin()
        began = trio.current_time()
        with trio.fail_after(60):
            assert await client.rcpt("bob") == "450 4.1.1"
        assert trio.current_time() - began <= 10.5


async def test_many_sessions_wait_for_one_question(autojump_clock) -> None:
    sink = SinkPeer(answers={"RCPT": knows_alice})

    async def slow(stream: trio.abc.Stream) -> None:
        await trio.sleep(5)
        await sink.serve(stream)

    async with open_test_server(config_with()) as server, trio.open_nursery() as nursery:
        server.network.listen(HOST, 25, slow)
        answers: list[str] = []

        async def ask() -> None:
            client = await Client(server.connect()).begin()
            answers.append(await client.rcpt("nobody"))

        leaver = await Client(server.connect()).begin()
        await leaver.stream.send_all(b"RCPT TO:<nobody@relayed.example>\r\n")
        await trio.sleep(1)
        await leaver.stream.aclose()  # the question goes on without him
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.sleep(10)
        assert answers == ["550 5.1.1"] * 5
        assert sink.sessions == 1


async def test_more_questions_than_allowed_are_not_asked(autojump_clock) -> None:
    async def silent(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    config = config_with(probes=1, unknown=VerificationUnknown.DEFER)
    async with open_test_server(config) as server, trio.open_nursery() as nursery:
        server.network.listen(HOST, 25, silent)
        first = await Client(server.connect()).begin()
        nursery.start_soon(first.rcpt, "one")
        await trio.sleep(1)
        second = await Client(server.connect()).begin()
        began = trio.current_time()
        assert await second.rcpt("two") == "450 4.1.1"
        assert trio.current_time() - began < 1


async def test_only_the_domains_that_are_named_are_asked_about(autojump_clock) -> None:
    sink = SinkPeer(answers={"RCPT": knows_alice})
    async with open_test_server(config_with()) as server:
        server.network.listen(HOST, 25, sink.serve)
        client = await Client(server.connect()).begin()
        assert await client.rcpt("nobody", "other.example") == "250 2.1.5"
        assert await client.rcpt("nobody", "foreign.example") == "550 5.7.1"
        assert sink.sessions == 0


async def test_an_lmtp_server_is_asked_in_its_own_words(autojump_clock) -> None:
    sink = SinkPeer(lmtp=True, answers={"RCPT": knows_alice})
    async with open_test_server(config_with(TransportKind.LMTP)) as server:
        server.network.listen(HOST, 25, sink.serve)
        client = await Client(server.connect()).begin()
        assert await client.rcpt("nobody") == "550 5.1.1"
        assert sink.commands == ["LHLO", "MAIL", "RCPT", "QUIT"]


async def test_our_postmaster_exists_whatever_the_next_hop_says(autojump_clock) -> None:
    sink = SinkPeer(answers={"RCPT": knows_alice})
    config = attrs.evolve(config_with(), postmaster="pm@relayed.example")
    async with open_test_server(config) as server:
        server.network.listen(HOST, 25, sink.serve)
        client = await Client(server.connect()).begin()
        assert (await client.say("RCPT TO:<postmaster>"))[:9] == "250 2.1.5"
        assert await client.rcpt("other") == "550 5.1.1"


async def test_recipients_of_a_program_are_verified_like_those_of_a_session(autojump_clock) -> None:
    sink = SinkPeer(answers={"RCPT": knows_alice})
    async with open_test_server(config_with(unknown=VerificationUnknown.DEFER)) as server:
        server.network.listen(HOST, 25, sink.serve)

        async def hand_in(*names: str) -> str:
            people = [parse_mailbox(f"{name}@relayed.example") for name in names]
            wishes = Wishes(ReversePath(parse_mailbox("a@relayed.example")), people, "program", "192.0.2.9")
            injection = server.server.listeners.begin_injection(wishes, 100)
            try:
                await injection.verify()
                await injection.write(b"Subject: x\r\n\r\nhello\r\n")
                return str(await injection.finish())
            except NotTaken as refusal:
                return f"{refusal.recipient} {refusal.reply}"[:32]
            finally:
                injection.discard("the test is over")

        assert await hand_in("alice", "nobody") == "nobody@relayed.example 550 5.1.1"
        assert await hand_in("later") == "later@relayed.example 450 4.1.1 "
        assert len(await hand_in("alice")) == 16
        assert sink.sessions >= 3


async def test_a_transport_that_fails_while_all_ends_does_not_end_the_server_badly(autojump_clock) -> None:
    class Broken(Transport):
        async def connect(self) -> Connection:
            async def part() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("a bug")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(part)
                nursery.start_soon(trio.sleep_forever)
            raise AssertionError

    config, bus, clock = config_with(), EventBus(), TrioWallClock()
    async with open_verifier(config, Router(config), lambda route: Broken(), bus, clock) as verifier:
        with trio.move_on_after(1):
            await verifier.ask(parse_mailbox("bob@relayed.example"))
        assert verifier.statistics().under_way == 1
