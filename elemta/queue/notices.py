"""Makes the notices of an attempt: what of the original they carry, which recipients go into one."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from elemta.events import NoticeQueued, StorageTrouble
from elemta.mail import Action, MessageId, make_id, split_header
from elemta.mail.ids import RANDOM_BITS
from elemta.spool import BodyCorrupt, NewMessage, StoredMessage

from .bounce import plan_notice, wants_whole_message
from .context import QueueContext
from .verdict import Verdict

MEMORY_OF_NOTICE = 1024 * 1024
"""Most octets of an original that a notice carries: whole header block, or whole message."""
READ_SECONDS = 5.0
"""How long the word of a next hop may wait for the original to be read; then the notice goes without."""

_GROUPS = ((Action.FAILED,), (Action.DELAYED,), (Action.DELIVERED, Action.RELAYED))
"""What goes into one notice: good news apart from bad."""


@attrs.frozen
class Original:
    """What a notice may return of a message: its header block, or all of it."""

    content: bytes
    complete: bool


@attrs.frozen(eq=False)
class Notices:
    """Writes to the senders of messages."""

    context: QueueContext

    async def original(self, message: StoredMessage) -> Original:
        """The header block of a message, or all of it where the sender asked for that, bounded.

        Cannot be cancelled, because the word of the next hop is not written down yet; takes READ_SECONDS
        at most. What could not be read is left out. A message in memory is taken without a checkpoint.
        """
        whole = wants_whole_message(message) and message.size <= MEMORY_OF_NOTICE
        pieces = [message.prefix]
        if message.body is not None:
            pieces.append(message.body)
        else:
            with trio.move_on_after(READ_SECONDS, shield=True):
                await self._read(message, pieces, whole=whole)
        content = b"".join(pieces)
        if whole and len(content) == message.size:
            return Original(content, complete=True)
        return Original(content[: split_header(content)][:MEMORY_OF_NOTICE], complete=False)

    async def _read(self, message: StoredMessage, pieces: list[bytes], *, whole: bool) -> None:
        size = len(message.prefix)
        try:
            async with self.context.spool.open_body(message) as reader:
                while size < MEMORY_OF_NOTICE and (piece := await reader.read()):
                    pieces.append(piece)
                    size += len(piece)
                    if not whole and b"\r\n\r\n" in piece:
                        break
        except BodyCorrupt as error:
            self.context.bus.publish(
                StorageTrouble(
                    time=self.context.clock.time(), what="corrupt", detail=str(error), message=message.id
                )
            )

    def plan(
        self, message: StoredMessage, verdicts: Sequence[Verdict], original: Original, now: float
    ) -> tuple[NewMessage, ...]:
        """The notices to be stored with the results they are about; tells the watchers of each."""
        notices = []
        for actions in _GROUPS:
            told = [verdict for verdict in verdicts if verdict.notice in actions]
            if not told:
                continue
            notice_id = MessageId(make_id(int(now * 1000), self.context.random.getrandbits(RANDOM_BITS)))
            notices.append(
                plan_notice(
                    message,
                    told,
                    original=original.content,
                    complete=original.complete,
                    hostname=self.context.config.hostname,
                    notice=notice_id,
                    now=now,
                    sign=self.context.sign,
                )
            )
            self.context.bus.publish(
                NoticeQueued(
                    time=now,
                    message=notice_id,
                    about=message.id,
                    recipient=str(message.envelope.reverse_path.mailbox),
                    action=told[0].notice or "",
                )
            )
        return tuple(notices)
