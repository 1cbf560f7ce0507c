"""The interface of everything that answers DNS questions."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .answers import Answer, RecordKind


class Resolver(ABC):
    """Asks DNS. Names are ASCII (A-labels); case and a final dot make no difference."""

    @abstractmethod
    async def query(self, name: str, kind: RecordKind) -> Answer:
        """The answer, within the resolver's own deadline. Never raises for what DNS does.

        A name that DNS cannot hold (empty or too long labels, not ASCII) is answered NXDOMAIN without
        asking: it does not exist and never will. Cancelling leaves nothing behind.
        """
