"""Messages over HTTP: in JSON and as they are, once per key, with their trace, refused before anything is stored."""

from __future__ import annotations

import base64
import email.policy
import json
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio.testing
from admin_bed import Answer, Bed, open_bed

from elemta.admin.tokens import ApiToken, Scope, TokenFile, digest_of, edit_tokens
from elemta.admin.traceparent import parse_traceparent
from elemta.auth import Ownership
from elemta.events import MessageAccepted, RecipientDeferred
from elemta.mail import MessageId

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NEW: dict[str, Any] = {
    "from": "Anna <anna@client.example>",
    "to": ["carl@far.example"],
    "subject": "Grüße",
    "text": "hello\n",
}


async def send(bed: Bed, new: dict[str, Any], **headers: str) -> Answer:
    return await bed.request("POST", "/api/v1/messages", body=json.dumps(new).encode(), **headers)


async def stored(bed: Bed, message: str) -> EmailMessage:
    """What is in the spool."""
    _, content = await bed.stored(message)
    parsed = message_from_bytes(content, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


async def test_a_message_in_json_is_stored_as_mime_and_its_fate_can_be_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        new = {
            **NEW,
            "cc": ["Dora <dora@far.example>"],
            "bcc": ["secret@far.example"],
            "html": "<p>hello <img src='cid:logo'></p>",
            "reply_to": "desk@client.example",
            "headers": {"List-Unsubscribe": "<https://client.example/u>"},
            "attachments": [
                {"name": "ä.txt", "type": "text/plain", "content": base64.b64encode(b"attached").decode()},
                {"name": "l.png", "type": "image/png", "content": "AAEC", "content_id": "logo"},
            ],
        }
        answer = await send(bed, new)
        assert answer.status == 201, answer.body
        message = answer.json()["id"]
        assert answer.headers["location"] == f"/api/v1/messages/{message}"
        entry = await bed.spool.show(MessageId(message))
        assert entry is not None
        assert [recipient.address for recipient in entry.recipients] == [
            "carl@far.example",
            "dora@far.example",
            "secret@far.example",
        ]
        mime = await stored(bed, message)
        assert (mime["subject"], mime["from"], mime["cc"]) == (
            "Grüße",
            "Anna <anna@client.example>",
            "Dora <dora@far.example>",
        )
        assert "secret" not in mime.as_string()
        assert mime["date"] is not None
        assert mime["message-id"].startswith(f"<{message}@")
        text, html = mime.get_body(("plain",)), mime.get_body(("html",))
        assert text is not None
        assert text.get_content().splitlines() == ["hello"]
        assert html is not None
        names = [part.get_filename() for part in mime.walk() if part.get_filename()]
        assert sorted(names) == ["l.png", "ä.txt"]
        fate = (await bed.request("GET", f"/api/v1/messages/{message}")).json()
        assert fate["origin"]["protocol"] == "HTTP"
        assert [recipient["state"] for recipient in fate["recipients"]] == ["queued"] * 3


async def test_a_message_as_it_is_gets_the_line_ends_of_mail(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        raw = b"From: anna@client.example\nSubject: x\nDate: Thu, 1 Jan 1970 00:00:00 +0000\n\nhello\nworld\n"
        answer = await bed.request(
            "POST",
            "/api/v1/messages/raw?from=anna@client.example&to=carl@far.example,%20dora@far.example",
            body=raw,
            **{"Content-Type": "message/rfc822"},
        )
        assert answer.status == 201, answer.body
        found, content = await bed.stored(answer.json()["id"])
        assert content == found.prefix + raw.replace(b"\n", b"\r\n")
        assert found.prefix.startswith(b"Received: ")
        assert b"with HTTP" in found.prefix
        assert b"\r\nMessage-ID: " in found.prefix
        assert len(found.envelope.recipients) == 2


async def test_the_same_key_makes_one_message_and_another_request_is_422(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        key = {"Idempotency-Key": "order-17"}
        first, second = [await send(bed, NEW, **key) for _ in range(2)]
        assert (first.status, second.status) == (201, 201)
        assert first.json() == second.json()
        assert second.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        other = await send(bed, {**NEW, "subject": "another"}, **key)
        assert other.status == 422
        assert (await send(bed, NEW, **{"Idempotency-Key": "order-18"})).json() != first.json()
        assert (await bed.spool.totals()).messages == 2
        await trio.sleep(86401)
        assert (await send(bed, NEW, **key)).json() != first.json()
        assert (await send(bed, NEW, **{"Idempotency-Key": "a b"})).status == 400


async def test_the_same_key_of_a_raw_message_makes_one(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:

        async def post(raw: bytes) -> Answer:
            path = "/api/v1/messages/raw?from=a@client.example&to=carl@far.example"
            return await bed.request("POST", path, body=raw, **{"Idempotency-Key": "k"})

        first, second = await post(b"Subject: x\n\nx\n"), await post(b"Subject: x\n\nx\n")
        assert first.json() == second.json()
        assert (await post(b"Subject: y\n\nx\n")).status == 422
        assert (await bed.spool.totals()).messages == 1


async def test_two_at_the_same_time_with_one_key_make_one_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        statuses: list[int] = []

        async def one() -> None:
            statuses.append((await send(bed, NEW, **{"Idempotency-Key": "k"})).status)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert set(statuses) <= {201, 409}
        assert 201 in statuses
        assert (await bed.spool.totals()).messages == 1


async def test_the_trace_of_the_program_goes_with_the_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        await send(bed, NEW, traceparent=TRACE)
        await trio.sleep(1)
        (accepted,) = [event for event in bed.events if isinstance(event, MessageAccepted)]
        (deferred,) = [event for event in bed.events if isinstance(event, RecipientDeferred)]
        assert (accepted.traceparent, deferred.traceparent) == (TRACE, TRACE)


@pytest.mark.parametrize(
    ("text", "carried"),
    [
        (TRACE, True),
        (f"  {TRACE} ", True),
        (None, False),
        ("", False),
        (TRACE.upper(), False),
        (TRACE.replace("00-", "ff-", 1), False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        (TRACE + "\r\nX: y", False),
    ],
)
def test_a_wrong_trace_is_ignored(text: str | None, carried: bool) -> None:
    assert parse_traceparent(text) == (TRACE if carried else "")


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"to": []}, 400, "1 to 1000 recipients"),
        ({"to": ["carl"]}, 400, "no address"),
        ({"to": ["carl@far.example\r\nBcc: x@y.example"]}, 400, "no address"),
        ({"to": ["a@far.example"] * 1001}, 400, "1 to 1000"),
        ({"to": "carl@far.example"}, 400, "array"),
        ({"from": "nobody"}, 400, "no address"),
        ({"from": None}, 400, "str"),
        ({"subject": "x\r\nBcc: victim@far.example"}, 400, "no message"),
        ({"text": None}, 400, "give text, html or attachments"),
        ({"headers": {"Bcc": "x@far.example"}}, 400, "cannot have"),
        ({"headers": {"Content-Type": "x"}}, 400, "cannot have"),
        ({"headers": {"X Y": "x"}}, 400, "cannot have"),
        ({"headers": {"X-A": "a\nB: c"}}, 400, "no message"),
        (
            {"attachments": [{"name": "x", "content": "AA==", "type": "multipart/mixed"}]},
            400,
            "type of a file",
        ),
        ({"attachments": [{"name": "x", "content": "no base64!"}]}, 400, "base64"),
        ({"attachments": [{"name": "x", "content": "AA==", "content_id": "a"}]}, 400, "goes with html"),
        ({"priority": 10}, 400, "-9 to 9"),
        ({"not_before": 1e300}, 400, "seconds since the epoch"),
        ({"deliver_by": 1.0}, 422, "the time to deliver by"),
        ({"envelope_id": "a\nb"}, 400, "envelope_id"),
        ({"colour": "blue"}, 400, "colour"),
    ],
)
async def test_what_can_be_no_message_is_refused_and_stores_nothing(
    changes: dict[str, Any], status: int, text: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        answer = await send(bed, {**NEW, **changes})
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        assert text in answer.json()["detail"], answer.json()
        assert (await bed.spool.totals()).messages == 0


@pytest.mark.parametrize(
    ("query", "headers", "raw", "status"),
    [
        ("to=carl@far.example", {}, b"x", 400),
        ("from=&to=carl@far.example", {}, b"x", 201),
        ("from=a@client.example&to=", {}, b"x", 400),
        ("from=a@client.example&to=carl@far.example", {"Content-Type": "text/plain"}, b"x", 415),
        ("from=a@client.example&to=carl@far.example", {}, b"Subject: \0\r\n\r\n", 422),
        ("from=a@client.example&to=carl@far.example", {}, b"Received: x\n" * 200 + b"\n", 422),
    ],
)
async def test_a_raw_message_that_cannot_be_is_refused(
    query: str, headers: dict[str, str], raw: bytes, status: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        answer = await bed.request("POST", f"/api/v1/messages/raw?{query}", body=raw, **headers)
        assert answer.status == status, answer.body
        assert (await bed.spool.totals()).messages == (1 if status == 201 else 0)


async def test_a_message_above_the_limit_is_413_before_it_is_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        assert bed.facts.config is not None
        config = bed.facts.config()
        small = attrs.evolve(config, limits=attrs.evolve(config.limits, message_size=100_000))
        bed.facts.config = lambda: small
        bed.facts.inbound.prepare(small).commit()  # type: ignore[union-attr]
        path = "/api/v1/messages/raw?from=a@client.example&to=carl@far.example"
        answer = await bed.request("POST", path, body=b"Subject: x\n\n" + b"x\n" * 60_000)
        assert answer.status == 413, answer.body
        assert (await bed.spool.totals()).messages == 0


async def test_a_program_that_leaves_in_the_middle_stores_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        head = (
            b"POST /api/v1/messages/raw?from=a@client.example&to=carl@far.example HTTP/1.1\r\n"
            b"Host: localhost\r\nAuthorization: Bearer a-token-of-some-length\r\nContent-Length: 1000\r\n\r\n"
        )
        stream = bed.connect()
        await stream.send_all(head + b"Subject: x\r\n\r\nhel")
        await trio.sleep(1)
        await stream.aclose()
        await trio.sleep(1)
        assert (await bed.spool.totals()).messages == 0
        (rejected,) = [event for event in bed.events if event.type == "message.rejected"]
        assert rejected.reason == "the program did not finish"  # type: ignore[attr-defined]


async def test_while_the_server_stops_or_is_full_the_answer_is_503(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        bed.facts.drain.begin("SIGTERM", 1000, 5)
        answer = await send(bed, NEW)
        assert (answer.status, answer.headers["retry-after"]) == (503, "30")
        assert (await bed.spool.totals()).messages == 0


async def test_a_program_sees_its_own_messages_only(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "tokens"
    with edit_tokens(path, Ownership()) as tokens:
        for name in ("shop", "desk"):
            tokens[name] = ApiToken(name, frozenset({Scope.SUBMIT}), digest_of(name), 1.0)
    async with open_bed(TokenFile(path)) as bed:
        body = json.dumps(NEW).encode()
        answer = await bed.request("POST", "/api/v1/messages", token="shop", body=body)
        message = answer.json()["id"]
        for token, status in (("shop", 200), ("desk", 404)):
            seen = await bed.request("GET", f"/api/v1/messages/{message}", token=token)
            assert seen.status == status
        assert (await bed.request("GET", "/api/v1/queue", token="shop")).status == 403
