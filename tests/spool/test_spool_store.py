"""What every store promises, on each of them. No event loop here: a store is plain and synchronous."""

import math
from collections.abc import Generator
from contextlib import contextmanager

import attrs
import pytest
from spool_builders import (
    BODY,
    LATER,
    NEVER,
    NOW,
    OK,
    PREFIX,
    attempt,
    deferred,
    message_id,
    new_message,
    result,
    surrogate_message,
)

from elemta.mail import (
    AddressLiteral,
    BodyType,
    Cause,
    DeliverBy,
    DeliverByMode,
    Domain,
    DsnOptions,
    Envelope,
    Identity,
    Mailbox,
    Notify,
    Origin,
    Recipient,
    Ret,
    ReversePath,
    TlsFacts,
    parse_domain,
    parse_mailbox,
)
from elemta.spool import (
    AttemptRecord,
    Claim,
    LeaseLost,
    MemoryStore,
    NewMessage,
    QueueFilter,
    RecipientEntry,
    RecipientState,
    Removal,
    SpoolError,
    Store,
)
from elemta.spool.details import decode_details, encode_details

ALL = QueueFilter()
UNTIL = NOW + 900


@contextmanager
def batch(store: Store) -> Generator[None, None, None]:
    store.begin()
    yield
    store.commit()


def put(store: Store, *messages: NewMessage, lease: int | None = None) -> None:
    with batch(store):
        for message in messages:
            store.accept(message, lease=lease, lease_until=UNTIL)


def claim(store: Store, limit: int = 100, *, lease: int = 1, now: float = NOW) -> list[Claim]:
    with batch(store):
        return store.claim(limit, lease, now, now + 900)


def only(store: Store, number: int = 1, index: int = 0) -> RecipientEntry:
    entry = store.show(message_id(number))
    assert entry is not None
    return entry.recipients[index]


def counts(store: Store) -> dict[str, int]:
    """Those that are not zero, after checking that nobody is lost."""
    found = store.statistics()
    ended = found.delivered + found.failed + found.expired + found.removed
    assert found.accepted == ended + found.held + found.queued
    assert found.leased <= found.queued
    return {
        name: value
        for name, value in attrs.asdict(found).items()
        if value and name not in ("oldest", "ended")
    }


def test_empty_store_has_nothing(store: Store) -> None:
    assert counts(store) == {}
    assert store.statistics().oldest is None
    assert store.list(ALL, after=None, limit=10) == []
    assert store.show(message_id(1)) is store.stored(message_id(1)) is store.body(message_id(1)) is None
    assert store.next_due() is None
    assert store.body_files() == {}
    assert claim(store) == []


def test_accepted_message_is_due_at_once(store: Store) -> None:
    put(store, new_message(1, "a@example.com", "b@example.com"))
    assert store.next_due() == NOW
    assert counts(store) == {
        "accepted": 2,
        "queued": 2,
        "messages": 1,
        "octets": len(BODY) + len(PREFIX),
    }
    assert store.statistics().oldest == NOW
    entry = store.show(message_id(1))
    assert entry is not None
    assert (entry.sender, entry.peer, entry.size) == (
        "sender@example.org",
        "192.0.2.1",
        len(BODY) + len(PREFIX),
    )
    assert [recipient.address for recipient in entry.recipients] == ["a@example.com", "b@example.com"]
    assert {recipient.reason for recipient in entry.recipients} == {"new"}
    assert store.body(message_id(1)) == BODY


