"""Helpers for tests of elemta and of what is built on it.

`ConnectionPair`: a client machine against a server machine, without I/O. `ScriptedPeer`, `SinkPeer`: next
hops that play a script or behave. `FakeResolver`: DNS from a dict; `DnsServer`: on loopback, errs as told.
`HttpPeer`: an HTTP server.
`Mta`: for authors of plugins, the fixture `mta` (`pytest_plugin`) or `open_mta`.
`MemoryNetwork`: hosts and connections in memory. `open_test_server`: the whole server on all of these.
Ready-made steps of a script are in `peers`.

Each name loads its module when it is first used, so that a test of the pure parts imports no more than these.

Not here: anything that a running server needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Sent, SmtpClient
    from .dns import DnsServer, FakeResolver
    from .http import HttpPeer, HttpRequest
    from .internet import Letter, Remote
    from .kit import Mta, PluginBroken, open_mta
    from .network import MemoryNetwork, MemoryStream, memory_connection, open_memory_network
    from .pairs import ConnectionPair
    from .peers import Expect, Fault, ScriptedPeer, SinkPeer
    from .server import RunningServer, open_test_server

_MODULES = {
    "ConnectionPair": "pairs",
    "DnsServer": "dns",
    "Expect": "peers",
    "FakeResolver": "dns",
    "Fault": "peers",
    "HttpPeer": "http",
    "HttpRequest": "http",
    "Letter": "internet",
    "MemoryNetwork": "network",
    "MemoryStream": "network",
    "Mta": "kit",
    "PluginBroken": "kit",
    "Remote": "internet",
    "RunningServer": "server",
    "ScriptedPeer": "peers",
    "Sent": "client",
    "SinkPeer": "peers",
    "SmtpClient": "client",
    "memory_connection": "network",
    "open_mta": "kit",
    "open_memory_network": "network",
    "open_test_server": "server",
}

__all__ = [
    "ConnectionPair",
    "DnsServer",
    "Expect",
    "FakeResolver",
    "Fault",
    "HttpPeer",
    "HttpRequest",
    "Letter",
    "MemoryNetwork",
    "MemoryStream",
    "Mta",
    "PluginBroken",
    "Remote",
    "RunningServer",
    "ScriptedPeer",
    "Sent",
    "SinkPeer",
    "SmtpClient",
    "memory_connection",
    "open_memory_network",
    "open_mta",
    "open_test_server",
]


def __getattr__(name: str) -> object:
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
