"""`elemta tail`: what happens, as it happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from .errors import NOT_DONE, Trouble
from .options import config_option, dev_option, json_option, read_for_client

if TYPE_CHECKING:
    from elemta.admin import TailEnded

FILTERS = {
    "type": "Events of this type; recipient.* means all that begin so.",
    "session": "Events of this session.",
    "message": "Events of this message.",
    "sender": "Of mail from this address; <> is the null sender.",
    "recipient": "Of mail to this address.",
    "domain": "Of mail to this domain.",
    "listener": "Of sessions at this listener.",
    "level": "Events of this level, and worse ones: debug, info, warning, error.",
}
FIRST_WAIT = 0.5
LONGEST_WAIT = 10.0
"""Seconds before the server is looked for again."""
BAD_FILTER = 4400
_ABOUT_THE_TAIL = frozenset({"hello", "subscribed", "lagged", "heartbeat", "error"})


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, help_text in reversed(FILTERS.items()):
        function = click.option(f"--{name}", multiple=True, metavar=name.upper(), help=help_text)(function)
    return function


@click.command()
@config_option
@dev_option
@json_option
@_filters
@click.option(
    "-n", "--last", type=click.IntRange(0), default=10, show_default=True, help="Begin so many back."
)
@click.option("--no-reconnect", is_flag=True, help="Stop when the server does.")
def tail(
    config_file: Path | None,
    dev: bool,
    as_json: bool,
    last: int,
    no_reconnect: bool,
    **wanted: tuple[str, ...],
) -> None:
    """Show events as they happen. A kind that is given several times takes each; all kinds must fit.

    Goes on by itself when the server is back, where it was, and says what it has missed.
    """
    import trio  # noqa: PLC0415

    from elemta.runtime import leaves  # noqa: PLC0415

    config = read_for_client(config_file, dev)
    query = [(name, value) for name, values in wanted.items() for value in values]
    shown = Printer(_write, as_json=as_json, colour=not as_json and sys.stdout.isatty())
    follower = Follower(config.state_dir, query, last, shown, reconnect=not no_reconnect)
    try:
        trio.run(_until_interrupted, follower)
    except BaseExceptionGroup as group:  # what happens within the connection comes in the groups of its tasks
        found = list(leaves(group))
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
            raise KeyboardInterrupt from None
        if not all(isinstance(leaf, BrokenPipeError) for leaf in found):
            raise
        # as `elemta tail | head` ends; nothing more may be written there, also at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _until_interrupted(follower: Follower) -> None:
    """Follow until Ctrl-C. The signal is waited for: a KeyboardInterrupt that Python raises wherever it is at
    that moment is lost in a callback of an import or of the garbage collector.

    Raises:
      KeyboardInterrupt, Trouble
    """
    import signal  # noqa: PLC0415

    import trio  # noqa: PLC0415

    interrupted, trouble = False, None
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                nonlocal interrupted
                async for _ in signals:
                    interrupted = True
                    nursery.cancel_scope.cancel(reason="interrupted")

            nursery.start_soon(wait)
            try:
                await follower.run()
            except Trouble as found:
                trouble = found
            nursery.cancel_scope.cancel(reason="there is nothing more to show")
    if interrupted:
        raise KeyboardInterrupt
    if trouble is not None:
        raise trouble


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


class Printer:
    """Shows messages of the tail as lines, and keeps in mind what was seen."""

    def __init__(self, write: Callable[[bytes], None], *, as_json: bool, colour: bool) -> None:
        from elemta.runtime import ConsoleRenderer  # noqa: PLC0415

        self._write = write
        self._as_json = as_json
        self._render = ConsoleRenderer(colour=colour)
        self.seen: int | None = None
        """The number of the newest event that is behind us; None: the server has not spoken yet."""
        self.error = ""

    def show(self, message: str) -> None:
        """One message; what is no JSON object is left out."""
        import msgspec  # noqa: PLC0415

        from elemta.runtime import escape_text  # noqa: PLC0415

        try:
            record = msgspec.json.decode(message, type=dict[str, Any])
        except msgspec.DecodeError:
            return
        kind = record.get("type")
        number = record.get("seq")
        if kind not in _ABOUT_THE_TAIL:
            if isinstance(number, int):
                self.seen = number
            if self._as_json:
                self._write(message.encode("utf-8", "replace").rstrip(b"\n") + b"\n")
            elif "time" in record:
                record.pop("seq", None)
                self._write(self._render(record))
        elif kind == "hello":
            if self.seen is None and isinstance(number, int):
                self.seen = number  # what is replayed has smaller numbers; nothing may have fitted at all
        elif kind == "heartbeat":
            if isinstance(number, int):
                self.seen = number
        elif kind == "lagged":
            begun_anew = "the server was started anew; " if record.get("restarted") else ""
            self._say(f"{begun_anew}{record.get('lost', 'some')} events were missed")
        elif kind == "error":
            self.error = escape_text(str(record.get("reason", "")))

    def _say(self, text: str) -> None:
        click.echo(f"elemta: {text}", err=True)


class Follower:
    """Holds on to the server's tail: connects, shows, and connects again where it was."""

    def __init__(
        self,
        state_dir: Path,
        query: list[tuple[str, str]],
        last: int,
        printer: Printer,
        *,
        reconnect: bool,
    ) -> None:
        self._state_dir = state_dir
        self._query = query
        self._last = last
        self._printer = printer
        self._reconnect = reconnect

    async def run(self) -> None:
        """Follow until the caller cancels, or there is nothing more to show.

        Raises:
          Trouble: there is no server, or it does not let us watch.
        """
        import trio  # noqa: PLC0415

        from elemta.admin import TailRefused  # noqa: PLC0415

        wait, begun = FIRST_WAIT, False
        while True:
            try:
                ended = await self._once()
                begun, wait = True, FIRST_WAIT
                if ended.code == BAD_FILTER:
                    raise Trouble(NOT_DONE, self._printer.error or ended.reason)
                reason = ended.reason
            except OSError as error:
                if isinstance(error, PermissionError):
                    raise Trouble(
                        NOT_DONE,
                        f"no right to use the socket in {self._state_dir}: "
                        "run this as the server's user or as root",
                    ) from error
                reason = f"no server runs on {self._state_dir}"
            except TailRefused as error:
                if 400 <= error.status < 500 or not begun:
                    raise Trouble(NOT_DONE, str(error)) from error
                reason = str(error)
            if not begun or not self._reconnect:
                raise Trouble(NOT_DONE, reason)
            click.echo(f"elemta: {reason}; waiting for the server", err=True)
            await trio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    async def _once(self) -> TailEnded:
        import trio  # noqa: PLC0415

        from elemta.admin import follow  # noqa: PLC0415

        seen = self._printer.seen
        place = ("last", str(self._last)) if seen is None else ("since", str(seen))
        # Through the folder's descriptor: the path of a socket may have 108 octets only.
        folder = os.open(self._state_dir, os.O_PATH | os.O_CLOEXEC)
        try:
            stream = await trio.open_unix_socket(f"/proc/self/fd/{folder}/admin.sock")
        finally:
            os.close(folder)
        return await follow(stream, "localhost", urlencode([*self._query, place]), self._printer.show)