def test_stored_message_is_what_was_accepted(store: Store) -> None:
    literal = parse_domain("[IPv6:2001:db8::1]")
    assert isinstance(literal, AddressLiteral)
    envelope = Envelope(
        ReversePath(Mailbox("Odd Name", literal)),
        (
            Recipient(Mailbox("ä", Domain("xn--bcher-kva.example")), DsnOptions(Notify.NEVER, "rfc822;ä@b")),
            Recipient(Mailbox("c", Domain("example.com")), DsnOptions(Notify.SUCCESS | Notify.DELAY)),
            Recipient(Mailbox("d", AddressLiteral(None, "x", "y"))),
        ),
        BodyType.EIGHT_BIT_MIME,
        True,
        Ret.HEADERS,
        "id\x00 with a zero",
        True,
        -3,
    )
    origin = Origin(
        "s",
        "2001:db8::2",
        9,
        "hello",
        "ESMTPSA",
        "mx",
        TlsFacts("TLSv1.3", "x", True),
        Identity("u", "PLAIN"),
    )
    message = attrs.evolve(new_message(), envelope=envelope, origin=origin, received=NOW + 0.125)
    put(store, message)
    stored = store.stored(message.id)
    assert stored is not None
    assert (stored.envelope, stored.origin, stored.body) == (envelope, origin, None)
    assert (stored.prefix, stored.size, stored.digest, stored.received) == (
        message.prefix,
        message.size,
        message.digest,
        NOW + 0.125,
    )


def test_text_of_strangers_that_is_no_text_is_kept_as_escapes(store: Store) -> None:
    message = attrs.evolve(new_message(), origin=Origin("s", "p\udc80", hello="h\udcff"))
    put(store, message)
    stored, entry = store.stored(message.id), store.show(message.id)
    assert stored is not None
    assert entry is not None
    assert (stored.origin.hello, entry.peer) == ("h\\udcff", "p\\udc80")


def test_message_accepted_under_a_lease_is_not_due_and_its_attempt_counts(store: Store) -> None:
    put(store, new_message(), lease=7)
    assert store.next_due() is None
    assert claim(store, now=UNTIL - 1) == []
    entry = only(store)
    assert (entry.attempts, entry.leased, entry.due) == (1, True, None)
    assert counts(store)["leased"] == 1


def test_message_accepted_with_a_hold_waits_for_an_operator(store: Store) -> None:
    put(store, new_message(hold="looks odd"), lease=7)
    entry = only(store)
    assert (entry.state, entry.reason, entry.leased, entry.attempts) == (
        RecipientState.HELD,
        "looks odd",
        False,
        0,
    )
    assert claim(store, now=NOW + 10**6) == []
    assert counts(store)["held"] == 1


def test_second_message_of_an_id_is_refused_and_the_rest_of_the_batch_stays(store: Store) -> None:
    store.begin()
    store.accept(new_message(1), lease=None, lease_until=0)
    with pytest.raises(SpoolError):
        store.accept(new_message(1, "other@example.com"), lease=None, lease_until=0)
    store.accept(new_message(2), lease=None, lease_until=0)
    store.commit()
    assert counts(store) | {"octets": 0} == {"accepted": 2, "queued": 2, "messages": 2, "octets": 0}
    assert only(store, 1).address == "a@example.com"


def test_message_that_cannot_be_written_down_is_refused_alone(store: Store) -> None:
    store.begin()
    store.accept(new_message(1), lease=None, lease_until=0)
    with pytest.raises(SpoolError):
        store.accept(surrogate_message(2), lease=None, lease_until=0)
    store.commit()
    assert counts(store)["accepted"] == 1
    assert store.show(message_id(2)) is None


def test_rollback_undoes_the_whole_batch(store: Store) -> None:
    put(store, new_message(1), new_message(2), new_message(3, hold="h"))
    [first, second] = claim(store)
    before = counts(store), store.list(ALL, after=None, limit=10)
    store.begin()
    store.accept(new_message(4), lease=None, lease_until=0)
    store.record(AttemptRecord(first.message.id, (result(),)), NOW)
    store.record(attempt(2, deferred()), NOW)
    store.release(ALL, NOW)
    store.remove(QueueFilter(messages=(message_id(3),)), NOW)
    store.rollback()
    assert (counts(store), store.list(ALL, after=None, limit=10)) == before
    assert store.take_aftermath().body_files == ()
    put(store, new_message(4))
    assert counts(store)["accepted"] == 4
    assert second.message.id == message_id(2)


def test_claim_takes_the_oldest_first_and_groups_by_message(store: Store) -> None:
    put(
        store,
        new_message(1, "a@x.example", "b@x.example", received=NOW - 1),
        new_message(2, received=NOW - 2),
    )
    claims = claim(store, lease=5)
    assert [(found.message.id, [r.index for r in found.recipients]) for found in claims] == [
        (message_id(2), [0]),
        (message_id(1), [0, 1]),
    ]
    recipient = claims[1].recipients[1]
    assert (str(recipient.recipient.mailbox), recipient.attempts, recipient.lease) == ("b@x.example", 1, 5)
    assert claims[0].message.body is None
    assert claim(store, lease=6) == []


