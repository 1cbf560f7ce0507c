"""Tells a web service what happens: signed, again until it has taken it, in order."""

from __future__ import annotations

import fnmatch
import json
import secrets
from collections import deque
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from elemta.plugin.api import (
    Context,
    Duration,
    HttpAnswer,
    NoteValue,
    OutsideFailed,
    Plugin,
    background,
    hook,
)

from .signing import read_secret, signature

KEPT: Final = 7 * 86400.0
"""Seconds for which events that were not sent before a stop are kept."""
MOST_KEPT: Final = 2_000
"""Of them; and characters of one."""
LONGEST_KEPT: Final = 4_000
LOOK: Final = 60.0
"""Seconds between two looks for what an older version of the plugin has left."""
LONGEST_WISH: Final = 3600.0
"""Seconds that a service may ask for in Retry-After."""


def _positive(settings: Settings, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} has to be at least 1")


def _some(
    settings: Settings, attribute: attrs.Attribute[tuple[float, ...]], value: tuple[float, ...]
) -> None:
    if not value or not all(value):
        raise ValueError(f"{attribute.name} needs durations that are more than 0s")


@attrs.frozen
class Settings:
    url: str
    """`https://` or, inside, `http://`."""
    secret_file: Path
    """A file with `whsec_` and base64, as `openssl rand -base64 32` makes it."""
    events: tuple[str, ...] = ("message.accepted", "message.rejected", "recipient.*")
    """Their types; `*` stands for anything."""
    source: str = ""
    """Who tells: goes into each body."""
    batch: int = attrs.field(default=100, validator=_positive)
    """Events in one request, at most."""
    gather: Duration = 1.0
    """How long others are waited for."""
    answer: Duration = 15.0
    """How long the service may take."""
    retry: tuple[Duration, ...] = attrs.field(default=(1.0, 5.0, 30.0, 120.0, 600.0), validator=_some)
    """Pauses after failures; the last one repeats."""
    lifetime: Duration = 86400.0
    """A request that was not taken for so long is given up, so that others get their turn."""
    backlog: int = attrs.field(default=20_000, validator=_positive)
    """Events that may wait; what is more is lost, and counted."""


@attrs.define
class Request:
    """Events that go together; the same at each attempt."""

    id: str
    events: list[dict[str, Any]]


class Webhook(Plugin[Settings]):
    Config = Settings

    def __init__(self, config: Settings, context: Context) -> None:
        super().__init__(config, context)
        self._secret = read_secret(config.secret_file)
        self._run = secrets.token_hex(4)
        """Tells the numbers of this instance from those of others."""
        self._number = 0
        self._waiting: deque[dict[str, Any]] = deque()
        self._request: Request | None = None
        self._news = trio.Event()

    # --- What happens -------------------------------------------------------------------------------------

    @hook("event")
    async def hear(self, event: dict[str, NoteValue]) -> None:
        if not any(fnmatch.fnmatchcase(str(event["type"]), each) for each in self.config.events):
            return
        self._number += 1  # also of what is lost, so that the service can see that something is
        if len(self._waiting) >= self.config.backlog:
            self.context.metrics.count("lost")
            return
        self._waiting.append({"run": self._run, "number": self._number, **event})
        self._news.set()

    # --- Telling it ---------------------------------------------------------------------------------------

    @background
    async def send(self) -> None:
        while True:
            await self._take_over()
            with trio.move_on_after(LOOK):
                await self._wait_for_some()
                await trio.sleep(self.config.gather)
            while self._waiting or self._request:
                await self._deliver(self._next())
                self._request = None

    async def _wait_for_some(self) -> None:
        if not self._waiting:
            self._news = trio.Event()
            await self._news.wait()

    def _next(self) -> Request:
        if self._request is None:
            count = min(len(self._waiting), self.config.batch)
            events = [self._waiting.popleft() for _ in range(count)]
            self._request = Request(f"msg_{events[0]['run']}_{events[0]['number']}", events)
        return self._request

    async def _deliver(self, request: Request) -> None:
        """Until it is taken, or given up."""
        pauses = iter(self.config.retry)
        pause = 0.0
        with trio.move_on_after(self.config.lifetime) as scope:
            while True:
                wish = await self._post(request)
                if wish is None:
                    return
                pause = next(pauses, pause)
                await trio.sleep(max(pause, wish))
        if scope.cancelled_caught:
            self.context.metrics.count("given up", len(request.events))
            self.context.log.error("events were given up", request=request.id, events=len(request.events))

    async def _post(self, request: Request) -> float | None:
        """One attempt; None: it was taken, else how long the service wants to be left alone."""
        now = int(self.context.clock.time())
        body = json.dumps({"source": self.config.source, "events": request.events}).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("webhook-id", request.id),
            ("webhook-timestamp", str(now)),
            ("webhook-signature", signature(self._secret, request.id, now, body)),
        ]
        problem, answer = f"no answer within {self.config.answer:g} s", None
        with trio.move_on_after(self.config.answer):
            try:
                http = self.context.http
                answer = await http.request("POST", self.config.url, headers=headers, body=body, most=65536)
                problem = f"status {answer.status}"
            except OutsideFailed as error:
                problem = str(error)
        if answer is not None and 200 <= answer.status < 300:
            self.context.metrics.count("sent", len(request.events))
            return None
        self.context.metrics.count("failed attempts")
        self.context.log.warning("the service did not take events", request=request.id, reason=problem)
        return _wish(answer)

    # --- Beyond a stop ------------------------------------------------------------------------------------

    @hook("shutdown")
    async def stop(self) -> None:
        """Tell what can be told now, and keep the rest for the next start."""
        with trio.move_on_after(self.config.answer):
            while (self._waiting or self._request) and await self._post(self._next()) is None:
                self._request = None
        left = [*(self._request.events if self._request else ()), *self._waiting]
        state, kept = self.context.state, 0
        for event in left[:MOST_KEPT]:
            text = json.dumps(event).encode()
            if len(text) <= LONGEST_KEPT:
                state.put(f"left/{kept}", text, KEPT)
                kept += 1
        if kept:
            state.put("left", str(kept).encode(), KEPT)

    async def _take_over(self) -> None:
        """Put what was kept before what is new."""
        state = self.context.state
        count = await state.get("left")
        if count is None:
            return
        texts = [await state.get(f"left/{place}") for place in range(int(count))]
        self._waiting.extendleft(json.loads(text) for text in reversed(texts) if text is not None)
        state.forget("left")


def _wish(answer: HttpAnswer | None) -> float:
    """Seconds of Retry-After (RFC 9110 10.2.3); dates are not read."""
    text = None if answer is None else answer.header("Retry-After")
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 9:
        return 0.0
    return min(float(text), LONGEST_WISH)
