"""What a user did or met, as lines and an exit status."""

from __future__ import annotations

NOT_DONE = 1
STORAGE = 74
TRY_LATER = 75
BAD_CONFIG = 78


class Trouble(Exception):
    """Ends the command with these lines on standard error."""

    def __init__(self, status: int, *lines: str) -> None:
        super().__init__(*lines)
        self.status = status
        self.lines = lines
