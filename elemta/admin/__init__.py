"""Look and steer, never in the mail path: health, metrics, status and queue over HTTP.

Not here: mail. A crash or a flood of this package leaves sessions and deliveries untouched.
"""

from .api import Facts, Selection, parse_selection
from .auth import TokenError, load_or_make_token
from .server import SOCKET_NAME, bind_admin, open_admin
from .steering import (
    MOST_FOUND,
    ActionCount,
    BadRequest,
    as_builtins,
    entry_as_json,
    history_as_json,
    parse_address,
    parse_pause_value,
)
from .tail import TailEnded, TailRefused, follow

__all__ = [
    "MOST_FOUND",
    "SOCKET_NAME",
    "ActionCount",
    "BadRequest",
    "Facts",
    "Selection",
    "TailEnded",
    "TailRefused",
    "TokenError",
    "as_builtins",
    "bind_admin",
    "entry_as_json",
    "follow",
    "history_as_json",
    "load_or_make_token",
    "open_admin",
    "parse_address",
    "parse_pause_value",
    "parse_selection",
]
