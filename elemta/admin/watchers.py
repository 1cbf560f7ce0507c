"""Serves the event ring to everybody who watches: one task looks for all, within a share of the loop's time.

Theory of operation. A watcher is a place in the ring, a filter, and what is to be sent to him next. The
herald wakes at most every `GATHER` seconds, goes round those who have taken what they were given, and
puts what is new for each into one piece. Whoever does not take it (a client that never reads) is not
looked at again until he does; by then the ring has moved on, and the first thing he is told is how much
he missed. So publishing costs the same with no watcher and with a thousand, and all of them together get
`PART` of the loop's time, however much happens: mail goes first.

A piece is made once for all who are at the same place with the same filter, and where the socket takes it at
once no task of the watcher's is woken. What it does not take keeps hold of that same piece, not of a copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs
import trio

from elemta.events import EventBus
from elemta.runtime import WallClock, render_json, rfc3339

from .filters import Filter, Wish
from .ring import EventRing
from .share import Share
from .websocket import text_frame

GATHER = 0.05
"""Seconds for which events gather before the next piece is made."""
PART = 0.02
"""Of the loop's time, for all watchers together."""
BURST = 0.25
"""Seconds of the loop's time that may be used at once after a quiet while."""
MAX_PIECE = 64 * 1024
"""Octets from which on nothing more is put into a piece."""
HEARTBEAT = 20.0
"""Seconds without anything for a watcher after which he is told that all is well."""

_LOOK_AT = 500
"""Events that are looked at for one watcher in one turn: well below a millisecond."""
_PIECE_COST = 60e-6
"""Seconds of the loop's time for sending one piece, beside what its octets take."""
_OCTET_COST = 1e-9
_TURN = 0.0005
"""Seconds of work after which other tasks get their turn."""
_KEPT_PIECES = 16
"""Pieces that are remembered for others at the same place."""

SendNow: TypeAlias = Callable[[bytes | memoryview], int]
"""Sends at once, in the loop, what goes without waiting: returns how many octets that was."""


@attrs.frozen
class WatchersStatistics:
    """The live tail at one moment."""

    watchers: int
    limit: int
    kept: int
    """Events in the ring."""
    newest: int
    lost: int
    """Events that watchers were too slow for, in total."""


