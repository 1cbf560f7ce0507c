"""The face of the spool: messages in, claims and bodies out, operators, room, readers; on each store."""

import os
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from spool_builders import (
    BODY,
    NOW,
    ORIGIN,
    PREFIX,
    FakeIntake,
    SettableClock,
    Troubles,
    attempt,
    deferred,
    delivered,
    digest,
    envelope,
    message_id,
    surrogate_message,
)

from elemta.config import SpoolConfig
from elemta.mail import Cause, make_id
from elemta.runtime import TrioWallClock
from elemta.spool import (
    BodyCorrupt,
    Claim,
    MemoryStore,
    QueueFilter,
    Receipt,
    RecipientState,
    Removal,
    Spool,
    SpoolError,
    SpoolFull,
    SpoolUnavailable,
    SqliteStore,
    Store,
    StoredMessage,
    StoreReader,
    open_spool,
)

ALL = QueueFilter()
CONFIG = SpoolConfig(inline_size=1000, ballast=64 * 1024)
LARGE = b"Subject: large\r\n\r\n" + bytes(range(256)) * 20


@attrs.define
class Place:
    """Where a spool is opened, and what it reports."""

    folder: Path
    memory: bool = False
    clock: SettableClock = attrs.field(factory=SettableClock)
    troubles: Troubles = attrs.field(factory=Troubles)
    config: SpoolConfig = CONFIG

    @asynccontextmanager
    async def open(self, store: Store | None = None) -> AsyncGenerator[Spool, None]:
        if self.memory and store is None:
            store = MemoryStore()
        async with open_spool(
            self.folder,
            self.config,
            message_size=1 << 20,
            clock=self.clock,
            random=random.Random(1),
            on_trouble=self.troubles,
            store=store,
        ) as spool:
            yield spool

    @property
    def bodies(self) -> Path:
        return self.folder / "spool" / "bodies"

    @property
    def incoming(self) -> Path:
        return self.folder / "spool" / "incoming"


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path / "state", request.param == "memory")


@pytest.fixture
def disk(tmp_path: Path) -> Place:
    return Place(tmp_path / "state")


async def commit(
    spool: Spool, number: int = 1, *recipients: str, body: bytes = BODY, hold: str | None = None
) -> Receipt:
    message = message_id(number)
    draft = spool.new_draft(message)
    await draft.write(body)
    return await spool.commit(
        draft, message=message, envelope=envelope(*recipients), origin=ORIGIN, prefix=PREFIX, hold=hold
    )


async def read_all(spool: Spool, message: StoredMessage) -> bytes:
    pieces = []
    async with spool.open_body(message) as reader:
        while piece := await reader.read():
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("body", [BODY, LARGE, b""])
async def test_message_comes_out_as_it_went_in(place: Place, body: bytes) -> None:
    async with place.open() as spool:
        assert await commit(spool, 1, "a@x.example", "b@x.example", body=body) == Receipt(message_id(1))
        [claim] = await spool.claim(10)
        message = claim.message
        assert (message.id, message.envelope, message.origin) == (
            message_id(1),
            envelope("a@x.example", "b@x.example"),
            ORIGIN,
        )
        assert (message.prefix, message.size, message.digest) == (
            PREFIX,
            len(PREFIX) + len(body),
            digest(body),
        )
        assert message.received == NOW
        assert await read_all(spool, message) == body
        content = spool.content(message)
        assert (content.prefix, content.size, content.body) == (PREFIX, message.size, None)
        async with content.open() as reader:
            assert await reader.read() == body
            assert await reader.read() == b""
    assert place.troubles.seen == []


async def test_large_body_lies_in_a_file_until_the_message_is_gone(disk: Place) -> None:
    async with disk.open() as spool:
        await commit(spool, body=LARGE)
        assert (disk.bodies / message_id(1)).read_bytes() == LARGE
        assert list(disk.incoming.iterdir()) == []
        [claim] = await spool.claim(1)
        spool.record(delivered(claim))
        await spool.wait_recorded()
        while list(disk.bodies.iterdir()):
            await trio.sleep(0.001)


async def test_body_of_a_message_that_ends_with_the_spool_is_unlinked_at_the_end(disk: Place) -> None:
    async with disk.open() as spool:
        await commit(spool, body=LARGE)
        [claim] = await spool.claim(1)
        spool.record(delivered(claim))
    assert list(disk.bodies.iterdir()) == []


