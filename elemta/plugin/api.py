"""What authors of plugins import: the class to derive from, hooks, decisions, changes and views.

Version 1. Names are added within a version, never taken away or changed.

A plugin is a file with one class:

    from elemta.plugin.api import Plugin, Reject, hook

    class NoRoot(Plugin):
        @hook("rcpt")
        async def check(self, recipient: str) -> Reject | None:
            if recipient.startswith("root@"):
                return Reject("Nobody reads this")
            return None

A method names as its parameters what it wants of `HookArguments`; `elemta.plugin.hooks` says what each hook
has. It returns a decision, `Changes`, a whole `Answer`, or None for no objection.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, TypeVarTuple

import attrs
import trio

from elemta.config import ByteSize, Duration
from elemta.mail import AuthResult, AuthResults, Identity, Result, TlsFacts
from elemta.runtime import Logger, ThreadPool, WallClock, run_in_thread

from .decisions import (
    DECISIONS,
    NO_ANSWER,
    Accept,
    Changes,
    Continue,
    Decision,
    Defer,
    Discard,
    HeaderAction,
    HeaderChange,
    Hold,
    HookAnswer,
    NoteValue,
    Quarantine,
    RecipientAction,
    RecipientChange,
    Redirect,
    Reject,
    add_header,
    field_value,
)
from .hooks import HOOKS
from .metrics import Metrics
from .outside import Http, HttpAnswer, Outside, OutsideFailed
from .suppressed import SuppressedAddress, SuppressionList
from .tier import BadAnswer, check_answer
from .views import (
    AttemptView,
    EnvelopeView,
    HeaderView,
    HookArguments,
    MessageView,
    OutcomeView,
    SessionView,
)

API_VERSION = 1
"""What `api_version` of a plugin is compared with."""

Answer = HookAnswer
"""Decision, changes and notes together."""
Returned: TypeAlias = Decision | Changes | HookAnswer | None
"""What a method may return."""

THREADS = 8
"""Of one plugin at a time, for `in_thread`."""

_HOOKS = "__elemta_hooks__"
_TASK = "__elemta_task__"
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
C = TypeVar("C", bound=attrs.AttrsInstance)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def hook(*names: str) -> Callable[[F], F]:
    """Mark an async method as what is asked at these hooks.

    Raises:
      ValueError: there is no such hook.
    """
    for name in names:
        if name not in HOOKS:
            raise ValueError(f"there is no hook {name!r}; there are {', '.join(HOOKS)}")

    def mark(method: F) -> F:
        setattr(method, _HOOKS, names)
        return method

    return mark


def background(method: F) -> F:
    """Mark an async method without parameters as a task that runs as long as the plugin does.

    Its crash is a crash of the plugin, which is restarted after a pause.
    """
    setattr(method, _TASK, None)
    return method


def periodic(seconds: float) -> Callable[[F], F]:
    """Mark an async method without parameters to be called again and again, with this pause in between."""
    if not seconds > 0:
        raise ValueError("the pause of a periodic task has to be more than 0 seconds")

    def mark(method: F) -> F:
        setattr(method, _TASK, seconds)
        return method

    return mark


class State(Protocol):
    """What a plugin remembers beyond a restart: hints, which expire and may be lost."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None."""

    def put(self, key: str, value: bytes, seconds: float) -> None:
        """Remember the value for so long. Keys up to 150 characters, values up to 4096 octets."""

    def forget(self, key: str) -> None:
        """Remember it no longer."""


class Resolver(Protocol):
    """Asks DNS; `elemta.dns.Resolver` says what answers look like."""

    async def query(self, name: str, kind: Any) -> Any:  # Any: of elemta.dns, which plugins may import
        """One question."""


