"""The gate as a whole: what it does by default, early talkers, the delay, cancellation."""

import pytest
import trio
from policy_bed import bed, client, config, mailbox, path

from elemta.config import CheckAction, ListenerRole
from elemta.mail import Identity, Reply
from elemta.policy import Refusal
from elemta.policy.verdict import as_greeting, verdict
from elemta.runtime import Memo
from elemta.spool.memo import FileMemo

EVERYTHING = """
[policy]
greeting_delay = "5s"
[policy.dns_lists]
action = "refuse"
[[policy.dns_lists.zones]]
zone = "bl.example"
[policy.domain_lists]
action = "refuse"
[[policy.domain_lists.zones]]
zone = "dbl.example"
[policy.reverse_dns]
action = "refuse"
[policy.hello]
unresolvable = "refuse"
[policy.greylist]
action = "defer"
"""


async def test_by_default_nothing_is_asked_nothing_is_refused_and_nothing_waits():
    gates = bed()
    dossier = client()
    assert gates.gate.greeting_delay(dossier) == 0
    assert gates.gate.early_talker(dossier) is None
    assert await gates.meet(dossier) is None
    assert gates.resolver.queries == []
    assert gates.memo.entries == {}
    assert gates.gate.statistics().refused == {}


@pytest.mark.parametrize(("action", "code"), [("refuse", 554), ("defer", 421)])
def test_early_talkers_are_refused_in_place_of_the_banner(action, code):
    # RFC 5321 §4.3.1
    gates = bed(f'[policy]\nearly_talkers = "{action}"\n')
    refusal = gates.gate.early_talker(client())
    assert refusal.reply.code == code
    assert refusal.reason == "early-talker: it sent before it was greeted"
    assert gates.gate.statistics().refused == {"early-talker": 1}


def test_early_talkers_are_noted_or_let_be():
    gates = bed()
    dossier = client()
    assert gates.gate.early_talker(dossier) is None
    assert dossier.take_fresh_notes() == {"early-talker": "it sent before it was greeted"}
    gates = bed('[policy]\nearly_talkers = "off"\n')
    assert gates.gate.early_talker(client()) is None
    assert gates.gate.statistics().noted == {}
    gates = bed('[policy]\nearly_talkers = "refuse"\n')
    assert gates.gate.early_talker(client(trusted=True)) is None
    assert gates.gate.early_talker(client("local")) is None
    assert gates.gate.early_talker(client(role=ListenerRole.SUBMISSION)) is not None


def test_the_greeting_delay_is_a_little_random_and_for_strangers_only():
    gates = bed('[policy]\ngreeting_delay = "5s"\n')
    delays = {gates.gate.greeting_delay(client()) for _ in range(20)}
    assert len(delays) == 20
    assert all(5.0 <= delay <= 6.0 for delay in delays)
    assert gates.gate.greeting_delay(client(trusted=True)) == 0
    assert gates.gate.greeting_delay(client(role=ListenerRole.SUBMISSION)) == 0
    assert gates.gate.greeting_delay(client(identity=Identity("a", "EXTERNAL"))) == 0


async def test_every_step_is_bounded_when_nothing_answers(autojump_clock):
    class Silent(dict):
        def __contains__(self, key):
            return True

        def __getitem__(self, key):
            return 1e9

    gates = bed(EVERYTHING)
    gates.resolver.delays = Silent()
    gates.memo.delay = 1e9
    dossier = client()
    started = trio.current_time()
    assert await gates.gate.connected(dossier) is None
    assert await gates.gate.hello(dossier, "client.example") is None
    assert await gates.gate.sender(dossier, path()) is None
    assert trio.current_time() - started <= 15.0
    dossier.pending.clear()
    assert await gates.gate.recipient(dossier, path(), mailbox()) is None
    assert trio.current_time() - started <= 17.0


@pytest.mark.parametrize("seconds", [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25])
async def test_a_session_that_is_cancelled_at_any_step_leaves_a_gate_that_works(seconds, autojump_clock):
    class Slow(dict):
        def __contains__(self, key):
            return True

        def __getitem__(self, key):
            return 0.5

    gates = bed(EVERYTHING)
    gates.resolver.delays = Slow()
    gates.memo.delay = 0.5
    with trio.move_on_after(seconds) as scope:
        await gates.meet(client())
        await trio.sleep_forever()
    assert scope.cancelled_caught
    gates.gate.replace(config())
    gates.memo.delay = 0.0
    assert await gates.meet(client()) is None


@pytest.mark.parametrize("step", range(4))
async def test_each_step_can_be_cancelled_though_it_asks_nothing(step):
    gates = bed()
    dossier = client()
    steps = (
        lambda: gates.gate.connected(dossier),
        lambda: gates.gate.hello(dossier, "client.example"),
        lambda: gates.gate.sender(dossier, path()),
        lambda: gates.gate.recipient(dossier, path(), mailbox()),
    )
    with trio.CancelScope() as scope:
        scope.cancel()
        await steps[step]()
    assert scope.cancelled_caught


async def test_a_refusal_that_is_kept_is_given_for_each_recipient():
    gates = bed('[policy.reverse_dns]\naction = "refuse"\n')
    dossier = client()
    await gates.gate.connected(dossier)
    for _ in range(3):
        assert await gates.gate.recipient(dossier, path(), mailbox()) is not None
    assert gates.gate.statistics().refused == {"reverse-dns": 3}
    assert gates.gate.statistics().noted == {"reverse-dns": 1}


def test_nobody_is_refused_for_good_while_a_check_is_not_finished():
    permanent, temporary = Reply.of(550, "5.7.1", "no"), Reply.of(450, "4.7.1", "not now")
    found = {
        (action, finished): verdict(
            action, "why", permanent=permanent, temporary=temporary, finished=finished
        )
        for action in CheckAction
        for finished in (True, False)
    }
    assert found == {
        (CheckAction.OFF, True): None,
        (CheckAction.OFF, False): None,
        (CheckAction.NOTE, True): None,
        (CheckAction.NOTE, False): None,
        (CheckAction.DEFER, True): Refusal(temporary, "why"),
        (CheckAction.DEFER, False): Refusal(temporary, "why"),
        (CheckAction.REFUSE, True): Refusal(permanent, "why"),
        (CheckAction.REFUSE, False): Refusal(temporary, "why"),
    }


def test_in_place_of_a_greeting_there_are_only_554_and_421():
    for code, enhanced, expected in ((550, "5.7.1", 554), (451, "4.7.1", 421), (450, None, 421)):
        reply = as_greeting(Refusal(Reply.of(code, enhanced, "text"), "why")).reply
        assert (reply.code, reply.text) == (expected, "text")


def test_the_memo_of_the_spool_is_one_that_the_gate_takes(tmp_path):
    memo: Memo = FileMemo(None, clock=bed().clock, on_trouble=lambda what, detail: None)
    memo.put("greylist/x", b"", 1e12)