def test_claim_takes_no_more_than_asked_for_and_nothing_that_is_not_due(store: Store) -> None:
    put(store, new_message(1, "a@x.example", "b@x.example"), new_message(2, received=NOW + 60))
    [first] = claim(store, 1)
    assert [recipient.index for recipient in first.recipients] == [0]
    [second] = claim(store, 10)
    assert [recipient.index for recipient in second.recipients] == [1]
    assert store.next_due() == NOW + 60
    assert len(claim(store, now=NOW + 60)) == 1


def test_lease_that_ran_out_may_be_claimed_again_and_says_so(store: Store) -> None:
    put(store, new_message())
    claim(store, lease=1)
    assert claim(store, now=NOW + 899) == []
    [again] = claim(store, lease=2, now=NOW + 900)
    assert (again.recipients[0].attempts, again.recipients[0].interrupted) == (2, 1)
    with pytest.raises(LeaseLost), batch(store):
        store.record(attempt(1, result(lease=1)), NOW)
    store.rollback()
    with batch(store):
        assert store.record(attempt(1, result(lease=2)), NOW)


def test_delivered_recipient_ends_its_message(store: Store) -> None:
    put(store, new_message(), lease=1)
    with batch(store):
        assert store.record(attempt(1), NOW) is True
    assert counts(store) == {"accepted": 1, "delivered": 1}
    assert store.show(message_id(1)) is store.body(message_id(1)) is None


def test_message_stays_until_its_last_recipient_is_final(store: Store) -> None:
    put(store, new_message(1, "a@x.example", "b@x.example", "c@x.example"), lease=1)
    with batch(store):
        record = attempt(1, result(0), result(2, 1, NEVER, RecipientState.FAILED))
        assert store.record(record, NOW + 2) is False
    assert counts(store) | {"octets": 0} == {
        "accepted": 3,
        "delivered": 1,
        "failed": 1,
        "queued": 1,
        "leased": 1,
        "messages": 1,
        "octets": 0,
    }
    failed = only(store, 1, 2)
    assert (failed.state, failed.reason, failed.leased) == (RecipientState.FAILED, "remote-reply", False)
    assert failed.reply == "550 5.1.1 nobody"
    assert (failed.remote, failed.last_attempt) == ("mx.example[192.0.2.9]:25", NOW + 2)
    assert only(store).reason == "delivered"
    with batch(store):
        assert store.record(attempt(1, result(1, 1, LATER, RecipientState.EXPIRED)), NOW) is True
    assert counts(store) == {"accepted": 3, "delivered": 1, "failed": 1, "expired": 1}


def test_deferred_recipient_is_due_again_later(store: Store) -> None:
    put(store, new_message(), lease=1)
    with batch(store):
        assert store.record(attempt(1, deferred(due=NOW + 300.25, delay_noticed=True)), NOW + 1) is False
    entry = only(store)
    assert (entry.state, entry.due, entry.attempts) == (RecipientState.QUEUED, NOW + 300.25, 1)
    assert (entry.reason, entry.reply) == ("remote-reply", "451 4.3.0 later")
    assert claim(store, now=NOW + 300) == []
    [again] = claim(store, now=NOW + 301)
    assert (again.recipients[0].attempts, again.recipients[0].delay_noticed) == (2, True)
    with batch(store):
        store.record(attempt(1, deferred(due=NOW + 600)), NOW)
    [third] = claim(store, now=NOW + 600)
    assert third.recipients[0].delay_noticed, "once told is told"


def test_deferral_without_a_time_is_due_at_once(store: Store) -> None:
    put(store, new_message(), lease=1)
    with batch(store):
        store.record(attempt(1, result(0, 1, LATER, RecipientState.QUEUED)), NOW + 5)
    assert store.next_due() == NOW + 5


