"""Accounts as a resource: those of a file or a table listed and changed, and those that the breaker holds.

A change is made as `elemta user` makes it: by one writer at a time, whole or not at all. Secrets go in and
never out, but for a password that was made here, which the answer to that one request has.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from random import SystemRandom
from typing import Any, Literal

import attrs
from starlette.requests import Request
from starlette.responses import Response

from elemta.auth import (
    Account,
    AccountsChange,
    AccountsElsewhere,
    AuthFilesError,
    NotPrepared,
    Ownership,
    SenderPattern,
    TableUnusable,
    UserRecord,
    UsersBusy,
    app_credential,
    edit_accounts,
    list_accounts,
    make_password,
    parse_sender_pattern,
    prepare_name,
    prepare_password,
    with_secret,
)
from elemta.config import BadValue, Config
from elemta.policy import Gate, Habits, QuotaUse, hold_reason
from elemta.runtime import ThreadPool, escape_text, run_in_thread
from elemta.spool import QueueFilter, RecipientState

from ..api import Facts
from ..operations import Operation, Parameter, read_json, tell_audit
from ..paging import LIMIT, MAX_PAGE, read_limit
from ..problems import BadRequest, Conflict, NotFound, Problem
from ..shapes import Shape
from ..steering import as_builtins
from ..steering import json_response as _json
from ..tokens import Scope
from .queue import carry_out

LONGEST_NAME = 320
MOST_PATTERNS = 100
PASSWORD = "password"  # noqa: S105 - the name of a credential
NAME = Parameter("name", "An account; `[192.0.2.1]` for a client of relay.networks", required=True)
AFTER = Parameter("after", "Go on behind this account: the `next` of the page before")


class AccountShown(Shape):
    """An account, without its secrets."""

    account: str
    enabled: bool
    send_as: list[str]
    """Sender addresses beside its own name."""
    credentials: list[str]
    """`password`, and `app:LABEL` for each app password."""
    scram: bool
    held: str | None
    """Why its mail is held; null: it is not."""


class AccountPage(Shape):
    """Accounts by name."""

    store: Literal["users", "database", "http.url", "ldap.server", "none"]
    """Which setting of [auth] says where they are."""
    writable: bool
    """Whether they can be listed and changed here: those of a web service or a directory cannot."""
    detail: str
    """Where they are listed and changed instead; empty: here."""
    accounts: list[AccountShown]
    next: str | None
    """The `after` of the next page; null: there is none."""


class AccountDetails(Shape):
    """One account, and what it sends."""

    account: AccountShown | None
    """Null: accounts are elsewhere, or it stands for a trusted client."""
    quotas: list[QuotaUse]
    habits: Habits | None
    """Null: nobody watches the accounts (policy.breaker)."""
    held: str | None
    """Why its mail is held; null: it is not."""


class AccountWish(Shape):
    """A change of one account."""

    action: Literal["add", "remove", "set_password", "remove_password", "set_send_as", "enable", "disable"]
    """`set_password` adds an app password that is not there yet."""
    account: str
    app: str | None = None
    """For the two with a password: the app password of this label."""
    password: str | None = None
    """For `add` and `set_password`; null: a strong one is made, and is in the answer."""
    send_as: list[str] | None = None
    """For `add` and `set_send_as`: `user@example.org`, `*@example.org`, `*@*.example.org`, or `*` for any."""


class AccountChanged(Shape):
    """What became of it."""

    account: AccountShown | None
    """Null: it was removed."""
    password: str | None
    """The one that was made, this once."""


class HeldAccount(Shape):
    """An account, or a trusted client's address, whose mail is held."""

    account: str
    finding: str
    """What it did."""


class HeldAccounts(Shape):
    """Whose mail the breaker holds."""

    held: list[HeldAccount]


class HeldWish(Shape):
    """What is to become of an account that is held, and of its held mail."""

    action: Literal["release", "purge"]
    """Either lets it send again; `release` its held mail goes, `purge` that is removed and nobody told."""
    account: str


class HeldResult(Shape):
    """What became of it."""

    account: str
    held: bool
    """Whether it was."""
    recipients: int
    """Of its held mail."""


@attrs.frozen
class _Change:
    """A wish that makes sense by itself."""

    action: str
    name: str
    credential: str
    password: str | None = attrs.field(repr=False)
    patterns: tuple[SenderPattern, ...] | None


