"""Accounts over HTTP: listed without secrets, changed as `elemta user` does, held ones let go."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio.testing
from admin_bed import Answer, Bed, open_bed
from test_admin_openapi import check, document_of

from elemta.admin.tokens import FILE_NAME, ApiToken, Scope, TokenFile, digest_of, edit_tokens
from elemta.auth import Ownership, load_users
from elemta.config import AuthConfig, BreakerAction, Config
from elemta.events import AuditEvent, QueueChanged
from elemta.policy import Breaker, Gate, hold_reason, read_held
from elemta.runtime import TrioWallClock
from elemta.spool import QueueFilter
from elemta.spool.memo import FileMemo
from elemta.testing.dns import FakeResolver

ANNA = "anna@example.org"


@asynccontextmanager
async def opened(
    folder: Path, *, tokens: TokenFile | None = None, **auth: Any
) -> AsyncGenerator[tuple[Bed, Breaker, Config], None]:
    """The bed with accounts in a folder and a breaker for them."""
    auth = auth or {"users": folder / "users"}
    config = Config("mx.example.org", state_dir=folder)
    policy = attrs.evolve(
        config.policy,
        breaker=attrs.evolve(config.policy.breaker, action=BreakerAction.HOLD, recipients=5),
        quota=attrs.evolve(config.policy.quota, hourly_messages=10),
    )
    settings: dict[str, Any] = {"hash_memory": 8 << 20, "hash_passes": 1, "scram_iterations": 4096, **auth}
    config = attrs.evolve(config, auth=AuthConfig(**settings), policy=policy)
    async with open_bed(tokens) as bed:
        clock = TrioWallClock()
        memo = FileMemo(None, clock=clock, on_trouble=lambda what, detail: None)
        breaker = Breaker(policy.breaker, memo, clock, folder, lambda account, finding: None)
        gate = Gate(config, FakeResolver({}), clock, Random(1), memo, breaker)
        bed.facts.config = lambda: config
        bed.facts.gate = gate
        yield bed, breaker, config


async def post(bed: Bed, path: str = "/api/v1/accounts", **body: object) -> Answer:
    answer = await bed.request("POST", path, body=json.dumps(body).encode())
    check(await document_of(bed), "post", path, answer.status, answer.json())
    return answer


async def get(bed: Bed, path: str = "/api/v1/accounts") -> Any:
    answer = await bed.request("GET", path)
    check(await document_of(bed), "get", path.partition("?")[0], answer.status, answer.json())
    return answer.json()


@pytest.mark.parametrize("store", ["users", "database"])
async def test_accounts_are_added_changed_and_removed(
    store: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "accounts"
    auth: dict[str, Any] = {store: file}
    async with opened(tmp_path, **auth) as (bed, _, _):
        added = await post(
            bed, action="add", account="Anna@example.org", send_as=["*@example.org"], password="pencil"
        )
        assert (added.status, added.json()["password"]) == (200, None)
        assert added.json()["account"] == {
            "account": ANNA,
            "enabled": True,
            "send_as": ["*@example.org"],
            "credentials": ["password"],
            "scram": True,
            "held": None,
        }
        app = (await post(bed, action="set_password", account=ANNA, app="phone")).json()
        assert app["account"]["credentials"] == ["password", "app:phone"]
        assert len(app["password"]) == 29
        assert (await post(bed, action="disable", account=ANNA)).json()["account"]["enabled"] is False
        shown = (await post(bed, action="set_send_as", account=ANNA, send_as=[])).json()["account"]
        assert (shown["enabled"], shown["send_as"]) == (False, [])
        await post(bed, action="enable", account=ANNA)
        listed = await get(bed)
        assert (listed["store"], listed["writable"], listed["accounts"]) == (
            store,
            True,
            [shown | {"enabled": True}],
        )
        gone = await post(bed, action="remove_password", account=ANNA, app="phone")
        assert gone.json()["account"]["credentials"] == ["password"]
        assert (await post(bed, action="remove", account=ANNA)).json() == {"account": None, "password": None}
        assert (await get(bed))["accounts"] == []
        audit = [event.detail for event in bed.events if isinstance(event, AuditEvent)]
        assert audit == [
            f"add {ANNA}",
            f"set_password {ANNA} app:phone",
            f"disable {ANNA}",
            f"set_send_as {ANNA}",
            f"enable {ANNA}",
            f"remove_password {ANNA} app:phone",
            f"remove {ANNA}",
        ]


async def test_no_secret_leaves(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with opened(tmp_path) as (bed, _, config):
        made = (await post(bed, action="add", account=ANNA)).json()["password"]
        assert made
        assert load_users(tmp_path / "users").records[ANNA].secrets
        answers = [
            json.dumps(await get(bed)),
            json.dumps(await get(bed, f"/api/v1/accounts/one?name={ANNA}")),
        ]
        assert not any(word in text for text in answers for word in (made, "argon2", "SCRAM-SHA", "salt"))
        assert made not in str(bed.events)
        assert config.auth.users is not None
        assert made not in config.auth.users.read_text()


async def test_accounts_come_in_pages(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    (tmp_path / "users").write_text("carl@example.org\nanna@example.org disabled\nbert@example.org\n")
    (tmp_path / "users").chmod(0o600)
    async with opened(tmp_path) as (bed, _, _):
        first = await get(bed, "/api/v1/accounts?limit=2")
        assert [each["account"][:4] for each in first["accounts"]] == ["anna", "bert"]
        second = await get(bed, f"/api/v1/accounts?limit=2&after={first['next']}")
        assert ([each["account"][:4] for each in second["accounts"]], second["next"]) == (["carl"], None)


@pytest.mark.parametrize("store", ["http", "ldap"])
async def test_accounts_elsewhere_are_read_only(
    store: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    defaults = AuthConfig()
    settings: dict[str, Any] = {
        "http": attrs.evolve(defaults.http, url="https://accounts.example.org/mail"),
        "ldap": attrs.evolve(defaults.ldap, server="ldaps://ldap.example.org"),
    }
    auth: dict[str, Any] = {store: settings[store]}
    async with opened(tmp_path, **auth) as (bed, _, _):
        listed = await get(bed)
        assert (listed["writable"], listed["accounts"]) == (False, [])
        assert "example.org" in listed["detail"]
        refused = await post(bed, action="add", account=ANNA)
        assert (refused.status, refused.json()["detail"]) == (409, listed["detail"])
        assert (await get(bed, f"/api/v1/accounts/one?name={ANNA}"))["account"] is None
        assert not [event for event in bed.events if isinstance(event, AuditEvent)]


@pytest.mark.parametrize(
    ("wish", "status", "detail"),
    [
        ({"action": "grow", "account": ANNA}, 400, "grow"),
        ({"action": "add"}, 400, "account"),
        ({"action": "add", "account": "a b"}, 400, "name of an account"),
        ({"action": "add", "account": "#anna"}, 400, "comment"),
        ({"action": "add", "account": "x" * 321}, 400, "characters"),
        ({"action": "add", "account": "new@example.org", "app": "phone"}, 400, "app does not go"),
        ({"action": "add", "account": "new@example.org", "password": ""}, 400, "password"),
        ({"action": "add", "account": "new@example.org", "send_as": ["@"]}, 400, "send_as"),
        ({"action": "add", "account": "new@example.org", "send_as": ["*"] * 101}, 400, "at most"),
        ({"action": "add", "account": ANNA}, 409, "already"),
        ({"action": "remove", "account": "nobody@example.org"}, 404, "no such account"),
        ({"action": "remove", "account": ANNA, "password": "x"}, 400, "does not go"),
        ({"action": "remove_password", "account": ANNA}, 400, "app"),
        ({"action": "remove_password", "account": ANNA, "app": "tv"}, 404, "app password"),
        ({"action": "set_password", "account": ANNA, "app": "a b"}, 400, "letters"),
        ({"action": "set_send_as", "account": ANNA}, 400, "missing"),
    ],
)
async def test_what_cannot_be_is_a_problem_and_changes_nothing(
    wish: dict[str, Any],
    status: int,
    detail: str,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    users = tmp_path / "users"
    users.write_text(f"{ANNA}\n")
    users.chmod(0o600)
    async with opened(tmp_path) as (bed, _, _):
        answer = await post(bed, **wish)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert detail in answer.json()["detail"]
        assert users.read_text() == f"{ANNA}\n"
        assert not [event for event in bed.events if isinstance(event, AuditEvent)]


async def test_a_file_that_cannot_be_used_is_503(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    users = tmp_path / "users"
    users.write_text("anna password=hunter2\n")
    users.chmod(0o600)
    async with opened(tmp_path) as (bed, _, _):
        for answer in (
            await bed.request("GET", "/api/v1/accounts"),
            await post(bed, action="add", account="x"),
        ):
            assert answer.status == 503
            assert "hunter2" not in answer.json()["detail"]


async def test_each_needs_its_scope(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    secrets = {Scope.READ: "elemta_r", Scope.OPERATE: "elemta_o"}
    with edit_tokens(tmp_path / FILE_NAME, Ownership()) as made:
        for scope, token in secrets.items():
            made[scope.value] = ApiToken(scope.value, frozenset({scope}), digest_of(token), 0.0, None)
    tokens = TokenFile(tmp_path / FILE_NAME)
    async with opened(tmp_path, tokens=tokens) as (bed, _, _):
        add = json.dumps({"action": "add", "account": ANNA}).encode()
        for scope, token in secrets.items():
            assert (await bed.request("GET", "/api/v1/accounts", token=token)).status == 503  # no file yet
            assert (await bed.request("POST", "/api/v1/accounts", token=token, body=add)).status == 403
            let_go = json.dumps({"action": "release", "account": ANNA}).encode()
            answer = await bed.request("POST", "/api/v1/accounts/held", token=token, body=let_go)
            assert answer.status == (404 if scope is Scope.OPERATE else 403)


@pytest.mark.parametrize("action", ["release", "purge"])
async def test_a_held_account_is_let_go(
    action: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "users").write_text(f"{ANNA}\n")
    (tmp_path / "users").chmod(0o600)
    async with opened(tmp_path) as (bed, breaker, _):
        message = await bed.accept("carl@far.example", "dora@far.example")
        other = await bed.accept("emil@far.example")
        await breaker.seen(ANNA, "192.0.2.0/24")
        reason = breaker.hold(ANNA, message, 9)
        assert reason is not None
        await bed.spool.hold(QueueFilter(messages=(message,)), reason)
        await bed.spool.hold(QueueFilter(messages=(other,)), hold_reason("anna@example.or", "x"))
        finding = "9 recipients in this hour, usual are 0"
        assert await get(bed, "/api/v1/accounts/held") == {"held": [{"account": ANNA, "finding": finding}]}
        assert (await get(bed))["accounts"][0]["held"] == finding
        one = await get(bed, f"/api/v1/accounts/one?name={ANNA}")
        assert (one["held"], one["habits"]["networks"]) == (finding, 1)
        assert [each["limit"] for each in one["quotas"] if each["what"] == "messages"] == [10, 0]
        assert read_held(tmp_path) == {ANNA: finding}
        answer = await post(bed, "/api/v1/accounts/held", action=action, account=ANNA)
        assert answer.json() == {"account": ANNA, "held": True, "recipients": 2}
        assert (read_held(tmp_path), breaker.held()) == ({}, {})
        totals = await bed.spool.totals()
        assert (totals.held, totals.queued) == (1, 2 if action == "release" else 0)
        told = [event.action for event in bed.events if isinstance(event, QueueChanged)]
        assert told[-1] == ("release" if action == "release" else "remove")
        again = await post(bed, "/api/v1/accounts/held", action=action, account=ANNA)
        assert again.status == 404
        assert breaker.hold(ANNA, "another", 1) is None
