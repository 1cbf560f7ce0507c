"""What a plugin sees: read-only views, the same in both tiers.

Text from clients is as they sent it: a plugin that writes it elsewhere has to quote it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from elemta.mail import AuthResults, Identity, TlsFacts

from .decisions import NoteValue

_FOLD = re.compile(rb"\r\n(?=[ \t])")
CHUNK = 65_536
"""Octets of a piece of a message, if no other number is asked for."""


@attrs.frozen(slots=True)
class SessionView:
    """The client and its session, as far as they are known at the hook."""

    id: str
    listener: str
    role: str
    """`mx`, `submission` or `lmtp`."""
    peer: str
    """The client's address as text."""
    port: int = 0
    hello: str = ""
    """The argument of EHLO, HELO or LHLO; empty before."""
    tls: TlsFacts | None = None
    identity: Identity | None = None
    """Who it proved to be."""
    trusted: bool = False
    """It may send anywhere for its address."""


@attrs.frozen(slots=True)
class EnvelopeView:
    """Who sends, and the recipients taken so far, as `local@example.org`; the null path is empty text."""

    sender: str
    recipients: tuple[str, ...] = ()
    size: int | None = None
    """What the client announced with SIZE=."""
    body_type: str = "7BIT"
    smtputf8: bool = False
    require_tls: bool = False
    priority: int = 0
    tags: tuple[str, ...] = ()
    """Words that plugins gave it."""


@attrs.frozen(slots=True)
class HeaderView:
    """One field as it came."""

    name: str
    raw: bytes
    """The value behind the colon, with its folds and without its last line end."""

    @property
    def value(self) -> str:
        """Unfolded and without blanks around; octets that are no UTF-8 become U+FFFD."""
        return _FOLD.sub(b"", self.raw).strip().decode("utf-8", "replace")


@attrs.frozen(slots=True)
class MessageView:
    """A message that was received: its header as fields, the whole of it in pieces."""

    size: int
    headers: tuple[HeaderView, ...] = ()
    content: bytes | None = attrs.field(default=None, repr=False)
    """The whole message, header included, where it is kept in memory (small ones)."""
    path: str | None = None
    """Else the file it is in, to be read only while the call lasts."""
    id: str = ""
    """The id in the queue; empty before it has one."""

    def header(self, name: str) -> str | None:
        """The value of the first field of that name; `None` where there is none."""
        wanted = name.lower()
        for each in self.headers:
            if each.name.lower() == wanted:
                return each.value
        return None

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """The whole message in pieces. A large one is read from its file, which makes the caller wait."""
        if self.content is not None:
            for start in range(0, len(self.content), size):
                yield self.content[start : start + size]
        elif self.path is not None:
            with Path(self.path).open("rb") as file:
                while piece := file.read(size):
                    yield piece


@attrs.frozen(slots=True)
class AttemptView:
    """One attempt to deliver one message to one recipient, or several, of one route."""

    message: str
    recipients: tuple[str, ...]
    route: str
    """Where to, as listings show it."""
    attempts: int = 0
    """Those before; of several recipients the most."""
    received: float = 0.0
    """When the message was, in seconds since 1970."""
    remote: str = ""
    """The next hop as `host[address]:port`, where there is a connection."""
    seconds: float = 0.0
    """How long it took, at `after_attempt`."""


@attrs.frozen(slots=True)
class OutcomeView:
    """What became of one recipient."""

    message: str
    recipient: str
    result: str
    """`delivered`, `deferred` or `failed`."""
    reply: str
    cause: str = ""
    remote: str = ""
    expired: bool = False


@attrs.frozen(slots=True)
class HookArguments:
    """All that a hook may be given; `HOOKS` in `elemta.plugin.hooks` says which of it each one has.

    A method of a plugin names as its parameters those it wants.
    """

    session: SessionView | None = None
    envelope: EnvelopeView | None = None
    recipient: str = ""
    """The recipient it is about, as `local@example.org`."""
    message: MessageView | None = None
    results: AuthResults | None = None
    """What SPF, DKIM, DMARC and ARC found."""
    chunk: bytes = attrs.field(default=b"", repr=False)
    """The next piece of the body, at the hook `body`."""
    attempt: AttemptView | None = None
    outcome: OutcomeView | None = None
    outcomes: tuple[OutcomeView, ...] = ()
    """At `after_attempt`: of each recipient."""
    tls: TlsFacts | None = None
    """How the connection to the next hop is secured; None: not at all."""
    event: dict[str, NoteValue] = attrs.field(factory=dict)
    """At the hook `event`: its fields, `type` among them; lists are shown as text, joined with blanks, parts
    of a field under names such as `phases.connect`."""
    reason: str = ""
    """Why: at `shutdown`, `disconnect`, `hold`, `release`, `bounce`, `expire`."""
    notes: dict[str, NoteValue] = attrs.field(factory=dict)
    """What plugins noted of this session and message so far, under `NAME.key`. To be read only."""


NO_ARGUMENTS = HookArguments()
