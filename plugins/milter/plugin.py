"""Speaks the milter protocol with a filter, such as OpenDKIM, while a message is received.

A conversation begins with the sender and ends with the message. One that got lost on the way (the client was
slow, the plugin was loaded anew) is begun again and told what it missed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from elemta.dns import look_up_reverse
from elemta.plugin.api import (
    Answer,
    ByteSize,
    Changes,
    Context,
    Decision,
    Duration,
    EnvelopeView,
    MessageView,
    OutsideFailed,
    Plugin,
    SessionView,
    background,
    hook,
    periodic,
)

from .conversation import Client, Conversation
from .wire import BadPacket

_LOOK_EVERY = 5.0
"""Seconds between two looks for clients that are slow."""


@attrs.frozen
class Settings:
    address: str
    """Of the filter: `host:port`, or `unix:/path`."""
    max_size: ByteSize = 50 * 1024 * 1024
    """The filter does not see larger messages."""
    reverse_names: Duration = 3.0
    """How long the name of the client is looked up in DNS; 0: not at all, then the filter knows none."""
    slow: Duration = 20.0
    """A client that says nothing for so long keeps no connection to the filter."""


class Milter(Plugin[Settings]):
    Config = Settings

    def __init__(self, config: Settings, context: Context) -> None:
        super().__init__(config, context)
        self._conversations: dict[str, Conversation] = {}
        """By session."""
        self._nursery: trio.Nursery | None = None
        self._ready = trio.Event()

    @background
    async def keep_conversations(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._ready.set()
            await trio.sleep_forever()

    @periodic(_LOOK_EVERY)
    async def let_slow_ones_go(self) -> None:
        late = trio.current_time() - self.config.slow
        for key, each in tuple(self._conversations.items()):
            if each.last < late and not each.busy:
                self._drop(key)

    # --- Hooks --------------------------------------------------------------------------------------------

    @hook("mail")
    async def begin(self, session: SessionView, envelope: EnvelopeView) -> Decision | None:
        self._drop(session.id)
        async with self._turn(session, envelope) as (_, decision):
            return decision

    @hook("rcpt")
    async def recipient(
        self, session: SessionView, envelope: EnvelopeView, recipient: str
    ) -> Decision | None:
        async with self._turn(session, envelope, but=recipient) as (conversation, decision):
            return await conversation.recipient(recipient) if decision is None else decision

    @hook("data")
    async def data(self, session: SessionView, envelope: EnvelopeView) -> Decision | None:
        async with self._turn(session, envelope) as (conversation, decision):
            return await conversation.data() if decision is None else decision

    @hook("message")
    async def message(
        self, session: SessionView | None, envelope: EnvelopeView, message: MessageView
    ) -> Answer | None:
        if session is None:
            return None
        if message.size > self.config.max_size:
            self.context.metrics.count("too large")
            self._drop(session.id)
            return None
        changes = Changes()
        try:
            async with self._turn(session, envelope) as (conversation, decision):
                if decision is None:
                    decision = await conversation.data()
                if decision is None:
                    decision, changes = await conversation.message(message)
        finally:
            self._drop(session.id)
        self.context.metrics.count("none" if decision is None else type(decision).__name__.lower())
        return Answer(changes=changes) if decision is None else Answer(decision, changes)

    @hook("disconnect")
    async def end(self, session: SessionView) -> None:
        self._drop(session.id)

    # --- Conversations ------------------------------------------------------------------------------------

    def _drop(self, key: str) -> None:
        conversation = self._conversations.pop(key, None)
        if conversation is not None:
            conversation.over.set()

    @asynccontextmanager
    async def _turn(
        self, session: SessionView, envelope: EnvelopeView, but: str = ""
    ) -> AsyncGenerator[tuple[Conversation, Decision | None], None]:
        """The conversation of a session while something is said in it, and what the filter has against what
        it has to hear before. One that fails, or is left in the midst, is over."""
        key, decision, is_sound = session.id, None, False
        try:
            conversation = self._conversations.get(key)
            if conversation is None:
                conversation = self._conversations[key] = await self._open()
                decision = await conversation.begin(await self._client(session), envelope)
            conversation.busy = True
            for each in envelope.recipients:
                if each != but and decision is None:
                    decision = await conversation.recipient(each)
            is_sound = decision is None
            yield conversation, decision
        except (BadPacket, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            is_sound = False
            raise OutsideFailed(f"{self.config.address}: {error or 'the connection was lost'}") from error
        except BaseException:
            is_sound = False
            raise
        finally:
            if not is_sound:
                self._drop(key)
            elif conversation is not None:
                conversation.busy, conversation.last = False, trio.current_time()

    async def _open(self) -> Conversation:
        await self._ready.wait()
        assert self._nursery is not None
        conversation: Conversation = await self._nursery.start(self._hold)
        return conversation

    async def _hold(self, *, task_status: trio.TaskStatus[Conversation]) -> None:
        """Keep a connection open, until its conversation is over."""
        async with self.context.connect(self.config.address) as stream:
            task_status.started(held := Conversation(stream, busy=True))
            await held.over.wait()

    async def _client(self, session: SessionView) -> Client:
        name = ""
        if self.context.resolver is not None and self.config.reverse_names:
            try:
                address = ipaddress.ip_address(session.peer)
            except ValueError:
                pass  # a socket in the file system
            else:
                found = await look_up_reverse(
                    self.context.resolver, address, seconds=self.config.reverse_names
                )
                name = found.name
        return Client(session, self.context.hostname, name)