@attrs.frozen(eq=False)
class _Accounts:
    _facts: Facts
    _pool: ThreadPool = attrs.field(factory=lambda: ThreadPool("accounts", 1))

    async def overview(self, request: Request) -> Response:
        limit, after = read_limit(request.query_params.get("limit", "100")), request.query_params.get("after")
        config, held = self._config(), self._held()
        store = next(iter(config.auth.stores), "none")
        answer: dict[str, Any] = {
            "store": store,
            "writable": True,
            "detail": "",
            "accounts": [],
            "next": None,
        }
        try:
            records = (await run_in_thread(self._pool, _translated, list_accounts, config.auth)).records
        except Conflict as elsewhere:
            return _json(answer | {"writable": False, "detail": elsewhere.detail})
        names = sorted(records)
        start = 0 if after is None else bisect.bisect_right(names, after)
        chosen = names[start : start + limit]
        answer["accounts"] = [_shown(records[name], held) for name in chosen]
        if start + limit < len(names):
            answer["next"] = chosen[-1]
        return _json(answer)

    async def show(self, request: Request) -> Response:
        name = _name(request.query_params["name"])
        gate = self._gate()
        shown = None
        if not name.startswith("["):
            try:
                accounts = await run_in_thread(self._pool, _translated, list_accounts, self._config().auth)
            except Conflict:
                pass  # elsewhere: what it sends is known all the same
            else:
                if name not in accounts.records:
                    raise NotFound("there is no such account")
                shown = _shown(accounts.records[name], self._held())
        use = await gate.account(name)
        return _json(
            {
                "account": shown,
                "quotas": [as_builtins(each) for each in use.quotas],
                "habits": as_builtins(use.habits),
                "held": use.held,
            }
        )

    async def change(self, request: Request) -> Response:
        wish = await read_json(request, AccountWish)
        change = _parse(wish)
        config = self._config()
        made = None
        if change.password is None and change.action in ("add", "set_password"):
            made = make_password(SystemRandom())
            change = attrs.evolve(change, password=made)
        what = f"{change.action} {change.name}"
        tell_audit(request, what if change.credential == PASSWORD else f"{what} {change.credential}")
        record = await run_in_thread(self._pool, _translated, _make, config, change)
        shown = None if record is None else _shown(record, self._held())
        return _json({"account": shown, "password": made})

    async def held(self, _: Request) -> Response:  # noqa: ASYNC124 - Starlette awaits it
        found = self._held()
        return _json({"held": [{"account": name, "finding": why} for name, why in found.items()]})

    async def change_held(self, request: Request) -> Response:
        wish = await read_json(request, HeldWish)
        name = _name(wish.account)
        gate = self._gate()
        tell_audit(request, f"{wish.action} {name}")
        try:
            was_held = gate.release(name)
        except OSError as error:
            raise Problem(503, f"it stays held: {error.strerror}") from error
        count = await self._settle(wish.action, hold_reason(name))
        if not was_held and not count:
            raise NotFound(f"{escape_text(name)} is not held, and nothing of it is")
        return _json({"account": name, "held": was_held, "recipients": count})

    async def _settle(self, action: str, reason: str) -> int:
        """Release or remove what is held for a reason that begins so, a page at a time; how many."""
        count, after = 0, None
        while True:
            entries = await self._facts.spool.list(
                QueueFilter(state=RecipientState.HELD), after=after, limit=MAX_PAGE
            )
            found = tuple(
                entry.id
                for entry in entries
                if any(each.reason.startswith(reason) for each in entry.recipients)
            )
            if found:
                which = QueueFilter(messages=found, state=RecipientState.HELD)
                count += await carry_out(self._facts, "release" if action == "release" else "remove", which)
            if len(entries) < MAX_PAGE:
                return count
            after = entries[-1].id

    def _config(self) -> Config:
        if self._facts.config is None:
            raise Problem(503, "the server is not up yet")
        return self._facts.config()

    def _gate(self) -> Gate:
        if self._facts.gate is None:
            raise Problem(503, "the server is not up yet")
        return self._facts.gate

    def _held(self) -> dict[str, str]:
        return {} if self._facts.gate is None else self._facts.gate.held()


def _translated(work: Callable[..., Any], *args: object) -> Any:
    """The result of blocking work on accounts, or the problem that it ended with; nothing was changed then.

    Raises:
      Conflict: they are elsewhere, or somebody else is changing them.
      Problem: their file cannot be used or written.
    """
    try:
        return work(*args)
    except (AccountsElsewhere, UsersBusy) as error:
        raise Conflict(str(error)) from error
    except (AuthFilesError, TableUnusable) as error:
        raise Problem(503, str(error)) from error
    except OSError as error:
        raise Problem(503, f"the accounts cannot be written: {error.strerror or error}") from error


def _make(config: Config, change: _Change) -> UserRecord | None:
    """Make a change, in a thread; the account as it is then, None where it is gone."""
    ownership = Ownership.beside(config.state_dir)
    with edit_accounts(config.auth, ownership) as accounts:
        record = _changed(accounts, change, config, ownership)
        if record is None:
            accounts.remove(change.name)
        else:
            accounts.put(record)
    return record


