"""The ledger itself: what it takes for lost, repeated, excused and late."""

from __future__ import annotations

import math
import random

from .ledger import Arrival, Crash, Ledger, make_message, notice_about, subject_of

NOTICE = (
    b"From: <MAILER-DAEMON@mx.example.org>\r\nMessage-ID: <n1@mx.example.org>\r\n\r\n"
    b"Final-Recipient: rfc822;r-%s@sink.example\r\n\r\nSubject: proof\r\nX-Proof: %s\r\n\r\n"
)


def test_a_notice_is_not_taken_for_the_message_that_it_returns() -> None:
    id_, content = make_message(random.Random(1))
    assert subject_of(content) == id_
    assert notice_about(content) is None
    notice = NOTICE % (id_.encode(), id_.encode())
    assert subject_of(notice) is None
    assert notice_about(notice) == (id_, "<n1@mx.example.org>")


def test_lost_is_what_neither_arrived_nor_was_told_of() -> None:
    ledger = Ledger(acknowledged={"a", "b", "c"})
    ledger.arrived["a"].append(Arrival(1.0, "", ""))
    ledger.notices["b"].add("<n1>")
    assert ledger.lost() == {"c"}
    assert ledger.twice_told() == {}
    ledger.notices["b"].add("<n2>")
    assert set(ledger.twice_told()) == {"b"}


def two_copies(*, stored: frozenset[str], first: float, answered: float) -> Ledger:
    """One message that came before a crash at 10.0, and again after it."""
    ledger = Ledger(crashes=[Crash(10.0, 11.0, stored)])
    ledger.arrived["a"] = [Arrival(first, "", "", answered), Arrival(12.0, "", "", 12.0)]
    return ledger


def test_a_crash_excuses_a_copy_only_of_what_it_found_unrecorded() -> None:
    excused = two_copies(stored=frozenset({"a"}), first=9.99, answered=9.99)
    assert excused.duplicates() == 1
    assert excused.unexplained() == []
    assert excused.overdue(0.1) == []
    assert two_copies(stored=frozenset(), first=9.99, answered=9.99).unexplained() == ["a"]


def test_what_was_answered_long_before_the_crash_is_overdue() -> None:
    ledger = two_copies(stored=frozenset({"a"}), first=9.0, answered=9.0)
    assert ledger.unexplained() == []
    assert [id_ for id_, _ in ledger.overdue(0.1)] == ["a"]


def test_a_copy_without_a_reply_and_one_of_the_next_life_are_not_overdue() -> None:
    assert two_copies(stored=frozenset({"a"}), first=9.0, answered=math.inf).overdue(0.1) == []
    later = two_copies(stored=frozenset({"a"}), first=11.5, answered=11.5)
    assert later.overdue(0.1) == []
    # Both copies came in the second life, so the crash explains neither.
    assert later.unexplained() == ["a"]


def test_one_crash_excuses_one_copy() -> None:
    ledger = two_copies(stored=frozenset({"a"}), first=9.99, answered=9.99)
    ledger.arrived["a"].append(Arrival(13.0, "", "", 13.0))
    assert ledger.unexplained() == ["a"]