async def test_fresh_message_carries_its_body_to_the_intake(place: Place) -> None:
    intake = FakeIntake()
    async with place.open() as spool:
        spool.set_intake(intake)
        await commit(spool, 1)
        await commit(spool, 2, body=LARGE)
        bodies = [claim.message.body for claim in intake.claims]
        assert bodies == ([BODY, LARGE] if place.memory else [BODY, None])
        assert [await read_all(spool, claim.message) for claim in intake.claims] == [BODY, LARGE]
        spool.set_intake(None)
        await commit(spool, 3)
        assert len(intake.claims) == 2


async def test_message_survives_a_restart_and_its_lease_does_not(disk: Place) -> None:
    async with disk.open() as spool:
        spool.set_intake(FakeIntake())
        await commit(spool)
        await commit(spool, 2, body=LARGE)
    disk.clock.now += 5
    async with disk.open() as spool:
        assert spool.recovery.released == 2
        claims = await spool.claim(10)
        assert [claim.recipients[0].interrupted for claim in claims] == [1, 1]
        assert [await read_all(spool, claim.message) for claim in claims] == [BODY, LARGE]


async def test_message_that_awaits_its_release_is_not_offered_to_the_queue(place: Place) -> None:
    intake = FakeIntake()
    async with place.open() as spool:
        spool.set_intake(intake)
        message = message_id(1)
        draft = spool.new_draft(message)
        await draft.write(BODY)
        later = attrs.evolve(envelope(), release_at=NOW + 1000)
        await spool.commit(draft, message=message, envelope=later, origin=ORIGIN, prefix=PREFIX)
        assert (intake.claims, intake.wakes) == ([], 1)
        assert await spool.next_due() == NOW + 1000
        place.clock.now = NOW + 999
        assert await spool.claim(10) == []
        assert len(await spool.claim(10, now=NOW + 1000)) == 1


async def test_clock_that_was_set_moves_all_that_waits(place: Place) -> None:
    async with place.open() as spool:
        for number in range(1, 252):
            await commit(spool, number)
        assert await spool.shift_due(NOW, NOW, by=1000.0) == 251
        assert await spool.next_due() == NOW + 1000
        assert await spool.clamp_due(NOW, waiting=1000, leased=900) == 0
        assert await spool.clamp_due(NOW, waiting=999, leased=900) == 251
        assert await spool.next_due() == NOW


async def test_draft_that_is_discarded_leaves_nothing(disk: Place) -> None:
    async with disk.open() as spool:
        draft = spool.new_draft(message_id(1))
        await draft.write(LARGE * 300)
        assert len(list(disk.incoming.iterdir())) == 1
        draft.discard()
        draft.discard()
        assert list(disk.incoming.iterdir()) == []
        assert (await spool.totals()).accepted == 0


async def test_cancelled_commit_leaves_no_row_and_after_discard_no_file(disk: Place) -> None:
    async with disk.open() as spool:
        draft = spool.new_draft(message_id(1))
        await draft.write(LARGE)
        await draft.finish()
        draft._state = type(draft._state).OPEN  # as if the cancel came behind the rename
        with trio.CancelScope() as scope:
            scope.cancel()
            await spool.commit(
                draft, message=message_id(1), envelope=envelope(), origin=ORIGIN, prefix=PREFIX
            )
        assert scope.cancelled_caught
        draft.discard()
        assert list(disk.bodies.iterdir()) == []
        assert (await spool.totals()).accepted == 0


async def test_message_that_cannot_be_stored_is_refused_with_its_file(disk: Place) -> None:
    async with disk.open() as spool:
        draft = spool.new_draft(message_id(1))
        await draft.write(LARGE)
        with pytest.raises(SpoolError):
            await spool.commit(
                draft,
                message=message_id(1),
                envelope=surrogate_message(1).envelope,
                origin=ORIGIN,
                prefix=PREFIX,
            )
        draft.discard()
        assert list(disk.bodies.iterdir()) == []


