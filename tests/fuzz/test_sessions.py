"""Whole sessions of the server in memory: whatever a client sends, no session crashes, and each reply is one."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import attrs
import pytest
import trio
from auth.auth_bed import DictStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inbound.inbound_bed import FRIEND, STRANGER, make_config, open_bed
from trio.testing import MockClock, wait_all_tasks_blocked

from elemta.auth import Authenticator
from elemta.config import Config, LineEndPolicy, ListenerAuth, ListenerRole
from elemta.events import SessionClosed, TaskCrashed
from elemta.runtime import TrioWallClock

from .targets import WORDS

HELLO = b"EHLO x\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@ours.example>\r\n"
BEGINS = [b"", HELLO, HELLO + ENVELOPE, HELLO + ENVELOPE + b"DATA\r\n", HELLO + ENVELOPE + b"BDAT 4\r\nabcd"]
MORE = [
    b"RCPT TO:<u@ours.example>\r\n",
    b"AUTH PLAIN AHUAcA==\r\n",
    b"AUTH SCRAM-SHA-256 biwsbj11LHI9eA==\r\n",
    ENVELOPE,
]
inputs = st.tuples(
    st.sampled_from(BEGINS),
    st.lists(st.one_of(st.sampled_from(WORDS + MORE), st.binary(max_size=4)), max_size=30).map(b"".join),
).map(b"".join)
REPLY_LINE = re.compile(rb"[2-5][0-9]{2}[ -][ -~]{0,506}")


def server(role: ListenerRole) -> Config:
    return make_config(
        role=role,
        limits={"errors": 10, "soft_errors": 3, "message_size": 2000, "line_ends": LineEndPolicy.REPAIR},
        listener={"auth": ListenerAuth.OFF if role is ListenerRole.LMTP else ListenerAuth.OPTIONAL},
        proxies={"xclient": make_config().relay.networks, "xforward": make_config().relay.networks},
    )


async def converse(config: Config, data: bytes, size: int, peer: str) -> None:
    authenticator = Authenticator(
        attrs.evolve(config.auth, loopback_without_tls=True),
        DictStore(u="p"),
        Random(1),
        TrioWallClock(),
        hostname=config.hostname,
        secret=bytes(32),
    )
    async with open_bed(config, authenticator=authenticator) as bed:
        client = bed.dial(peer)
        output = bytearray()

        async def read() -> None:
            try:
                while piece := await client.stream.receive_some(65536):
                    output.extend(piece)
            except trio.BrokenResourceError:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            try:
                for at in range(0, len(data), size):
                    await client.stream.send_all(data[at : at + size])
                assert isinstance(client.stream, trio.abc.HalfCloseableStream)
                await wait_all_tasks_blocked()
                await client.stream.send_eof()
            except trio.BrokenResourceError:
                pass  # the server has hung up
        await wait_all_tasks_blocked()
        assert bed.seen(TaskCrashed) == []
        assert len(bed.seen(SessionClosed)) == 1
        assert output.endswith(b"\r\n")
        for line in bytes(output).split(b"\r\n")[:-1]:
            assert REPLY_LINE.fullmatch(line), line


def run(*arguments: Any) -> None:
    trio.run(converse, *arguments, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("role", list(ListenerRole))
@pytest.mark.parametrize("peer", [STRANGER, FRIEND])
def test_no_session_crashes(role: ListenerRole, peer: str) -> None:
    config = server(role)

    @given(inputs, st.sampled_from([1, 7, 10000]))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def check(data: bytes, size: int) -> None:
        if role is ListenerRole.LMTP:
            data = data.replace(b"EHLO", b"LHLO")
        run(config, data, size, peer)

    check()