def test_attempt_may_end_in_a_hold(store: Store) -> None:
    put(store, new_message(), lease=1)
    with batch(store):
        store.record(attempt(1, result(0, 1, LATER, RecipientState.HELD)), NOW)
    entry = only(store)
    assert (entry.state, entry.due, entry.reason) == (RecipientState.HELD, None, "remote-reply")


@pytest.mark.parametrize("lease", [0, 2])
@pytest.mark.parametrize("index", [0, 1])
def test_stale_lease_changes_nothing(store: Store, lease: int, index: int) -> None:
    put(store, new_message(1, "a@x.example", "b@x.example"), lease=1)
    before = store.show(message_id(1)), counts(store)
    results = [result(0), result(1)]
    results[index] = result(index, lease)
    store.begin()
    with pytest.raises(LeaseLost):
        store.record(attempt(1, *results, notices=(new_message(9),)), NOW)
    store.commit()
    assert (store.show(message_id(1)), counts(store)) == before
    assert store.show(message_id(9)) is None


@pytest.mark.parametrize(("number", "index"), [(2, 0), (1, 7), (1, -1)])
def test_record_of_what_is_not_there_is_a_lost_lease(store: Store, number: int, index: int) -> None:
    put(store, new_message(), lease=1)
    store.begin()
    with pytest.raises(LeaseLost):
        store.record(attempt(number, result(index)), NOW)
    store.commit()
    assert counts(store)["queued"] == 1


def test_unleased_recipient_cannot_be_recorded_with_lease_zero(store: Store) -> None:
    put(store, new_message())
    store.begin()
    with pytest.raises(LeaseLost):
        store.record(attempt(1, result(lease=0)), NOW)
    store.rollback()


def test_recipient_stands_once_in_a_record() -> None:
    with pytest.raises(ValueError, match="twice"):
        attempt(1, result(0), result(0))


def test_notices_are_stored_with_the_failure_they_tell_of(store: Store) -> None:
    put(store, new_message(1), lease=1)
    failure = result(0, 1, NEVER, RecipientState.FAILED)
    notices = (new_message(8, "sender@example.org", sender=None), new_message(9, sender=None))
    with batch(store):
        gone = store.record(attempt(1, failure, notices=notices), NOW, notice_leases=[3], lease_until=UNTIL)
    assert gone
    assert only(store, 8).leased
    assert not only(store, 9).leased
    assert counts(store) | {"octets": 0} == {
        "accepted": 3,
        "failed": 1,
        "queued": 2,
        "leased": 1,
        "messages": 2,
        "octets": 0,
    }
    assert [entry.sender for entry in store.list(ALL, after=None, limit=9)] == ["<>", "<>"]


def test_record_whose_notice_cannot_be_stored_changes_nothing(store: Store) -> None:
    put(store, new_message(1), new_message(2), lease=1)
    before = counts(store), store.show(message_id(1))
    store.begin(careful=True)
    with pytest.raises(SpoolError):
        store.record(attempt(1, result(0, 1, NEVER, RecipientState.FAILED), notices=(new_message(2),)), NOW)
    store.commit()
    assert (counts(store), store.show(message_id(1))) == before


def test_unclaimed_attempt_does_not_count(store: Store) -> None:
    put(store, new_message(1, "a@x.example", "b@x.example"), lease=1)
    with batch(store):
        store.unclaim(message_id(1), [(0, 1), (1, 2), (9, 1)], NOW + 60, Cause.BUSY)
        store.unclaim(message_id(2), [(0, 1)], NOW, Cause.BUSY)
    first, second = only(store, 1, 0), only(store, 1, 1)
    assert (first.attempts, first.leased, first.due, first.reason) == (0, False, NOW + 60, "busy")
    assert (second.attempts, second.leased) == (1, True), "another's lease is left alone"


def test_extended_lease_lasts_longer(store: Store) -> None:
    put(store, new_message(1, "a@x.example", "b@x.example"), lease=1)
    with batch(store):
        store.extend(message_id(1), [(0, 1), (1, 2)], UNTIL + 100)
    [again] = claim(store, lease=3, now=UNTIL + 99)
    assert [recipient.index for recipient in again.recipients] == [1]


