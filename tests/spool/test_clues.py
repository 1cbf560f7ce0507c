"""The index of searches: it finds what looking through everything finds, whatever came when."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from spool_builders import (
    NOW,
    OK,
    SettableClock,
    Troubles,
    attempt,
    deferred,
    message_id,
    new_message,
    result,
    spool_folder,
)

from elemta.config import SpoolConfig
from elemta.mail import Marks, MessageId, Reply, parse_mailbox
from elemta.spool import QueueFilter, SpoolFull, SqliteStore, Store, Wanted, find_lives, open_spool
from elemta.spool import clues as clues_module
from elemta.spool.clues import wanted_terms
from elemta.spool.database import open_readonly
from elemta.spool.indexing import Indexing

BLOCK, MARGIN = 8, 4


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    monkeypatch.setattr(clues_module, "BLOCK", BLOCK)
    monkeypatch.setattr(clues_module, "MARGIN", MARGIN)
    opened = SqliteStore.open(spool_folder(tmp_path))
    opened.connection.pragma("synchronous", "OFF")  # no disk is waited for
    yield opened
    opened.close()


def put(store: Store, number: int, recipient: str = "a@x.example", sender: str = "s@x.example") -> MessageId:
    marks = Marks(f"{number}@x.example", f"{number % 7:016x}")
    message = attrs.evolve(new_message(number, recipient, sender=sender), marks=marks)
    store.begin()
    store.accept(message, lease=1, lease_until=NOW + 900)
    store.commit()
    return message.id


def end(store: Store, number: int) -> None:
    outcome = attrs.evolve(OK, reply=Reply.of(250, "2.0.0", f"Ok: queued as 4cXy{number:05}"))
    store.begin()
    store.record(attempt(number, result(outcome=outcome)), NOW)
    store.commit()


def index(store: Store) -> int:
    """Make all blocks that can be made."""
    made = 0
    while (span := store.next_span()) is not None:
        store.move_frontier(span)
        block = store.make_block(span)
        store.begin()
        store.add_block(block)
        store.commit()
        made += 1
    return made


def found(store: Store, wanted: Wanted, limit: int = 1000) -> list[MessageId]:
    return [life.id for life in find_lives(store, wanted, limit=limit)]


def blocks(store: SqliteStore) -> list[tuple[int, int]]:
    return store.connection.execute("SELECT living, late FROM clue ORDER BY block").fetchall()


@pytest.mark.parametrize("seed", range(3))
def test_with_blocks_the_same_is_found_as_without(store: SqliteStore, seed: int) -> None:
    chance = random.Random(seed)
    senders = [f"s{each}@x.example" for each in range(3)]
    recipients = [f"r{each}@x.example" for each in range(4)]
    known: dict[int, tuple[str, str]] = {}
    under_way: set[int] = set()
    for number in range(1, 80):
        known[number] = chance.choice(senders), chance.choice(recipients)
        put(store, number, known[number][1], known[number][0])
        under_way.add(number)
        if chance.random() < 0.7:  # most of those that end are not the oldest
            ending = chance.choice(sorted(under_way))
            under_way.remove(ending)
            end(store, ending)
        if chance.random() < 0.1:
            index(store)
    made = blocks(store)
    assert {(0, 0), (1, 0)} <= set(made)
    for sender in senders:
        mailbox = parse_mailbox(sender)
        of_sender = {number for number, (one, _) in known.items() if one == sender}
        assert set(found(store, Wanted(sender=mailbox))) == {message_id(each) for each in of_sender}
        for recipient in recipients:
            both = {message_id(each) for each in of_sender if known[each][1] == recipient}
            assert set(found(store, Wanted(mailbox, parse_mailbox(recipient)))) == both
    for number in known:
        this = [message_id(number)]
        assert found(store, Wanted(message_id=f"{number}@x.example")) == this
        taken = [] if number in under_way else this
        assert found(store, Wanted(remote_id=f"4cXy{number:05}")) == taken
    subject = {message_id(each) for each in known if each % 7 == 3}
    assert set(found(store, Wanted(subject=f"{3:016x}"))) == subject
    assert found(store, Wanted(message_id="nobody@x.example")) == []


def test_the_last_ones_come_first_across_blocks_and_late_rows(store: SqliteStore) -> None:
    numbers = list(range(1, 60))
    for number in numbers:
        put(store, number)
    for number in numbers[5:]:
        end(store, number)
    assert index(store) > 2
    for number in numbers[:5]:
        end(store, number)
    expected = [message_id(number) for number in reversed(numbers)]
    wanted = Wanted(sender=parse_mailbox("s@x.example"))
    for limit in (1, 3, 8, 9, 20, 100):
        assert store.find_ended(wanted, limit) == expected[:limit]
    assert store.find_ended(wanted, 0) == []


def test_rows_that_came_late_get_blocks_of_their_own(store: SqliteStore) -> None:
    for number in range(1, 41):
        put(store, number)
    for number in range(BLOCK + 1, 41):
        end(store, number)
    index(store)
    for number in range(1, BLOCK + 1):
        end(store, number)
    assert store.connection.execute("SELECT count(*) FROM late WHERE NOT living").get == BLOCK
    assert index(store) == 1
    assert blocks(store)[-1] == (0, 1)
    assert store.connection.execute("SELECT count(*) FROM late").get == 0
    assert found(store, Wanted(message_id="3@x.example")) == [message_id(3)]


def test_a_number_that_is_used_again_is_not_lost(store: SqliteStore) -> None:
    for number in range(1, 21):
        put(store, number)
    index(store)
    for number in range(2, 21):  # the highest are free again
        end(store, number)
    put(store, 21, "new@x.example")
    wanted = Wanted(recipient=parse_mailbox("new@x.example"), message_id="21@x.example")
    assert found(store, wanted) == [message_id(21)]


def test_what_is_stored_while_a_block_is_made_is_found(store: SqliteStore) -> None:
    for number in range(1, 41):
        put(store, number)
    for number in range(2, 41):
        end(store, number)
    span = store.next_span()
    assert span is not None
    store.move_frontier(span)
    block = store.make_block(span)
    end(store, 1)
    store.begin()
    store.add_block(block)
    store.commit()
    assert store.find_ended(Wanted(message_id="1@x.example"), 5) == [message_id(1)]


def test_the_frontier_outlives_the_process(tmp_path: Path, store: SqliteStore) -> None:
    for number in range(1, 41):
        put(store, number)
    for number in range(2, 41):
        end(store, number)
    index(store)
    store.close()
    again = SqliteStore.open(tmp_path / "state" / "spool")
    end(again, 1)
    assert again.find_ended(Wanted(message_id="1@x.example"), 5) == [message_id(1)]
    again.close()


def test_blocks_of_what_is_forgotten_are_dropped(store: SqliteStore) -> None:
    for number in range(1, 41):
        put(store, number)
        end(store, number)
    index(store)
    assert store.stale_blocks() == []
    store.begin()
    store.forget(NOW + 1, 10, after=0, limit=1000)
    store.commit()
    stale = store.stale_blocks()
    assert len(stale) == len(blocks(store)) > 2
    store.begin()
    store.drop_blocks(stale)
    store.commit()
    assert blocks(store) == []
    assert found(store, Wanted(sender=parse_mailbox("s@x.example"))) == []


def test_damage_in_one_message_keeps_no_other_from_being_found(store: SqliteStore) -> None:
    for number in range(1, 21):
        put(store, number)
        end(store, number)
    store.connection.execute(
        "UPDATE ended SET details = '[' WHERE number = (SELECT min(number) FROM ended)"
    ).fetchall()
    assert index(store) == 2
    assert found(store, Wanted(message_id="2@x.example")) == [message_id(2)]


def test_words_without_a_digit_say_nothing_of_a_reply() -> None:
    assert wanted_terms(None, None, None, None, "250 Ok: queued as") == set()
    assert len(wanted_terms(None, None, None, None, "Ok: queued as <4cXy1-0007@mx>")) == 1


class _Writer:
    """Does at once what it is asked to, unless the disk is full."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.full = True

    async def submit(self, request: object) -> object:
        await trio.lowlevel.checkpoint()
        if self.full:
            raise SpoolFull("no room")
        self._store.begin()
        result = request.function(self._store)  # type: ignore[attr-defined]
        self._store.commit()
        return result


