"""From a route to a session with one of its hosts: which addresses, in which order, and why all failed."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Generic, TypeVar

import attrs
import trio

from elemta.config import RouteTls
from elemta.dns import Status, addresses
from elemta.events import Entry
from elemta.mail import Cause, Deferred, Failed, Outcome, Reply, parse_domain, replies
from elemta.routing import MxPlan, ProhibitedNetworks, Route, plan_mx
from elemta.runtime import SourceUnusable
from elemta.smtp import Side

from .context import DeliveryContext
from .course import Course
from .security import Security, count_with, find_policy, plan_security
from .sources import Departure, NoSource
from .transport import ConnectFailed

T = TypeVar("T")

STAGGER = 0.25
"""Seconds between the addresses of a host that are dialled side by side (RFC 8305 §5)."""
NO_SOURCE = Reply.of(451, "4.3.5", "no local address to send from")
"""RFC 3463 §3.4: system incorrectly configured."""
MAX_REASON = 200
"""Characters of a host's reason in the detail."""

# Of several failures the one that got furthest is reported: it says most.
_FURTHEST_FIRST = (
    Cause.REMOTE_REPLY,
    Cause.LOGIN,
    Cause.CERTIFICATE,
    Cause.TLS,
    Cause.TLS_NOT_OFFERED,
    Cause.PROTOCOL,
    Cause.CONNECTION_LOST,
    Cause.TIMEOUT,
    Cause.CONNECT,
    Cause.LOCAL,
    Cause.DNS,
)


@attrs.frozen
class Target:
    """One address of one host."""

    host: str
    address: str
    port: int
    security: Security = attrs.field(default=Security(RouteTls.OPPORTUNISTIC, ""), eq=False, repr=False)
    """On which terms mail may go there."""
    departure: Departure | None = attrs.field(default=None, eq=False, repr=False)
    """From which of our addresses; None: the one for all."""

    def __str__(self) -> str:
        return f"{self.host}[{self.address}]:{self.port}"


class TargetFailed(Exception):
    """One target could not be used; the next one may do.

    `never`: it said that it takes no mail at all and never will (RFC 7504 §3).
    """

    def __init__(self, outcome: Deferred, *, never: Reply | None = None) -> None:
        super().__init__(outcome.detail or str(outcome.reply))
        self.outcome = outcome
        self.never = never
        self.story: tuple[Entry, ...] = ()
        """What was said."""


@attrs.frozen
class Found(Generic[T]):
    """A session, and what its route has beside it."""

    session: T
    tried: frozenset[str]
    """Its target and those that could not be used."""
    has_others: bool
    """Whether there are more addresses than those tried."""


