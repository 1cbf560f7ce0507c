"""SIGTERM while the server was starting ended in a traceback: its listeners were closed, and asked for their names."""

from __future__ import annotations

import socket

from elemta.config import HostPort, ListenerConfig
from elemta.inbound import bind_all, unclaimed


def test_inherited_sockets_are_told_apart_although_the_listeners_are_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as left:
        port = taken.getsockname()[1]
        inherited = {"mx": [taken], "other": [left]}
        bound = bind_all([ListenerConfig("mx", HostPort("127.0.0.1", port))], inherited=inherited)
        for listener in bound:
            listener.close()
        assert unclaimed(inherited, bound) == (f"other at 127.0.0.1:{left.getsockname()[1]}",)