def test_released_leases_are_due_at_once_and_counted_as_interrupted(store: Store) -> None:
    put(store, new_message(1), lease=1)
    put(store, new_message(2))
    with batch(store):
        assert store.release_leases(NOW + 3) == 1
    entry = only(store)
    assert (entry.leased, entry.due, entry.attempts, entry.interrupted) == (False, NOW + 3, 1, 1)
    assert only(store, 2).interrupted == 0
    assert [found.recipients[0].interrupted for found in claim(store, now=NOW + 3)] == [0, 1]


def test_held_recipient_is_released_when_an_operator_says_so(store: Store) -> None:
    put(store, new_message(1), new_message(2))
    with batch(store):
        assert store.hold(QueueFilter(messages=(message_id(1),)), "wait") == 1
        assert store.hold(QueueFilter(messages=(message_id(1),)), "again") == 0
    assert (only(store).state, only(store).reason, only(store).due) == (RecipientState.HELD, "wait", None)
    assert [found.message.id for found in claim(store)] == [message_id(2)]
    with batch(store):
        assert store.release(ALL, NOW + 9) == 1
    assert (only(store).state, only(store).due) == (RecipientState.QUEUED, NOW + 9)


def test_attempt_under_way_is_held_when_it_is_deferred(store: Store) -> None:
    put(store, new_message(), lease=1)
    with batch(store):
        assert store.hold(ALL, "wait") == 1
    assert only(store).leased
    with batch(store):
        store.record(attempt(1, deferred()), NOW)
    entry = only(store)
    assert (entry.state, entry.reason, entry.due) == (RecipientState.HELD, "wait", None)


def test_attempt_under_way_that_delivers_is_delivered_whatever_was_to_be_held(store: Store) -> None:
    put(store, new_message(), lease=1)
    with batch(store):
        store.hold(ALL, "wait")
        assert store.record(attempt(1), NOW)
    assert counts(store) == {"accepted": 1, "delivered": 1}


@pytest.mark.parametrize("end", ["unclaim", "release_leases", "claim"])
def test_wish_to_hold_outlives_an_attempt_that_ends_otherwise(store: Store, end: str) -> None:
    put(store, new_message(), lease=1)
    with batch(store):
        store.hold(ALL, "wait")
    with batch(store):
        if end == "unclaim":
            store.unclaim(message_id(1), [(0, 1)], NOW, Cause.SHUTDOWN)
        elif end == "release_leases":
            store.release_leases(NOW)
        else:
            assert store.claim(10, 2, UNTIL, UNTIL + 900) == []
    assert (only(store).state, only(store).reason, only(store).leased) == (RecipientState.HELD, "wait", False)
    counts(store)


def test_release_takes_back_the_wish_to_hold(store: Store) -> None:
    put(store, new_message(), lease=1)
    with batch(store):
        store.hold(ALL, "wait")
        assert store.release(ALL, NOW) == 0
        store.record(attempt(1, deferred(due=NOW + 60)), NOW)
    assert (only(store).state, only(store).due) == (RecipientState.QUEUED, NOW + 60)


def test_retry_makes_waiting_recipients_due_and_leaves_the_others(store: Store) -> None:
    put(store, new_message(1, received=NOW + 600), new_message(2, hold="h"))
    put(store, new_message(3), lease=1)
    with batch(store):
        assert store.retry(ALL, NOW + 1) == 1
    assert store.next_due() == NOW + 1
    assert only(store, 2).state is RecipientState.HELD
    assert only(store, 3).leased


