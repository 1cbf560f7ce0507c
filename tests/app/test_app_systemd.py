"""What systemd hears and hands in."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import trio

from elemta.app import inherited_sockets
from elemta.app.systemd import Notifier, feed_watchdog


@pytest.fixture
def manager(tmp_path: Path) -> Generator[socket.socket, None, None]:
    """The other end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


def heard(manager: socket.socket) -> list[str]:
    datagrams = []
    while True:
        try:
            datagrams.append(manager.recv(4096).decode())
        except BlockingIOError:
            return datagrams


def test_ready_reloading_and_stopping_are_told(manager: socket.socket) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready("running")
    notifier.reloading()
    notifier.stopping("SIGTERM")
    ready, reloading, stopping = heard(manager)
    assert ready == "READY=1\nSTATUS=running"
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")  # sd_notify(3): both in one datagram
    assert reloading.partition("USEC=")[2].isdecimal()
    assert stopping == "STOPPING=1\nSTATUS=SIGTERM"


def test_an_abstract_address_begins_with_an_at_sign() -> None:
    name = f"elemta-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind("\0" + name)
        Notifier(f"@{name}").ready("running")
        assert heard(sock) == ["READY=1\nSTATUS=running"]


def test_nobody_there_is_no_trouble(tmp_path: Path) -> None:
    Notifier().ready("running")
    Notifier(str(tmp_path / "absent")).ready("running")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "20000000"}, 20),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "-5"}, 0),
        ({"WATCHDOG_USEC": "9" * 5000}, 0),
    ],
)
def test_the_watchdog_is_ours_only_with_our_pid(environment: dict[str, str], seconds: float) -> None:
    assert Notifier.from_environment(environment).watchdog_seconds == seconds


async def test_the_watchdog_is_fed_at_half_the_interval_while_storage_works(
    manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    alive = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed_watchdog, Notifier(manager.getsockname(), 20.0), lambda: alive)
        await trio.sleep(35)
        assert heard(manager) == ["WATCHDOG=1"] * 4
        alive = False
        await trio.sleep(100)
        assert heard(manager) == []
        alive = True
        await trio.sleep(10)
        assert heard(manager) == ["WATCHDOG=1"]
        nursery.cancel_scope.cancel()


async def test_without_a_watchdog_the_feeder_ends_at_once(autojump_clock: trio.testing.MockClock) -> None:
    await feed_watchdog(Notifier(), lambda: True)
    assert trio.current_time() == 0


def test_sockets_for_another_process_are_left_alone() -> None:
    mine = str(os.getpid())
    assert inherited_sockets({}) == {}
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == {}
    assert inherited_sockets({"LISTEN_FDS": "1"}) == {}
    assert inherited_sockets({"LISTEN_PID": mine, "LISTEN_FDS": "many"}) == {}
    assert inherited_sockets({"LISTEN_PID": mine, "LISTEN_FDS": "0"}) == {}


INHERITING = """
import fcntl
import os
from elemta.app import inherited_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
sockets = inherited_sockets(os.environ)
print({name: [sock.getsockname()[1] for sock in each] for name, each in sockets.items()})
print(any(os.get_inheritable(sock.fileno()) for each in sockets.values() for sock in each))
"""


def test_inherited_sockets_go_by_their_names() -> None:
    # In a process of its own, where 3, 4 and 5 are free for them.
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    high = [fcntl.fcntl(sock, fcntl.F_DUPFD, 200) for sock in listening]
    try:
        ports = [sock.getsockname()[1] for sock in listening]
        moves = " ".join(f"{3 + index}<&{number}" for index, number in enumerate(high))
        done = subprocess.run(
            ["/bin/bash", "-c", f'exec "$0" -c "$1" {moves}', sys.executable, INHERITING],
            env={"LISTEN_FDS": "3", "LISTEN_FDNAMES": "mx:mx", "PYTHONPATH": str(Path(__file__).parents[2])},
            pass_fds=high,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    finally:
        for sock, number in zip(listening, high, strict=True):
            sock.close()
            os.close(number)
    assert done.stdout.splitlines() == [str({"mx": ports[:2], "unknown": ports[2:]}), "False"]
