"""The composition root: the only package that knows all others.

Not here: behaviour. It builds, connects, starts, stops, reloads.
"""

from .capture import Captured
from .descriptors import open_standard_descriptors
from .dev import NoFreePort, default_config, for_development, free_port, with_port, without_auth
from .dns_view import look_up_alone
from .environment import Environment
from .logs import Logs, Wanted, Way, open_logs
from .main import Capture, Server, run
from .plugin_wishes import Wishes, WishesDamaged, read_wishes, write_wishes
from .systemd import inherited_sockets

__all__ = [
    "Capture",
    "Captured",
    "Environment",
    "Logs",
    "NoFreePort",
    "Server",
    "Wanted",
    "Way",
    "Wishes",
    "WishesDamaged",
    "default_config",
    "for_development",
    "free_port",
    "inherited_sockets",
    "look_up_alone",
    "open_logs",
    "open_standard_descriptors",
    "read_wishes",
    "run",
    "with_port",
    "without_auth",
    "write_wishes",
]