class _Looks:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self, function: object) -> object:
        await trio.lowlevel.checkpoint()
        return function(self._store)  # type: ignore[operator]


async def test_blocks_are_made_by_and_by_and_a_full_disk_only_delays_them(
    store: SqliteStore, autojump_clock: trio.abc.Clock
) -> None:
    for number in range(1, 41):
        put(store, number)
        end(store, number)
    writer = _Writer(store)
    indexing = Indexing(writer, _Looks(store))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(indexing.run)
        await trio.sleep(25)
        assert blocks(store) == []
        writer.full = False
        await trio.sleep(25)
        assert len(blocks(store)) == (40 - MARGIN) // BLOCK
        indexing.stop()


async def test_a_running_spool_makes_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clues_module, "BLOCK", BLOCK)
    monkeypatch.setattr(clues_module, "MARGIN", MARGIN)
    monkeypatch.setattr("elemta.spool.indexing.PAUSE", 0.01)
    monkeypatch.setattr("elemta.spool.indexing.BREATH", 0.001)
    before = SqliteStore.open(spool_folder(tmp_path))
    for number in range(1, 41):
        put(before, number)
        end(before, number)
    put(before, 41)
    before.begin()
    before.record(attempt(41, deferred()), NOW)
    before.commit()
    before.close()
    with trio.fail_after(20):
        async with open_spool(
            tmp_path / "state",
            SpoolConfig(ballast=4096),
            message_size=1000,
            clock=SettableClock(),
            random=random.Random(1),
            on_trouble=Troubles(),
        ) as spool:
            reader = open_readonly(tmp_path / "state" / "spool" / "spool.db")
            while reader.execute("SELECT count(*) FROM clue").get < (40 - MARGIN) // BLOCK:  # noqa: ASYNC110
                await trio.sleep(0.01)
            reader.close()
            (life,) = await spool.find(Wanted(message_id="3@x.example"))
            assert life.id == message_id(3)
            assert (await spool.find(Wanted(remote_id="4cXy00009")))[0].id == message_id(9)
            await spool.remove(QueueFilter())
    after = SqliteStore.open(tmp_path / "state" / "spool")
    assert len(blocks(after)) == (40 - MARGIN) // BLOCK
    assert after.audit(10) == []
    after.close()
