"""What a next hop is told of the sender's wishes, so that the queue knows which notices are still its own."""

import pytest
from delivery_helpers import connected, deliver_one

from elemta.mail import Relay
from elemta.smtp import Capabilities
from elemta.testing.peers import SinkPeer


@pytest.mark.parametrize(
    ("lmtp", "dsn", "relay"),
    [
        (False, False, Relay()),
        (False, True, Relay(dsn=True)),
        (True, False, None),
        (True, True, Relay(dsn=True)),
    ],
)
async def test_delivery_says_who_took_it_and_who_sends_notices_now(lmtp, dsn, relay, autojump_clock):
    sink = SinkPeer(lmtp=lmtp, capabilities=Capabilities(pipelining=True, dsn=dsn))
    async with connected(sink, lmtp=lmtp) as connection:
        outcomes = await deliver_one(connection)
    outcome = outcomes[0] if isinstance(outcomes, list) else outcomes
    assert outcome.from_remote
    assert outcome.relay == relay
