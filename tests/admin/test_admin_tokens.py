"""Tokens and their scopes, how often they may be used, and what is told of who changed something."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio.testing
from admin_bed import Bed, open_bed

from elemta.admin.guard import REQUEST_BURST
from elemta.admin.tokens import ApiToken, Scope, TokenFile, digest_of, edit_tokens, parse_tokens
from elemta.auth import AuthFilesError, Ownership
from elemta.events import AccessRefused, AuditEvent

HOLD = json.dumps({"action": "hold", "selection": {"all": True}}).encode()
DRY = json.dumps({"action": "hold", "selection": {"all": True}, "dry_run": True}).encode()


def put(path: Path, name: str, *scopes: Scope, ends: float | None = None) -> str:
    """Write a token; what it is."""
    with edit_tokens(path, Ownership()) as tokens:
        tokens[name] = ApiToken(name, frozenset(scopes), digest_of(f"secret-of-{name}"), 1.0, ends)
    return f"secret-of-{name}"


@asynccontextmanager
async def open_tokens(path: Path) -> AsyncGenerator[Bed, None]:
    async with open_bed(TokenFile(path)) as bed:
        yield bed


async def test_a_scope_includes_those_below_it_and_no_more(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "tokens"
    reader, operator = put(path, "reader", Scope.READ), put(path, "operating", Scope.OPERATE)
    everything, sender = put(path, "all", Scope.ADMIN), put(path, "sender", Scope.SUBMIT)
    async with open_tokens(path) as bed:
        for token, reads, operates in (
            (reader, 200, 403),
            (operator, 200, 200),
            (everything, 200, 200),
            (sender, 403, 403),
        ):
            assert (await bed.request("GET", "/api/v1/queue", token=token)).status == reads
            assert (await bed.request("POST", "/api/v1/queue", token=token, body=HOLD)).status == operates
        refused = await bed.request("POST", "/api/v1/queue", token=reader, body=HOLD)
        assert refused.json()["detail"] == "this needs a token with the scope operate"
        assert 'error="insufficient_scope", scope="operate"' in refused.headers["www-authenticate"]


async def test_a_token_counts_from_when_it_is_made_until_it_is_revoked_or_over(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "tokens"
    async with open_tokens(path) as bed:

        async def status(token: str) -> int:
            return (await bed.request("GET", "/api/v1/status", token=token)).status

        assert await status("secret-of-one") == 401
        one = put(path, "one", Scope.READ)
        two = put(path, "two", Scope.READ, ends=bed.facts.clock.time() + 60)
        assert (await status(one), await status(two)) == (200, 200)
        await trio.sleep(61)
        assert (await status(one), await status(two)) == (200, 401)
        with edit_tokens(path, Ownership()) as tokens:
            del tokens["one"]
        assert await status(one) == 401


async def test_a_file_that_went_bad_leaves_the_tokens_before_in_effect(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "tokens"
    one = put(path, "one", Scope.READ)
    async with open_tokens(path) as bed:
        assert (await bed.request("GET", "/api/v1/status", token=one)).status == 200
        path.write_text("rubbish\n")
        assert (await bed.request("GET", "/api/v1/status", token=one)).status == 200
        path.unlink()
        assert (await bed.request("GET", "/api/v1/status", token=one)).status == 401


async def test_too_many_requests_are_429_and_say_when_to_come_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "tokens"
    one, two = put(path, "one", Scope.READ), put(path, "two", Scope.READ)
    async with open_tokens(path) as bed:
        for _ in range(int(REQUEST_BURST)):
            bed.guard.admit(headers(one), peer="127.0.0.1", trusted=False)
        answer = await bed.request("GET", "/api/v1/status", token=one)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert (await bed.request("GET", "/api/v1/status", token=two)).status == 200
        await trio.sleep(1)
        assert (await bed.request("GET", "/api/v1/status", token=one)).status == 200


async def test_a_flood_of_wrong_tokens_is_told_a_few_times_and_locks_nobody_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        statuses = [(await bed.request("GET", "/metrics", token="wrong")).status for _ in range(150)]
        assert statuses == [401] * 100 + [429] * 50
        told = [event for event in bed.events if isinstance(event, AccessRefused)]
        assert {(event.peer, event.reason) for event in told} == {("127.0.0.1", "wrong token")}
        assert len(told) == 100
        assert (await bed.request("GET", "/metrics")).status == 200


async def test_each_change_is_told_with_who_made_it_and_nothing_else_is(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "tokens"
    token = put(path, "night-shift", Scope.OPERATE)
    async with open_tokens(path) as bed:
        await bed.accept("carl@far.example")
        for body in (DRY, b"{", b'{"action": "burn", "selection": {"all": true}}'):
            await bed.request("POST", "/api/v1/queue", token=token, body=body)
        await bed.request("GET", "/api/v1/queue", token=token)
        assert not [event for event in bed.events if isinstance(event, AuditEvent)]
        await bed.request("POST", "/api/v1/queue", token=token, body=HOLD)
        body = json.dumps({"action": "pause", "kind": "domain", "value": "far.example"}).encode()
        await bed.request("POST", "/api/v1/pauses", body=body, trusted=True)
        first, second = [event for event in bed.events if isinstance(event, AuditEvent)]
        assert (first.operation, first.actor, first.peer) == ("changeQueue", "night-shift", "127.0.0.1")
        assert first.detail == 'hold of 1 recipients: {"all":true}'
        assert (second.operation, second.actor, second.detail) == (
            "changePause",
            "local",
            "pause domain far.example",
        )


def headers(token: str) -> dict[bytes, bytes]:
    return {b"host": b"localhost", b"authorization": b"Bearer " + token.encode()}


def test_every_wrong_line_is_named() -> None:
    digest = f"sha256:{'0' * 64}"
    lines = [
        f"one read {digest} 2026-01-01T00:00:00Z",
        f"one read {digest} 2026-01-01T00:00:00Z",
        f"two write {digest} 2026-01-01T00:00:00Z",
        "three read plain 2026-01-01T00:00:00Z",
        f"four read {digest} yesterday",
        f"five read {digest}",
        f"local read {digest} 2026-01-01T00:00:00Z",
    ]
    with pytest.raises(AuthFilesError) as refused:
        parse_tokens(Path("tokens"), "\n".join(lines).encode())
    assert [line.split(": ", 1)[0] for line in str(refused.value).splitlines()] == [
        f"tokens:{number}" for number in range(2, 8)
    ]
