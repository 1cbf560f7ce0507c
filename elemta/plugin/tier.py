"""The border between the host and a plugin: how a hook is called, wherever the plugin runs.

Two tiers stand behind it: tasks in the loop, and worker processes. What crosses it is frozen values that can
be written as JSON and octets (`HookArguments`, `HookAnswer`), so that a plugin does not notice where it runs.

Theory of operation. The host picks the plugins whose turn it is, and calls `Tier.call` for each. Whatever
the plugin does, the call ends by the deadline of the plugin, in exactly one of two ways: an answer that was
checked (`check_answer`), or `PluginFailed` with how it failed. What is done about a failure (defer,
continue, reject, hold) is the host's part, and so is suspension: a tier only says what happened.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod

import attrs
import trio

from .decisions import DECISIONS, NO_CHANGES, Changes, HeaderChange, HookAnswer, NoteValue, RecipientChange
from .hops import parse_hop
from .views import HookArguments

MAX_NOTES = 64
"""Notes of one answer, and pieces of it: more is a mistake, and the session keeps them all."""
MAX_CHANGES = 1_000
MAX_TEXT = 8_192
"""Characters of one text in an answer, such as the value of a header field."""


class Failure(enum.StrEnum):
    """How a call failed; each kind has its own verdict in the configuration (`on_error` …)."""

    ERROR = "error"
    """The plugin raised, or answered what is no answer. It is still in service."""
    TIMEOUT = "timeout"
    """No answer by the deadline. It may still be at work: its late answer is dropped."""
    CRASH = "crash"
    """The plugin, or its worker, is gone, or out of service; it is restarted by its tier."""


class PluginFailed(Exception):
    """A call has no answer. Nothing of what the plugin wanted is to be done."""

    def __init__(self, kind: Failure, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        """For the operator: the error in one line, with its place in the plugin's code if known."""


@attrs.frozen(slots=True)
class TierStatistics:
    """How a plugin does, for listings and metrics."""

    isolation: str
    """`task` or `process`."""
    running: bool
    """Whether it can be called now."""
    calls: int = 0
    """Since the server started, ended ones."""
    active: int = 0
    """Calls under way, those whose caller left included."""
    failures: dict[Failure, int] = attrs.field(factory=dict)
    """By kind; a kind that never happened may be missing."""
    restarts: int = 0
    seconds: float = 0.0
    """Of all ended calls together, as their callers saw it."""
    workers: tuple[int, ...] = ()
    """Process tier: the process ids."""


class Tier(ABC):
    """One plugin, wherever it runs. Made by the host, which runs `start` in the plugin's own nursery."""

    @abstractmethod
    async def start(  # noqa: ASYNC114 - the host starts it
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the plugin until cancelled: load it, make its instance, look after it.

        `task_status.started()` when it can be called; the hook `startup` has been called by then.

        Raises, before it has started:
          PluginFailed: it cannot be loaded or its `startup` failed; later failures are restarted within,
            with a pause, and never raised.
        Cancelled: no calls are answered any more (`CRASH`), and nothing of the plugin is left behind.
        """

    @abstractmethod
    async def call(self, hook: str, arguments: HookArguments) -> HookAnswer:
        """Ask the plugin at one hook. Calls run side by side, in no order.

        Returns a checked answer, at latest by the deadline that the tier was made with (`timeout` of the
        plugin's configuration), also if the plugin never returns. Cancelled: the caller leaves at once, and
        the plugin's call is cancelled behind it. A checkpoint, unless its method has no `await`.

        Raises:
          PluginFailed: with how it failed. Nothing else, whatever the plugin does.
        """

    @abstractmethod
    def statistics(self) -> TierStatistics:
        """How it does. Sync, and cheap."""


class BadAnswer(ValueError):
    """What a plugin answered is no answer: a `PluginFailed` of the kind `ERROR` for its caller."""


def check_answer(answer: HookAnswer) -> HookAnswer:
    """The answer itself, if all in it is of the right type and within bounds.

    Both tiers call it on what a plugin hands out, before anyone believes it.

    Raises:
      BadAnswer: it is not.
    """
    if not isinstance(answer, HookAnswer) or type(answer.decision) not in DECISIONS:
        raise BadAnswer(f"answered with {type(answer).__name__}, which is no answer of a hook")
    _check_changes(answer.changes)
    notes = answer.notes
    if notes:
        if not isinstance(notes, dict) or len(notes) > MAX_NOTES:
            raise BadAnswer(f"notes have to be a dict of at most {MAX_NOTES}")
        for name, value in notes.items():
            if not isinstance(name, str) or len(name) > 255:
                raise BadAnswer("the name of a note has to be text of at most 255 characters")
            _check_note(name, value)
    return answer


def _check_note(name: str, value: NoteValue) -> None:
    if value is not None and not isinstance(value, str | int | float):
        raise BadAnswer(
            f"note {name!r} is a {type(value).__name__}; notes are text, numbers and truth values"
        )
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise BadAnswer(f"note {name!r} has more than {MAX_TEXT} characters")


def _check_items(name: str, items: object, kind: type) -> None:
    if not isinstance(items, tuple) or not all(isinstance(each, kind) for each in items):
        raise BadAnswer(f"{name} of changes have to be a tuple of {kind.__name__}")


def _check_changes(changes: Changes) -> None:
    if not isinstance(changes, Changes):
        raise BadAnswer(f"changes are a {type(changes).__name__}, not Changes")
    if changes is NO_CHANGES:
        return
    _check_items("headers", changes.headers, HeaderChange)
    _check_items("recipients", changes.recipients, RecipientChange)
    _check_items("tags", changes.tags, str)
    if len(changes.headers) + len(changes.recipients) + len(changes.tags) > MAX_CHANGES:
        raise BadAnswer(f"more than {MAX_CHANGES} changes in one answer")
    if any(len(each.value) > MAX_TEXT for each in changes.headers):
        raise BadAnswer(f"the value of a header field has more than {MAX_TEXT} characters")
    priority = changes.priority
    if priority is not None and not (type(priority) is int and -9 <= priority <= 9):
        raise BadAnswer("priority has to be a number from -9 to 9 (RFC 6710)")
    for text in (changes.sender, changes.route, *changes.tags):
        if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT or not text.isprintable()):
            raise BadAnswer("sender, route and tags have to be printable text")
    if changes.route is not None:
        try:
            parse_hop(changes.route)
        except ValueError as error:
            raise BadAnswer(f"route: {error}") from error