class Watcher:
    """One client's place in the ring. Made by `Watchers.add`."""

    def __init__(self, watchers: Watchers, send_now: SendNow | None) -> None:
        self._watchers = watchers
        self._send_now = send_now
        self._filter: Filter | None = None
        """None: it is not known yet what he wants, so he gets nothing."""
        self._position = watchers.ring.newest
        """The last event that was looked at."""
        self._piece: list[bytes | memoryview] = []
        """Whole frames, but for the first, of which a part may have been sent."""
        self._octets = 0
        self._ready = trio.Event()
        self._last_message = trio.current_time()
        self.ended = False

    @property
    def is_behind(self) -> bool:
        """Whether there are events that were not looked at for him, and could be."""
        return self._filter is not None and self._position < self._watchers.ring.newest

    @property
    def is_full(self) -> bool:
        """Whether what waits for him is as much as one piece may be."""
        return self._octets >= MAX_PIECE

    async def next_piece(self) -> list[bytes | memoryview]:
        """What is to be sent next and did not go at once; empty: there will be no more. For one task, which
        sends it before it asks again. Cancelled: nothing is taken."""
        watchers = self._watchers
        if not self._piece and not self.ended:
            watchers.wait_for_news(self)
        await self._ready.wait()
        piece, self._piece, self._octets = self._piece, [], 0
        if not self.ended:
            self._ready = trio.Event()
        watchers.share.spend(_PIECE_COST + _OCTET_COST * sum(map(len, piece)))
        return piece

    def tell(self, kind: str, **values: object) -> None:
        """Say something about the tail itself: types of these have no dot."""
        self._put(self._said(kind, **values))
        self.hand_over()

    def put_frame(self, frame: bytes) -> None:
        """Send a frame that is no message."""
        self._piece.append(frame)
        self._octets += len(frame)
        self.hand_over()

    async def subscribe(self, wish: Wish) -> None:
        """Begin (again) with this filter and at this place. Until that is found, he gets nothing."""
        ring = self._watchers.ring
        self._filter = None
        restarted = False
        position = ring.newest
        if wish.since is not None:
            # Numbers of our earlier lives are smaller; a larger one is from before a clock was set back.
            restarted = not ring.first - 1 <= wish.since <= ring.newest
            position = ring.first - 1 if restarted else wish.since
        elif wish.last is not None:
            position = await self._find_last(wish)
        self._filter = self._watchers.make_filter(wish)
        self._position = position
        if restarted:  # how many there were in the other life nobody knows
            self._lag(max(0, ring.oldest - 1 - position), restarted=True)
            self.hand_over()
        self._watchers.wake()

    async def _find_last(self, wish: Wish) -> int:
        """The place before the last events that fit."""
        share, ring = self._watchers.share, self._watchers.ring
        if not wish.last:
            return ring.newest
        fits = self._watchers.make_filter(wish)
        found: deque[int] = deque(maxlen=min(wish.last, ring.newest + 1 - ring.oldest) or 1)
        number = ring.oldest - 1
        while number < ring.newest:
            begun = share.clock()
            number = max(number, ring.oldest - 1)
            last = min(ring.newest, number + _LOOK_AT)
            found.extend(each for each in range(number + 1, last + 1) if fits(ring.event(each)))
            number = last
            share.spend(share.clock() - begun)
            await share.wait()
        return found[0] - 1 if found else ring.newest

    # --- For the herald ---------------------------------------------------------------------------------

    def look(self) -> bool:
        """Put what is new into the piece; whether there is something in it. Sync, below a millisecond."""
        ring, fits = self._watchers.ring, self._filter
        if fits is None:
            return bool(self._piece)
        missed = ring.oldest - 1 - self._position
        if missed > 0:
            self._lag(missed, restarted=False)
        if not self.is_full:
            self._position, frames = self._watchers.frames_behind(self._position, fits)
            if frames:
                self._put(frames)
        return bool(self._piece)

    def needs_beat(self, now: float) -> bool:
        """Whether he has heard nothing for long."""
        return now - self._last_message >= HEARTBEAT

    def beat(self) -> None:
        """Tell him that all is well, and up to where nothing more fits his filter."""
        self.tell("heartbeat", seq=self._position)

    def hand_over(self) -> None:
        """Send the piece, or as much as goes at once; the rest is for who waits in `next_piece`."""
        watchers = self._watchers
        if self._send_now is not None and self._piece and not self.ended and watchers.is_waiting(self):
            data = self._piece[0] if len(self._piece) == 1 else b"".join(self._piece)
            sent = self._send_now(data)
            if sent == len(data):
                self._piece, self._octets = [], 0
                return
            self._piece, self._octets = [memoryview(data)[sent:]], len(data) - sent
        watchers.leave_alone(self)
        self._ready.set()

    def end(self) -> None:
        """Let him take what waits for him, and then the end."""
        self.ended = True
        self.hand_over()

    def _lag(self, lost: int, *, restarted: bool) -> None:
        """Say that so many events were missed; go on with the oldest that is kept."""
        ring = self._watchers.ring
        self._watchers.lost += lost
        self._position = max(self._position, ring.oldest - 1)
        more = {"restarted": True} if restarted else {}
        self._put(self._said("lagged", lost=lost, next=self._position + 1, **more))

    def _said(self, kind: str, **values: object) -> bytes:
        return text_frame(render_json({"type": kind, "time": self._watchers.time(), **values})[:-1])

    def _put(self, frames: bytes) -> None:
        self._piece.append(frames)
        self._octets += len(frames)
        self._last_message = trio.current_time()