def test_remove_ends_waiting_and_held_recipients_without_a_notice(store: Store) -> None:
    put(store, new_message(1, "a@x.example", "b@y.example"), new_message(2, "a@x.example", hold="h"))
    put(store, new_message(3, "a@x.example"), lease=1)
    with batch(store):
        assert store.remove(QueueFilter(domain="x.example"), NOW) == Removal(2, (message_id(2),))
    assert counts(store) | {"octets": 0} == {
        "accepted": 4,
        "removed": 2,
        "queued": 2,
        "leased": 1,
        "messages": 2,
        "octets": 0,
    }
    assert (only(store).state, only(store).reason) == (RecipientState.REMOVED, "operator")
    with batch(store):
        assert store.remove(ALL, NOW).messages == (message_id(1),)
    assert store.body(message_id(1)) is None


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (ALL, {1: [0, 1], 2: [0], 3: [0]}),
        (QueueFilter(messages=(message_id(3), message_id(1), message_id(3))), {1: [0, 1], 3: [0]}),
        (QueueFilter(messages=()), {}),
        (QueueFilter(sender="<>"), {2: [0]}),
        (QueueFilter(sender="sender@example.org"), {1: [0, 1], 3: [0]}),
        (QueueFilter(recipient="b@y.example"), {1: [1]}),
        (QueueFilter(domain="x.example"), {1: [0], 2: [0]}),
        (QueueFilter(state=RecipientState.HELD), {3: [0]}),
        (QueueFilter(state=RecipientState.QUEUED, domain="x.example", sender="<>"), {2: [0]}),
        (QueueFilter(recipient="%"), {}),
        (QueueFilter(messages=(message_id(1),), domain="z.example"), {}),
    ],
)
def test_filters_say_which_recipients_are_meant(
    store: Store, which: QueueFilter, expected: dict[int, list[int]]
) -> None:
    put(
        store,
        new_message(2, "a@x.example", sender=None),
        new_message(1, "a@x.example", "b@y.example"),
        new_message(3, "c@z.example", hold="h"),
    )
    listed = store.list(which, after=None, limit=10)
    found = {entry.id: [recipient.index for recipient in entry.recipients] for entry in listed}
    assert found == {message_id(number): indexes for number, indexes in expected.items()}
    came = [message_id(number) for number in (2, 1, 3)]
    assert list(found) == [id for id in came if id in found]
    assert store.matching(which, after=None, limit=10).messages == tuple(found)


def test_listing_goes_page_by_page(store: Store) -> None:
    put(store, *(new_message(number, "a@x.example", "b@x.example") for number in range(5)))
    seen, after = [], None
    while page := store.list(ALL, after=after, limit=2):
        assert len(page) <= 2
        seen += [entry.id for entry in page]
        after = page[-1].id
    assert seen == [message_id(number) for number in range(5)]
    assert store.matching(ALL, after=message_id(2), limit=1).messages == (message_id(3),)


def test_long_reply_of_a_stranger_is_kept_in_part(store: Store) -> None:
    put(store, new_message(), lease=1)
    reply = attrs.evolve(LATER.reply, lines=("x" * 10_000,))
    with batch(store):
        store.record(
            attempt(1, result(0, 1, attrs.evolve(LATER, reply=reply), RecipientState.QUEUED, NOW)), NOW
        )
    assert len(only(store).reply) == 2000


def test_all_outcomes_of_many_recipients_add_up(store: Store) -> None:
    put(store, new_message(1, *(f"r{number}@x.example" for number in range(100))), lease=1)
    for index in range(99):
        with batch(store):
            store.record(attempt(1, result(index, 1, OK)), NOW)
        counts(store)
    assert counts(store)["delivered"] == 99
    with batch(store):
        assert store.record(attempt(1, result(99)), NOW)
    assert counts(store) == {"accepted": 100, "delivered": 100}


def test_store_in_memory_has_no_body_files() -> None:
    store = MemoryStore()
    store.begin()
    with pytest.raises(SpoolError, match="no body files"):
        store.accept(new_message(body=None), lease=None, lease_until=0)
    store.commit()
    assert store.statistics().accepted == 0


def test_wishes_about_time_and_a_mark_are_kept(store: Store) -> None:
    by = DeliverBy(NOW + 0.5, DeliverByMode.NOTIFY, trace=True)
    message = new_message()
    wishes = attrs.evolve(
        message.envelope,
        deliver_by=by,
        release_at=NOW + 1.25,
        hold_request="for;60",
        priority=7,
        quarantined=True,
    )
    put(store, attrs.evolve(message, envelope=wishes))
    stored = store.stored(message.id)
    assert stored is not None
    assert stored.envelope == wishes


def test_who_sends_it_on_to_a_recipient_is_kept(store: Store) -> None:
    message = new_message()
    sender = parse_mailbox("SRS0=AAAAAA=AA=o.example=a@ours.example")
    recipients = tuple(attrs.evolve(each, sender=sender) for each in message.envelope.recipients)
    put(store, attrs.evolve(message, envelope=attrs.evolve(message.envelope, recipients=recipients)))
    stored = store.stored(message.id)
    assert stored is not None
    assert stored.envelope.recipients == recipients


