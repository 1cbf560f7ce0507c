"""A chunk of a message on the server: its octets counted, kept or dropped (RFC 3030 §2)."""

from __future__ import annotations

import attrs

from elemta.mail import Reply

from .body import ChunkDecoder
from .commands import BadCommand, Bdat
from .events import BodyChunk, BodyEnd, ChunkEnd, CommandReceived
from .lines import LineBuffer


@attrs.define(slots=True)
class Chunk:
    """From its BDAT line until it is answered."""

    command: Bdat
    left: int
    """Octets that are still to come."""
    refusal: Reply | None = None
    """Why they are dropped, if they are."""
    is_bad: bool = False
    """The refusal is the machine's own: it is shown as a bad command."""

    @classmethod
    def begin(cls, command: Bdat, refusal: Reply | None) -> Chunk:
        """The chunk behind this line; with a refusal that is a bad command."""
        return cls(command, command.size, refusal, refusal is not None)

    def next_event(
        self, lines: LineBuffer, decoder: ChunkDecoder | None
    ) -> BodyChunk | ChunkEnd | BodyEnd | CommandReceived | None:
        """Some content, or the end of the chunk; None where octets are missing.

        `decoder`: of the whole message; not needed where the octets are dropped.
        """
        while self.left:
            data = lines.take(self.left)
            if not data:
                return None
            self.left -= len(data)
            if self.refusal is None:
                assert decoder is not None
                content = decoder.feed(data)
                if content:
                    return BodyChunk(content)
        command = self.command
        if self.refusal is not None:
            if self.is_bad:
                return CommandReceived(BadCommand(command.verb, self.refusal))
            return ChunkEnd(command.size, None, self.refusal)
        assert decoder is not None
        if not command.last:
            return ChunkEnd(command.size, decoder.problem)
        content = decoder.end()
        return BodyChunk(content) if content else BodyEnd(decoder.size, decoder.problem)
