"""How long steps took, for traces: free while nobody takes them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import attrs

from elemta.runtime import WallClock

_NOTHING = nullcontext()


@attrs.frozen
class Span:
    """One step that has ended."""

    name: str
    begun: float
    ended: float
    session: str
    """Whose step it was …"""
    message: str
    """… or in an attempt of which message."""
    attributes: dict[str, str]
    error: str = ""
    """What it raised, if it did."""


class Spans:
    """Where steps are measured. `take` switches it on."""

    def __init__(self) -> None:
        self._take: Callable[[Span], None] | None = None
        self._clock: WallClock | None = None

    @property
    def taken(self) -> bool:
        """Whether anyone takes them; else what is measured need not be said."""
        return self._take is not None

    def take(self, callback: Callable[[Span], None], clock: WallClock) -> None:
        """Hand all spans to the callback from now on; it is called in the loop and must not raise."""
        self._take, self._clock = callback, clock

    def measure(
        self, name: str, *, session: str = "", message: str = "", **attributes: str
    ) -> AbstractContextManager[None]:
        """In a `with` block: a step of this session, or of an attempt of this message."""
        if self._take is None or self._clock is None:
            return _NOTHING
        return _Measuring(self._take, self._clock, name, session, message, attributes)


class _Measuring(AbstractContextManager[None]):
    def __init__(
        self,
        take: Callable[[Span], None],
        clock: WallClock,
        name: str,
        session: str,
        message: str,
        attributes: dict[str, str],
    ) -> None:
        self._take = take
        self._clock = clock
        self._of = (session, message)
        self._name = name
        self._attributes = attributes
        self._begun = clock.time()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        error = "" if exc_type is None else exc_type.__name__
        self._take(Span(self._name, self._begun, self._clock.time(), *self._of, self._attributes, error))
