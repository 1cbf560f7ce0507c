"""How much an account may send: counted over sessions and restarts, and told in words."""

from random import Random

import pytest
import trio
from policy_bed import PEER, DictMemo, SetClock, config

from elemta.config import QuotaOf
from elemta.mail import Identity, Reply, parse_mailbox, parse_reverse_path
from elemta.policy import Client, Gate
from elemta.policy.quotas import MOST_ACCOUNTS, Quotas
from elemta.testing.dns import FakeResolver

ANNA = "anna@example.org"


def quotas(text: str, memo: DictMemo | None = None, clock: SetClock | None = None) -> Quotas:
    clock = clock or SetClock()
    policy = config(f"[policy.quota]\n{text}\n").policy
    return Quotas(policy.quota, memo or DictMemo(clock), clock)


async def test_an_hour_and_a_day_are_counted_apart():
    clock = SetClock()
    made = quotas("hourly_messages = 2\ndaily_messages = 3", clock=clock)
    assert [await made.take(ANNA, QuotaOf.MESSAGES) for _ in range(2)] == [None, None]
    assert await made.take(ANNA, QuotaOf.MESSAGES) == "messages of this hour used up, 60 minutes left"
    assert await made.take("carl@example.org", QuotaOf.MESSAGES) is None
    clock.now += 3599
    assert await made.take(ANNA, QuotaOf.MESSAGES) == "messages of this hour used up, 1 minutes left"
    clock.now += 1
    assert await made.take(ANNA, QuotaOf.MESSAGES) is None
    assert await made.take(ANNA, QuotaOf.MESSAGES) == "messages of this day used up, 1380 minutes left"
    clock.now += 23 * 3600
    assert await made.take(ANNA, QuotaOf.MESSAGES) is None
    assert made.statistics().refused == 3


async def test_sums_outlive_a_restart():
    clock = SetClock()
    memo = DictMemo(clock)
    before = quotas("daily_recipients = 2", memo, clock)
    for _ in range(2):
        assert await before.take(ANNA, QuotaOf.RECIPIENTS) is None
    after = quotas("daily_recipients = 2", memo, clock)
    assert await after.take(ANNA, QuotaOf.RECIPIENTS) is not None
    assert ANNA not in str(memo.entries)


async def test_octets_count_when_stored_and_are_looked_at_before_the_next_message():
    made = quotas('hourly_size = "1KiB"')
    assert await made.take(ANNA, QuotaOf.MESSAGES) is None
    made.stored(ANNA, 5000)
    assert await made.take(ANNA, QuotaOf.RECIPIENTS) is None  # of a message that was begun
    assert await made.take(ANNA, QuotaOf.MESSAGES) == "octets of this hour used up, 60 minutes left"
    made.stored("nobody@example.org", 5)  # not at hand


async def test_many_sessions_at_once_gain_nothing(autojump_clock: trio.testing.MockClock):
    clock = SetClock()
    memo = DictMemo(clock)
    memo.delay = 0.5
    made = quotas("daily_recipients = 10", memo, clock)
    taken = 0

    async def send() -> None:
        nonlocal taken
        for _ in range(5):
            refused = await made.take(ANNA, QuotaOf.RECIPIENTS)
            taken += refused is None

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(send)
    assert taken == 10


@pytest.mark.parametrize("value", [b"", b"x" * 64, b"\xff" * 64, b"\x7f\xf8" + bytes(62)])
async def test_what_is_not_ours_in_the_memo_counts_as_nothing(value: bytes):
    clock = SetClock()
    memo = DictMemo(clock)
    made = quotas("daily_messages = 1", memo, clock)
    assert await made.take(ANNA, QuotaOf.MESSAGES) is None
    [key] = memo.entries
    memo.put(key, value, clock.now + 100)
    assert await quotas("daily_messages = 1", memo, clock).take(ANNA, QuotaOf.MESSAGES) is None


async def test_a_memo_that_hangs_lets_mail_pass(autojump_clock: trio.testing.MockClock):
    clock = SetClock()
    memo = DictMemo(clock)
    memo.delay = 1000
    assert await quotas("daily_messages = 1", memo, clock).take(ANNA, QuotaOf.MESSAGES) is None
    assert trio.current_time() == pytest.approx(2)


async def test_a_clock_that_is_set_back_begins_anew():
    clock = SetClock()
    made = quotas("hourly_messages = 1", clock=clock)
    assert await made.take(ANNA, QuotaOf.MESSAGES) is None
    clock.now -= 10
    assert await made.take(ANNA, QuotaOf.MESSAGES) is None


async def test_memory_is_bounded():
    made = quotas("hourly_messages = 1")
    for number in range(MOST_ACCOUNTS + 5):
        await made.take(str(number), QuotaOf.MESSAGES)
    assert made.statistics().accounts == MOST_ACCOUNTS
    assert await made.take("0", QuotaOf.MESSAGES) is not None  # read again


@pytest.mark.parametrize(("action", "code"), [("defer", 450), ("refuse", 550)])
async def test_the_gate_tells_an_account_that_it_has_sent_enough(action: str, code: int):
    clock = SetClock()
    memo = DictMemo(clock)
    text = f'[policy.quota]\nhourly_recipients = 1\nhourly_messages = 2\naction = "{action}"\n'
    gate = Gate(config(text), FakeResolver(), clock, Random(1), memo)
    client = Client(PEER, identity=Identity(ANNA, "PLAIN"))
    path, mailbox = parse_reverse_path(f"<{ANNA}>"), parse_mailbox("r@else.example")
    assert await gate.sender(client, path) is None
    assert await gate.recipient(client, path, mailbox) is None
    refusal = await gate.recipient(client, path, mailbox)
    assert refusal is not None
    assert isinstance(refusal.reply, Reply)
    assert (refusal.reply.code, refusal.reason) == (
        code,
        "quota: recipients of this hour used up, 60 minutes left",
    )
    assert client.take_fresh_notes() == {"quota": "recipients of this hour used up, 60 minutes left"}
    stranger = Client(PEER)
    for _ in range(5):
        assert await gate.sender(stranger, path) is None
    assert gate.statistics().refused == {"quota": 1}
    assert gate.statistics().quotas.refused == 1


async def test_without_quotas_nothing_is_remembered():
    clock = SetClock()
    memo = DictMemo(clock)
    gate = Gate(config(), FakeResolver(), clock, Random(1), memo)
    client = Client(PEER, identity=Identity(ANNA, "PLAIN"))
    assert await gate.sender(client, parse_reverse_path(f"<{ANNA}>")) is None
    gate.accepted(client, 1, 100)
    assert memo.puts == 0
