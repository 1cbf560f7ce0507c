"""An HTTP server for tests: answers as told, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs
import h11
import trio

from elemta.plugin.outside import HttpAnswer

_PIECE = 65_536


@attrs.frozen
class HttpRequest:
    """What a client asked."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of the first field of that name; None where there is none."""
        return next((value for each, value in self.headers if each == name.lower()), None)


Answering: TypeAlias = Callable[[HttpRequest], HttpAnswer | None]
"""What is answered to a request; None: nothing, ever."""


class HttpPeer:
    """`network.listen("192.0.2.80", 80, HttpPeer(answer).serve)`. One connection may bring many requests."""

    def __init__(self, answer: Answering = lambda request: HttpAnswer(200)) -> None:
        self.answer = answer
        """Change it at any time."""
        self.requests: list[HttpRequest] = []

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end; a client that vanishes is no error."""
        machine = h11.Connection(h11.SERVER)
        try:
            while (request := await self._receive(machine, stream)) is not None:
                self.requests.append(request)
                answer = self.answer(request)
                if answer is None:
                    await trio.sleep_forever()
                await stream.send_all(_written(machine, answer))
                if machine.our_state is h11.MUST_CLOSE:
                    return
                machine.start_next_cycle()
        except trio.BrokenResourceError:
            pass
        finally:
            with trio.move_on_after(1, shield=True):
                await trio.aclose_forcefully(stream)

    async def _receive(self, machine: h11.Connection, stream: trio.abc.Stream) -> HttpRequest | None:
        head: h11.Request | None = None
        body = b""
        while True:
            event = machine.next_event()
            match event:
                case h11.NEED_DATA:
                    machine.receive_data(bytes(await stream.receive_some(_PIECE)))
                case h11.Request():
                    head = event
                case h11.Data():
                    body += bytes(event.data)
                case h11.EndOfMessage():
                    assert head is not None
                    fields = tuple(
                        (name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers
                    )
                    return HttpRequest(head.method.decode(), head.target.decode(), fields, body)
                case _:
                    return None


def _written(machine: h11.Connection, answer: HttpAnswer) -> bytes:
    headers = [*answer.headers, ("content-length", str(len(answer.body)))]
    data = machine.send(h11.Response(status_code=answer.status, headers=headers)) or b""
    data += machine.send(h11.Data(data=answer.body)) or b""
    return data + (machine.send(h11.EndOfMessage()) or b"")
