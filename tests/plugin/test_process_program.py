"""The worker's own end of the wire, in this process: what it hears before the plugin has started."""

import json

import pytest
import trio

from elemta.plugin.worker import Kind, Link, Served, encode_frame
from elemta.plugin.worker.frames import FROM_SERVER, FROM_WORKER, Frame, FrameDecoder, FrameError, named
from elemta.plugin.worker.program import _Program

pytestmark = pytest.mark.deadline(5)


class Starting(Served):
    """Asks for something in its start, and tells when it had to leave that."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard = b""
        self.left = False

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            self.heard = await self.link.ask("state.get", b"key")
        except trio.Cancelled:
            self.left = True
            raise
        task_status.started()
        await trio.sleep_forever()

    async def call(self, hook: str, content: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.heard


class Server:
    """The other end."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder(FROM_WORKER, 1 << 20)
        self._frames: list[Frame] = []

    async def send(self, kind: Kind, call: int, content: bytes = b"") -> None:
        await self.stream.send_all(encode_frame(kind, call, content))

    async def frame(self) -> Frame:
        while not self._frames:
            self._frames.extend(self._decoder.feed(await self.stream.receive_some()))
        return self._frames.pop(0)


@pytest.fixture
async def ends() -> tuple[Server, trio.SocketStream]:
    ours, theirs = trio.socket.socketpair()
    return Server(trio.SocketStream(ours)), trio.SocketStream(theirs)


async def _run(served: Starting, stream: trio.SocketStream) -> None:
    with stream.socket:
        await _Program(served.link, served, 1 << 20).run(stream, FrameDecoder(FROM_SERVER, 1 << 20), ())


async def test_a_question_of_the_start_is_answered(ends: tuple[Server, trio.SocketStream]) -> None:
    server, stream = ends
    served = Starting(Link())
    with server.stream.socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, served, stream)
            question = await server.frame()
            assert (question.kind, question.content) == (Kind.QUESTION, b"state.get\0key")
            await server.send(Kind.REPLY, question.call, b"+value")
            ready = await server.frame()
            assert (ready.kind, json.loads(ready.content)) == (Kind.READY, [])
            await server.send(Kind.CALL, 7, named("rcpt", b""))
            answer = await server.frame()
            assert (answer.kind, answer.call, answer.content) == (Kind.ANSWER, 7, b"rcpt\0value")
            await server.send(Kind.STOP, 0)
    assert not served.left


async def test_told_to_stop_in_its_start_it_ends_without_a_word(
    ends: tuple[Server, trio.SocketStream],
) -> None:
    server, stream = ends
    served = Starting(Link())
    with server.stream.socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, served, stream)
            await server.frame()
            await server.send(Kind.STOP, 0)
        assert await server.stream.receive_some() == b""
    assert served.left


async def test_a_server_that_goes_in_the_start_is_the_end(ends: tuple[Server, trio.SocketStream]) -> None:
    server, stream = ends
    served = Starting(Link())

    async def go() -> None:
        await server.frame()
        server.stream.socket.close()

    with pytest.RaisesGroup(SystemExit, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, served, stream)
            nursery.start_soon(go)
    assert served.left


async def test_what_is_no_frame_ends_a_program_that_starts(ends: tuple[Server, trio.SocketStream]) -> None:
    server, stream = ends
    served = Starting(Link())
    with server.stream.socket, pytest.RaisesGroup(FrameError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, served, stream)
            await server.frame()
            await server.stream.send_all(b"\xff" * 64)
    assert served.left
