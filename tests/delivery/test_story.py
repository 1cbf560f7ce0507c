"""What an attempt that failed can tell of what was said."""

import pytest
from delivery_helpers import connected, deliver_one, make_parcel, open_transport

from elemta.delivery import ConnectFailed
from elemta.events import Mark
from elemta.mail import Reply
from elemta.smtp import show_said
from elemta.testing.peers import Expect, ScriptedPeer, SinkPeer


async def test_a_kept_connection_tells_what_was_said_about_one_message(autojump_clock):
    sink = SinkPeer(answers={"RCPT": Reply.of(550, "5.1.1", "no")})
    async with connected(sink) as connection:
        await deliver_one(connection)
        await deliver_one(connection)
        story = connection.story(make_parcel("x@example.org").message)
    marks = [entry for entry in story if isinstance(entry[2], Mark)]
    assert len(marks) == 1  # both have the same id, and the last is the one
    said = [line for _, _, what in story if not isinstance(what, Mark) for line in show_said(what)]
    assert said[0].startswith("220 ")
    assert said.count("550 5.1.1 no") == 1


async def test_who_cannot_be_reached_tells_what_was_said_until_then(autojump_clock):
    peer = ScriptedPeer((Expect.NOTHING, b"554 5.7.1 go away\r\n"))
    async with open_transport(peer) as transport:
        with pytest.raises(ConnectFailed) as caught:
            await transport.connect()
    said = [line for _, _, what in caught.value.story for line in show_said(what)]
    assert any("connected" in line for line in said)
    assert "554 5.7.1 go away" in said
