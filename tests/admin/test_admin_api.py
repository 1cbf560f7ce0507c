"""What the admin port tells and does: status, the queue, actions, metrics."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
import trio
from admin_bed import Bed, open_bed
from prometheus_client.parser import text_string_to_metric_families

from elemta.spool import QueueFilter, SpoolError, SpoolFull


async def act(bed: Bed, action: str, **selection: object) -> int:
    body = json.dumps({"action": action, "selection": selection}).encode()
    answer = await bed.request("POST", "/api/v1/queue", body=body)
    assert answer.status == 200, answer.body
    return int(answer.json()["recipients"])


async def test_a_deferred_recipient_is_shown_with_its_reason(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        message = await bed.accept("carl@far.example")
        (entry,) = (await bed.request("GET", "/api/v1/queue")).json()["messages"]
        assert entry["id"] == message
        assert entry["sender"] == "anna@client.example"
        (recipient,) = entry["recipients"]
        assert (recipient["address"], recipient["state"], recipient["attempts"]) == (
            "carl@far.example",
            "queued",
            1,
        )
        assert "192.0.2.1" in recipient["remote"]
        assert recipient["reason"]
        assert (await bed.request("GET", f"/api/v1/queue/{message}")).json() == entry


async def test_hold_release_retry_and_remove(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        message = await bed.accept("carl@far.example", "dora@other.example")
        assert await act(bed, "hold", domain="FAR.example") == 1
        assert (await bed.spool.totals()).held == 1
        held = (await bed.request("GET", "/api/v1/queue?state=held")).json()["messages"]
        assert [entry["id"] for entry in held] == [message]
        assert await act(bed, "release", messages=[message]) == 1
        await trio.sleep(1)
        assert await act(bed, "retry", recipient="dora@other.example") == 1
        await trio.sleep(1)
        assert await act(bed, "remove", sender="anna@client.example") == 2
        assert (await bed.request("GET", "/api/v1/queue")).json() == {"messages": [], "next": None}
        told = [event for event in bed.events if event.type == "queue.changed"]
        assert [event.action for event in told] == ["hold", "release", "retry", "remove"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", ""),
        (b"{", ""),
        (b"[]", "object"),
        (b"\xff\xfe", ""),
        (b'{"action": "hold"}', "selection"),
        (b'{"action": "hold", "selection": {}}', "nothing selected"),
        (b'{"action": "hold", "selection": {"all": false}}', "nothing selected"),
        (b'{"action": "explode", "selection": {"all": true}}', "hold, release, retry, remove"),
        (b'{"action": "hold", "selection": {"messages": ["x"]}}', "not a message id"),
        (b'{"action": "hold", "selection": {"messages": "x"}}', "array"),
        (b'{"action": "hold", "selection": {"state": "lost"}}', "queued, held"),
        (b'{"action": "hold", "selection": {"al": true}}', "al"),
        (b'{"action": "hold", "selection": {"all": true}, "why": 1}', "why"),
        (b'{"action": "hold", "selection": {"all": true}, "limit": 0}', "from 1 to 1000"),
        (b'{"action": "hold", "selection": {"all": true}, "limit": 1001}', "from 1 to 1000"),
        (b'{"action": "hold", "selection": {"all": true}, "limit": "5"}', "int"),
        (b'{"action": "hold", "selection": {"all": true}, "limit": 5, "after": "x"}', "message id"),
        (b"[" * 100000, ""),
    ],
)
async def test_a_bad_action_is_400_with_the_reason_and_changes_nothing(
    body: bytes, reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        answer = await bed.request("POST", "/api/v1/queue", body=body)
        assert answer.status == 400
        assert reason in answer.json()["detail"]
        assert answer.json()["detail"]
        totals = await bed.spool.totals()
        assert (totals.queued, totals.held) == (1, 0)


async def test_an_action_in_batches_goes_on_behind_the_last_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        stored = [await bed.accept("carl@far.example", "dora@other.example") for _ in range(5)]
        wish = {"action": "hold", "selection": {"domain": "far.example"}, "limit": 2}
        answers = []
        for _ in range(10):
            answer = await bed.request("POST", "/api/v1/queue", body=json.dumps(wish).encode())
            assert answer.status == 200, answer.body
            answers.append(answer.json())
            if answers[-1]["next"] is None:
                break
            wish["after"] = answers[-1]["next"]
        assert answers == [
            {"recipients": 2, "messages": 2, "next": stored[1]},
            {"recipients": 2, "messages": 2, "next": stored[3]},
            {"recipients": 1, "messages": 1, "next": None},
        ]
        totals = await bed.spool.totals()
        assert (totals.held, totals.queued) == (5, 5)


async def test_a_batch_of_which_nothing_matches_changes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        body = json.dumps({"action": "remove", "selection": {"domain": "no.example"}, "limit": 5}).encode()
        answer = await bed.request("POST", "/api/v1/queue", body=body)
        assert answer.json() == {"recipients": 0, "messages": 0, "next": None}
        assert (await bed.spool.totals()).queued == 1


async def test_each_message_that_an_operator_removed_is_an_event(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        one = await bed.accept("carl@far.example")
        two = await bed.accept("carl@far.example", "dora@other.example")
        assert await act(bed, "remove", domain="far.example") == 2
        removed = [event for event in bed.events if event.type == "message.removed"]
        # Of the other message a recipient is left.
        assert [(event.message, event.reason) for event in removed] == [(one, "operator")]  # type: ignore[attr-defined]
        assert [entry.id for entry in await bed.spool.list(QueueFilter())] == [two]


@pytest.mark.parametrize(
    "trouble", [SpoolFull("the disk is full"), SpoolError("reading took longer than 10 s; ask for less")]
)
async def test_what_the_spool_cannot_do_now_is_503_with_the_reason(
    trouble: SpoolError, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(which: QueueFilter, reason: str) -> int:
        await trio.lowlevel.checkpoint()
        raise trouble

    async with open_bed() as bed:
        monkeypatch.setattr(bed.spool, "hold", fails)
        body = json.dumps({"action": "hold", "selection": {"all": True}}).encode()
        answer = await bed.request("POST", "/api/v1/queue", body=body)
        assert answer.status == 503
        assert answer.json()["detail"] == str(trouble)
        assert [event for event in bed.events if event.type == "queue.changed"] == []


async def test_nothing_selected_by_an_empty_list_of_messages(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        assert await act(bed, "remove", messages=[]) == 0
        assert (await bed.spool.totals()).queued == 1


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=²", "after=x", "state=lost"]
)
async def test_a_bad_query_is_400(query: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        answer = await bed.request("GET", f"/api/v1/queue?{quote(query, safe='=')}")
        assert answer.status == 400


async def test_the_queue_comes_in_pages(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        stored = [await bed.accept("carl@far.example") for _ in range(5)]
        seen, after = [], ""
        for _ in range(10):
            page = (await bed.request("GET", f"/api/v1/queue?limit=2{after}")).json()
            seen += [entry["id"] for entry in page["messages"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert seen == stored


async def test_an_unknown_message_path_or_method(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        for message in ("0000000000000000", "x", "..%2f..%2fetc"):
            assert (await bed.request("GET", f"/api/v1/queue/{message}")).status == 404
        assert (await bed.request("GET", "/nowhere")).status == 404
        assert (await bed.request("DELETE", "/api/v1/queue")).status == 405


async def test_status_tells_what_runs(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        status = (await bed.request("GET", "/api/v1/status")).json()
        assert (status["version"], status["hostname"], status["ready"]) == ("0.0", "mx.example.org", True)
        assert status["spool"]["queued"] == 1
        assert status["counts"]["deferred"] == 1
        assert status["listeners"][0]["sessions"] == 2
        assert status["now"] > status["started"]


async def test_metrics_are_valid_and_count(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        answer = await bed.request("GET", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in families.values()
            for sample in family.samples
        }
        assert values["elemta_queue_recipients", "queued"] == 1
        assert values["elemta_queue_messages",] == 1
        assert values["elemta_sessions_open",] == 2
        assert (
            sum(value for name, value in values.items() if name[0] == "elemta_recipients_deferred_total") == 1
        )
        assert families["elemta_recipients_delivered"].type == "counter"
        assert all(family.documentation for family in families.values())
