"""Filters on a store with much in it: which recipients they mean, and that pages meet without a gap."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from spool_builders import NEVER, NOW, attempt, deferred, message_id, new_message, result

from elemta.mail import Cause, MessageId
from elemta.spool import (
    AddressTest,
    BacklogShare,
    MemoryStore,
    QueueFilter,
    RecipientState,
    ShareKey,
    SqliteStore,
    Store,
)

UNTIL = NOW + 900
HELD, QUEUED = RecipientState.HELD, RecipientState.QUEUED
SENDERS = ("s1@a.example", "s2@a.example", None)
DOMAINS = ("x.example", "y.example", "z.example")


def fill(store: Store, *, seed: int = 1, messages: int = 60) -> None:
    """Messages of all kinds: due, under way, deferred for several reasons, held, in part delivered."""
    random = Random(seed)
    for number in range(messages):
        recipients = [f"r{index}@{random.choice(DOMAINS)}" for index in range(random.randint(1, 3))]
        lease = number + 1 if random.random() < 0.6 else None
        message = new_message(
            number,
            *recipients,
            sender=random.choice(SENDERS),
            hold="operator" if lease is None and random.random() < 0.3 else None,
            received=NOW + number,
        )
        store.begin()
        store.accept(message, lease=lease, lease_until=UNTIL)
        if lease is not None and random.random() < 0.7:
            results = []
            for index in range(len(recipients)):
                kind = random.choice(("delivered", "deferred", "failed", "busy", "under way"))
                match kind:
                    case "delivered":
                        results.append(result(index, lease))
                    case "failed":
                        results.append(result(index, lease, NEVER, RecipientState.FAILED))
                    case "deferred":
                        results.append(deferred(index, lease))
                    case "busy":
                        store.unclaim(message.id, [(index, lease)], NOW + 5, Cause.BUSY)
                    case _:
                        pass
            if results:
                store.record(attempt(number, *results), NOW)
        store.commit()


def chosen(*domains: str, prefix: str = "") -> AddressTest:
    return AddressTest(
        lambda domain: domain in domains,
        lambda address: address.rpartition("@")[2] in domains and address.startswith(prefix),
    )


FILTERS = [
    QueueFilter(),
    QueueFilter(sender="s1@a.example"),
    QueueFilter(sender="<>"),
    QueueFilter(domain="x.example"),
    QueueFilter(recipient="r1@y.example"),
    QueueFilter(recipient="nobody"),
    QueueFilter(state=HELD),
    QueueFilter(state=QUEUED),
    QueueFilter(state=RecipientState.DELIVERED),
    QueueFilter(reason="new"),
    QueueFilter(reason=Cause.BUSY),
    QueueFilter(reason=Cause.REMOTE_REPLY, domain="z.example"),
    QueueFilter(reason="operator", sender="s2@a.example"),
    QueueFilter(received_before=NOW + 20),
    QueueFilter(received_after=NOW + 40),
    QueueFilter(received_after=NOW + 10, received_before=NOW + 30, sender="<>", domain="y.example"),
    QueueFilter(received_before=NOW),
    QueueFilter(received_after=NOW + 1000),
    QueueFilter(test=chosen("x.example")),
    QueueFilter(test=chosen("x.example", "y.example", prefix="r2")),
    QueueFilter(test=chosen("x.example", prefix="none")),
    QueueFilter(test=chosen()),
    QueueFilter(test=chosen("z.example"), state=HELD),
    QueueFilter(messages=tuple(message_id(number) for number in range(0, 60, 7)), domain="x.example"),
    QueueFilter(messages=tuple(message_id(number) for number in range(5)), test=chosen("y.example")),
]


def pages(store: Store, which: QueueFilter, limit: int) -> list[tuple[MessageId, ...]]:
    found, after = [], None
    while True:
        page = store.matching(which, after=after, limit=limit)
        found.append(page.messages)
        if page.further is None:
            return found
        after = page.further


@pytest.mark.parametrize("which", FILTERS, ids=range(len(FILTERS)))
def test_every_filter_finds_what_a_look_at_all_finds(store: Store, which: QueueFilter) -> None:
    fill(store)
    plain = MemoryStore()  # compares row by row
    fill(plain)
    expected = {
        entry.id: [recipient.index for recipient in entry.recipients]
        for entry in plain.list(which, after=None, limit=1000)
    }
    found = store.list(which, after=None, limit=1000)
    assert {entry.id: [one.index for one in entry.recipients] for entry in found} == expected
    for limit in (1, 4, 1000):
        assert [id for page in pages(store, which, limit) for id in page] == list(expected)
        assert all(len(page) == limit for page in pages(store, which, limit)[:-1])
    assert store.matching(which, after=None, limit=0).messages == ()


def test_many_domains_are_walked_rather_than_looked_up_one_by_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elemta.spool.selection.MOST_DOMAINS", 1)
    fill(store)
    which = QueueFilter(test=chosen("x.example", "y.example"))
    found = [entry.id for entry in store.list(which, after=None, limit=1000)]
    assert found == [id for page in pages(store, which, 3) for id in page]
    assert all(
        recipient.address.endswith(("@x.example", "@y.example"))
        for entry in store.list(which, after=None, limit=1000)
        for recipient in entry.recipients
    )


def test_a_page_goes_on_behind_a_message_that_is_gone(store: Store) -> None:
    store.begin()
    for number in range(6):
        store.accept(new_message(number), lease=None, lease_until=0)
    store.remove(QueueFilter(messages=(message_id(2),)), NOW)
    store.commit()
    assert store.matching(QueueFilter(), after=message_id(2), limit=2).messages == (
        message_id(3),
        message_id(4),
    )
    assert store.matching(QueueFilter(), after=message_id(9), limit=2).messages == ()


def test_operations_change_what_their_filter_means_and_nothing_else(store: Store) -> None:
    fill(store)
    which = QueueFilter(test=chosen("x.example", prefix="r0"), reason="new")
    meant = [
        (entry.id, one.index)
        for entry in store.list(which, after=None, limit=1000)
        for one in entry.recipients
        if not one.leased
    ]
    store.begin()
    assert store.remove(which, NOW).recipients == len(meant)
    store.commit()
    left = [
        (entry.id, one.index)
        for entry in store.list(which, after=None, limit=1000)
        for one in entry.recipients
        if not one.leased and not one.state.is_final
    ]
    assert (bool(meant), left) == (True, [])


def test_the_backlog_is_counted_by_what_it_has_in_common(store: Store) -> None:
    assert store.shares(ShareKey.DOMAIN, 10) == []
    store.begin()
    for number in range(5):
        store.accept(new_message(number, "a@x.example"), lease=None, lease_until=0)
    store.accept(new_message(6, "a@y.example", "b@z.example"), lease=None, lease_until=0)
    store.accept(new_message(7, "a@y.example"), lease=7, lease_until=UNTIL)
    store.commit()
    assert store.shares(ShareKey.DOMAIN, 2) == [BacklogShare("x.example", 5), BacklogShare("y.example", 1)]
    assert store.shares(ShareKey.REASON, 2) == [BacklogShare("new", 7)]


def test_avoided_domains_stay_due_and_hold_up_nobody(store: Store) -> None:
    store.begin()
    for number in range(20):
        domain = "dead.example" if number % 2 else f"d{number}.example"
        store.accept(new_message(number, f"a@{domain}", received=NOW + number), lease=None, lease_until=0)
    store.commit()
    now = NOW + 100
    assert store.next_due(avoid=["dead.example"]) == NOW
    store.begin()
    first = store.claim(4, 1, now, now + 900, avoid=["dead.example"])
    second = store.claim(100, 2, now, now + 900, avoid={"dead.example"})
    third = store.claim(100, 3, now, now + 900, avoid={"dead.example"})
    assert ([len(first), len(second)], third) == ([4, 6], [])
    assert store.next_due(avoid={"dead.example"}) is None
    assert store.next_due() == NOW + 1
    # What is made due later is found, although the earlier ones were passed already.
    store.accept(new_message(30, "a@new.example", received=now), lease=None, lease_until=0)
    assert len(store.claim(100, 4, now, now + 900, avoid={"dead.example", "other.example"})) == 1
    assert len(store.claim(100, 5, now, now + 900)) == 10
    store.commit()


def test_claims_whose_lease_ran_out_are_taken_again_whatever_is_avoided(store: Store) -> None:
    store.begin()
    store.accept(new_message(1, "a@dead.example"), lease=1, lease_until=UNTIL)
    (claim,) = store.claim(10, 2, UNTIL, UNTIL + 900, avoid=["dead.example"])
    store.commit()
    assert claim.recipients[0].interrupted == 1


def test_seized_recipients_are_claimed_without_an_attempt(store: Store) -> None:
    store.begin()
    store.accept(new_message(1, "a@x.example", "b@x.example", "c@y.example"), lease=None, lease_until=0)
    store.accept(new_message(2, "a@x.example"), lease=2, lease_until=UNTIL)
    store.hold(QueueFilter(recipient="b@x.example"), "why not")
    (claim,) = store.seize(QueueFilter(domain="x.example"), 7, UNTIL)
    store.commit()
    assert claim.message.id == message_id(1)
    assert [(one.index, one.attempts, one.lease) for one in claim.recipients] == [(0, 0, 7), (1, 0, 7)]
    store.begin()
    assert store.seize(QueueFilter(domain="x.example"), 8, UNTIL) == []
    # Nothing came of it: what was held is held again.
    store.unclaim(message_id(1), [(0, 7), (1, 7)], NOW + 5, Cause.OPERATOR)
    store.commit()
    entry = store.show(message_id(1))
    assert entry is not None
    assert [(one.state, one.due, one.reason) for one in entry.recipients] == [
        (QUEUED, NOW + 5, "operator"),
        (HELD, None, "why not"),
        (QUEUED, NOW, "new"),
    ]


def test_seized_recipients_are_held_again_when_the_process_dies(store: Store) -> None:
    store.begin()
    store.accept(new_message(1, hold="why not"), lease=None, lease_until=0)
    store.seize(QueueFilter(), 7, UNTIL)
    assert store.release_leases(NOW) == 1
    store.commit()
    entry = store.show(message_id(1))
    assert entry is not None
    assert (entry.recipients[0].state, entry.recipients[0].reason) == (HELD, "why not")


def test_what_a_pause_put_aside_comes_back_when_it_is_resumed(store: Store) -> None:
    store.begin()
    store.accept(new_message(1, "a@x.example", "b@x.example", "c@x.example"), lease=1, lease_until=UNTIL)
    store.unclaim(message_id(1), [(0, 1)], None, Cause.PAUSED)
    store.unclaim(message_id(1), [(1, 1)], NOW + 3600, Cause.PAUSED)
    store.unclaim(message_id(1), [(2, 1)], NOW + 3600, Cause.BUSY)
    store.commit()
    entry = store.show(message_id(1))
    assert entry is not None
    assert [(one.state, one.due, one.reason) for one in entry.recipients] == [
        (HELD, None, "paused"),
        (QUEUED, NOW + 3600, "paused"),
        (QUEUED, NOW + 3600, "busy"),
    ]
    store.begin()
    assert store.hold(QueueFilter(recipient="a@x.example"), "operator") == 1
    assert store.resume(QueueFilter(domain="x.example"), NOW) == 1
    store.commit()
    entry = store.show(message_id(1))
    assert entry is not None
    assert [(one.state, one.due, one.attempts) for one in entry.recipients] == [
        (HELD, None, 0),
        (QUEUED, NOW, 0),
        (QUEUED, NOW + 3600, 0),
    ]


def plan(store: SqliteStore, which: QueueFilter, monkeypatch: pytest.MonkeyPatch) -> str:
    """What SQLite says of how it goes about a page."""
    told = []
    query: Callable[..., object] = store._query

    def explaining(statement: str, values: object = ()) -> object:
        told.extend(row[3] for row in store.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))
        return query(statement, values)

    monkeypatch.setattr(store, "_query", explaining)
    store.matching(which, after=None, limit=5)
    return "\n".join(told)


@pytest.mark.parametrize(
    ("which", "index"),
    [
        (QueueFilter(sender="<>"), "message_sender (sender=? AND rowid>? AND rowid<?)"),
        (QueueFilter(domain="x.example"), "recipient_domain (domain=? AND message>? AND message<?)"),
        (QueueFilter(recipient="a@x.example"), "recipient_domain (domain=? AND message>? AND message<?)"),
        (QueueFilter(reason="new"), "recipient_reason (reason=? AND message>? AND message<?)"),
        (QueueFilter(state=HELD), "recipient_held (message>? AND message<?)"),
        (QueueFilter(received_before=NOW), "PRIMARY KEY (message>? AND message<?)"),
        (QueueFilter(), "PRIMARY KEY (message>? AND message<?)"),
    ],
)
def test_no_page_looks_at_everything(
    store: Store, which: QueueFilter, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(store, SqliteStore):
        fill(store, messages=10)
        shown = plan(store, which, monkeypatch)
        assert index in shown
        assert "SCAN r\n" not in shown + "\n"
        assert "SCAN m\n" not in shown + "\n"