async def connect_first(
    route: Route,
    context: DeliveryContext,
    open_session: Callable[[Target, trio.abc.Stream], Awaitable[T]],
    *,
    tried: frozenset[str] = frozenset(),
    course: Course | None = None,
) -> Found[T]:
    """Open a session with the first target of the route that gives one (RFC 5321 §5.1), and is none of
    those tried.

    At most `delivery.mx_hosts` addresses are tried. A target whose greeting is 4yz or 5yz, or that
    ends the connection before it, counts as failed like one that cannot be reached: the next may be
    well (Postfix does the same: smtp_skip_5xx_greeting). Between the addresses of one host, which are
    equal to each other, the first that answers is taken (`dial_any`).

    Raises:
      ConnectFailed: with the reasons of all in `detail`.
    """
    failures: list[TargetFailed] = []
    course = Course() if course is None else course
    course.enter("dns")
    prohibited = ProhibitedNetworks.of(context.config, route.port)
    left = context.config.mx_hosts - len(tried)
    ourselves = False
    hosts, authentic = await _hosts(route, context)
    if context.shaping is not None:
        route = context.shaping.of(route, frozenset(map(str.lower, hosts))).applied(route)
    policy = await find_policy(route, context)
    for place, host in enumerate(context.hosts.order(hosts), 1):
        if left <= 0:
            break
        course.enter("dns")
        found = await addresses(context.resolver, host, ipv6=context.config.ipv6, random=context.random)
        if found.status is not Status.OK:
            failures.append(_unresolved(host, found.detail))
        usable = [address for address in found.addresses if not context.is_local_address(address, route.port)]
        # A fixed host that is one of our listeners; an MX list was pruned by `plan_mx`.
        ourselves = ourselves or len(usable) < len(found.addresses)
        if route.use_mx:
            # The plan has only hosts with a good address; DNS may have changed its mind since.
            usable = [address for address in usable if address not in prohibited]
        if not usable:
            continue
        security = await plan_security(route, host, found, context, authentic=authentic, policy=policy)
        security = count_with(security, route, host, policy, context)
        if isinstance(security, Deferred):
            failures.append(TargetFailed(security))
            continue
        targets = _targets(route, host, usable, security, context, failures)
        targets = [target for target in targets if str(target) not in tried]
        while targets and left:
            course.enter("connect")
            dialled = await dial_any(targets[:left], context)
            failures += dialled.failures
            left -= len(dialled.failures)
            tried |= {str(target) for target in dialled.failed}
            if dialled.target is None:
                break
            tried |= {str(dialled.target)}
            targets = [each for each in targets if each not in dialled.failed and each != dialled.target]
            left -= 1
            try:
                assert dialled.stream is not None
                session = await open_session(dialled.target, dialled.stream)
                context.hosts.welcomed(host)
                return Found(session, tried, has_others=left > 0 and (bool(targets) or place < len(hosts)))
            except TargetFailed as failure:
                failures.append(failure)
        if not targets or left:
            context.hosts.tire(host)
    if not failures and ourselves:
        raise ConnectFailed(Failed(Cause.LOOP, replies.ROUTING_LOOP))
    raise ConnectFailed(sum_up(failures), _story(failures))


def _story(failures: Sequence[TargetFailed]) -> tuple[Entry, ...]:
    """What was said with each, between its name and what came of it."""
    told: list[Entry] = []
    for failure in failures:
        remote = failure.outcome.remote
        begun = failure.story[0][0] if failure.story else perf_counter()
        if failure.story:
            told += [(begun, Side.NOTE, f"{remote}: connected"), *failure.story]
        told.append((told[-1][0] if failure.story else begun, Side.NOTE, _reason(failure)))
    return tuple(told)


def _targets(
    route: Route,
    host: str,
    usable: Sequence[str],
    security: Security,
    context: DeliveryContext,
    failures: list[TargetFailed],
) -> list[Target]:
    """The addresses of a host with where to connect from; one for which we have no address is no target."""
    if route.source is None or context.sources is None:
        return [Target(host, address, route.port, security) for address in usable]
    targets = []
    for address in usable:
        try:
            departure = context.sources.depart(route.source, address, context.random)
        except NoSource as error:
            failures.append(_failed(Target(host, address, route.port), Cause.LOCAL, NO_SOURCE, str(error)))
            continue
        targets.append(Target(host, address, route.port, security, departure))
    return targets


@attrs.define
class Dialled:
    """What became of several targets that were dialled together."""

    target: Target | None = None
    """The one that answered first."""
    stream: trio.abc.Stream | None = None
    failed: list[Target] = attrs.field(factory=list)
    failures: list[TargetFailed] = attrs.field(factory=list)


async def dial_any(targets: Sequence[Target], context: DeliveryContext) -> Dialled:
    """Connect to the first of several equal targets that answers (RFC 8305 §5).

    Each gets `STAGGER` seconds, or until it fails, before the next is dialled beside it; whoever answers
    first ends the others. So an address family that leads nowhere costs a moment, not a time-out.
    Cancelled: no connection is left behind.
    """
    result = Dialled()
    if len(targets) == 1:
        await _dial_one(targets[0], context, result)
        return result
    try:
        async with trio.open_nursery() as nursery:

            async def run(target: Target, ended: trio.Event) -> None:
                try:
                    await _dial_one(target, context, result)
                finally:
                    ended.set()
                if result.target is not None:
                    nursery.cancel_scope.cancel(reason="another address answered")

            for target in targets:
                ended = trio.Event()
                nursery.start_soon(run, target, ended)
                with trio.move_on_after(STAGGER):
                    await ended.wait()
                if result.target is not None:
                    break
    except BaseException:
        if result.stream is not None:
            await trio.aclose_forcefully(result.stream)
        raise
    return result


