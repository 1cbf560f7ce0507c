"""Hand messages to a program, one recipient at a time, and read its exit status as sysexits.h has it.

The program gets the message on its standard input as it would lie in a Maildir: Return-Path and
Delivered-To before it, lines that end with LF. What it needs to know of the envelope is in its
environment, where nothing can be taken for an option, and in those of its arguments that ask for it.
Strangers choose local parts: one that would make an argument begin with a dash is refused.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Awaitable, Callable

import trio

from elemta.mail import (
    Cause,
    Deferred,
    Delivered,
    EnhancedCode,
    Failed,
    MailSyntaxError,
    Outcome,
    Recipient,
    Reply,
    replies,
)
from elemta.routing import Route

from .context import DeliveryContext
from .final import (
    MAILBOX_LOOP,
    LineEnds,
    read_header,
    trace_fields,
    was_delivered_to,
    without_return_path,
)
from .program import CannotStart, Ended, Limits, run_program
from .reading import open_content
from .transport import Connection, ContentReader, Parcel, SessionLimits, Transport

TAKEN = Reply.of(250, "2.0.0", "taken by the program")
BAD_ARGUMENT = Reply.of(550, "5.1.3", "the recipient's address cannot be given to the program")
PATH = "/usr/local/bin:/usr/bin:/bin"
BLOCK = 64 * 1024
MOST_WORDS = 200
"""Characters of what the program said that are told."""

# sysexits.h, with the codes of RFC 3463 that Postfix and Sendmail have for them
_MEANINGS = {
    64: ("5.3.0", "the program was used wrongly"),
    65: ("5.6.0", "the program cannot read the message"),
    66: ("5.3.0", "the program lacks a file"),
    67: ("5.1.1", "there is no such recipient"),
    68: ("5.1.2", "there is no such host"),
    69: ("5.3.0", "the program is not available"),
    70: ("5.3.0", "the program failed"),
    71: ("4.3.0", "the program met an error of the system"),
    72: ("5.3.0", "a file of the system is missing"),
    73: ("5.2.0", "the program cannot create its file"),
    74: ("4.3.0", "the program met an error in reading or writing"),
    75: ("4.3.0", "the program cannot take the message now"),
    76: ("5.5.0", "the program met an error in a protocol"),
    77: ("5.7.0", "the program is not allowed to take the message"),
    78: ("4.3.5", "the program is not set up"),
}
_FIELD = re.compile(r"\{(recipient|local_part|domain|sender|message)\}")
_CODED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:[ \t]+|\Z)")


class PipeTransport(Transport):
    """The program of one route."""

    def __init__(self, route: Route, context: DeliveryContext) -> None:
        self._route = route
        self._context = context

    async def connect(self) -> PipeConnection:
        return PipeConnection(self._route, self._context)


class PipeConnection(Connection):
    """Always usable. Cancelled, the program is killed; it may have taken what it had all of."""

    limits = SessionLimits(recipients=1)

    def __init__(self, route: Route, context: DeliveryContext) -> None:
        self._route = route
        self._context = context
        self._phase = "idle"
        self._progress = 0
        self._dot_sent = False

    @property
    def usable(self) -> bool:
        return True

    @property
    def phase(self) -> str:
        return self._phase

    @property
    def progress(self) -> int:
        return self._progress

    @property
    def dot_sent(self) -> bool:
        """Whether the program has all of the message and has not ended."""
        return self._dot_sent

    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        self._phase = "program"
        self._dot_sent = False
        try:
            return [await self._run(parcel, recipient) for recipient in parcel.recipients]
        finally:
            self._phase = "idle"

    async def aclose(self) -> None:
        """Nothing to end."""

    async def _run(self, parcel: Parcel, recipient: Recipient) -> Outcome:
        route = self._route
        facts = _facts(parcel, recipient)
        arguments = _fill(route.command, facts)
        if arguments is None:
            return Failed(Cause.UNSUPPORTED, BAD_ARGUMENT, route.next_hop)
        async with open_content(parcel.content) as reader:
            header, rest = await read_header(parcel.content.prefix, reader)
            if was_delivered_to(header, recipient.mailbox):
                return Failed(Cause.LOOP, MAILBOX_LOOP, route.next_hop)
            path = parcel.envelope.reverse_path
            head = trace_fields(path, recipient.mailbox) + without_return_path(header)
            try:
                ended = await run_program(
                    arguments,
                    self._environment(facts, recipient),
                    Limits(route.time_limit, route.memory),
                    self._feed(head + rest, reader),
                )
            except CannotStart as error:
                detail = f"{route.next_hop} cannot be run: {error}"
                return Deferred(Cause.LOCAL, replies.LOCAL_ERROR, route.next_hop, detail=detail)
        self._dot_sent = False
        return outcome_of(ended, route.next_hop)

    def _feed(self, head: bytes, reader: ContentReader) -> Callable[[trio.abc.SendStream], Awaitable[None]]:
        async def feed(stdin: trio.abc.SendStream) -> None:
            line_ends = LineEnds()
            piece = head
            while piece:
                for start in range(0, len(piece), BLOCK):
                    await stdin.send_all(line_ends.convert(piece[start : start + BLOCK]))
                    self._progress += 1
                piece = await reader.read()
            # The write that ends it may be all that the program waits for.
            self._dot_sent = True
            await stdin.send_all(line_ends.finish())

        return feed

    def _environment(self, facts: dict[str, str], recipient: Recipient) -> dict[str, str]:
        environment = {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOSTNAME": self._context.hostname,
            "SENDER": facts["sender"],
            "RECIPIENT": facts["recipient"],
            "LOCAL_PART": facts["local_part"],
            "DOMAIN": facts["domain"],
            "MESSAGE_ID": facts["message"],
        }
        if recipient.dsn.original_recipient is not None:
            environment["ORIGINAL_RECIPIENT"] = recipient.dsn.original_recipient
        # No NUL gets through the parser of addresses; this is the last place where it could matter.
        return {name: value.replace("\0", "") for name, value in environment.items()}


def outcome_of(ended: Ended, program: str) -> Outcome:
    """What follows from the way the program ended.

    A first line of output that begins with an enhanced code of the class that the status has, such as
    `5.2.2 mailbox full`, says it better, and goes to the sender. All else that it says is for the operator.
    """
    words = _words(ended.output)
    status = ended.status
    if status == 0:
        return Delivered(_said(words, 2) or TAKEN, program)
    if status is None:
        return Deferred(Cause.TIMEOUT, replies.LOCAL_ERROR, program, detail=f"its time was over: {words}")
    if status not in _MEANINGS:
        # Of no status that programs for mail have: the program itself is broken, and can be mended.
        how = f"was killed by {_signal(-status)}" if status < 0 else f"ended with status {status}"
        return Deferred(Cause.LOCAL, replies.LOCAL_ERROR, program, detail=f"it {how}: {words}")
    enhanced, meaning = _MEANINGS[status]
    detail = f"it ended with status {status}: {words}"
    if enhanced.startswith("4"):
        reply = _said(words, 4) or Reply.of(451, enhanced, meaning)
        return Deferred(Cause.LOCAL, reply, program, detail=detail)
    reply = _said(words, 5) or Reply.of(550, enhanced, meaning)
    return Failed(Cause.LOCAL, reply, program, detail=detail)


def _said(words: str, severity: int) -> Reply | None:
    found = _CODED.match(words)
    if found is None or int(found[1]) != severity:
        return None
    code = {2: 250, 4: 451, 5: 550}[severity]
    text = words[found.end() :] or "the program said no more"
    try:
        return Reply(code, EnhancedCode(int(found[2]), int(found[3])), (text,))
    except (ValueError, MailSyntaxError):
        return None


def _words(output: bytes) -> str:
    """The first line that says something, harmless."""
    for line in output.decode("utf-8", "replace").splitlines():
        text = "".join(each if each.isprintable() else "?" for each in line.strip())
        if text:
            return text.encode("ascii", "replace").decode()[:MOST_WORDS]
    return "it said nothing"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _facts(parcel: Parcel, recipient: Recipient) -> dict[str, str]:
    sender = parcel.envelope.reverse_path.mailbox
    return {
        "recipient": str(recipient.mailbox),
        "local_part": recipient.mailbox.local_part,
        "domain": recipient.mailbox.domain.text,
        "sender": "" if sender is None else str(sender),
        "message": parcel.message,
    }


def _fill(command: tuple[str, ...], facts: dict[str, str]) -> list[str] | None:
    """The arguments; None where one that the operator did not write as an option would become one."""
    filled = []
    for template in command:
        argument = _FIELD.sub(lambda match: facts[match[1]], template)
        if argument.startswith("-") and not template.startswith("-"):
            return None
        filled.append(argument.replace("\0", ""))
    return filled
