"""Any sequence of operations leaves each store as a model of the rules says, and nobody in limbo."""

import tempfile
from pathlib import Path

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from spool_builders import LATER, NEVER, NOW, OK, new_message, result, spool_folder

from elemta.mail import Cause, MessageId
from elemta.spool import (
    AttemptRecord,
    LeaseLost,
    MemoryStore,
    QueueFilter,
    RecipientState,
    Removal,
    SqliteStore,
    Store,
)
from elemta.spool.recover import recover

QUEUED, HELD = RecipientState.QUEUED, RecipientState.HELD
LEASE = 900
DOMAINS = ("x.example", "y.example")
OUTCOMES = {
    RecipientState.DELIVERED: OK,
    RecipientState.FAILED: NEVER,
    RecipientState.EXPIRED: LATER,
    QUEUED: LATER,
}


@attrs.define
class Expected:
    """What the model knows of one recipient."""

    domain: str
    state: RecipientState
    due: float
    lease: int = 0
    attempts: int = 0
    interrupted: int = 0
    hold: bool = False
    awaits_release: bool = False

    def stop(self, due: float) -> None:
        self.lease, self.due = 0, due
        if self.hold:
            self.state, self.hold, self.awaits_release = HELD, False, False


class SpoolMachine(RuleBasedStateMachine):
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[MessageId, list[Expected]] = {}
        self.ended = dict.fromkeys(RecipientState, 0)
        self.accepted = 0
        self.number = 0
        self.lease = 0
        self.now = NOW
        self.leases: list[tuple[MessageId, int, int]] = []

    def drop_ended(self) -> list[MessageId]:
        gone = [id for id, expected in self.model.items() if all(one.state.is_final for one in expected)]
        for id in gone:
            del self.model[id]
        return sorted(gone)

    def write(self) -> None:
        self.store.begin()

    @rule(
        domains=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=4),
        leased=st.booleans(),
        hold=st.booleans(),
        priority=st.integers(-9, 9),
        release=st.none() | st.integers(-10, 2000),
    )
    def accept(
        self, domains: list[str], leased: bool, hold: bool, priority: int, release: int | None
    ) -> None:
        self.number += 1
        self.lease += 1
        recipients = [f"r{index}@{domain}" for index, domain in enumerate(domains)]
        message = new_message(self.number, *recipients, received=self.now, hold="h" if hold else None)
        release_at = None if release is None else self.now + release
        envelope = attrs.evolve(message.envelope, priority=priority, release_at=release_at)
        message = attrs.evolve(message, envelope=envelope)
        waits = release is not None and release > 0
        leased &= not waits  # the spool offers no such message to the queue
        self.write()
        self.store.accept(message, lease=self.lease if leased else None, lease_until=self.now + LEASE)
        self.store.commit()
        leased &= not hold
        self.model[message.id] = [
            Expected(
                domain,
                HELD if hold else QUEUED,
                self.now + LEASE if leased else message.first_due,
                self.lease if leased else 0,
                int(leased),
                awaits_release=waits and not hold,
            )
            for domain in domains
        ]
        self.accepted += len(domains)
        if leased:
            self.leases += [(message.id, index, self.lease) for index in range(len(domains))]

    @rule(limit=st.integers(1, 5))
    def claim(self, limit: int) -> None:
        self.lease += 1
        self.write()
        claims = self.store.claim(limit, self.lease, self.now, self.now + LEASE)
        self.store.commit()
        taken = {(claim.message.id, recipient.index) for claim in claims for recipient in claim.recipients}
        order = list(self.model)
        due = sorted(
            (one.due, one.domain, order.index(id), index)
            for id, expected in self.model.items()
            for index, one in enumerate(expected)
            if one.state is QUEUED and one.due <= self.now
        )[:limit]
        wanted = set()
        for _, _, place, index in due:
            id = order[place]
            one = self.model[id][index]
            if one.hold:
                one.stop(self.now)
                continue
            wanted.add((id, index))
            one.interrupted += one.lease > 0
            one.lease, one.attempts, one.due = self.lease, one.attempts + 1, self.now + LEASE
            self.leases.append((id, index, self.lease))
        assert taken == wanted

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        state=st.sampled_from(list(OUTCOMES)),
        wait=st.integers(0, 1000),
        crashed=st.booleans(),
    )
    def record(self, data: st.DataObject, state: RecipientState, wait: int, crashed: bool) -> None:
        id, index, lease = data.draw(st.sampled_from(self.leases))
        due = self.now + wait
        one = self.model[id][index] if id in self.model else None
        owned = one is not None and one.lease == lease
        self.write()
        try:
            gone = self.store.record(
                AttemptRecord(id, (result(index, lease, OUTCOMES[state], state, due, crashed=crashed),)),
                self.now,
            )
        except LeaseLost:
            assert not owned
            gone = False
        else:
            assert owned
        self.store.commit()
        if one is None or not owned:
            return
        one.interrupted = one.interrupted + 1 if crashed else 0
        if state.is_final:
            one.state, one.lease, one.hold = state, 0, False
            self.ended[state] += 1
        else:
            one.awaits_release = False
            one.stop(due)
        assert gone == (id in self.drop_ended())

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), extend=st.booleans())
    def unclaim_or_extend(self, data: st.DataObject, extend: bool) -> None:
        id, index, lease = data.draw(st.sampled_from(self.leases))
        one = self.model[id][index] if id in self.model else None
        self.write()
        if extend:
            self.store.extend(id, [(index, lease)], self.now + 2 * LEASE)
        else:
            self.store.unclaim(id, [(index, lease)], self.now + 5, Cause.BUSY)
        self.store.commit()
        if one is not None and one.lease == lease:
            if extend:
                one.due = self.now + 2 * LEASE
            else:
                one.attempts -= 1
                one.awaits_release = False
                one.stop(self.now + 5)

    @rule(
        domain=st.sampled_from((*DOMAINS, None)), what=st.sampled_from(("hold", "release", "retry", "remove"))
    )
    def operate(self, domain: str | None, what: str) -> None:
        which = QueueFilter(domain=domain)
        meant = [one for expected in self.model.values() for one in expected if domain in (None, one.domain)]
        self.write()
        match what:
            case "hold":
                found: object = self.store.hold(which, "operator")
                changed = [one for one in meant if one.state is QUEUED]
                for one in changed:
                    one.hold = True
                    if not one.lease:
                        one.stop(one.due)
            case "release":
                found = self.store.release(which, self.now)
                changed = [one for one in meant if one.state is HELD]
                for one in meant:
                    one.hold = False
                for one in changed:
                    one.state, one.due, one.interrupted = QUEUED, self.now, 0
            case "retry":
                found = self.store.retry(which, self.now)
                changed = [one for one in meant if one.state is QUEUED and not one.lease]
                for one in changed:
                    one.due = self.now
            case _:
                found = self.store.remove(which, self.now)
                changed = [one for one in meant if one.state in (QUEUED, HELD) and not one.lease]
                for one in changed:
                    one.state = RecipientState.REMOVED
                self.ended[RecipientState.REMOVED] += len(changed)
        self.store.commit()
        expected = Removal(len(changed), tuple(self.drop_ended())) if what == "remove" else len(changed)
        assert found == expected

    @property
    def waiting(self) -> list[Expected]:
        everybody = [one for expected in self.model.values() for one in expected]
        return [one for one in everybody if one.state is QUEUED and not one.lease and not one.awaits_release]

    @rule(after=st.integers(-1000, 1000), length=st.integers(0, 1000), seconds=st.integers(1, 10**6))
    def set_clock(self, after: int, length: int, seconds: int) -> None:
        start, until = self.now + after, self.now + after + length
        shifted = [one for one in self.waiting if start <= one.due <= until]
        by = max(seconds, length + 1)
        for one in shifted:
            one.due += by
        moved, further = 0, start
        while further is not None:
            self.write()
            count, further = self.store.shift_due(further, until, by, 3)
            self.store.commit()
            moved += count
        assert moved == len(shifted)

    @rule(most=st.integers(0, 1000), leased=st.integers(0, LEASE))
    def clamp(self, most: int, leased: int) -> None:
        waiting = [one for one in self.waiting if one.due > self.now + most]
        everybody = [one for expected in self.model.values() for one in expected]
        leases = [one for one in everybody if one.lease and one.due > self.now + leased]
        for one in waiting:
            one.due = self.now
        for one in leases:
            one.due = self.now + leased
        self.write()
        found = self.store.clamp_due(self.now, waiting=most, leased=leased, limit=10**6)
        self.store.commit()
        assert found == len(waiting) + len(leases)

    @rule(seconds=st.integers(1, 1000))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def roll_back(self) -> None:
        self.write()
        self.store.accept(new_message(self.number + 1), lease=None, lease_until=0)
        self.store.remove(QueueFilter(), 0.0)
        self.store.claim(10, 10**6, self.now + 10**6, self.now)
        self.store.rollback()

    @rule()
    def restart(self) -> None:
        self.reopen()
        leased = [one for expected in self.model.values() for one in expected if one.lease]
        assert recover(self.store, self.now).released == len(leased)
        for one in leased:
            one.interrupted += 1
            one.stop(self.now)

    def reopen(self) -> None:
        pass

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        listed = self.store.list(QueueFilter(), after=None, limit=10**6)
        found = {
            entry.id: [(r.state, r.attempts, r.interrupted, r.leased, r.due) for r in entry.recipients]
            for entry in listed
        }
        expected = {}
        for id, recipients in self.model.items():
            rows = []
            for one in recipients:
                waiting = one.state is QUEUED and not one.lease
                rows.append(
                    (one.state, one.attempts, one.interrupted, one.lease > 0, one.due if waiting else None)
                )
            expected[id] = rows
        assert found == expected
        waiting = [
            one.due for rows in self.model.values() for one in rows if one.state is QUEUED and not one.lease
        ]
        assert self.store.next_due() == min(waiting, default=None)

    @invariant()
    def nobody_is_lost(self) -> None:
        counted = self.store.statistics()
        recipients = [one for rows in self.model.values() for one in rows]
        assert counted.accepted == self.accepted
        assert counted.held == sum(one.state is HELD for one in recipients)
        assert counted.queued == sum(one.state is QUEUED for one in recipients)
        assert counted.leased == sum(one.lease > 0 for one in recipients)
        assert counted.messages == len(self.model)
        for state, number in self.ended.items():
            if state.is_final:
                assert getattr(counted, state.name.lower()) == number
        ended = counted.delivered + counted.failed + counted.expired + counted.removed
        assert counted.accepted == ended + counted.held + counted.queued


class MemoryMachine(SpoolMachine):
    @initialize()
    def open(self) -> None:
        self.store = MemoryStore()


class SqliteMachine(SpoolMachine):
    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = SqliteStore.open(spool_folder(Path(self.folder.name)))

    def reopen(self) -> None:
        self.store.close()
        self.store = SqliteStore.open(spool_folder(Path(self.folder.name)))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "derandomize": True}
MemoryMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, **COMMON)
SqliteMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=30, **COMMON)
TestMemoryModel = MemoryMachine.TestCase
TestSqliteModel = SqliteMachine.TestCase
