"""What is kept of messages that are gone, for how long, and that nothing of it is lost or in the way."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import apsw
import attrs
import pytest
from spool_builders import (
    LATER,
    NEVER,
    NOW,
    OK,
    attempt,
    deferred,
    message_id,
    new_message,
    result,
    spool_folder,
)

from elemta.mail import Cause, Deferred, Marks, MessageId, Phases, Reply, make_id
from elemta.spool import (
    AttemptEntry,
    AttemptFacts,
    Difference,
    History,
    Pause,
    PauseKind,
    QueueFilter,
    RecipientState,
    SqliteStore,
    Store,
    Wanted,
    find_lives,
    open_offline,
)
from elemta.spool.audit import audit_files
from elemta.spool.database import APPLICATION_ID
from elemta.spool.details import encode_details
from elemta.spool.history import MOST_RUNS, TWINS, number

ALL = QueueFilter()
DELIVERED, FAILED, QUEUED = RecipientState.DELIVERED, RecipientState.FAILED, RecipientState.QUEUED
TLS = AttemptFacts(1.5, "TLSv1.3 TLS_AES_256_GCM_SHA384", phases=Phases(dns=0.25, reply=1.25))


def put(store: Store, number: int, *recipients: str, lease: int | None = 1) -> MessageId:
    store.begin()
    message = new_message(number, *recipients)
    store.accept(message, lease=lease, lease_until=NOW + 900)
    store.commit()
    return message.id


def record(store: Store, number: int, *results: object, now: float = NOW, facts: AttemptFacts = TLS) -> None:
    store.begin()
    store.record(attrs.evolve(attempt(number, *results), facts=facts), now)  # type: ignore[arg-type]
    store.commit()


def life(store: Store, number: int) -> History:
    history = store.history(message_id(number))
    assert history is not None
    return history


def test_a_message_that_was_delivered_at_once_is_still_known(store: Store) -> None:
    put(store, 1, "a@x.example", "b@x.example")
    record(store, 1, result(0), result(1, outcome=NEVER, state=FAILED), now=NOW + 2)
    history = life(store, 1)
    assert (history.received, history.ended, history.size) == (NOW, NOW + 2, new_message(1).size)
    assert history.envelope == new_message(1, "a@x.example", "b@x.example").envelope
    assert history.origin.peer == "192.0.2.1"
    assert [(one.address, one.state, one.attempts, one.last_attempt) for one in history.recipients] == [
        ("a@x.example", DELIVERED, 1, NOW + 2),
        ("b@x.example", FAILED, 1, NOW + 2),
    ]
    assert [(one.reason, one.reply) for one in history.recipients] == [
        ("delivered", str(OK.reply)),
        ("remote-reply", str(NEVER.reply)),
    ]
    assert history.attempts == (
        AttemptEntry(
            0,
            DELIVERED,
            NOW + 2,
            NOW + 2,
            1,
            "delivered",
            str(OK.reply),
            OK.remote,
            tls=TLS.tls,
            seconds=TLS.seconds,
            phases=TLS.phases,
        ),
        AttemptEntry(
            1,
            FAILED,
            NOW + 2,
            NOW + 2,
            1,
            "remote-reply",
            str(NEVER.reply),
            NEVER.remote,
            tls=TLS.tls,
            seconds=TLS.seconds,
            phases=TLS.phases,
        ),
    )
    assert store.statistics().ended == 1


def test_the_same_answer_again_is_counted_and_another_is_kept_beside_it(store: Store) -> None:
    put(store, 1)
    busy = Deferred(Cause.CONNECT, Reply.of(451, "4.4.1", "no answer"), detail="refused")
    lease = 1
    for step, outcome in enumerate((LATER, LATER, LATER, busy, LATER)):
        record(
            store,
            1,
            attrs.evolve(deferred(lease=lease), outcome=outcome),
            now=NOW + step,
            facts=AttemptFacts(float(step), phases=Phases(connect=float(step))),
        )
        store.begin()
        lease += 1
        store.claim(10, lease, NOW + 1000, NOW + 2000)
        store.commit()
    history = life(store, 1)
    assert history.ended is None
    assert [
        (one.reason, one.first - NOW, one.last - NOW, one.times, one.seconds) for one in history.attempts
    ] == [
        ("remote-reply", 0, 2, 3, 2.0),
        ("connect", 3, 3, 1, 3.0),
        ("remote-reply", 4, 4, 1, 4.0),
    ]
    assert [one.phases.connect for one in history.attempts] == [2.0, 3.0, 4.0]  # of the last one each
    assert history.attempts[1].detail == "refused"
    assert (history.recipients[0].leased, history.recipients[0].attempts) == (True, 6)
    record(store, 1, result(lease=lease), now=NOW + 10)
    history = life(store, 1)
    assert (history.ended, history.recipients[0].attempts) == (NOW + 10, 6)
    assert [one.state for one in history.attempts] == [QUEUED, QUEUED, QUEUED, DELIVERED]


def test_only_the_last_of_many_different_answers_are_kept(store: Store) -> None:
    put(store, 1)
    for step in range(MOST_RUNS + 5):
        outcome = Deferred(Cause.REMOTE_REPLY, Reply.of(451, "4.3.0", f"ticket {step}"), from_remote=True)
        record(store, 1, attrs.evolve(deferred(lease=step + 1, due=NOW), outcome=outcome), now=NOW + step)
        store.begin()
        store.claim(10, step + 2, NOW + 1000, NOW + 2000)
        store.commit()
    kept = life(store, 1).attempts
    assert len(kept) == MOST_RUNS
    assert kept[0].reply.endswith("ticket 5")


def test_recipients_that_ended_earlier_are_in_the_life_of_their_message(store: Store) -> None:
    put(store, 1, "a@x.example", "b@x.example", "c@x.example")
    record(store, 1, result(0))
    record(store, 1, deferred(1), now=NOW + 1)
    assert life(store, 1).ended is None
    assert [one.state for one in life(store, 1).recipients] == [DELIVERED, QUEUED, QUEUED]
    record(store, 1, result(2, outcome=NEVER, state=FAILED), now=NOW + 2)
    store.begin()
    assert store.remove(ALL, NOW + 3).messages == (message_id(1),)
    store.commit()
    history = life(store, 1)
    assert [one.state for one in history.recipients] == [DELIVERED, RecipientState.REMOVED, FAILED]
    assert [one.index for one in history.attempts] == [0, 1, 2]
    assert history.ended == NOW + 3


def test_nothing_is_kept_where_the_configuration_says_so(store: Store) -> None:
    store.keeps_ended = False
    put(store, 1)
    record(store, 1, result())
    put(store, 2)
    record(store, 2, deferred())
    assert len(life(store, 2).attempts) == 1
    store.begin()
    store.claim(10, 2, NOW + 1000, NOW + 2000)
    store.commit()
    record(store, 2, result(lease=2))
    put(store, 3, lease=None)
    store.begin()
    store.remove(ALL, NOW)
    store.commit()
    assert [store.history(message_id(number)) for number in (1, 2, 3, 4)] == [None] * 4
    assert store.statistics().ended == 0
    assert store.audit(10) == []


def test_what_is_no_id_has_no_history(store: Store) -> None:
    for text in ("", "x", "0" * 15, "ü" * 16, "0123456789abcde/"):
        assert store.history(MessageId(text)) is None


def test_what_is_gone_is_found_by_its_addresses(store: Store) -> None:
    put(store, 1, "a@x.example", "b@x.example")
    record(store, 1, result(0), result(1))
    put(store, 2, r'"b\"x"@x.example')
    record(store, 2, result())
    put(store, 3, "a@x.example")
    mailboxes = [each.mailbox for each in life(store, 2).envelope.recipients]
    a, b = (each.mailbox for each in life(store, 1).envelope.recipients)
    sender = life(store, 1).envelope.reverse_path.mailbox
    one, two = message_id(1), message_id(2)
    assert store.find_ended(Wanted(None, a), 10) == [one]
    assert store.find_ended(Wanted(sender, b), 10) == [one]
    assert store.find_ended(Wanted(None, mailboxes[0]), 10) == [two]
    assert store.find_ended(Wanted(sender, None), 10) == [two, one]
    assert store.find_ended(Wanted(sender, None), 1) == [two]
    assert store.find_ended(Wanted(a, None), 10) == []
    assert store.find_ended(Wanted(None, sender), 10) == []


def mark(store: Store, number: int, marks: Marks, *recipients: str) -> None:
    store.begin()
    store.accept(attrs.evolve(new_message(number, *recipients), marks=marks), lease=1, lease_until=NOW + 900)
    store.commit()


@pytest.mark.parametrize("gone", [True, False])
def test_messages_are_found_by_what_people_know_of_them(store: Store, gone: bool) -> None:
    first = Marks('a"b\\[1],2@x.example', "00112233445566ff")
    mark(store, 1, first, "a@x.example", "b@x.example")
    mark(store, 2, Marks("other@x.example", "00112233445566fe"), "a@x.example", "b@x.example")
    mark(store, 3, Marks(), "a@x.example", "b@x.example")
    taken = attrs.evolve(OK, reply=Reply.of(250, "2.0.0", 'Ok: queued as "4cXy"\\é'))
    rest = (result(1),) if gone else ()
    record(store, 1, result(outcome=taken), *rest)
    record(store, 2, result(), *rest)
    record(store, 3, result(), *rest)
    sender, recipient = (
        life(store, 1).envelope.reverse_path.mailbox,
        life(store, 1).envelope.recipients[1].mailbox,
    )
    one, two, three = message_id(1), message_id(2), message_id(3)
    assert life(store, 1).marks == first

    def found(wanted: Wanted, limit: int = 10) -> list[MessageId]:
        lives = find_lives(store, wanted, limit=limit)
        assert all((each.ended is not None) is gone for each in lives)
        return sorted(each.id for each in lives)

    assert found(Wanted(message_id=first.message_id)) == [one]
    assert found(Wanted(message_id="x.example")) == []
    assert found(Wanted(subject="00112233445566fe")) == [two]
    assert found(Wanted(subject="00112233445566ff", message_id="other@x.example")) == []
    assert found(Wanted(remote_id='as "4cXy"\\é')) == [one]
    assert found(Wanted(remote_id="4CXY")) == []
    assert found(Wanted(sender, recipient, first.message_id, first.subject, "4cXy")) == [one]
    assert found(Wanted(recipient, recipient, first.message_id)) == []
    assert found(Wanted(sender, recipient)) == [one, two, three]
    assert len(found(Wanted(sender), 2)) == 2


def test_a_batch_that_is_rolled_back_leaves_no_history(store: Store) -> None:
    put(store, 1)
    store.begin()
    store.record(attempt(1), NOW)
    store.rollback()
    assert life(store, 1).ended is None
    assert store.statistics().ended == 0
    record(store, 1, result())
    store.begin()
    store.forget(NOW + 1, 10, after=0, limit=10)
    store.rollback()
    assert life(store, 1).ended == NOW
    assert store.audit(10) == []


def forget(store: Store, before: float, most: int = 10**6, *, limit: int = 3) -> int:
    dropped, after = 0, 0
    while True:
        store.begin()
        count, further = store.forget(before, most, after=after, limit=limit)
        store.commit()
        dropped += count
        if further is None:
            return dropped
        after = further


def ended(store: Store, count: int) -> list[MessageId]:
    """Messages of which each was made and ended a second after the one before."""
    ids = []
    for step in range(count):
        message = attrs.evolve(new_message(received=NOW + step), id=make_id(int((NOW + step) * 1000), step))
        ids.append(message.id)
        store.begin()
        store.accept(message, lease=1, lease_until=NOW + 900)
        store.record(attrs.evolve(attempt(1), message=message.id), NOW + step)
        store.commit()
    return ids


def test_histories_are_dropped_when_their_time_is_over(store: Store) -> None:
    ids = ended(store, 20)
    assert forget(store, NOW + 12) == 12
    assert [store.history(id) is None for id in ids] == [True] * 12 + [False] * 8
    assert store.statistics().ended == 8
    assert forget(store, NOW + 12) == 0
    assert store.audit(10) == []


def test_the_oldest_of_too_many_are_dropped(store: Store) -> None:
    ids = ended(store, 20)
    assert forget(store, NOW, 5) == 15
    assert [id for id in ids if store.history(id)] == ids[15:]
    assert forget(store, NOW, 0) == 5
    assert store.audit(10) == []


def test_one_that_took_long_to_end_outlives_those_that_came_later(store: Store) -> None:
    early = attrs.evolve(new_message(), id=make_id(int(NOW * 1000), 1))
    store.begin()
    store.accept(early, lease=1, lease_until=NOW + 900)
    store.commit()
    ids = [each for each in ended(store, 10) if each != early.id]
    store.begin()
    store.record(attrs.evolve(attempt(1), message=early.id), NOW + 500)
    store.commit()
    forget(store, NOW + 400)
    assert [id for id in [early.id, *ids] if store.history(id)] == [early.id]
    assert forget(store, NOW + 501) == 1


def test_a_forgotten_life_is_one_of_gone_messages_only(store: Store) -> None:
    put(store, 1)
    record(store, 1, deferred())
    assert forget(store, NOW + 10**6, 0) == 0
    assert len(life(store, 1).attempts) == 1


def test_messages_with_one_number_are_told_apart() -> None:
    first, second = make_id(5, 0), make_id(5, 1)
    assert number(first) == number(second)
    assert number(make_id(6, 0)) > number(make_id(5, (1 << 35) - 1))
    assert number(make_id((1 << 45) - 1, (1 << 35) - 1)) == (1 << 63) - 1


def test_histories_of_one_millisecond_are_all_kept_but_for_absurd_numbers(tmp_path: Path) -> None:
    store = SqliteStore.open(spool_folder(tmp_path))
    ids = [make_id(1000, index) for index in range(TWINS + 1)]
    store.begin()
    for id in ids:
        store.accept(attrs.evolve(new_message(), id=id), lease=1, lease_until=NOW)
        assert store.record(attrs.evolve(attempt(1), message=id), NOW)
    store.commit()
    known = [store.history(id) for id in ids]
    assert [one.id for one in known if one] == ids[:TWINS]
    assert store.audit(10) == []
    store.close()


def test_a_damaged_history_is_told_of(tmp_path: Path) -> None:
    store = SqliteStore.open(spool_folder(tmp_path))
    put(store, 1)
    record(store, 1, result())
    store.connection.execute("UPDATE ended SET results = x'7b'")
    with pytest.raises(ValueError, match="array"):
        store.history(message_id(1))
    store.close()


def test_pauses_are_written_down_and_ended(store: Store) -> None:
    one = Pause(PauseKind.DOMAIN, "x.example", NOW, None, "why")
    two = Pause(PauseKind.SENDER, "<>", NOW, NOW + 60.5, "")
    store.begin()
    store.set_pause(two)
    store.set_pause(one)
    store.set_pause(attrs.evolve(one, reason="why not"))
    store.commit()
    assert store.pauses() == [attrs.evolve(one, reason="why not"), two]
    store.begin()
    assert store.end_pause(PauseKind.DOMAIN, "x.example")
    assert not store.end_pause(PauseKind.DOMAIN, "x.example")
    store.rollback()
    assert len(store.pauses()) == 2


# The audit


@pytest.fixture
def disk(tmp_path: Path) -> SqliteStore:
    store = SqliteStore.open(spool_folder(tmp_path))
    put(store, 1, "a@x.example", "b@x.example")
    put(store, 2, lease=None)
    put(store, 3)
    record(store, 3, result())
    return store


def test_a_sound_store_has_no_differences(disk: SqliteStore) -> None:
    assert disk.audit(10) == []
    assert disk.open_reader().audit(10) == []
    disk.begin()
    assert disk.audit(10) == []
    disk.rollback()
    disk.close()


@pytest.mark.parametrize(
    ("damage", "kinds", "message"),
    [
        ("UPDATE counter SET accepted = accepted + 2", {"count"}, ""),
        ("UPDATE counter SET messages = 9", {"count"}, ""),
        ("UPDATE counter SET octets = 1", {"count"}, ""),
        ("UPDATE counter SET ended = 0", {"count"}, ""),
        ("UPDATE recipient SET due = NULL WHERE lease = 0", {"limbo"}, message_id(2)),
        ("UPDATE recipient SET state = 1 WHERE lease <> 0 AND position = 0", {"limbo"}, message_id(1)),
        ("DELETE FROM recipient WHERE position = 1", {"count", "pending"}, message_id(1)),
        ("DELETE FROM recipient WHERE lease = 0", {"count", "pending"}, message_id(2)),
        ("DELETE FROM message WHERE parked", {"count", "orphan"}, "2"),
        ("DELETE FROM body WHERE seq = 1", {"body"}, message_id(1)),
        ("INSERT INTO body VALUES (99, x'00')", {"orphan"}, "99"),
        ("UPDATE message SET parked = 0", {"parked"}, message_id(2)),
        ("UPDATE message SET pending = 5 WHERE seq = 1", {"pending"}, message_id(1)),
    ],
)
def test_every_damage_is_named(disk: SqliteStore, damage: str, kinds: set[str], message: str) -> None:
    disk.connection.execute(damage)
    found = disk.audit(10)
    assert {one.kind for one in found} == kinds
    assert message in {one.message for one in found}
    disk.close()


def test_few_of_many_differences_are_named(disk: SqliteStore) -> None:
    for each in range(4, 20):
        put(disk, each, lease=None)
    disk.connection.execute("UPDATE recipient SET due = NULL WHERE lease = 0")
    assert len(disk.audit(5)) == 5
    disk.close()


def test_body_files_are_compared_with_what_should_be_there(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"12345")
    (tmp_path / "two").write_bytes(b"1")
    (tmp_path / "four").write_bytes(b"1")
    expected = {MessageId("one"): 5, MessageId("two"): 5, MessageId("three"): 5}
    assert audit_files(tmp_path, expected, before=0.0) == [
        Difference("body", "its body file has 1 octets where 5 were stored", "two"),
        Difference("body", "its body file is missing", "three"),
    ]
    late = audit_files(tmp_path, {MessageId("one"): 5}, before=2e10)
    assert sorted(one.message for one in late) == ["four", "two"]
    assert {one.kind for one in late} == {"orphan"}


# An older spool


def older_spool(folder: Path) -> None:
    """One as version 1 wrote it, with a message that waits, one that is held, and one under way."""
    connection = apsw.Connection(str(folder / "spool.db"))
    connection.pragma("journal_mode", "WAL")
    steps = resources.files("elemta.spool") / "schema" / "0001.sql"
    connection.execute(steps.read_text(encoding="utf-8"))
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", 1)
    for seq, state, lease, due in ((1, 0, 0, 1000), (2, 1, 0, None), (3, 0, 7, 2000)):
        message = new_message(seq)
        connection.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, 1, 1, 's@a.example', 'peer', ?, ?, ?)",
            (
                seq,
                message.id,
                int(NOW * 1000),
                message.size,
                message.digest,
                message.prefix,
                encode_details(message.envelope, message.origin),
            ),
        )
        connection.execute("INSERT INTO body VALUES (?, ?)", (seq, message.body))
        connection.execute(
            """INSERT INTO recipient VALUES
             (?, 0, ?, ?, ?, 1, 0, 0, NULL, NULL, 'a@example.com', 'example.com', 'new', '', '')""",
            (seq, state, lease, due),
        )
    size = 3 * new_message(1).size
    connection.execute("UPDATE counter SET accepted = 3, messages = 3, octets = ?", (size,))
    connection.close()


def test_a_spool_of_the_first_version_is_brought_up_to_date_with_its_mail(tmp_path: Path) -> None:
    folder = spool_folder(tmp_path)
    older_spool(folder)
    with open_offline(tmp_path / "state") as store:
        assert store.audit(10) == []
        listed = store.list(QueueFilter(domain="example.com"), after=None, limit=10)
        assert [entry.id for entry in listed] == [message_id(number) for number in (1, 2, 3)]
        assert [
            entry.id for entry in store.list(QueueFilter(sender="s@a.example"), after=None, limit=10)
        ] == [message_id(number) for number in (1, 2, 3)]
        store.begin(careful=True)
        # What was under way is due now, by the clock on the wall.
        (first, third) = store.claim(10, 9, 2 * NOW, 2 * NOW + 900)
        store.commit()
        assert {first.message.id, third.message.id} == {message_id(1), message_id(3)}
        store.begin(careful=True)
        for claim in (first, third):
            store.record(
                attrs.evolve(attempt(1, result(lease=9)), message=claim.message.id),
                NOW,
            )
        store.commit()
        assert store.statistics().ended == 2
        assert store.audit(10) == []