class Watchers:
    """Everybody who watches. Run `run` under supervision."""

    def __init__(
        self,
        bus: EventBus,
        clock: WallClock,
        *,
        events: int,
        limit: int,
        listener_of: Callable[[], Mapping[str, str]] = dict,
        share: Share | None = None,
    ) -> None:
        """Keeps the last `events` events from now on, for at most `limit` watchers.

        `listener_of` gives the listener of each session that is open.
        """
        self.ring = EventRing(events, clock.time())
        self.share = share or Share(PART, BURST)
        self.listener_of = listener_of
        self.limit = limit
        self.lost = 0
        self.closed = False
        self._clock = clock
        self._all: set[Watcher] = set()
        self._waiting: dict[Watcher, None] = {}
        """Those who have taken everything, the longest waiting first."""
        self._work = trio.Event()
        self._gone = trio.Event()
        self._pieces: dict[tuple[object, int], tuple[int, bytes]] = {}
        """By filter and place: the place behind it, and the frames."""
        bus.observe("tail", self.ring.observe)

    @property
    def is_full(self) -> bool:
        return len(self._all) >= self.limit

    def add(self, send_now: SendNow | None = None) -> Watcher:
        """One more; `remove` him in the end. Without `send_now` everything is for who asks `next_piece`."""
        watcher = Watcher(self, send_now)
        self._all.add(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """He is gone."""
        self._all.discard(watcher)
        self.leave_alone(watcher)
        if not self._all:
            self._gone.set()

    def wait_for_news(self, watcher: Watcher) -> None:
        """He has taken everything and can be given more."""
        self._waiting[watcher] = None
        self.wake()

    def is_waiting(self, watcher: Watcher) -> bool:
        """Whether he has taken everything, so that nobody is sending to him."""
        return watcher in self._waiting

    def leave_alone(self, watcher: Watcher) -> None:
        """He has something to take, or is gone."""
        self._waiting.pop(watcher, None)

    def wake(self) -> None:
        """Let the herald look round."""
        self._work.set()

    def make_filter(self, wish: Wish) -> Filter:
        """A fresh one for events from here on."""
        return Filter(wish.wanted, self.listener_of() if "listener" in wish.wanted else None)

    def frames_behind(self, position: int, fits: Filter) -> tuple[int, bytes]:
        """What fits behind a place, as much as one piece may have and one turn may look at, and the place
        up to where that is all."""
        ring = self.ring
        name = (fits.key, position)
        if fits.key is not None and (known := self._pieces.get(name)) is not None:
            return known
        last = min(ring.newest, position + _LOOK_AT)
        takes_all = fits.takes_all
        frames: list[bytes] = []
        octets, number = 0, position
        while number < last and octets < MAX_PIECE:
            number += 1
            if takes_all or fits(ring.event(number)):
                frame = ring.frame(number)
                frames.append(frame)
                octets += len(frame)
        found = number, b"".join(frames)
        if fits.key is not None:
            if len(self._pieces) >= _KEPT_PIECES:
                self._pieces.clear()
            self._pieces[name] = found
        return found

    def time(self) -> str:
        return rfc3339(self._clock.time())

    def statistics(self) -> WatchersStatistics:
        """A snapshot; sync and cheap."""
        ring = self.ring
        kept = ring.newest + 1 - ring.oldest
        return WatchersStatistics(len(self._all), self.limit, kept, ring.newest, self.lost)

    def close(self) -> None:
        """The server stops: no more watchers, and each gets what there still is, and then the end. Sync."""
        self.closed = True
        for watcher in tuple(self._all):
            watcher.look()
            watcher.end()

    async def wait_gone(self) -> None:
        """Wait until nobody watches any more."""
        while self._all:
            self._gone = trio.Event()
            await self._gone.wait()

    # --- The herald -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            with trio.move_on_after(HEARTBEAT / 4):
                await self._wait_for_work()
            await self._go_round()
            if not self._is_anybody_behind():
                await trio.sleep(GATHER)

    async def _wait_for_work(self) -> None:
        """Wait until somebody who has taken everything is behind."""
        while not self._is_anybody_behind():
            self._work = trio.Event()
            # Without anybody to tell it to, an event wakes nobody.
            self.ring.waiting = self._work if self._waiting else None
            await self._work.wait()

    def _is_anybody_behind(self) -> bool:
        begun = self.share.clock()
        found = any(watcher.is_behind for watcher in self._waiting)
        self.share.spend(self.share.clock() - begun)
        return found

    async def _go_round(self) -> None:
        share = self.share
        self._pieces.clear()
        now, begun = trio.current_time(), share.clock()
        for watcher in tuple(self._waiting):
            if watcher not in self._waiting:  # he went while others were served
                continue
            if watcher.is_behind and watcher.look():
                watcher.hand_over()
            elif watcher.needs_beat(now):
                watcher.beat()
            if share.clock() - begun >= _TURN:
                share.spend(share.clock() - begun)
                await share.wait()
                now, begun = trio.current_time(), share.clock()
        share.spend(share.clock() - begun)
        await share.wait()
