"""Take new certificates into use when their files change, and fresh keys for session tickets now and then."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from elemta.runtime import ThreadPool, run_in_thread

from .contexts import Signature, TlsContexts
from .errors import TlsFilesError


@attrs.define(eq=False)
class FileWatcher:
    """Looks at the files of the contexts every `tls.check_interval`, in a thread. `run` it supervised.

    A change is taken into use when two looks have seen the same: a certificate and its key are replaced one
    after the other, and between the two they do not match. What cannot be used is told once, and what
    was in use stays so.
    """

    contexts: TlsContexts
    on_reload: Callable[[], None]
    on_trouble: Callable[[str], None]
    _pool: ThreadPool = attrs.field(factory=lambda: ThreadPool("tls-files", 1), init=False)
    _seen: Signature | None = attrs.field(default=None, init=False)
    """A change that the last look saw."""
    _refused: Signature | None = attrs.field(default=None, init=False)
    """What was tried and cannot be used."""

    async def run(self) -> None:
        """Until cancelled; then a reading that is under way has no effect."""
        renewed = trio.current_time()
        while True:
            await trio.sleep(self.contexts.config.check_interval)
            if await self.look():
                renewed = trio.current_time()
            elif trio.current_time() - renewed >= self.contexts.config.ticket_lifetime:
                # RFC 5077 §5.5, RFC 9325 §3.4: who learns a ticket key can read what was sent under it.
                # Python cannot set the keys of a context, but each context is made with its own.
                renewed = trio.current_time()
                await self._reload()

    async def look(self) -> bool:
        """One look; whether new files were taken into use."""
        stale, signature = await run_in_thread(self._pool, self.contexts.is_stale)
        if not stale:
            self._seen = self._refused = None
            return False
        if signature != self._seen:
            self._seen = signature
            return False
        if signature == self._refused:
            return False
        if not await self._reload():
            self._refused = signature
            return False
        self.on_reload()
        return True

    async def _reload(self) -> bool:
        config = self.contexts.config
        try:
            swap = await run_in_thread(self._pool, self.contexts.prepare, config)
        except TlsFilesError as error:
            self.on_trouble(str(error))
            return False
        if self.contexts.config is config:  # else a reload of the configuration came in between
            swap()
        return True
