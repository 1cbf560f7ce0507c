"""Look and steer, never in the mail path: health, metrics, status and queue over HTTP.

Not here: mail. A crash or a flood of this package leaves sessions and deliveries untouched.
"""

from .api import Facts
from .auth import TokenError, load_or_make_token
from .problems import BadRequest, Conflict, NotFound, Problem
from .resources import SuppressedWish, list_address, list_entry, parse_selection
from .server import SOCKET_NAME, bind_admin, open_admin
from .shapes import Selection
from .steering import (
    MOST_FOUND,
    ActionCount,
    as_builtins,
    entry_as_json,
    history_as_json,
    parse_pause_value,
    parse_wanted,
)
from .tail import TailEnded, TailRefused, follow
from .tokens import FILE_NAME as TOKENS_FILE
from .tokens import (
    ApiToken,
    Scope,
    TokenFile,
    TokensBusy,
    check_name,
    digest_of,
    edit_tokens,
    load_tokens,
    make_token,
)

__all__ = [
    "MOST_FOUND",
    "SOCKET_NAME",
    "TOKENS_FILE",
    "ActionCount",
    "ApiToken",
    "BadRequest",
    "Conflict",
    "Facts",
    "NotFound",
    "Problem",
    "Scope",
    "Selection",
    "SuppressedWish",
    "TailEnded",
    "TailRefused",
    "TokenError",
    "TokenFile",
    "TokensBusy",
    "as_builtins",
    "bind_admin",
    "check_name",
    "digest_of",
    "edit_tokens",
    "entry_as_json",
    "follow",
    "history_as_json",
    "list_address",
    "list_entry",
    "load_or_make_token",
    "load_tokens",
    "make_token",
    "open_admin",
    "parse_pause_value",
    "parse_selection",
    "parse_wanted",
]
