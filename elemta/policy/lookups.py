"""Run pure code against a table of DNS answers, resolve what was missing, run it again.

Theory of operation. Code that asks DNS in the middle is handed a table. A question that is not in the table
is written down as missing and `NeedLookup` ends the run; then all that is missing is asked for at the same
time, and the code runs again. So it can be cancelled at every lookup, needs no thread, and its tests are a
dict. It must give the same for the same table, and should be quick, since it runs once for each lookup that
depends on another.

A run counts only if it wrote nothing down: libraries swallow exceptions (pyspf does so around `exp=`), the
record they cannot swallow. Synchronous libraries that ask through a function of their module are given one
that reads `current()`, the table of the run in progress; a run never awaits, so there is only one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

import attrs
import trio

from elemta.dns import Answer, AsksDns, RecordKind, normalize_name

T = TypeVar("T")

Question: TypeAlias = tuple[str, RecordKind]
"""A name in lower case without its final dot, and what is wanted of it."""

MAX_NAMES = 200
"""Different questions of one evaluation. SPF needs up to 10 × (1 + 10) and some (RFC 7208 §4.6.4)."""
MAX_ROUNDS = 60
"""Times that the code is run. SPF needs 24 at most: a chain of ten, each with its own, and `exp=`."""


class NeedLookup(Exception):
    """The table has no answer yet. Let it pass: the code is run again when it has."""


class TooManyLookups(Exception):
    """The code asked for more than one evaluation may."""


@attrs.define(eq=False)
class Lookups:
    """The answers of one evaluation so far.

    Tests may make one with answers that are known; then `NeedLookup` comes out of the code.
    """

    answers: Mapping[Question, Answer] = attrs.field(factory=dict)
    missing: set[Question] = attrs.field(factory=set, init=False)
    """Asked for in this run without an answer: it does not count."""
    wished: set[Question] = attrs.field(factory=set, init=False)
    """Will probably be asked for: fetched together with what is missing, if anything is."""

    def get(self, name: str, kind: RecordKind) -> Answer:
        """The answer. One that failed (`Status.FAILED`) is a value like any other.

        Raises:
          NeedLookup: it is not known yet.
        """
        question = _question(name, kind)
        answer = self.answers.get(question)
        if answer is None:
            self.missing.add(question)
            raise NeedLookup(name)
        return answer

    def wish(self, name: str, kind: RecordKind) -> None:
        """This will probably be asked for later in the run: fetch it with the next that is missing."""
        question = _question(name, kind)
        if question not in self.answers:
            self.wished.add(question)


_running: list[Lookups] = []


def current() -> Lookups:
    """The table of the run in progress, for libraries that cannot be given one."""
    assert _running, "asked outside of an evaluation"
    return _running[-1]


@contextmanager
def _run_with(lookups: Lookups) -> Iterator[None]:
    """Make it the current one. Nothing within may await."""
    _running.append(lookups)
    try:
        yield
    finally:
        _running.pop()


async def evaluate(
    code: Callable[[Lookups], T],
    resolver: AsksDns,
    *,
    rounds: int = MAX_ROUNDS,
    names: int = MAX_NAMES,
) -> T:
    """What the code gives once it has all its answers.

    The caller's scope is the deadline; cancelled, it leaves nothing behind. Never raises for what DNS does:
    a lookup that failed is an answer. What the code raises itself, other than for want of an answer, comes
    out of the run that counts.

    Args:
      rounds: most runs of the code.
      names: most questions that are asked in all.

    Raises:
      TooManyLookups: it is not finished within these bounds.
    """
    answers: dict[Question, Answer] = {}
    asked = 0
    for _ in range(rounds):
        lookups = Lookups(answers)
        try:
            with _run_with(lookups):
                result = code(lookups)
        except Exception:
            if not lookups.missing:
                raise
        else:
            if not lookups.missing:
                await trio.lowlevel.checkpoint_if_cancelled()
                return result
        wanted = [*lookups.missing, *sorted(lookups.wished - lookups.missing)][: names - asked]
        if len(lookups.missing) > len(wanted):
            break
        asked += len(wanted)
        await _resolve(resolver, wanted, answers)
    raise TooManyLookups(f"more than {names} lookups or {rounds} in a row")


async def _resolve(resolver: AsksDns, wanted: list[Question], answers: dict[Question, Answer]) -> None:
    async def fetch(question: Question) -> None:
        answers[question] = await resolver.query(*question)

    if len(wanted) == 1:
        await fetch(wanted[0])
        return
    async with trio.open_nursery() as nursery:
        for question in wanted:
            nursery.start_soon(fetch, question)


def _question(name: str, kind: RecordKind) -> Question:
    return normalize_name(name) or name, kind