async def test_body_whose_commit_is_in_doubt_is_kept(disk: Place) -> None:
    class Broken(SqliteStore):
        broken = False

        def commit(self) -> None:
            if self.broken:
                raise SpoolUnavailable("EIO")
            super().commit()

    async with disk.open():
        pass
    store = Broken.open(disk.folder / "spool")
    with pytest.RaisesGroup(SpoolUnavailable, allow_unwrapped=True, flatten_subgroups=True):
        async with disk.open(store) as spool:
            draft = spool.new_draft(message_id(1))
            await draft.write(LARGE)
            store.broken = True
            with trio.CancelScope(shield=True), pytest.raises(SpoolUnavailable):
                await spool.commit(
                    draft, message=message_id(1), envelope=envelope(), origin=ORIGIN, prefix=PREFIX
                )
            draft.discard()
            assert len(list(disk.bodies.iterdir())) == 1
            with pytest.raises(SpoolUnavailable):
                spool.check_room()
            await trio.sleep_forever()
    assert disk.troubles.names == ["unavailable"]
    async with disk.open() as spool:
        assert spool.recovery.orphans == 1


# Attempts


async def test_attempt_is_claimed_and_recorded(place: Place) -> None:
    async with place.open() as spool:
        await commit(spool)
        assert await spool.next_due() == NOW
        [claim] = await spool.claim(5)
        lease = claim.recipients[0].lease
        assert await spool.claim(5) == []
        assert await spool.next_due() is None
        spool.record(attempt(1, deferred(0, lease, NOW + 60)))
        assert spool.pending_records == 1
        assert await spool.next_due() is None, "to look is no reason to flush"
        assert await spool.claim(0) == [], "to change is"
        assert spool.pending_records == 0
        assert await spool.next_due() == NOW + 60
        place.clock.now = NOW + 60
        [claim] = await spool.claim(5)
        spool.record(delivered(claim))
        await spool.wait_recorded()
        found = await spool.totals()
        assert (found.accepted, found.delivered, found.queued) == (1, 1, 0)
        assert spool.statistics().commits >= 4


async def test_claim_that_is_given_back_is_due_when_said(place: Place) -> None:
    async with place.open() as spool:
        await commit(spool)
        [claim] = await spool.claim(5)
        pairs = [(recipient.index, recipient.lease) for recipient in claim.recipients]
        spool.unclaim(message_id(1), pairs, NOW + 5, Cause.SHUTDOWN)
        await spool.wait_recorded()
        entry = await spool.show(message_id(1))
        assert entry is not None
        assert (entry.recipients[0].attempts, entry.recipients[0].due) == (0, NOW + 5)


async def test_claim_that_was_given_back_wakes_the_queue_when_it_can_be_claimed(place: Place) -> None:
    intake = FakeIntake(room=0)
    async with place.open() as spool:
        await commit(spool)
        [claim] = await spool.claim(5)
        spool.set_intake(intake)
        spool.unclaim(message_id(1), [(0, claim.recipients[0].lease)], NOW, Cause.BUSY)
        assert intake.wakes == 0
        await spool.wait_recorded()
        assert intake.wakes == 1


async def test_extended_claim_outlives_its_lease(place: Place) -> None:
    async with place.open() as spool:
        await commit(spool)
        [claim] = await spool.claim(5)
        place.clock.now += 800
        spool.extend(message_id(1), [(recipient.index, recipient.lease) for recipient in claim.recipients])
        place.clock.now += 800
        assert await spool.claim(5) == []
        place.clock.now += 101
        assert len(await spool.claim(5)) == 1


# Bodies that are not what they were


def _spoil(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(_spoil(path.read_bytes())),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["flipped", "longer", "empty", "missing", "link", "folder"],
)
async def test_damaged_body_file_is_never_sent(disk: Place, damage: Callable[[Path], object]) -> None:
    async with disk.open() as spool:
        await commit(spool, 1, body=LARGE)
        [claim] = await spool.claim(1)
        damage(disk.bodies / message_id(1))
        with pytest.raises(BodyCorrupt):
            await read_all(spool, claim.message)
        assert [what for what, detail in disk.troubles.seen if detail.startswith(message_id(1))] == [
            "corrupt"
        ]


async def test_damaged_body_in_the_database_is_never_sent(disk: Place) -> None:
    async with disk.open() as spool:
        await commit(spool)
        [claim] = await spool.claim(1)
        spool._store._execute("UPDATE body SET content = ?", (_spoil(BODY),))  # type: ignore[attr-defined]
        with pytest.raises(BodyCorrupt, match="digest"):
            await read_all(spool, claim.message)


