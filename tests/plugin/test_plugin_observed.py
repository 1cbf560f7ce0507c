"""What observers are given of an event: the same in both tiers, so nothing but what goes through the wire."""

import pytest

from elemta.events import Event, RecipientDeferred, RecipientDelivered
from elemta.mail import Phases
from elemta.plugin.observed import arguments_of
from elemta.plugin.worker import pack_arguments, unpack_arguments

OUTCOME = {
    "time": 0.0,
    "message": "m",
    "recipient": "a@example.org",
    "route": "r",
    "remote": "h",
    "reply": "250 ok",
}
PHASES = Phases(connect=0.25, reply=0.5)


@pytest.mark.parametrize(
    "event",
    [
        RecipientDelivered(**OUTCOME, attempts=1, seconds=1.0, phases=PHASES),
        RecipientDeferred(**OUTCOME, attempts=1, cause="connect", due=7.0, detail="", phases=PHASES),
    ],
)
def test_a_worker_is_given_the_same_of_an_event(event: Event) -> None:
    for hook, make in arguments_of(event):
        arguments = make()
        assert unpack_arguments(pack_arguments(arguments)) == arguments, hook


def test_the_parts_of_a_field_have_names_of_their_own() -> None:
    event = RecipientDelivered(**OUTCOME, attempts=1, seconds=1.0, phases=PHASES)
    fields = dict(arguments_of(event))["event"]().event
    assert (fields["phases.connect"], fields["phases.reply"]) == (0.25, 0.5)
    assert "phases" not in fields