def test_rows_of_an_earlier_version_are_read() -> None:
    text = (
        '[["s","example.org"],[["r","example.com"],["q","example.com",0,"rfc822;x"]],"7BIT",false,null,null,'
        'false,0,["session","192.0.2.1",25,"hello","SMTP","mx",null,["u","PLAIN"]]]'
    )
    envelope, origin = decode_details(text)
    assert (envelope.deliver_by, envelope.release_at, envelope.quarantined) == (None, None, False)
    assert [str(recipient.mailbox) for recipient in envelope.recipients] == ["r@example.com", "q@example.com"]
    assert origin.identity == Identity("u", "PLAIN")
    assert decode_details(encode_details(envelope, origin)) == (envelope, origin)


def test_message_that_awaits_its_release_is_due_then(store: Store) -> None:
    later = attrs.evolve(new_message().envelope, release_at=NOW + 5000)
    put(store, attrs.evolve(new_message(), envelope=later))
    assert store.next_due() == NOW + 5000
    assert only(store).reason == Cause.FUTURE_RELEASE
    assert claim(store, now=NOW + 4999) == []
    assert len(claim(store, now=NOW + 5000)) == 1


def test_urgent_messages_are_claimed_as_if_they_had_waited_already(store: Store) -> None:
    for number, priority in ((1, 0), (2, -9), (3, 2), (4, 9)):
        envelope = attrs.evolve(new_message().envelope, priority=priority)
        put(store, attrs.evolve(new_message(number, received=NOW + number), envelope=envelope))
    claims = claim(store, now=NOW + 10)
    assert [found.message.id for found in claims] == [message_id(number) for number in (4, 3, 1, 2)]


def test_crashes_in_a_row_are_counted_and_forgotten(store: Store) -> None:
    put(store, new_message(), lease=1)
    found = []
    for lease, crashed in ((1, True), (2, True), (3, False), (4, True)):
        later = result(0, lease, LATER, RecipientState.QUEUED, NOW, crashed=crashed)
        with batch(store):
            store.record(attempt(1, later), NOW)
        found.append(only(store).interrupted)
        [again] = claim(store, lease=lease + 1)
        assert again.recipients[0].interrupted == found[-1]
    assert found == [1, 2, 0, 1]
    with batch(store):
        store.record(attempt(1, result(0, 5, LATER, RecipientState.HELD, hold="crashes", crashed=True)), NOW)
    assert (only(store).reason, only(store).interrupted) == ("crashes", 2)
    with batch(store):
        assert store.release(ALL, NOW) == 1
    assert only(store).interrupted == 0


def test_due_times_are_moved_in_steps_and_each_once(store: Store) -> None:
    for number in range(1, 8):
        put(store, new_message(number, received=NOW + number // 2))
    moved, further = [], NOW + 1.0
    while further is not None:
        with batch(store):
            count, further = store.shift_due(further, NOW + 2, -1.0, 2)
        moved.append(count)
    dues = [only(store, number).due for number in range(1, 8)]
    assert dues == [NOW, NOW, NOW, NOW + 1, NOW + 1, NOW + 3, NOW + 3]
    assert sum(moved) == 4
    with batch(store):
        assert store.shift_due(NOW, math.inf, -86_400.0, 100) == (7, None)
    assert store.next_due() == NOW - 86_400


def test_nobody_waits_longer_than_is_said(store: Store) -> None:
    put(store, new_message(1, received=NOW + 10), new_message(2, received=NOW + 11))
    put(store, new_message(3), lease=1)
    later = attrs.evolve(new_message(4).envelope, release_at=NOW + 5000)
    put(store, attrs.evolve(new_message(4), envelope=later))
    with batch(store):
        assert store.clamp_due(NOW, waiting=10, leased=100, limit=10) == 2
    assert [only(store, number).due for number in (1, 2, 4)] == [NOW + 10, NOW, NOW + 5000]
    assert claim(store, lease=2, now=NOW + 99) != []
    assert claim(store, lease=3, now=NOW + 100)[0].message.id == message_id(3)
