"""Makes the notices of an attempt: what of the original they carry, which recipients go into one."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from elemta.events import NoticeQueued, StorageTrouble
from elemta.mail import (
    Action,
    Cause,
    Delivered,
    HeaderBlock,
    Mailbox,
    MessageId,
    Notify,
    make_id,
    parse_domain,
    parse_mailbox,
    split_header,
)
from elemta.mail.ids import RANDOM_BITS
from elemta.spool import BodyCorrupt, NewMessage, RecipientState, StoredMessage

from .bounce import plan_notice, wants_whole_message
from .context import QueueContext
from .verdict import Verdict

MEMORY_OF_NOTICE = 1024 * 1024
"""Most octets of an original that a notice carries: whole header block, or whole message."""
READ_SECONDS = 5.0
"""How long the word of a next hop may wait for the original to be read; then the notice goes without."""

_ENDED = (RecipientState.FAILED, RecipientState.EXPIRED)
_BULK = (b"bulk", b"list", b"junk")
_GROUPS = ((Action.FAILED,), (Action.DELAYED,), (Action.DELIVERED, Action.RELAYED))
"""What goes into one notice: good news apart from bad."""


def is_notice(message: StoredMessage) -> bool:
    """Whether the message is one that we have sent to tell of another."""
    envelope = message.envelope
    return (
        envelope.reverse_path.is_null
        and message.origin.peer == "local"
        and all(recipient.dsn.notify is Notify.NEVER for recipient in envelope.recipients)
    )


def is_automatic(header: bytes) -> bool:
    """Whether a message is from a program or a list, where nobody waits for the word that it is late (Exim:
    delay_warning_condition)."""
    block = HeaderBlock(header)
    submitted, precedence = block.find(b"Auto-Submitted"), block.find(b"Precedence")
    return (
        (submitted is not None and submitted.value.strip().lower() not in (b"", b"no"))
        or (precedence is not None and precedence.value.strip().lower() in _BULK)
        or any(block.find(name) is not None for name in (b"List-Id", b"List-Post", b"List-Unsubscribe"))
    )


@attrs.frozen
class Original:
    """What a notice may return of a message: its header block, or all of it."""

    content: bytes
    complete: bool


@attrs.frozen(eq=False)
class Notices:
    """Writes to the senders of messages."""

    context: QueueContext

    def for_postmaster(self, message: StoredMessage, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts on a notice of ours, with what postmaster is to be told where nobody else can be: that
        it failed (RFC 5321 §6.1 forbids to tell its sender, who is nobody)."""
        told = self._postmaster() if is_notice(message) else None
        return [
            attrs.evolve(verdict, notice=Action.FAILED, to_postmaster=True)
            if told is not None
            and verdict.state in _ENDED
            and not isinstance(verdict.outcome, Delivered)
            and verdict.outcome.cause is not Cause.OPERATOR
            and str(verdict.claimed.recipient.mailbox).lower() != str(told).lower()
            else verdict
            for verdict in verdicts
        ]

    def _postmaster(self) -> Mailbox | None:
        """Who is told of notices that found nobody, if there is somebody to be reached."""
        config = self.context.config
        if not config.queue.double_bounces:
            return None
        if config.postmaster is not None:
            return parse_mailbox(config.postmaster, utf8=True)
        hostname = parse_domain(config.hostname)
        return Mailbox("postmaster", hostname) if hostname in config.domains.local else None

    async def original(self, message: StoredMessage) -> Original:
        """The header block of a message, or all of it where the sender asked for that, bounded.

        Cannot be cancelled, because the word of the next hop is not written down yet; takes READ_SECONDS
        at most. What could not be read is left out. A message in memory is taken without a checkpoint.
        """
        whole = wants_whole_message(message) or is_notice(message)
        whole = whole and message.size <= MEMORY_OF_NOTICE
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
            if Action.DELAYED in actions and is_automatic(original.content):
                told = [verdict for verdict in told if verdict.claimed.recipient.dsn.notify is not None]
            if not told:
                continue
            to = self._postmaster() if told[0].to_postmaster else None
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
                    to=to,
                )
            )
            self.context.bus.publish(
                NoticeQueued(
                    time=now,
                    message=notice_id,
                    about=message.id,
                    recipient=str(to or message.envelope.reverse_path.mailbox),
                    action=told[0].notice or "",
                )
            )
        return tuple(notices)