async def test_body_of_a_message_that_is_gone_is_missing(place: Place) -> None:
    async with place.open() as spool:
        await commit(spool)
        [claim] = await spool.claim(1)
        spool.record(delivered(claim))
        await spool.wait_recorded()
        with pytest.raises(BodyCorrupt):
            await read_all(spool, claim.message)


async def test_damaged_envelope_is_held_and_reported_and_others_go_on(disk: Place) -> None:
    async with disk.open() as spool:
        await commit(spool, 1)
        await commit(spool, 2)
        spool._store._execute("UPDATE message SET details = '[' WHERE id = ?", (message_id(1),))  # type: ignore[attr-defined]
        claims = await spool.claim(10)
        assert [claim.message.id for claim in claims] == [message_id(2)]
        assert disk.troubles.names == ["corrupt"]
        entry = await spool.show(message_id(1))
        assert entry is not None
        assert (entry.recipients[0].state, entry.recipients[0].reason) == (RecipientState.HELD, "corrupt")


# Operators


async def test_operators_change_what_they_select(place: Place) -> None:
    intake = FakeIntake(room=0)
    async with place.open() as spool:
        spool.set_intake(intake)
        await commit(spool, 1, "a@x.example", "b@y.example")
        await commit(spool, 2, "c@x.example", hold="odd")
        wakes = intake.wakes
        assert await spool.hold(QueueFilter(domain="x.example"), "stop") == 1
        assert await spool.release(QueueFilter(messages=(message_id(2),))) == 1
        assert await spool.retry(ALL) == 2
        assert intake.wakes == wakes + 2
        assert await spool.remove(QueueFilter(state=RecipientState.QUEUED)) == Removal(2, (message_id(2),))
        assert await spool.retry(ALL) == 0
        assert intake.wakes == wakes + 2
        [entry] = await spool.list(ALL)
        assert [recipient.reason for recipient in entry.recipients] == ["stop", "operator"]


@pytest.mark.deadline(30)
async def test_large_selection_is_changed_in_chunks(place: Place) -> None:
    async with place.open() as spool:
        async with trio.open_nursery() as nursery:
            for number in range(450):
                nursery.start_soon(commit, spool, number)
        before = spool.statistics().commits
        assert await spool.hold(ALL, "all") == 450
        assert spool.statistics().commits - before == 3
        pages, after = [], None
        while page := await spool.list(ALL, after=after, limit=200):
            pages.append(len(page))
            after = page[-1].id
        assert pages == [200, 200, 50]
        removal = await spool.remove(ALL)
        assert (removal.recipients, len(removal.messages)) == (450, 450)


async def test_looking_at_one_message(place: Place) -> None:
    async with place.open() as spool:
        await commit(spool)
        stored = await spool.stored(message_id(1))
        assert stored is not None
        assert stored.envelope == envelope()
        assert await spool.stored(message_id(2)) is await spool.show(message_id(2)) is None


# Readers