@attrs.frozen(eq=False)
class Context:
    """What the server hands to a plugin, in the place of globals."""

    name: str
    """Of the configuration."""
    log: Logger
    clock: WallClock
    metrics: Metrics
    state: State
    resolver: Resolver | None = None
    """None in tests and tools that have none."""
    hostname: str = ""
    """Of this server, as it names itself; empty in tools."""
    threads: ThreadPool = attrs.field(
        factory=lambda: ThreadPool("plugins", THREADS), repr=False, kw_only=True
    )
    outside: Outside | None = attrs.field(default=None, repr=False, kw_only=True)
    """The ways out, under `http` and `connect`; None as above."""
    suppression_list: SuppressionList | None = attrs.field(default=None, repr=False, kw_only=True)
    """Under `suppression`; None as above."""

    @property
    def http(self) -> Http:
        """Makes HTTP requests: `await self.context.http.request("GET", "http://localhost:8080/")`."""
        return self._ways_out().http

    @property
    def connect(self) -> Callable[..., AbstractAsyncContextManager[trio.abc.Stream]]:
        """Connects to services: `Outside.connect`."""
        return self._ways_out().connect

    @property
    def suppression(self) -> SuppressionList:
        """Addresses to which nothing is to be sent: the list of the server, which operators change, too."""
        if self.suppression_list is None:
            raise OutsideFailed("there is no suppression list here")
        return self.suppression_list

    async def in_thread(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call what blocks (files, a library without `await`) in a thread, and return or raise what it does.

        At most `THREADS` at a time. At a deadline the caller goes on, while the thread works to its end with
        nobody listening: what it does then has to be harmless. In tests on virtual time there is no thread.
        """
        return await run_in_thread(self.threads, function, *args, abandon_on_cancel=True)

    def _ways_out(self) -> Outside:
        if self.outside is None:
            raise OutsideFailed("there is no network here")
        return self.outside


@attrs.frozen
class NoConfig:
    """Of a plugin that has no settings."""


class Plugin(Generic[C]):
    """Base of all plugins. The instance lives as long as the plugin is in service.

    A plugin with settings has an attrs class as `Config`, in which the table `config` of its entry is read;
    `self.config` is the instance.
    """

    api_version: ClassVar[int] = API_VERSION
    Config: ClassVar[type] = NoConfig

    def __init__(self, config: C, context: Context) -> None:
        self.config = config
        self.context = context


def hook_methods(plugin: type[Plugin[Any]]) -> dict[str, str]:
    """For each hook that the class has, the name of its method.

    Raises:
      ValueError: a method cannot be called as its hooks want it.
    """
    found: dict[str, str] = {}
    for name, method in _marked(plugin, _HOOKS):
        _check_async(plugin, name, method)
        for hook_name in getattr(method, _HOOKS):
            if hook_name in found:
                raise ValueError(f"{found[hook_name]} and {name} are both for the hook {hook_name!r}")
            known = HOOKS[hook_name].arguments
            for parameter in _parameters(method):
                if parameter not in known:
                    offered = ", ".join(known) or "none"
                    raise ValueError(
                        f"{name}: hook {hook_name!r} has no argument {parameter!r}; it has {offered}"
                    )
            found[hook_name] = name
    return found


def task_methods(plugin: type[Plugin[Any]]) -> dict[str, float | None]:
    """Methods that run by themselves, each with its pause, None where it runs all the time.

    Raises:
      ValueError: one of them cannot be called.
    """
    found = {}
    for name, method in _marked(plugin, _TASK):
        _check_async(plugin, name, method)
        if _parameters(method):
            raise ValueError(f"{name}: a task has no parameters beside self")
        found[name] = getattr(method, _TASK)
    return found


def bind(plugin: Plugin[Any], method: str) -> Callable[[HookArguments], Awaitable[Any]]:
    """The method as something that takes all arguments and hands on those it wants."""
    bound = getattr(plugin, method)
    names = tuple(inspect.signature(bound).parameters)
    if not names:
        return lambda arguments: bound()
    if len(names) == 1:
        only = names[0]
        return lambda arguments: bound(**{only: getattr(arguments, only)})
    return lambda arguments: bound(**{name: getattr(arguments, name) for name in names})


def to_answer(hook_name: str, returned: Returned) -> HookAnswer:
    """What a method returned as a checked answer of that hook.

    Raises:
      BadAnswer: it is none.
    """
    if returned is None:
        return NO_ANSWER
    kind = type(returned)
    if kind in DECISIONS:
        answer = HookAnswer(decision=returned)  # type: ignore[arg-type]  # by its type
    elif kind is Changes:
        answer = HookAnswer(changes=returned)  # type: ignore[arg-type]
    else:
        answer = returned  # type: ignore[assignment]  # checked below
    check_answer(answer)
    point = HOOKS[hook_name]
    if type(answer.decision) not in point.decisions:
        allowed = ", ".join(each.__name__ for each in point.decisions)
        raise BadAnswer(
            f"{type(answer.decision).__name__} is no answer at the hook {hook_name!r}; there are {allowed}"
        )
    for field in attrs.fields(Changes):
        if field.name not in point.changes and getattr(answer.changes, field.name) != field.default:
            raise BadAnswer(f"{field.name} cannot be changed at the hook {hook_name!r}")
    return answer


def _marked(plugin: type[Plugin[Any]], mark: str) -> Iterator[tuple[str, Any]]:
    for name in dir(plugin):
        method = inspect.getattr_static(plugin, name)
        if inspect.isfunction(method) and hasattr(method, mark):
            yield name, method


def _check_async(plugin: type[Plugin[Any]], name: str, method: object) -> None:
    if not inspect.iscoroutinefunction(method):
        raise ValueError(f"{name} of {plugin.__name__} has to be an async method")


def _parameters(method: Callable[..., object]) -> list[str]:
    return list(inspect.signature(method).parameters)[1:]


__all__ = [
    "API_VERSION",
    "Accept",
    "Answer",
    "AttemptView",
    "AuthResult",
    "AuthResults",
    "ByteSize",
    "Changes",
    "Context",
    "Continue",
    "Decision",
    "Defer",
    "Discard",
    "Duration",
    "EnvelopeView",
    "HeaderAction",
    "HeaderChange",
    "HeaderView",
    "Hold",
    "HookArguments",
    "Http",
    "HttpAnswer",
    "Identity",
    "MessageView",
    "Metrics",
    "NoConfig",
    "NoteValue",
    "OutcomeView",
    "Outside",
    "OutsideFailed",
    "Plugin",
    "Quarantine",
    "RecipientAction",
    "RecipientChange",
    "Redirect",
    "Reject",
    "Resolver",
    "Result",
    "Returned",
    "SessionView",
    "State",
    "SuppressedAddress",
    "SuppressionList",
    "TlsFacts",
    "add_header",
    "background",
    "bind",
    "field_value",
    "hook",
    "hook_methods",
    "periodic",
    "task_methods",
    "to_answer",
]
