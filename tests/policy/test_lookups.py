"""Pure code against a table of answers: what is missing is fetched, and the code runs again."""

from collections.abc import Callable

import pytest
import trio

from elemta.dns import Answer, RecordKind, Status
from elemta.policy import lookups
from elemta.policy.lookups import Lookups, NeedLookup, TooManyLookups, evaluate
from elemta.testing.dns import FakeResolver

A = RecordKind.A


def chain(*names: str) -> Callable[[Lookups], list[str]]:
    """Code that asks for these names, one after the other."""

    def code(table: Lookups) -> list[str]:
        return [text for name in names for text in table.get(name, A).texts]

    return code


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver({f"n{number}.example": {"A": [f"192.0.2.{number}"]} for number in range(9)})


async def test_what_is_missing_is_fetched_and_the_code_runs_again(resolver: FakeResolver):
    assert await evaluate(chain("n1.example", "n2.example"), resolver) == ["192.0.2.1", "192.0.2.2"]
    assert resolver.queries == [("n1.example", A), ("n2.example", A)]


async def test_code_that_asks_nothing_runs_once(resolver: FakeResolver):
    assert await evaluate(lambda table: 7, resolver) == 7
    assert resolver.queries == []


async def test_case_and_a_final_dot_make_no_difference(resolver: FakeResolver):
    assert await evaluate(chain("N1.example.", "n1.EXAMPLE"), resolver) == ["192.0.2.1"] * 2
    assert len(resolver.queries) == 1


async def test_a_name_that_dns_cannot_hold_is_no_name(resolver: FakeResolver):
    statuses = await evaluate(lambda table: [table.get(n, A).status for n in ("", "é", "a" * 64)], resolver)
    assert statuses == [Status.NXDOMAIN] * 3


async def test_a_failed_lookup_is_an_answer(resolver: FakeResolver):
    resolver.failing = {"n1.example"}
    assert await evaluate(lambda table: table.get("n1.example", A).status, resolver) is Status.FAILED


async def test_what_is_wished_is_fetched_with_what_is_missing(
    resolver: FakeResolver, autojump_clock: trio.testing.MockClock
):
    resolver.delays = {"n1.example": 3, "n2.example": 3}

    def code(table: Lookups) -> list[str]:
        table.wish("n2.example", A)
        return chain("n1.example", "n2.example")(table)

    start = trio.current_time()
    await evaluate(code, resolver)
    assert trio.current_time() - start == pytest.approx(3)


async def test_a_wish_alone_is_not_fetched(resolver: FakeResolver):
    await evaluate(lambda table: table.wish("n1.example", A), resolver)
    assert resolver.queries == []


async def test_a_run_counts_only_if_it_wrote_nothing_down(resolver: FakeResolver):
    def swallows(table: Lookups) -> str:
        try:
            return table.get("n1.example", A).texts[0]
        except Exception:
            return "lost"

    assert await evaluate(swallows, resolver) == "192.0.2.1"


async def test_an_exception_for_want_of_an_answer_is_not_the_codes(resolver: FakeResolver):
    def stumbles(table: Lookups) -> str:
        try:
            return table.get("n1.example", A).texts[0]
        except NeedLookup as cause:
            raise ValueError("wrapped") from cause

    assert await evaluate(stumbles, resolver) == "192.0.2.1"


async def test_an_exception_of_the_run_that_counts_comes_out(resolver: FakeResolver):
    def fails(table: Lookups) -> None:
        table.get("n1.example", A)
        raise ValueError("of the code")

    with pytest.raises(ValueError, match="of the code"):
        await evaluate(fails, resolver)


async def test_rounds_are_bounded(resolver: FakeResolver):
    names = [f"n{number}.example" for number in range(5)]
    assert len(await evaluate(chain(*names), resolver, rounds=6)) == 5
    with pytest.raises(TooManyLookups):
        await evaluate(chain(*names), resolver, rounds=5)


async def test_names_are_bounded(resolver: FakeResolver):
    names = [f"n{number}.example" for number in range(5)]
    assert len(await evaluate(chain(*names), resolver, names=5)) == 5
    resolver.queries.clear()
    with pytest.raises(TooManyLookups):
        await evaluate(chain(*names), resolver, names=4)
    assert len(resolver.queries) == 4


async def test_wishes_do_not_use_up_the_bound(resolver: FakeResolver):
    def code(table: Lookups) -> list[str]:
        for number in range(2, 9):
            table.wish(f"n{number}.example", A)
        return chain("n1.example")(table)

    assert await evaluate(code, resolver, names=1) == ["192.0.2.1"]
    assert len(resolver.queries) == 1


async def test_libraries_ask_the_run_in_progress(resolver: FakeResolver):
    async def look(name: str) -> list[str]:
        return await evaluate(lambda table: list(lookups.current().get(name, A).texts), resolver)

    found = {}

    async def keep(name: str) -> None:
        found[name] = await look(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, "n1.example")
        nursery.start_soon(keep, "n2.example")
    assert found == {"n1.example": ["192.0.2.1"], "n2.example": ["192.0.2.2"]}


def test_outside_of_a_run_there_is_nothing_to_ask():
    with pytest.raises(AssertionError):
        lookups.current()


async def test_the_scope_of_the_caller_is_the_deadline(
    resolver: FakeResolver, autojump_clock: trio.testing.MockClock
):
    resolver.delays = {"n1.example": 100}
    with trio.move_on_after(5) as scope:
        await evaluate(chain("n1.example"), resolver)
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(5)


async def test_it_is_cancelled_even_where_nothing_is_asked(resolver: FakeResolver):
    with trio.CancelScope() as scope:
        scope.cancel()
        await evaluate(lambda table: 7, resolver)
    assert scope.cancelled_caught


def test_a_table_of_known_answers_needs_no_resolver():
    table = Lookups({("n1.example", A): Answer(Status.OK, ("192.0.2.1",))})
    assert chain("n1.example")(table) == ["192.0.2.1"]
    with pytest.raises(NeedLookup):
        table.get("n2.example", A)
    assert table.missing == {("n2.example", A)}