async def test_long_look_is_ended_by_its_time_limit(disk: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with disk.open() as spool:
        monkeypatch.setattr("elemta.spool.readers.LONGEST", 0.01)
        with pytest.raises(SpoolError, match="longer"):
            await spool._looks.run(_endless)
        monkeypatch.undo()
        assert (await spool.totals()).accepted == 0, "the reader is of use afterwards"


async def test_cancelled_look_is_interrupted(disk: Place) -> None:
    async with disk.open() as spool:
        with trio.move_on_after(0.02) as scope:
            await spool._looks.run(_endless)
        assert scope.cancelled_caught
        assert (await spool.totals()).accepted == 0


def _endless(reader: StoreReader) -> None:
    sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    reader.connection.execute(sql).fetchone()  # type: ignore[attr-defined]


async def test_read_error_is_an_error_of_the_spool(disk: Place) -> None:
    async with disk.open() as spool:
        with pytest.raises(SpoolError, match="cannot be read"):
            await spool._looks.run(lambda reader: reader.connection.execute("SELECT nonsense"))  # type: ignore[attr-defined]


async def test_body_that_the_database_cannot_give_is_corrupt(
    disk: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with disk.open() as spool:
        await commit(spool)
        [claim] = await spool.claim(1)
        monkeypatch.setattr("elemta.spool.queries._BODY", "SELECT nonsense")
        with pytest.raises(BodyCorrupt, match="cannot be read"):
            await read_all(spool, claim.message)


# Room


async def test_room_is_watched_and_reported_once(disk: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with disk.open() as spool:
        spool.check_room(1 << 20)
        space = spool._space
        assert space is not None
        monkeypatch.setattr(space, "check", _no_room)
        for _ in range(3):
            with pytest.raises(SpoolFull):
                spool.check_room()
        monkeypatch.undo()
        spool.check_room()
        spool.check_room()
        assert disk.troubles.names == ["full", "recovered"]


def _no_room(size: int = 0) -> None:
    raise SpoolFull("none left")


async def test_paused_deliveries_take_no_claims_and_no_new_mail(place: Place) -> None:
    async with place.open() as spool:
        await commit(spool)
        spool._writer.deliveries_paused = True
        assert spool.deliveries_paused
        assert await spool.claim(10) == []
        with pytest.raises(SpoolFull):
            spool.check_room()
        spool._writer.deliveries_paused = False
        assert len(await spool.claim(10)) == 1


async def test_ballast_comes_back_when_there_is_room(disk: Place) -> None:
    async with disk.open() as spool:
        ballast = disk.folder / "spool" / "ballast"
        while not ballast.exists() or ballast.stat().st_size < CONFIG.ballast:
            await trio.sleep(0.001)
        janitor = spool._writer._janitor
        assert janitor is not None
        # The thread that made it may still have to say so: it comes back all the same.
        assert janitor.give_up_ballast()
        assert not janitor.give_up_ballast()
        while not ballast.exists():
            await trio.sleep(0.001)


# Virtual time


async def test_memory_spool_runs_on_virtual_time(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    claims: list[Claim] = []
    troubles = Troubles()
    async with open_spool(
        tmp_path / "never made",
        SpoolConfig(),
        message_size=1 << 20,
        clock=TrioWallClock(),
        random=random.Random(1),
        on_trouble=troubles,
        store=MemoryStore(),
    ) as spool:
        await commit(spool, body=b"x" * 10**6)
        [claim] = await spool.claim(1)
        due = TrioWallClock().time() + 5 * 86400
        spool.record(attempt(1, deferred(0, claim.recipients[0].lease, due)))
        await spool.wait_recorded()
        while not claims:
            wait = (await spool.next_due() or 0) - TrioWallClock().time()
            await trio.sleep(wait)
            claims = await spool.claim(1)
        assert trio.current_time() == pytest.approx(5 * 86400, abs=1)
        assert await read_all(spool, claims[0].message) == b"x" * 10**6
    assert not (tmp_path / "never made").exists()
    assert troubles.seen == []


# Memory


@pytest.mark.deadline(20)
async def test_body_of_fifty_mebibytes_does_not_show_in_memory(disk: Place) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    piece = os.urandom(65536)
    async with disk.open() as spool:
        await commit(spool, 1, body=LARGE)
        before = peak = resident()
        message = make_id(1_000_002, 0)
        draft = spool.new_draft(message)
        for number in range(800):
            await draft.write(piece)
            if number % 50 == 0:
                peak = max(peak, resident())
        assert draft.size == 50 << 20
        await spool.commit(draft, message=message, envelope=envelope(), origin=ORIGIN, prefix=b"")
        peak = max(peak, resident())
        claims = await spool.claim(5)
        size = 0
        async with spool.open_body(claims[-1].message) as reader:
            while data := await reader.read():
                size += len(data)
        peak = max(peak, resident())
    assert size == 50 << 20
    assert peak - before < 6 << 20


async def test_the_audit_of_a_running_spool_looks_at_the_body_files_too(disk):
    with trio.fail_after(30):
        async with disk.open() as spool:
            receipt = await commit(spool, 1, body=LARGE)
            damaged = await commit(spool, 2, body=LARGE)
            assert await spool.audit() == ()
            (disk.bodies / damaged.message).write_bytes(b"short")
            young, orphan = disk.bodies / message_id(3), disk.bodies / message_id(4)
            for path in (young, orphan):
                path.write_bytes(b"nobody's")
            os.utime(orphan, (0, 0))
            found = {(each.kind, each.message) for each in await spool.audit()}
            assert found == {("body", damaged.message), ("orphan", orphan.name)}
            assert (disk.bodies / receipt.message).is_file()
