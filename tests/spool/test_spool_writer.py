"""Group commit: who is stored, who is answered, and what happens when the store fails at any step."""

import math
import random
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from spool_builders import (
    NEVER,
    NOW,
    FakeIntake,
    SettableClock,
    Troubles,
    attempt,
    deferred,
    message_id,
    new_message,
    result,
    spool_folder,
    surrogate_message,
)
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from elemta.mail import Cause, MessageId
from elemta.spool import (
    AttemptRecord,
    MemoryStore,
    QueueFilter,
    Receipt,
    RecipientState,
    SpoolError,
    SpoolFull,
    SpoolUnavailable,
    SqliteStore,
    Store,
)
from elemta.spool.gathering import LAZY_COUNT, MOST_OCTETS
from elemta.spool.handover import Handover
from elemta.spool.requests import Accept, Operation, Record
from elemta.spool.writer import Writer

STEPS = ("begin", "accept", "record", "seal", "commit", "take_aftermath")


class FaultyStore(MemoryStore):
    """Fails at a chosen step, so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.step = ""
        self.error: Callable[[], BaseException] = lambda: SpoolUnavailable("EIO")
        self.times = math.inf
        self.commits = 0
        self.delay = 0.0

    def _maybe(self, step: str) -> None:
        if step == self.step and self.times > 0:
            self.times -= 1
            raise self.error()

    def begin(self, *, careful: bool = False) -> None:
        self._maybe("begin")
        super().begin(careful=careful)

    def accept(self, *values, **named):  # type: ignore[no-untyped-def]
        self._maybe("accept")
        super().accept(*values, **named)

    def record(self, *values, **named):  # type: ignore[no-untyped-def]
        self._maybe("record")
        return super().record(*values, **named)

    def seal(self) -> None:
        self._maybe("seal")
        super().seal()

    def commit(self) -> None:
        self._maybe("commit")
        super().commit()
        self.commits += 1

    def take_aftermath(self):  # type: ignore[no-untyped-def]
        self._maybe("take_aftermath")
        return super().take_aftermath()


class SlowStore(SqliteStore):
    """Its commits wait for `gate`."""

    gate: threading.Semaphore | None = None

    def commit(self) -> None:
        if self.gate is not None:
            self.gate.acquire()
        super().commit()


@attrs.define
class FakeJanitor:
    """Has a ballast to give up, once."""

    ballast: bool = True
    store: FaultyStore | None = None
    short: bool = False

    def is_room_short(self) -> bool:
        return self.short

    def give_up_ballast(self) -> bool:
        given, self.ballast = self.ballast, False
        if given and self.store is not None:
            self.store.times = 0
        return given

    def clean(self, aftermath: object) -> None:
        pass


@attrs.define
class Bench:
    """A running writer and what is around it."""

    store: Store
    writer: Writer
    handover: Handover
    troubles: Troubles
    clock: SettableClock

    async def accept(self, number: int, **named: object) -> Receipt:
        message = new_message(number, **named)  # type: ignore[arg-type]
        return await self.writer.submit(Accept(message, self.handover))

    def record(self, record: AttemptRecord) -> None:
        self.writer.add(Record(record, self.handover, self.clock.time()))

    def stored(self) -> set[MessageId]:
        return set(self.store.matching(QueueFilter(), after=None, limit=10**6).messages)


@asynccontextmanager
async def running(
    store: Store, *, janitor: FakeJanitor | None = None, alarm: float = 5.0, intake: FakeIntake | None = None
) -> AsyncGenerator[Bench, None]:
    troubles, clock = Troubles(), SettableClock()
    handover = Handover(clock, lease=900, first=1, on_trouble=troubles)
    handover.intake = intake
    writer = Writer(store, handover, alarm=alarm, on_trouble=troubles, janitor=janitor)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        try:
            yield Bench(store, writer, handover, troubles, clock)
        finally:
            writer.close()


async def test_accepted_message_is_stored_when_the_receipt_comes(store: Store) -> None:
    async with running(store) as bench:
        assert await bench.accept(1) == Receipt(message_id(1))
        assert bench.stored() == {message_id(1)}
        assert bench.writer.statistics().commits == 1


async def test_what_gathers_during_a_flush_becomes_one_batch(store: Store) -> None:
    async with running(store) as bench:
        await bench.accept(50)
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(bench.accept, number)
    found = bench.writer.statistics()
    assert (found.requests, found.commits, found.largest_group) == (51, 2, 50)
    assert len(bench.stored()) == 51


async def test_batch_is_bounded_in_octets() -> None:
    async with running(MemoryStore()) as bench, trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(lambda number=number: bench.accept(number, body=b"x" * (MOST_OCTETS // 2)))
    assert bench.writer.statistics().largest_group == 2


async def test_batch_is_bounded_in_statements() -> None:
    store = MemoryStore()
    async with running(store) as bench, trio.open_nursery() as nursery:
        for number in range(3):
            message = new_message(number, *(f"r{index}@x.example" for index in range(1000)))
            nursery.start_soon(bench.writer.submit, Accept(message, bench.handover))
    assert bench.writer.statistics().largest_group == 1
    assert store.statistics().queued == 3000


async def test_poisoned_message_fails_alone(store: Store) -> None:
    outcomes: dict[int, object] = {}

    async def accept(number: int) -> None:
        message = surrogate_message(number) if number == 3 else new_message(number)
        try:
            outcomes[number] = await bench.writer.submit(Accept(message, bench.handover))
        except SpoolError as error:
            outcomes[number] = error

    async with running(store) as bench, trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(accept, number)
    assert type(outcomes.pop(3)) is SpoolError
    assert outcomes == {number: Receipt(message_id(number)) for number in (0, 1, 2, 4, 5)}
    assert len(bench.stored()) == 5


# Cancellation


async def cancel_soon(scope: trio.CancelScope) -> None:
    scope.cancel()


async def test_cancelled_while_waiting_stores_nothing(store: Store) -> None:
    async with running(store) as bench:
        with trio.CancelScope() as scope:
            scope.cancel()
            await bench.accept(1)
        assert scope.cancelled_caught
        assert bench.writer.statistics().waiting == 0
        await bench.accept(2)
        assert bench.stored() == {message_id(2)}


@pytest.mark.deadline(60)
async def test_stored_set_is_the_returned_set_under_random_cancellation(store: Store) -> None:
    rng = random.Random(7)
    returned, pending = set(), []

    async def submit(number: int, start: int, patience: int) -> None:
        for _ in range(start):
            await trio.lowlevel.checkpoint()
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_later, scope, patience)
            receipt = await bench.accept(number)
            returned.add(receipt.message)
            pending.append(scope.cancel_called)

    async def cancel_later(scope: trio.CancelScope, patience: int) -> None:
        for _ in range(patience):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with running(store) as bench, trio.open_nursery() as nursery:
        for number in range(1500):
            nursery.start_soon(submit, number, rng.randrange(40), rng.randrange(12))
    assert bench.stored() == returned
    assert 0 < len(returned) < 1500
    assert any(pending), "some were cancelled after they had been taken, and returned all the same"


async def test_writer_finishes_its_work_in_a_cancelled_world(store: Store) -> None:
    with trio.CancelScope() as scope:
        async with running(store) as bench:
            await bench.accept(1)
            await bench.writer.submit(Operation(lambda store: store.claim(1, 9, NOW, NOW + 900)))
            bench.record(attempt(1, result(lease=9)))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert store.statistics().delivered == 1


async def test_commit_under_way_is_answered_although_the_world_was_cancelled(tmp_path: Path) -> None:
    store = SlowStore.open(spool_folder(tmp_path))
    receipts = []

    async def accept() -> None:
        receipts.append(await bench.accept(1))

    with trio.CancelScope() as scope:
        async with running(store) as bench, trio.open_nursery() as nursery:
            store.gate = threading.Semaphore(0)
            nursery.start_soon(accept)
            await wait_all_tasks_blocked(0.01)
            scope.cancel()
            threading.Timer(0.02, store.gate.release).start()
            await trio.sleep_forever()
    assert receipts == [Receipt(message_id(1))]
    assert bench.stored() == {message_id(1)}
    store.close()


# Records


async def test_record_is_written_within_twenty_milliseconds(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    async with running(store, intake=FakeIntake()) as bench:
        await bench.accept(1)
        await bench.accept(2)
        await wait_all_tasks_blocked()
        with assert_no_checkpoints():
            bench.record(attempt(1))
        bench.record(attempt(2, result(lease=2)))
        assert bench.writer.pending_records == 2
        start = trio.current_time()
        while store.statistics().delivered < 2:
            await trio.sleep(0.001)
        assert trio.current_time() - start <= 0.022
        assert bench.writer.statistics().commits == 3
        assert bench.writer.pending_records == 0


async def test_record_rides_along_with_the_next_message(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    async with running(store, intake=FakeIntake()) as bench:
        await bench.accept(1)
        bench.record(attempt(1))
        start = trio.current_time()
        await bench.accept(2)
        assert trio.current_time() == start
        assert store.statistics().delivered == 1
        assert bench.writer.statistics().commits == 2


async def test_many_records_do_not_wait_for_the_clock(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    recipients = [f"r{index}@x.example" for index in range(LAZY_COUNT)]
    async with running(store, intake=FakeIntake()) as bench:
        await bench.writer.submit(Accept(new_message(1, *recipients), bench.handover))
        start = trio.current_time()
        for index in range(LAZY_COUNT):
            bench.record(attempt(1, result(index)))
        await wait_all_tasks_blocked()
        assert trio.current_time() == start
        assert store.statistics().delivered >= LAZY_COUNT // 2


async def test_barrier_returns_when_everything_before_it_is_durable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    async with running(store, intake=FakeIntake()) as bench:
        await bench.accept(1)
        bench.record(attempt(1))
        start = trio.current_time()
        await bench.writer.wait_lazy()
        assert store.statistics().delivered == 1
        assert trio.current_time() == start
        await bench.writer.wait_lazy()


async def test_withdrawn_barrier_leaves_the_writer_at_rest(autojump_clock: trio.testing.MockClock) -> None:
    async with running(MemoryStore()) as bench:
        with trio.CancelScope() as scope:
            scope.cancel()
            await bench.writer.wait_lazy()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_soon, scope)
                await bench.writer.wait_lazy()
        await wait_all_tasks_blocked()
        await trio.sleep(1000)
        assert bench.writer._lazy_due == math.inf


async def test_lost_lease_is_reported_and_changes_nothing(store: Store) -> None:
    async with running(store) as bench:
        await bench.accept(1)
        bench.record(attempt(1, result(lease=77)))
        await bench.writer.wait_lazy()
        assert bench.troubles.names == ["lease-lost"]
        assert bench.writer.statistics().lost_leases == 1
        assert bench.stored() == {message_id(1)}


async def test_record_that_fails_is_reported_and_does_not_stop_the_others(store: Store) -> None:
    async with running(store, intake=FakeIntake()) as bench:
        await bench.accept(1)
        await bench.accept(2)
        bench.record(attempt(1, result(0, 1, NEVER, RecipientState.FAILED), notices=(surrogate_message(5),)))
        bench.record(attempt(2, result(lease=2)))
        await bench.writer.wait_lazy()
        assert bench.troubles.names == ["record"]
        assert bench.stored() == {message_id(1)}


async def test_new_mail_is_not_kept_out_by_records() -> None:
    store = MemoryStore()
    recipients = [f"r{index}@x.example" for index in range(500)]
    async with running(store, intake=FakeIntake()) as bench:
        await bench.writer.submit(Accept(new_message(1, *recipients), bench.handover))
        for index in range(500):
            bench.record(attempt(1, result(index)))
        await bench.accept(2)
        assert bench.writer.statistics().commits <= 3, "in the first batch, beside half of what waited"
        assert store.statistics().delivered < 500


# The fast path


async def test_message_goes_to_the_intake_with_its_body_after_the_commit(store: Store) -> None:
    intake = FakeIntake()
    async with running(store, intake=intake) as bench:
        await bench.accept(1)
        [claim] = intake.claims
        assert claim.message.body == new_message(1).body
        assert [(r.index, r.attempts, r.lease) for r in claim.recipients] == [(0, 1, 1)]
        assert (intake.wakes, intake.cancelled) == (0, 0)
        entry = store.show(message_id(1))
        assert entry is not None
        assert entry.recipients[0].leased


async def test_message_without_room_in_the_intake_is_due_and_wakes_it(store: Store) -> None:
    intake = FakeIntake(room=0)
    async with running(store, intake=intake) as bench:
        await bench.accept(1)
        assert (intake.claims, intake.wakes) == ([], 1)
        assert store.next_due() == NOW


async def test_held_message_is_not_offered(store: Store) -> None:
    intake = FakeIntake()
    async with running(store, intake=intake) as bench:
        await bench.accept(1, hold="h")
        assert (intake.claims, intake.wakes, intake.reserved) == ([], 0, 0)


async def test_refused_message_gives_its_place_back(store: Store) -> None:
    intake = FakeIntake()
    async with running(store, intake=intake) as bench:
        with pytest.raises(SpoolError):
            await bench.writer.submit(Accept(surrogate_message(1), bench.handover))
        assert (intake.reserved, intake.cancelled, intake.claims) == (0, 1, [])


async def test_notice_goes_to_the_intake_when_its_record_is_durable(store: Store) -> None:
    intake = FakeIntake()
    async with running(store, intake=intake) as bench:
        await bench.accept(1)
        notice = new_message(9, sender=None)
        bench.record(attempt(1, result(0, 1, NEVER, RecipientState.FAILED), notices=(notice,)))
        await bench.writer.wait_lazy()
        assert [claim.message.id for claim in intake.claims] == [message_id(1), message_id(9)]
        intake.room = 0
        bench.record(
            AttemptRecord(
                message_id(9),
                (result(0, intake.claims[1].recipients[0].lease, NEVER, RecipientState.FAILED),),
                (new_message(10),),
            )
        )
        await bench.writer.wait_lazy()
        assert intake.wakes == 1
        assert bench.stored() == {message_id(10)}


async def test_deferral_wakes_the_queue(store: Store) -> None:
    intake = FakeIntake()
    async with running(store, intake=intake) as bench:
        await bench.accept(1)
        bench.record(attempt(1, deferred()))
        await bench.writer.wait_lazy()
        assert intake.wakes == 1


async def test_intake_that_goes_away_costs_no_mail(store: Store) -> None:
    intake = FakeIntake()
    async with running(store, intake=intake) as bench:
        offer = bench.handover.offer(new_message(1))
        assert offer is not None
        bench.handover.intake = None
        bench.handover.complete(offer)
        bench.handover.withdraw(offer)
        bench.handover.wake()
    assert (intake.claims, intake.cancelled, intake.wakes) == ([], 0, 0)


async def test_intake_that_crashes_costs_no_mail(store: Store) -> None:
    class Crashing(FakeIntake):
        def put(self, claim: object) -> None:
            raise RuntimeError("boom")

    async with running(store, intake=Crashing()) as bench:
        await bench.accept(1)
        assert bench.troubles.names == ["handover"]
        await bench.accept(2)
        assert len(bench.stored()) == 2


# Failures


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [SpoolUnavailable, RuntimeError, MemoryError])
async def test_everybody_is_told_when_the_writer_fails_at_any_step(step: str, error: type[Exception]) -> None:
    store, intake = FaultyStore(), FakeIntake()
    errors: list[Exception] = []
    contained = step in ("accept", "record") and error is not SpoolUnavailable
    told = 0 if step == "take_aftermath" else 5

    async def accept(number: int) -> None:
        try:
            await bench.accept(number)
        except Exception as problem:
            errors.append(problem)

    async def work() -> None:
        nonlocal bench
        async with running(store, intake=intake) as bench:
            await bench.accept(1)
            store.step, store.error = step, lambda: error("broken")
            bench.record(attempt(1, deferred()))
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    for number in range(2, 7):
                        nursery.start_soon(accept, number)

    bench: Bench = None  # type: ignore[assignment]
    if contained:
        await work()
        assert len(errors) == (5 if step == "accept" else 0)
        return
    with pytest.RaisesGroup(pytest.RaisesExc(SpoolUnavailable), allow_unwrapped=True, flatten_subgroups=True):
        await work()
    assert len(errors) == told, "what is durable is said to be so"
    assert len({id(problem) for problem in errors}) == told, "each has an error of its own"
    assert all(type(problem) is SpoolUnavailable and problem.__cause__ is not None for problem in errors)
    assert bench.troubles.names == ["unavailable"]
    assert len(intake.claims) == 6 - told, "nothing is handed over of which nobody knows whether it is stored"
    with pytest.raises(SpoolUnavailable):
        await bench.accept(9)
    with pytest.raises(SpoolUnavailable):
        bench.record(attempt(1))
    with pytest.raises(SpoolUnavailable):
        await bench.writer.wait_lazy()


async def test_failure_elsewhere_stops_the_writer_too(store: Store) -> None:
    with pytest.RaisesGroup(SpoolUnavailable):
        async with running(store) as bench:
            await bench.accept(1)
            bench.writer.fail(OSError("body file"))
            bench.writer.fail(OSError("again"))
            assert bench.writer.failed
            with pytest.raises(SpoolUnavailable):
                await bench.accept(2)
            await trio.sleep_forever()
    assert bench.troubles.names == ["unavailable"]


async def test_closed_writer_takes_nothing_more(store: Store) -> None:
    async with running(store) as bench:
        pass
    with pytest.raises(SpoolUnavailable, match="closed"):
        await bench.accept(1)


@pytest.mark.parametrize("step", ["accept", "seal", "commit"])
async def test_full_disk_refuses_new_mail_and_stays_in_service(step: str) -> None:
    store, intake = FaultyStore(), FakeIntake()
    async with running(store, intake=intake) as bench:
        store.step, store.error, store.times = step, lambda: SpoolFull("full"), 1
        with pytest.raises(SpoolFull):
            await bench.accept(1)
        assert (intake.reserved, intake.cancelled) == (0, 1)
        assert bench.troubles.names == ["full"]
        assert not bench.writer.deliveries_paused
        assert await bench.accept(2) == Receipt(message_id(2))
        assert bench.troubles.names == ["full", "recovered"]
        assert bench.stored() == {message_id(2)}


async def test_results_are_written_with_the_room_of_the_ballast() -> None:
    store = FaultyStore()
    janitor = FakeJanitor(store=store)
    async with running(store, intake=FakeIntake(), janitor=janitor) as bench:
        await bench.accept(1)
        store.step, store.error = "commit", lambda: SpoolFull("full")
        bench.record(attempt(1))
        with pytest.raises(SpoolFull):
            await bench.accept(2)
        await bench.writer.wait_lazy()
        assert not janitor.ballast
        assert store.statistics().delivered == 1
        assert not bench.writer.deliveries_paused
        assert bench.troubles.names == ["full", "recovered"]


async def test_barrier_behind_the_last_result_does_not_leave_deliveries_paused() -> None:
    store = FaultyStore()
    async with running(store, intake=FakeIntake(), janitor=FakeJanitor(store=store)) as bench:
        await bench.accept(1)
        store.step, store.error = "commit", lambda: SpoolFull("full")
        real = store.commit

        def commit() -> None:
            real()
            if bench.writer.deliveries_paused:  # a barrier comes while the result is flushed
                nursery.start_soon(bench.writer.wait_lazy)
                bench.writer._lazy.append(Operation(lambda _: None, writes=False))

        async with trio.open_nursery() as nursery:
            store.commit = commit  # type: ignore[method-assign]
            bench.record(attempt(1))
            await bench.writer.wait_lazy()
        assert not bench.writer.deliveries_paused
        assert bench.troubles.names == ["full", "recovered"]


async def test_look_at_a_full_spool_is_no_sign_of_room(autojump_clock: trio.testing.MockClock) -> None:
    store = FaultyStore()
    async with running(store) as bench:
        store.step, store.error, store.times = "commit", lambda: SpoolFull("full"), 1
        with pytest.raises(SpoolFull):
            await bench.accept(1)
        await bench.writer.submit(Operation(lambda store: store.next_due(), writes=False))
        assert bench.troubles.names == ["full"]
        await bench.accept(2)
        assert bench.troubles.names == ["full", "recovered"]


async def test_deliveries_pause_until_results_can_be_written(autojump_clock: trio.testing.MockClock) -> None:
    store, intake = FaultyStore(), FakeIntake()
    async with running(store, intake=intake, janitor=FakeJanitor(ballast=False)) as bench:
        await bench.accept(1)
        store.step, store.error = "commit", lambda: SpoolFull("full")
        bench.record(attempt(1, result(0, 1, NEVER, RecipientState.FAILED), notices=(new_message(9),)))
        await trio.sleep(5.5)
        assert bench.writer.deliveries_paused
        assert bench.writer.statistics().deliveries_paused
        assert bench.writer.pending_records == 1
        tries = store.commits
        with pytest.raises(SpoolFull):
            await bench.accept(2)
        reading = Operation(lambda store: store.next_due(), writes=False)
        assert await bench.writer.submit(reading) is None
        assert store.commits == tries
        store.step = ""
        await bench.writer.wait_lazy()
        assert not bench.writer.deliveries_paused
        assert store.statistics().failed == 1
        assert [claim.message.id for claim in intake.claims] == [message_id(1), message_id(9)]
        assert intake.wakes == 1
        assert bench.troubles.names == ["full", "recovered"]


async def test_stop_on_a_full_disk_gives_up_after_one_more_try() -> None:
    store = FaultyStore()
    async with running(store, intake=FakeIntake()) as bench:
        await bench.accept(1)
        store.step, store.error = "commit", lambda: SpoolFull("full")
        bench.record(attempt(1))
    assert bench.troubles.names == ["full", "record"]
    assert store.statistics().leased == 1


async def test_operation_that_raises_tells_whoever_asked(store: Store) -> None:
    def bad(_: Store) -> None:
        raise ZeroDivisionError

    async with running(store) as bench:
        with pytest.raises(ZeroDivisionError):
            await bench.writer.submit(Operation(bad))
        bench.writer.add(Operation(lambda store: store.unclaim(message_id(1), [], NOW, Cause.BUSY)))
        await bench.accept(1)


# The disk


async def test_slow_commit_is_reported_once_per_episode(tmp_path: Path) -> None:
    store = SlowStore.open(spool_folder(tmp_path))
    gate = threading.Semaphore(0)
    async with running(store, alarm=0.01) as bench:
        async with trio.open_nursery() as nursery:
            store.gate = gate
            for number in (1, 2):
                nursery.start_soon(bench.accept, number)
                while bench.troubles.names != ["slow"]:
                    await trio.sleep(0.005)
            with trio.move_on_after(0.02):
                await trio.sleep_forever()
            assert bench.troubles.names == ["slow"]
            gate.release(2)
        store.gate = None
        bench.writer._alarm = 5.0
        await bench.accept(3)
        assert bench.troubles.names == ["slow", "recovered"]
    store.close()


async def test_log_is_moved_into_the_database_when_it_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elemta.spool.writer.CHECKPOINT_PAGES", 10)
    store = SqliteStore.open(spool_folder(tmp_path))
    async with running(store) as bench:
        bench.writer._next_checkpoint = 10
        for number in range(30):
            await bench.accept(number, body=b"x" * 10_000)
        found = bench.writer.statistics()
        assert found.checkpoints >= 3
        assert found.log_pages < 30
    store.close()


async def test_log_is_moved_early_while_room_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elemta.spool.writer.SHORT_CHECKPOINT_PAGES", 10)
    store = SqliteStore.open(spool_folder(tmp_path))
    janitor = FakeJanitor()
    async with running(store, janitor=janitor) as bench:
        for number in range(20):
            await bench.accept(number, body=b"x" * 10_000)
        assert bench.writer.statistics().checkpoints == 0
        janitor.short = True
        for number in range(20, 40):
            await bench.accept(number, body=b"x" * 10_000)
        found = bench.writer.statistics()
        assert found.checkpoints >= 5
        assert found.log_pages < 20
    store.close()


async def test_full_disk_at_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    class FullCheckpoint(SqliteStore):
        def checkpoint(self) -> None:
            raise SpoolFull("full")

    store = FullCheckpoint.open(spool_folder(tmp_path))
    async with running(store) as bench:
        bench.writer._next_checkpoint = 1
        await bench.accept(1)
        await bench.accept(2)
        assert bench.stored() == {message_id(1), message_id(2)}
    store.close()


async def test_request_that_fails_in_its_middle_takes_nothing_and_nobody_with_it(tmp_path: Path) -> None:
    store = SqliteStore.open(spool_folder(tmp_path))
    with trio.fail_after(10):
        async with running(store) as bench:
            for number in (1, 2):
                await bench.writer.submit(Operation(lambda store, number=number: _accept(store, number)))
            # Its first statements succeed, then the notice cannot be stored: one with its id is there.
            results = result(0, 1, NEVER, RecipientState.FAILED)
            bad = attempt(1, results, notices=(new_message(2),))
            bench.writer.add(Operation(lambda store: store.record(bad, NOW)))
            bench.writer.add(Operation(lambda store: store.record(attempt(2), NOW)))
            await bench.writer.submit(Operation(lambda store: _accept(store, 3)))
    found = store.statistics()
    assert (found.accepted, found.delivered, found.failed) == (3, 1, 0)
    assert store.show(message_id(1)) is not None
    assert store.show(message_id(2)) is None
    assert bench.troubles.names == ["record"]
    store.close()


def _accept(store: Store, number: int) -> None:
    store.accept(new_message(number), lease=1, lease_until=NOW + 900)
