"""An account that does not send like itself: what trips the breaker, and what lets it go."""

from pathlib import Path
from random import Random

import pytest
import trio
from policy_bed import DictMemo, SetClock, config

from elemta.app.alarms import watch_refusals
from elemta.events import CommandRejected, Event, EventBus, SessionAuthenticated
from elemta.mail import Identity, Reply, parse_reverse_path, replies
from elemta.policy import Client, Gate, hold_reason, let_go, read_held
from elemta.policy.breaker import FOLDER, MOST_NETWORKS, Breaker
from elemta.testing.dns import FakeResolver

ANNA = "anna@example.org"
HOME = "192.0.2.0/24"


class Bed:
    def __init__(self, text: str = "", folder: Path | None = None, memo: DictMemo | None = None) -> None:
        self.clock = memo._clock if memo else SetClock()
        self.memo = memo or DictMemo(self.clock)
        self.told: list[tuple[str, str]] = []
        policy = config(f'[policy.breaker]\naction = "hold"\n{text}\n').policy
        self.breaker = Breaker(
            policy.breaker, self.memo, self.clock, folder, lambda *found: self.told.append(found)
        )
        self.count = 0

    async def send(self, recipients: int = 1, network: str = HOME, account: str = ANNA) -> str | None:
        self.count += 1
        await self.breaker.seen(account, network)
        return self.breaker.hold(account, f"m{self.count}", recipients)


async def test_a_burst_is_held_and_told_once():
    bed = Bed("recipients = 20")
    assert await bed.send(20) is None
    reason = await bed.send(1)
    assert reason == f"account {ANNA}: 21 recipients in this hour, usual are 0"
    assert reason.startswith(hold_reason(ANNA))
    assert await bed.send(1) == reason
    assert bed.told == [(ANNA, "21 recipients in this hour, usual are 0")]
    assert await bed.send(1, account="carl@example.org") is None
    assert bed.breaker.statistics().held == (ANNA,)


async def test_who_always_sends_much_may():
    bed = Bed("recipients = 20\nfactor = 3")
    for _ in range(20):
        assert await bed.send(15) is None
        bed.clock.now += 3601
    assert await bed.send(40) is None  # less than three times what is usual
    assert await bed.send(40) is not None


async def test_what_is_usual_outlives_a_restart():
    bed = Bed("recipients = 20\nfactor = 3")
    for _ in range(20):
        await bed.send(15)
        bed.clock.now += 3601
    again = Bed("recipients = 20\nfactor = 3", memo=bed.memo)
    assert await again.send(40) is None
    assert ANNA not in str(bed.memo.entries)


async def test_refused_recipients_are_a_sign():
    bed = Bed("refused = 3")
    assert await bed.send() is None
    for _ in range(3):
        bed.breaker.refused("m1")
    bed.breaker.refused("unknown")
    assert bed.told == [(ANNA, "3 recipients refused in this hour")]
    assert await bed.send() is not None


async def test_recipients_that_we_refuse_an_account_are_a_sign():
    bed = Bed("refused = 2")
    bus = EventBus()
    watch_refusals(bus, bed.breaker)
    assert await bed.send() is None

    def say(kind: type[Event], **fields: object) -> None:
        bus.publish(kind(time=bed.clock.time(), session="s", **fields))  # type: ignore[arg-type]

    def refuse(reply: Reply, session: str = "s", verb: str = "RCPT") -> None:
        bus.publish(
            CommandRejected(
                time=bed.clock.time(), session=session, verb=verb, reply=str(reply), recipient="x"
            )
        )

    refuse(replies.MAILBOX_UNKNOWN)  # nobody's yet
    login = {"account": ANNA, "mechanism": "PLAIN", "credential": "password"}
    say(SessionAuthenticated, **login)
    refuse(replies.QUOTA_USED_UP)
    refuse(replies.MAILBOX_UNKNOWN, session="another's")
    refuse(replies.MAILBOX_UNKNOWN, verb="VRFY")
    refuse(replies.MAILBOX_UNKNOWN)
    assert bed.told == []
    refuse(replies.MAILBOX_UNKNOWN)
    assert bed.told == [(ANNA, "2 recipients refused in this hour")]


