"""What a socket tells without waiting: whether the client is still there, and one last word to it."""

from __future__ import annotations

import contextlib
import select
import socket

import trio

from elemta.runtime import QuickSocketStream, ReplayStream

_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


def is_gone(stream: trio.abc.Stream) -> bool:
    """Whether the client has ended its side and nothing of it is left to read. Sync, one system call.

    Taking a message over from someone who has left makes a duplicate: he cannot see our reply and
    sends it again (RELIABILITY D3). Streams that are no sockets cannot tell; then it is False.
    """
    inner: object = stream
    while isinstance(inner, (trio.SSLStream, ReplayStream)):
        inner = inner.stream if isinstance(inner, ReplayStream) else inner.transport_stream
    if not isinstance(inner, (QuickSocketStream, trio.SocketStream)):
        return False
    poll = select.poll()
    number = inner.socket.fileno()
    poll.register(number, select.POLLRDHUP)
    if not any(events & _GONE for _, events in poll.poll(0)):
        return False
    # The end may stand behind data: a client that sent QUIT, or its TLS, and did not wait for answers.
    try:
        with socket.fromfd(number, inner.socket.family, inner.socket.type) as sock:
            return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def send_and_close(stream: QuickSocketStream, data: bytes) -> None:
    """Write what goes at once and close. Sync, so that a flood of clients costs no tasks and no waits."""
    with contextlib.suppress(OSError), socket.socket(fileno=stream.socket.detach()) as sock:
        sock.setblocking(False)
        sock.send(data)
