"""Events for a web service that is played, in a whole server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from elemta.plugin.api import HttpAnswer
from elemta.testing import HttpPeer, HttpRequest, Mta, PluginBroken, open_mta

URL = "http://hooks.example/mail?x=1"
SECRET = b"0123456789abcdef0123456789abcdef"


@asynccontextmanager
async def telling(folder: Path, **config: Any) -> AsyncIterator[tuple[Mta, HttpPeer]]:
    secret = folder / "secret"
    secret.write_text("whsec_" + base64.b64encode(SECRET).decode() + "\n")
    entry = {
        "path": str(Path(__file__).with_name("plugin.py")),
        "name": "webhook",
        "timeout": "20s",
        "config": {"url": URL, "secret_file": str(secret), "source": "mx", **config},
    }
    async with open_mta(entry) as mta:
        yield mta, mta.http(URL)


def told(service: HttpPeer, answered: int = 200) -> Iterator[tuple[int, str]]:
    """Number and type of each event, request by request."""
    for request in service.requests:
        for event in json.loads(request.body)["events"]:
            yield event["number"], event["type"]


def is_signed(request: HttpRequest) -> bool:
    """As the specification tells receivers to check."""
    identity, time = request.header("webhook-id"), request.header("webhook-timestamp")
    content = f"{identity}.{time}.".encode() + request.body
    expected = base64.b64encode(hmac.new(SECRET, content, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(request.header("webhook-signature") or "", f"v1,{expected}")


async def test_events_are_told_together_signed_and_in_order(tmp_path: Path, autojump_clock: object) -> None:
    async with telling(tmp_path) as (mta, service):
        sent = await mta.send(["bob@example.org", "carol@example.org"])
        await mta.advance("5s")
        assert sorted(told(service)) == [
            (1, "message.accepted"),
            (2, "recipient.delivered"),
            (3, "recipient.delivered"),
        ]
        (request,) = service.requests
        assert (request.method, request.target) == ("POST", "/mail?x=1")
        assert is_signed(request)
        body = json.loads(request.body)
        assert body["source"] == "mx"
        assert body["events"][0]["message"] == sent.message
        assert abs(int(request.header("webhook-timestamp") or 0) - mta.events[-1].time) < 30
        assert mta.counts() == {"sent": 3}


async def test_what_is_not_taken_is_told_again_and_nothing_overtakes_it(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with telling(tmp_path, batch=2, events=["recipient.*"]) as (mta, service):
        statuses = iter([500, 404, None, 302, 200, 200, 200])

        def answer(request: HttpRequest) -> HttpAnswer | None:
            status = next(statuses)
            return None if status is None else HttpAnswer(status)

        service.answer = answer
        for name in ("a", "b", "c", "d", "e"):
            await mta.send(f"{name}@example.org")
        await mta.advance("30m")
        identities = [each.header("webhook-id") for each in service.requests]
        assert len(set(identities[:5])) == 1
        assert len(set(identities)) == 3
        assert all(map(is_signed, service.requests))
        taken = [
            event["recipient"][0]
            for each in service.requests[4:]
            for event in json.loads(each.body)["events"]
        ]
        assert taken == ["a", "b", "c", "d", "e"]
        assert mta.counts() == {"failed attempts": 4, "sent": 5}
        assert len([each for each in mta.log if each["text"] == "the service did not take events"]) == 4


async def test_a_service_may_say_when(tmp_path: Path, autojump_clock: object) -> None:
    async with telling(tmp_path) as (mta, service):
        service.answer = lambda request: HttpAnswer(429, (("Retry-After", "1800"),))
        await mta.send()
        await mta.advance("29m")
        assert len(service.requests) == 1
        service.answer = lambda request: HttpAnswer(204)
        await mta.advance("2m")
        assert mta.counts()["sent"] == 2


async def test_a_request_that_nobody_takes_is_given_up_after_its_lifetime(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with telling(tmp_path, lifetime="1h", events=["message.accepted"]) as (mta, service):
        mta.server.network.refuse(mta.dns.host("hooks.example"), 80)
        await mta.send()
        await mta.advance("50m")
        await mta.send()
        await mta.advance("20m")
        assert mta.counts()["given up"] == 1
        service = mta.http(URL)
        await mta.advance("20m")
        assert list(told(service)) == [(2, "message.accepted")]


async def test_more_than_may_wait_is_lost_and_can_be_seen(tmp_path: Path, autojump_clock: object) -> None:
    async with telling(tmp_path, backlog=2, events=["message.accepted"], gather="1m") as (mta, service):
        for _ in range(4):
            await mta.send()
        await mta.advance("2m")
        await mta.send()
        await mta.advance("2m")
        assert [number for number, _ in told(service)] == [1, 2, 5]
        assert mta.counts() == {"lost": 2, "sent": 3}


async def test_what_was_not_told_before_a_new_version_is_told_by_that(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with telling(tmp_path, events=["message.accepted"], answer="5s") as (mta, service):
        service.answer = lambda request: HttpAnswer(503)
        await mta.send()
        await mta.send()
        await mta.advance("10s")
        await mta.server.server.facts.keeper.reload("webhook")  # type: ignore[union-attr]
        await mta.advance("10s")
        service.answer = lambda request: HttpAnswer(200)
        service.requests.clear()
        await mta.send()
        await mta.advance("3m")
        runs = [event["run"] for each in service.requests for event in json.loads(each.body)["events"]]
        assert len(runs) == 3
        assert len(set(runs)) == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("whsec_AAAA", "24 or more"), ("???", "is no secret"), (None, "cannot be read")],
)
async def test_a_secret_that_is_none_is_told(
    tmp_path: Path, autojump_clock: object, content: str | None, complaint: str
) -> None:
    file = tmp_path / "other"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PluginBroken, match=complaint):
        async with telling(tmp_path, secret_file=str(file)):
            pass