async def test_new_networks_are_a_sign():
    bed = Bed("networks = 3")
    assert await bed.send(network=HOME) is None
    for number in range(2):
        assert await bed.send(network=f"198.51.{number}.0/24") is None
        assert await bed.send(network=HOME) is None
    assert await bed.send(network="203.0.113.0/24") == f"account {ANNA}: 3 new networks in this hour"


async def test_the_gate_watches_accounts_and_nobody_else():
    bed = Bed("recipients = 2")
    settings = config('[policy.breaker]\naction = "hold"\nrecipients = 2\n')
    gate = Gate(settings, FakeResolver(), bed.clock, Random(1), bed.memo, bed.breaker)
    account, stranger = Client("192.0.2.7", identity=Identity(ANNA, "PLAIN")), Client("192.0.2.8")
    for client in (account, stranger):
        assert await gate.sender(client, parse_reverse_path(f"<{ANNA}>")) is None
    assert gate.hold(stranger, "m1", 100) is None
    assert gate.hold(account, "m2", 2) is None
    assert gate.hold(account, "m3", 1) is not None
    found = gate.statistics().breaker
    assert found is not None
    assert (found.accounts, found.held) == (1, (ANNA,))
    gate.replace(config())  # off
    assert gate.hold(account, "m4", 1) is None


async def test_networks_of_different_hours_are_a_traveller():
    bed = Bed("networks = 2")
    for number in range(MOST_NETWORKS + 5):
        assert await bed.send(network=f"198.51.{number}.0/24") is None
        bed.clock.now += 3601


async def test_only_noted_where_so_configured():
    bed = Bed("recipients = 2\n")
    bed.breaker.config = config('[policy.breaker]\naction = "note"\nrecipients = 2\n').policy.breaker
    assert await bed.send(3) is None
    assert len(bed.told) == 1
    assert await bed.send(1) is None
    assert len(bed.told) == 1


async def test_a_restart_does_not_let_go_and_an_operator_does(tmp_path: Path):
    bed = Bed("recipients = 2", tmp_path)
    assert await bed.send(3) is not None
    assert read_held(tmp_path) == {ANNA: "3 recipients in this hour, usual are 0"}
    again = Bed("recipients = 2", tmp_path)
    assert await again.send(1) is not None
    assert let_go(tmp_path, ANNA)
    assert not let_go(tmp_path, ANNA)
    assert await again.send(1) is None
    assert await bed.send(1) is None  # another process of the same folder
    assert bed.breaker.statistics().held == ()


async def test_what_cannot_be_written_down_is_held_all_the_same(tmp_path: Path):
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    bed = Bed("recipients = 2")
    bed.breaker._folder = tmp_path / FOLDER
    assert await bed.send(3) is not None
    assert await bed.send(1) is not None


def test_strange_files_among_the_held_are_left_out(tmp_path: Path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "x").write_text("[]")
    (folder / "y").write_text('{"account": "a", "finding": "b"}')
    (folder / "z").write_bytes(b"\xff")
    assert read_held(tmp_path) == {}
    assert read_held(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("value", [b"", b"x" * 7, b"\x7f\xf8" + bytes(14), b"\xff" * 16, b"x" * 23])
async def test_what_is_not_ours_in_the_memo_is_no_past(value: bytes):
    bed = Bed("recipients = 20")
    await bed.send()
    [key] = bed.memo.entries
    bed.memo.put(key, value, bed.clock.now + 1000)
    again = Bed("recipients = 20", memo=bed.memo)
    assert await again.send(21) is not None


async def test_a_memo_that_hangs_holds_nobody_up(autojump_clock: trio.testing.MockClock):
    bed = Bed()
    bed.memo.delay = 1000
    assert await bed.send() is None
    assert trio.current_time() == pytest.approx(2)
