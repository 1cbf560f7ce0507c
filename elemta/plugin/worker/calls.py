"""One call on its way through workers, and how its caller is woken."""

from __future__ import annotations

import attrs
import trio

from elemta.plugin.tier import Failure, PluginFailed


@attrs.define(eq=False)
class Call:
    """A hook that somebody waits for. Ends once: by an answer, a failure, or because the caller left."""

    number: int
    hook: str
    content: bytes = attrs.field(repr=False)
    suspicions: int = 0
    """Workers that died with it among others, for a reason that is not known."""
    answer: bytes | None = attrs.field(default=None, repr=False)
    failure: PluginFailed | None = None
    ended: bool = False
    _done: trio.Event = attrs.field(factory=trio.Event)

    @property
    def alone(self) -> bool:
        """It has been in two such workers, so the next one gets no other call: then it is known
        whether it is to blame."""
        return self.suspicions >= 2

    def succeed(self, answer: bytes) -> None:
        if not self.ended:
            self.ended = True
            self.answer = answer
            self._done.set()

    def fail(self, kind: Failure, detail: str) -> None:
        if not self.ended:
            self.ended = True
            self.failure = PluginFailed(kind, detail)
            self._done.set()

    def leave(self) -> None:
        """Nobody waits any more."""
        self.ended = True

    async def result(self) -> bytes:
        """Wait for the answer.

        Raises:
          PluginFailed: it has failed.
        """
        await self._done.wait()
        if self.failure is not None:
            raise self.failure
        assert self.answer is not None
        return self.answer
