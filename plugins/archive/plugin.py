"""Keeps a copy of each message: in a folder, durable before the client has its 250, or in a mailbox."""

from __future__ import annotations

import enum
from functools import partial
from pathlib import Path

import attrs

from elemta.config import DomainPattern
from elemta.mail import MailSyntaxError, parse_mailbox
from elemta.plugin.api import (
    Answer,
    Changes,
    Context,
    Duration,
    EnvelopeView,
    MessageView,
    NoteValue,
    Plugin,
    RecipientAction,
    RecipientChange,
    SessionView,
    hook,
    periodic,
)

from .folder import Folder


class Of(enum.StrEnum):
    """Whose mail is kept."""

    ANY = "any"
    OWN = "own"
    """Of clients that may send anywhere: our users and machines."""
    STRANGERS = "strangers"


def _mailbox(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    try:
        if value:
            parse_mailbox(value)
    except MailSyntaxError as error:
        raise ValueError(f"{attribute.name}: {value!r} is no mailbox: {error}") from error


@attrs.frozen
class Settings:
    folder: Path | None = None
    """Where copies are written; made if it is not there."""
    mailbox: str = attrs.field(default="", validator=_mailbox)
    """A mailbox that becomes one more recipient."""
    of: Of = Of.ANY
    domains: tuple[DomainPattern, ...] = ()
    """Only mail of which the sender or a recipient is in one of them; empty: all."""
    compress: bool = True
    """Pack the files with gzip."""
    keep: Duration = 0.0
    """Days that ended so long ago are removed; 0: none ever is."""

    def __attrs_post_init__(self) -> None:
        if self.folder is None and not self.mailbox:
            raise ValueError("folder or mailbox has to say where copies go")


class Archive(Plugin[Settings]):
    Config = Settings

    def __init__(self, config: Settings, context: Context) -> None:
        super().__init__(config, context)
        self._folder = None if config.folder is None else Folder(config.folder, config.compress)

    @hook("message")
    async def copy(
        self, session: SessionView | None, envelope: EnvelopeView, message: MessageView
    ) -> Answer | None:
        if not self._is_wanted(session, envelope):
            return None
        changes, notes = Changes(), dict[str, NoteValue]()
        if self.config.mailbox and self.config.mailbox not in envelope.recipients:
            changes = Changes(recipients=(RecipientChange(RecipientAction.ADD, self.config.mailbox),))
        if self._folder is not None:
            record = {
                "sender": envelope.sender,
                "recipients": list(envelope.recipients),
                "session": session.id if session else None,
                "client": session.peer if session else None,
                "hello": session.hello if session else None,
                "account": session.identity.name if session and session.identity else None,
            }
            write = partial(self._folder.keep, self.context.clock.time(), message.chunks(), record)
            # Whoever waits no longer leaves a whole copy, or none
            notes["file"] = await self.context.in_thread(write)
        self.context.metrics.count("copies")
        return Answer(changes=changes, notes=notes)

    @hook("enqueued")
    async def accepted(
        self, envelope: EnvelopeView, message: MessageView, notes: dict[str, NoteValue]
    ) -> None:
        name = notes.get(f"{self.context.name}.file")
        if self._folder is None or not isinstance(name, str):
            return
        record = {"message": message.id, "recipients": list(envelope.recipients)}
        await self.context.in_thread(self._folder.accepted, name, record)

    @periodic(3600)
    async def clean(self) -> None:
        if self._folder is None or not self.config.keep:
            return
        remove = partial(self._folder.clean, self.context.clock.time(), self.config.keep)
        try:
            removed, wrong = await self.context.in_thread(remove)
        except OSError as error:  # what cannot be removed is no reason to take no mail
            removed, wrong = 0, [str(error)]
        for each in wrong:
            self.context.log.error("old copies cannot be removed", reason=each)
        self.context.metrics.count("days removed", removed)

    def _is_wanted(self, session: SessionView | None, envelope: EnvelopeView) -> bool:
        own = session is None or session.trusted or session.identity is not None
        if self.config.of is not Of.ANY and own != (self.config.of is Of.OWN):
            return False
        if not self.config.domains:
            return True
        names = {each.rpartition("@")[2].lower() for each in (envelope.sender, *envelope.recipients)}
        return any(pattern.covers(name) for name in names for pattern in self.config.domains)