async def _dial_one(target: Target, context: DeliveryContext, result: Dialled) -> None:
    try:
        stream = await dial(target, context)
    except TargetFailed as failure:
        result.failed.append(target)
        result.failures.append(failure)
        return
    if result.target is None:
        result.target, result.stream = target, stream
    else:  # two answered in the same moment
        await trio.aclose_forcefully(stream)


async def dial(target: Target, context: DeliveryContext) -> trio.abc.Stream:
    """Connect to the target, within `timeouts.connect`, from our address of its family.

    Raises:
      TargetFailed
    """
    with trio.move_on_after(context.timeouts.connect):
        while True:
            try:
                return await context.network.connect(
                    target.address, target.port, source=_source(target, context)
                )
            except SourceUnusable as error:
                _depart_elsewhere(target, error)
            except OSError as error:
                raise _failed(target, Cause.CONNECT, replies.CONNECT_FAILED, _system_reason(error)) from error
    raise _failed(target, Cause.TIMEOUT, replies.CONNECT_FAILED, "no answer")


def _source(target: Target, context: DeliveryContext) -> str | None:
    """The local address to connect from; None: the system chooses."""
    if target.departure is not None:
        return target.departure.origin.address
    return context.config.source_ipv6 if ":" in target.address else context.config.source_ipv4


def _depart_elsewhere(target: Target, error: SourceUnusable) -> None:
    """Take another local address than the one that cannot be bound, where there is one."""
    reason = _system_reason(error)
    if target.departure is None:
        raise _failed(target, Cause.CONNECT, replies.CONNECT_FAILED, reason) from error
    try:
        target.departure.fail(reason)
    except NoSource as nowhere:
        raise _failed(target, Cause.LOCAL, NO_SOURCE, f"{nowhere}; the last: {reason}") from error


def _system_reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def sum_up(failures: list[TargetFailed]) -> Outcome:
    """One outcome for a route of whose targets none could be used."""
    detail = "; ".join(_reason(failure) for failure in failures)
    # RFC 7504 §3: 521 is from a host that never takes mail; where all are such, trying again is vain.
    # Any other 5yz greeting, 554 of RFC 5321 §3.1 foremost, is mostly about us and about now (a block
    # list, a mistake over there), and a message that waits can still be delivered. Postfix defers too.
    if failures and all(failure.never for failure in failures):
        last = failures[-1]
        assert last.never is not None
        return Failed(Cause.REMOTE_REPLY, last.never, last.outcome.remote, from_remote=True, detail=detail)
    outcomes = [failure.outcome for failure in failures]
    for cause in _FURTHEST_FIRST:
        for outcome in outcomes:
            if outcome.cause is cause:
                return attrs.evolve(outcome, detail=detail)
    return Deferred(Cause.CONNECT, replies.CONNECT_FAILED, detail="no address to try")


async def _hosts(route: Route, context: DeliveryContext) -> tuple[tuple[str, ...], bool]:
    """The hosts, and whether it is certain that they are the right ones."""
    if not route.use_mx:
        return (route.next_hop,), True
    plan = await plan_mx(
        parse_domain(route.next_hop),
        context.resolver,
        hostname=context.hostname,
        random=context.random,
        is_ourselves=lambda address: context.is_local_address(address, route.port),
        prohibited=ProhibitedNetworks.of(context.config, route.port),
        ipv6=context.config.ipv6,
    )
    if isinstance(plan, MxPlan):
        return plan.hosts, plan.authentic
    raise ConnectFailed(plan)


def _unresolved(host: str, detail: str) -> TargetFailed:
    # Also where DNS is sure that the host does not exist: a fixed host is our operator's mistake, which
    # he can mend, and an MX host without an address was left out by `plan_mx`.
    outcome = Deferred(Cause.DNS, replies.DNS_FAILED, host, detail=detail or "the host has no address")
    return TargetFailed(outcome)


def _failed(target: Target, cause: Cause, reply: Reply, reason: str) -> TargetFailed:
    return TargetFailed(Deferred(cause, reply, str(target), detail=reason))


def _reason(failure: TargetFailed) -> str:
    return f"{failure.outcome.remote}: {str(failure)[:MAX_REASON]}"
