"""Pages of listings: how many, and behind which message they go on."""

from __future__ import annotations

import re

from elemta.mail import is_id

from .operations import Parameter
from .problems import BadRequest

MAX_PAGE = 1000
_NUMBER = re.compile(r"[0-9]{1,6}")

LIMIT = Parameter(
    "limit", f"At most so many, 1 to {MAX_PAGE}", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}
)
AFTER = Parameter("after", "Go on behind this message: the `next` of the page before")


def read_limit(text: str) -> int:
    """How many to give.

    Raises:
      BadRequest: no number, or not between 1 and `MAX_PAGE`.
    """
    limit = int(text) if _NUMBER.fullmatch(text) else 0
    check_page(limit, None)
    return limit


def check_page(limit: int, after: str | None) -> None:
    """Raises:
    BadRequest: too many or none, or behind what is no message.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit is a number from 1 to {MAX_PAGE}")
    if after is not None and not is_id(after):
        raise BadRequest("after is a message id")
