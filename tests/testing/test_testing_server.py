"""The helpers for tests of others, as the author of a plugin would use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

import elemta.testing
from elemta.config import QueueConfig
from elemta.events import MessageAccepted, RecipientDeferred, RecipientDelivered, SessionClosed
from elemta.testing import Fault, MemoryStream, ScriptedPeer, SinkPeer, open_test_server
from elemta.testing.peers import GREETING
from elemta.testing.server import DEFAULT

ZONE = {
    "example.org": {"MX": [(10, "store.example.org")]},
    "store.example.org": {"A": ["192.0.2.25"]},
}


async def send(stream: MemoryStream, *, recipient: str = "bob@example.org") -> bytes:
    """One message over a connection; what the server said in all."""
    said = await stream.receive_some()
    for command in ("EHLO c.example", "MAIL FROM:<a@c.example>", f"RCPT TO:<{recipient}>", "DATA"):
        await stream.send_all(f"{command}\r\n".encode())
        said += await stream.receive_some()
    await stream.send_all(b"Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n")
    while piece := await stream.receive_some():
        said += piece
    return said


async def test_a_message_goes_in_and_out_on_virtual_time(autojump_clock: trio.testing.MockClock) -> None:
    sink = SinkPeer()
    async with open_test_server(zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, sink.serve)
        assert b"250 2.0.0 queued as " in await send(server.connect(peer="198.51.100.7"))
        delivered = await server.wait_for(RecipientDelivered)
        assert delivered.recipient == "bob@example.org"
        (accepted,) = server.seen(MessageAccepted)
        assert (accepted.message, accepted.peer) == (delivered.message, "198.51.100.7")
        (received,) = sink.messages
        assert received.content.endswith(b"\r\n\r\nhello\r\n")
        await server.wait_for(SessionClosed)


async def test_a_retry_of_hours_passes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    config = attrs.evolve(DEFAULT, queue=QueueConfig(retry=(7200.0,), retry_jitter=0.0))
    sink = SinkPeer()
    async with open_test_server(config, zone=ZONE) as server:
        server.network.refuse("192.0.2.25")
        await send(server.connect())
        deferred = await server.wait_for(RecipientDeferred)
        server.network.listen("192.0.2.25", 25, sink.serve)
        delivered = await server.wait_for(RecipientDelivered, lambda event: event.attempts > 1)
        assert delivered.time - deferred.time == pytest.approx(7200, abs=60)
        assert len(sink.messages) == 1


async def test_a_stranger_may_not_relay_and_a_script_may_fail(autojump_clock: trio.testing.MockClock) -> None:
    peer = ScriptedPeer(GREETING, (b"EHLO", Fault.DROP))
    async with open_test_server(zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, peer.serve)
        assert b"550 5.7.1 " in await send(server.connect(), recipient="victim@elsewhere.example")
        assert server.seen(MessageAccepted) == []
        await send(server.connect(listener="mx"))
        deferred = await server.wait_for(RecipientDeferred)
        assert peer.commands == [b"EHLO mx.example.org"]
        assert deferred.attempts == 1


async def ids(seed: int) -> tuple[str, ...]:
    async with open_test_server(zone=ZONE, seed=seed) as server:
        server.network.refuse("192.0.2.25")
        await send(server.connect())
        await server.wait_for(RecipientDeferred)
        return tuple(event.message for event in server.seen(MessageAccepted))


async def test_equal_seeds_make_equal_ids() -> None:
    found = []
    for seed in (1, 1, 2):
        clock = trio.testing.MockClock(autojump_threshold=0)
        found.append(
            await trio.to_thread.run_sync(lambda clock=clock, seed=seed: trio.run(ids, seed, clock=clock))  # type: ignore[misc]
        )
    assert found[0] == found[1]
    assert found[0] != found[2]


async def test_leaving_the_block_ends_sessions_and_leaves_no_folder(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_test_server() as server:
        stream = server.connect()
        assert (await stream.receive_some()).startswith(b"220 mx.example.org ")
        folder = server.config.state_dir
        assert folder.is_dir()
    assert not folder.exists()
    (closed,) = server.seen(SessionClosed)
    assert closed.cause == "cancelled"


def test_all_names_are_there_and_no_others() -> None:
    for name in elemta.testing.__all__:
        assert getattr(elemta.testing, name).__name__ == name
    assert set(elemta.testing.__all__) <= set(dir(elemta.testing))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        elemta.testing.nonsense  # noqa: B018


def test_the_pure_parts_load_nothing_heavy() -> None:
    code = (
        "import sys; from elemta.testing import ConnectionPair; ConnectionPair()\n"
        "print(sorted({'trio', 'apsw', 'dns', 'starlette'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "[]\n"


async def test_what_this_machine_trusts_does_not_matter(autojump_clock: trio.testing.MockClock) -> None:
    async with open_test_server() as server:
        assert server.server.facts.tls is not None
        assert server.server.facts.tls.client(verify=True).cert_store_stats()["x509_ca"] == 1
