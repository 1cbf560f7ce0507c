"""Ports for the servers that tests start: no two tests are given the same, also where they run side by side."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Below what Linux takes for the near end of connections: one of these may have the port by the time that it is listened on.
_FIRST, _END = 10_000, 32_000
_WORKERS = 16
"""So many shares: a process of the same run has another."""

_share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
_all = range(_FIRST + _share, _END, _WORKERS)
_start = random.SystemRandom().randrange(len(_all))
_next = itertools.cycle([*_all[_start:], *_all[:_start]])


def free_port() -> int:
    """A TCP port that nobody listens on, at any address."""
    for port in itertools.islice(_next, len(_all)):
        try:
            with (
                socket.create_server(("", port)),
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            ):
                datagrams.bind(("", port))
        except OSError:
            continue
        if not has_ipv6() or _is_free_in_ipv6(port):
            return port
    raise AssertionError("no free port")


def has_ipv6() -> bool:
    """Whether this machine has the loopback of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _is_free_in_ipv6(port: int) -> bool:
    try:
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            return True
    except OSError:
        return False
