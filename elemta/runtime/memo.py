"""What services remember beyond a restart, as an interface: small values that expire, and may be lost."""

from __future__ import annotations

from typing import Protocol


class Memo(Protocol):
    """A bounded table of small values by key, for hints: losing any of them is harmless.

    A key is text of the form `namespace/rest`, where the namespace is the name of whoever remembers
    (`greylist/…`). Each namespace has a bound of its own, so nobody's flood drives out another's.
    Both parts are the caller's; what strangers sent belongs in a key only as a digest.
    """

    async def get(self, key: str) -> bytes | None:
        """The value, or None where there is none (any more). May wait for a file; cancelling is safe."""

    def put(self, key: str, value: bytes, expires: float) -> None:
        """Remember the value until that time of the wall clock. What was there is replaced.

        Raises:
          ValueError: the key or the value is larger than a memo takes.
        """

    def forget(self, key: str) -> None:
        """Remember it no longer."""