def _changed(
    accounts: AccountsChange, change: _Change, config: Config, ownership: Ownership
) -> UserRecord | None:
    """The account after the change; None: it is to be removed.

    Raises:
      Conflict, NotFound: the change does not go with what is there.
    """
    record = accounts.find(change.name)
    if change.action == "add":
        if record is not None:
            raise Conflict("the account is there already: set_password sets its password")
        record = UserRecord(Account(change.name, change.patterns or ()))
    if record is None:
        raise NotFound("there is no such account")
    match change.action:
        case "remove":
            return None
        case "remove_password":
            kept = tuple(secret for secret in record.secrets if secret.credential != change.credential)
            if len(kept) == len(record.secrets):
                raise NotFound("the account has no such app password")
            return attrs.evolve(record, secrets=kept)
        case "set_send_as":
            return attrs.evolve(record, account=attrs.evolve(record.account, send_as=change.patterns or ()))
        case "enable" | "disable":
            return attrs.evolve(record, disabled=change.action == "disable")
        case _:
            assert change.password is not None
            return with_secret(
                record, change.credential, change.password, config.auth, SystemRandom(), ownership
            )


_TAKES = {
    "add": {"password", "send_as"},
    "set_password": {"password", "app"},
    "remove_password": {"app"},
    "set_send_as": {"send_as"},
}
"""What an action looks at; what it does not is refused, so that nobody believes it was done."""


def _parse(wish: AccountWish) -> _Change:
    """What is wished, checked as far as that needs no accounts.

    Raises:
      BadRequest: it can be nothing.
    """
    takes = _TAKES.get(wish.action, set())
    for field in ("app", "password", "send_as"):
        if getattr(wish, field) is not None and field not in takes:
            raise BadRequest(f"{field} does not go with {wish.action}")
    if wish.action == "remove_password" and wish.app is None:
        raise BadRequest("say which: app")
    if wish.action == "set_send_as" and wish.send_as is None:
        raise BadRequest("send_as is missing")
    name = _name(wish.account)
    if name.startswith("#"):
        raise BadRequest("account is no name of an account: it begins like a comment")
    try:
        credential = PASSWORD if wish.app is None else app_credential(wish.app)
        password = None if wish.password is None else prepare_password(wish.password)
    except NotPrepared as error:
        raise BadRequest(f"the password cannot be used: {error}") from error
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return _Change(wish.action, name, credential, password, _patterns(wish.send_as))


def _patterns(texts: list[str] | None) -> tuple[SenderPattern, ...] | None:
    if texts is None:
        return None
    if len(texts) > MOST_PATTERNS:
        raise BadRequest(f"send_as has at most {MOST_PATTERNS} entries")
    try:
        return tuple(dict.fromkeys(parse_sender_pattern(text) for text in texts))
    except BadValue as error:
        raise BadRequest(f"send_as: {error}") from error


def _name(text: str) -> str:
    if not 0 < len(text) <= LONGEST_NAME:
        raise BadRequest(f"an account has 1 to {LONGEST_NAME} characters")
    try:
        return prepare_name(text)
    except NotPrepared as error:
        raise BadRequest(f"that is no name of an account: {error}") from error


def _shown(record: UserRecord, held: Mapping[str, str]) -> dict[str, object]:
    return record.shown() | {"held": held.get(record.account.name)}


def account_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    accounts = _Accounts(facts)
    return [
        Operation(
            id="listAccounts",
            method="GET",
            path="/api/v1/accounts",
            handler=accounts.overview,
            scope=Scope.READ,
            summary="Accounts of the users file or the table, a page at a time, without any secret",
            answer=AccountPage,
            query=(LIMIT, AFTER),
            tag="accounts",
        ),
        Operation(
            id="showAccount",
            method="GET",
            path="/api/v1/accounts/one",
            handler=accounts.show,
            scope=Scope.READ,
            summary="One account: its quotas, what is usual for it, whether the breaker holds it",
            answer=AccountDetails,
            query=(NAME,),
            problems=(404,),
            tag="accounts",
        ),
        Operation(
            id="changeAccount",
            method="POST",
            path="/api/v1/accounts",
            handler=accounts.change,
            scope=Scope.ADMIN,
            summary="Add, remove, enable or disable an account, set its passwords and sender addresses",
            description="409 where accounts are those of a web service or a directory: these are read only.",
            body=AccountWish,
            answer=AccountChanged,
            problems=(404, 409),
            tag="accounts",
        ),
        Operation(
            id="listHeldAccounts",
            method="GET",
            path="/api/v1/accounts/held",
            handler=accounts.held,
            scope=Scope.READ,
            summary="Accounts whose mail the breaker holds, and why",
            answer=HeldAccounts,
            tag="accounts",
        ),
        Operation(
            id="changeHeldAccount",
            method="POST",
            path="/api/v1/accounts/held",
            handler=accounts.change_held,
            scope=Scope.OPERATE,
            summary="Let a held account send again, and its held mail go or be removed",
            body=HeldWish,
            answer=HeldResult,
            problems=(404,),
            tag="accounts",
        ),
    ]
