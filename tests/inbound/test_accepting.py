"""Taking connections from sockets, whatever the system does; and turning clients away without a task."""

import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Sequence

import attrs
import pytest
import trio
import trio.testing
from inbound_bed import FRIEND, FakeListener, FakeSpool, make_config, open_bed

from elemta.config import HostPort, ListenerConfig, ListenerTls
from elemta.events import SessionRefused
from elemta.inbound import BoundListener
from elemta.inbound.accepting import BATCH, Arrival, SocketSource
from elemta.runtime import QuickSocketStream
from elemta.testing.network import memory_connection


@contextlib.asynccontextmanager
async def open_source() -> AsyncIterator[tuple[SocketSource, tuple[str, int]]]:
    sock = socket.create_server(("127.0.0.1", 0), backlog=100)
    source = SocketSource(sock)
    try:
        yield source, sock.getsockname()
    finally:
        await source.aclose()


def close(arrivals: Sequence[Arrival]) -> None:
    for arrival in arrivals:
        assert isinstance(arrival.stream, QuickSocketStream)
        arrival.stream.socket.close()


async def test_those_who_wait_are_taken_together_but_not_without_end():
    async with open_source() as (source, address):
        clients = [socket.create_connection(address) for _ in range(BATCH + 5)]
        first = await source.accept()
        assert len(first) == BATCH
        assert {arrival.port for arrival in first} <= {client.getsockname()[1] for client in clients}
        assert {arrival.peer for arrival in first} == {"127.0.0.1"}
        second = await source.accept()
        assert len(second) == 5
        close([*first, *second])
        for client in clients:
            client.close()


async def test_every_turn_is_shared_with_others():
    # A flood of one listener does not keep the others waiting.
    async with open_source() as (flooded, address), open_source() as (quiet, other):
        clients = [socket.create_connection(address) for _ in range(4 * BATCH)]
        order: list[str] = []

        async def accept(source: SocketSource, name: str, turns: int) -> None:
            for _ in range(turns):
                close(await source.accept())
                order.append(name)

        late = socket.create_connection(other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, flooded, "flooded", 4)
            nursery.start_soon(accept, quiet, "quiet", 1)
        assert order.index("quiet") < 2
        for client in (*clients, late):
            client.close()


async def test_a_wait_that_is_cancelled_takes_nobody():
    async with open_source() as (source, address):
        with trio.CancelScope() as scope:
            scope.cancel()
            await source.accept()
        assert scope.cancelled_caught
        with socket.create_connection(address):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.accept)
                nursery.cancel_scope.cancel()
            arrivals = await source.accept()
            assert len(arrivals) == 1
            close(arrivals)


class Failing:
    """A socket whose `accept` raises what it is told, then works."""

    def __init__(self, sock: socket.socket, *numbers: int) -> None:
        self.sock = sock
        self.numbers = list(numbers)

    def accept(self):
        if self.numbers:
            number = self.numbers.pop(0)
            raise OSError(number, os.strerror(number))
        return self.sock.accept()

    def __getattr__(self, name: str):
        return getattr(self.sock, name)


async def test_who_came_and_went_is_passed_over():
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_connection(sock.getsockname()):
        source = SocketSource(Failing(sock, errno.ECONNABORTED, errno.EPROTO, errno.EPERM))
        arrivals = await source.accept()
        assert len(arrivals) == 1
        close(arrivals)
        await source.aclose()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EINVAL])
async def test_an_error_does_not_lose_those_who_were_taken_before_it(number: int):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        clients = [socket.create_connection(sock.getsockname()) for _ in range(2)]
        failing = Failing(sock)
        source = SocketSource(failing)
        real = failing.accept

        def one_then_error():
            failing.accept = lambda: (_ for _ in ()).throw(OSError(number, "no"))
            return real()

        failing.accept = one_then_error
        arrivals = await source.accept()
        assert len(arrivals) == 1
        with pytest.raises(OSError, match="no"):
            await source.accept()
        close(arrivals)
        for client in clients:
            client.close()
        await source.aclose()


async def test_without_descriptors_clients_are_told_rather_than_kept_waiting():
    async with open_source() as (source, address):
        clients = [socket.create_connection(address) for _ in range(3)]
        used = len(os.listdir("/proc/self/fd"))
        assert source.turn_all_away(b"421 4.3.2 too busy\r\n") == 3
        assert len(os.listdir("/proc/self/fd")) == used
        for client in clients:
            with client:
                assert client.recv(100) == b"421 4.3.2 too busy\r\n"
        assert source.turn_all_away(b"421 4.3.2 too busy\r\n") == 0


async def test_a_client_over_a_unix_socket(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as client:
        sock.bind(str(tmp_path / "lmtp"))
        sock.listen()
        client.connect(str(tmp_path / "lmtp"))
        source = SocketSource(sock)
        arrivals = await source.accept()
        assert [(each.peer, each.port) for each in arrivals] == [("unix", 0)]
        close(arrivals)
        await source.aclose()


# Turned away


class Overload:
    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def overload(self) -> str:
        return self.reason


async def test_while_the_machine_is_behind_new_clients_are_told_so_and_sessions_go_on(autojump_clock):
    load = Overload()
    async with open_bed(spool=FakeSpool(), load=load) as bed:
        early = bed.dial()
        await early.hello()
        load.reason = "storage takes 12 s"
        late = bed.dial(FRIEND)
        assert (await late.line()).startswith("421 4.3.2 mx.ours.example overloaded")
        assert await late.line() == ""
        assert (await early.say("NOOP"))[:3] == "250"
        assert bed.listeners.statistics().shed == 1
        load.reason = ""
        await bed.dial().hello()


async def test_a_flood_is_told_in_part_and_counted_whole(autojump_clock):
    config = make_config(limits={"sessions_per_client": 1})
    async with open_bed(config, spool=FakeSpool()) as bed:
        await bed.dial("192.0.2.66").hello()
        for _ in range(300):
            bed.dial("192.0.2.66")
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.1)
        told = bed.seen(SessionRefused)
        assert 50 <= len(told) < 60
        await trio.sleep(60)
        assert (await bed.dial("192.0.2.66").line())[:3] == "421"
        told = bed.seen(SessionRefused)
        assert sum(1 + event.more for event in told) == 301
        assert bed.listeners.statistics().sessions.refused_client == 301


