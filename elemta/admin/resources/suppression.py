"""The suppression list as a resource: shown and searched a page at a time, added to, taken from."""

from __future__ import annotations

from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from elemta.mail import MailSyntaxError, parse_mailbox
from elemta.runtime import escape_text
from elemta.spool import LONGEST_WHY, Suppressed, Suppression, SuppressionUnavailable, suppression_key

from ..api import Facts
from ..operations import Operation, Parameter, read_json, tell_audit
from ..paging import LIMIT, MAX_PAGE, read_limit
from ..problems import BadRequest, NotFound, Problem
from ..shapes import Shape
from ..steering import LONGEST_VALUE, as_builtins
from ..steering import json_response as _json
from ..tokens import Scope

LONGEST_SOURCE = 64
AFTER = Parameter("after", "Go on behind this address: the `next` of the page before")
SEARCH = Parameter("search", "Only addresses that have this in them")
ADDRESS = Parameter("address", "The address", required=True)


class SuppressedShown(Shape):
    """An address to which nothing is to be sent."""

    address: str
    why: str
    source: str
    """Who put it on the list: a plugin, or `operator`."""
    since: float
    until: float | None
    """Null: until somebody takes it off."""
    never: bool
    """The other way round: nothing may put it on the list by itself."""


class SuppressionPage(Shape):
    """Addresses of the list, in their order."""

    entries: list[SuppressedShown]
    next: str | None
    """The `after` of the next page; null: there is none."""


class SuppressedWish(Shape):
    """An address for the list, in the place of what that says of it now."""

    address: str
    why: str = ""
    """Clients may read it."""
    until: float | None = None
    never: bool = False
    source: str = "operator"
    """Another one where a list that was exported is read in again."""
    since: float | None = None
    """The same; null: now."""


class SuppressionWish(Shape):
    """Addresses to put on the list: all of them, or where one of them is none, none."""

    entries: list[SuppressedWish]
    """At most 1000."""


class SuppressionRemoval(Shape):
    """Addresses to take off the list."""

    addresses: list[str]
    """At most 1000."""


class SuppressionResult(Shape):
    """What was changed."""

    addresses: int


def list_address(text: str) -> str:
    """An address in the form in which the list has it.

    Raises:
      BadRequest: it is none.
    """
    try:
        return suppression_key(str(parse_mailbox(text.strip(), utf8=True)))
    except MailSyntaxError as error:
        raise BadRequest(f"{escape_text(text[:80])} is no address: {error}") from None


def list_entry(wish: SuppressedWish, now: float) -> Suppressed:
    """An entry of the list.

    Raises:
      BadRequest: it can be none.
    """
    if len(wish.why) > LONGEST_WHY or not wish.why.isprintable():
        raise BadRequest(f"why has up to {LONGEST_WHY} printable characters")
    if not 0 < len(wish.source) <= LONGEST_SOURCE or not wish.source.isprintable():
        raise BadRequest(f"source has 1 to {LONGEST_SOURCE} printable characters")
    if wish.until is not None and wish.until <= now:
        raise BadRequest(f"until of {escape_text(wish.address[:80])} is over")
    since = now if wish.since is None else wish.since
    return Suppressed(list_address(wish.address), wish.why, wish.source, since, wish.until, wish.never)


@attrs.frozen(eq=False)
class _Suppression:
    _facts: Facts

    async def page(self, request: Request) -> Response:
        query = request.query_params
        limit, after, search = (
            read_limit(query.get("limit", "100")),
            query.get("after", ""),
            query.get("search", ""),
        )
        if len(after) > LONGEST_VALUE or len(search) > LONGEST_VALUE:
            raise BadRequest(f"after and search have up to {LONGEST_VALUE} characters")
        try:
            found = await self._list().page(after=after, limit=limit, search=search)
        except SuppressionUnavailable as error:
            raise Problem(503, str(error)) from error
        following = found[-1].address if len(found) == limit else None
        return _json({"entries": [as_builtins(each) for each in found], "next": following})

    async def show(self, request: Request) -> Response:
        address = list_address(request.query_params["address"])
        try:
            found = await self._list().find(address)
        except SuppressionUnavailable as error:
            raise Problem(503, str(error)) from error
        if found is None:
            raise NotFound("the list says nothing of this address")
        return _json(as_builtins(found))

    async def put(self, request: Request) -> Response:
        wish = await read_json(request, SuppressionWish)
        _check_number(wish.entries)
        now = self._facts.clock.time()
        entries = [list_entry(each, now) for each in wish.entries]
        tell_audit(request, _said("add", [each.address for each in entries]))
        try:
            await self._list().put(entries)
        except SuppressionUnavailable as error:
            raise Problem(503, str(error)) from error
        return _json({"addresses": len(entries)})

    async def remove(self, request: Request) -> Response:
        wish = await read_json(request, SuppressionRemoval)
        _check_number(wish.addresses)
        addresses = [list_address(each) for each in wish.addresses]
        tell_audit(request, _said("remove", addresses))
        try:
            count = await self._list().remove(addresses)
        except SuppressionUnavailable as error:
            raise Problem(503, str(error)) from error
        return _json({"addresses": count})

    def _list(self) -> Suppression:
        if self._facts.suppression is None:
            raise Problem(503, "the server is not up yet")
        return self._facts.suppression


def _check_number(given: list[Any]) -> None:
    if not 1 <= len(given) <= MAX_PAGE:
        raise BadRequest(f"1 to {MAX_PAGE} addresses at a time")


def _said(what: str, addresses: list[str]) -> str:
    more = f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""
    return f"{what} {', '.join(addresses[:3])}{more}"


def suppression_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    suppression = _Suppression(facts)
    return [
        Operation(
            id="listSuppression",
            method="GET",
            path="/api/v1/suppression",
            handler=suppression.page,
            scope=Scope.READ,
            summary="Addresses to which nothing is to be sent, a page at a time",
            answer=SuppressionPage,
            query=(LIMIT, AFTER, SEARCH),
            tag="suppression",
        ),
        Operation(
            id="showSuppressed",
            method="GET",
            path="/api/v1/suppression/one",
            handler=suppression.show,
            scope=Scope.READ,
            summary="What the list says of one address",
            answer=SuppressedShown,
            query=(ADDRESS,),
            problems=(404,),
            tag="suppression",
        ),
        Operation(
            id="addSuppression",
            method="POST",
            path="/api/v1/suppression",
            handler=suppression.put,
            scope=Scope.ADMIN,
            summary="Put addresses on the list, or keep them off it",
            body=SuppressionWish,
            answer=SuppressionResult,
            tag="suppression",
        ),
        Operation(
            id="removeSuppression",
            method="POST",
            path="/api/v1/suppression/remove",
            handler=suppression.remove,
            scope=Scope.ADMIN,
            summary="Take addresses off the list",
            body=SuppressionRemoval,
            answer=SuppressionResult,
            tag="suppression",
        ),
    ]