async def test_a_flood_from_one_address_takes_no_place_from_others(autojump_clock):
    config = make_config(limits={"sessions": 20, "sessions_per_client": 10})
    async with open_bed(config, spool=FakeSpool()) as bed:
        for _ in range(500):
            bed.dial("192.0.2.66")
        for number in range(10):
            await bed.dial(f"198.51.100.{number}").hello()
        assert len(bed.listeners.sessions) == 20


# Listeners that change


def another(config: ListenerConfig) -> ListenerConfig:
    return attrs.evolve(config, name="two", address=HostPort("127.0.0.1", 0))


async def test_new_sessions_have_the_new_settings_and_old_ones_keep_theirs(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        old = bed.dial()
        assert "SIZE 52428800" in await old.hello()
        fresh = attrs.evolve(
            bed.config,
            hostname="new.ours.example",
            limits=attrs.evolve(bed.config.limits, message_size=1_000_000, sessions_per_client=2),
        )
        change = bed.listeners.prepare(fresh)
        assert (change.added, change.removed, change.changed) == ((), (), ())
        assert "SIZE 52428800" in await old.say("EHLO client.example")
        change.commit()
        assert "SIZE 52428800" in await old.say("EHLO client.example")
        new = bed.dial()
        assert (await new.reply()).startswith("220 new.ours.example ")
        assert "SIZE 1000000" in await new.say("EHLO client.example")
        assert (await bed.dial().line())[:9] == "421 4.7.0"


async def test_a_listener_that_is_gone_accepts_no_more_and_its_sessions_finish(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        session = bed.dial()
        await session.hello()
        await session.begin()
        change = bed.listeners.prepare(attrs.evolve(bed.config, listeners=()))
        assert change.removed == ("test",)
        change.commit()
        await trio.testing.wait_all_tasks_blocked()
        assert bed.listener.closed
        assert bed.listeners.bound == ()
        assert (await session.data())[:3] == "250"
        await session.quit()


async def test_a_listener_that_has_not_been_there_accepts_beside_the_old(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        change = bed.listeners.prepare(
            attrs.evolve(
                bed.config,
                listeners=(
                    *bed.config.listeners,
                    another(bed.config.listeners[0]),
                ),
            )
        )
        change.commit()
        [_, added] = bed.listeners.bound
        with socket.create_connection(added.sockets[0].getsockname()) as client:
            client.setblocking(False)
            await trio.lowlevel.wait_readable(client)
            assert client.recv(100).startswith(b"220 ")
        await bed.dial().hello()


async def test_who_connected_to_a_listener_before_it_went_still_gets_a_session():
    async with open_bed(spool=FakeSpool()) as bed:
        only = another(bed.config.listeners[0])
        bed.listeners.prepare(attrs.evolve(bed.config, listeners=(only,))).commit()
        await trio.testing.wait_all_tasks_blocked()
        [bound] = bed.listeners.bound
        with socket.create_connection(bound.sockets[0].getsockname()) as client:
            bed.listeners.prepare(attrs.evolve(bed.config, listeners=())).commit()
            client.setblocking(False)
            with trio.fail_after(5):
                await trio.lowlevel.wait_readable(client)
            assert client.recv(100).startswith(b"220 ")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", bound.addresses[0].port))


async def test_a_change_that_is_not_made_leaves_everything_as_it_was(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        before = bed.listeners.bound
        change = bed.listeners.prepare(
            attrs.evolve(bed.config, listeners=(another(bed.config.listeners[0]),))
        )
        assert (change.added, change.removed) == (("two",), ("test",))
        change.abandon()
        assert bed.listeners.bound == before
        await bed.dial().hello()


async def test_the_role_and_tls_of_a_listener_change_in_place(autojump_clock, server_tls):
    async with open_bed(spool=FakeSpool(), tls=server_tls) as bed:
        assert "STARTTLS" not in await bed.dial().hello()
        changed = attrs.evolve(bed.config.listeners[0], tls=ListenerTls.STARTTLS)
        change = bed.listeners.prepare(attrs.evolve(bed.config, listeners=(changed,)))
        assert change.changed == ("test",)
        change.commit()
        assert "STARTTLS" in await bed.dial().hello()


async def test_a_listener_that_changes_while_the_server_stops_is_not_opened(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        change = bed.listeners.prepare(
            attrs.evolve(bed.config, listeners=(another(bed.config.listeners[0]),))
        )
        bed.drain.begin("test", 1, 1)
        change.commit()
        await trio.testing.wait_all_tasks_blocked()
        assert all(sock.fileno() < 0 for each in bed.listeners.bound for sock in each.sockets)


async def test_a_fake_listener_is_closed_also_when_the_drain_came_first(autojump_clock):
    listener = FakeListener()
    client, server = memory_connection()
    bound = BoundListener(make_config().listeners[0], listeners=(listener,))
    assert bound.addresses == ()
    async with open_bed(spool=FakeSpool()) as bed:
        bed.drain.begin("test", 1, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert bed.listener.closed
    client.close()
    server.close()
