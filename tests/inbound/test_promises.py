"""DELIVERBY, FUTURERELEASE and MT-PRIORITY: what a message is promised."""

import pytest

from elemta.inbound.promises import Promises, has_requests, take_promises
from elemta.mail import DeliverBy, DeliverByMode, replies
from elemta.smtp import ByTime, MailParams

NOW = 1000.0


def take(params: MailParams, *, may_submit: bool = True):
    return take_promises(params, now=NOW, longest_hold=3600, may_submit=may_submit)


def test_what_asks_for_nothing_is_promised_nothing():
    assert not has_requests(MailParams(size=5, smtputf8=True))
    assert take(MailParams()) == Promises()


@pytest.mark.parametrize("mode", DeliverByMode)
def test_the_time_to_deliver_by_is_counted_from_now(mode: DeliverByMode):
    params = MailParams(deliver_by=ByTime(120, mode, True))
    assert has_requests(params)
    assert take(params) == Promises(deliver_by=DeliverBy(1120.0, mode, True))


def test_only_a_notice_may_be_asked_for_in_the_past():
    # RFC 2852 §4
    late = MailParams(deliver_by=ByTime(-5, DeliverByMode.NOTIFY))
    assert take(late) == Promises(deliver_by=DeliverBy(995.0, DeliverByMode.NOTIFY))
    assert take(MailParams(deliver_by=ByTime(0, DeliverByMode.RETURN))) is replies.DELIVER_BY_PAST


def test_a_message_cannot_be_returned_before_it_is_released():
    params = MailParams(deliver_by=ByTime(60, DeliverByMode.RETURN), hold_for=60)
    assert take(params) is replies.DELIVER_BY_PAST
    params = MailParams(deliver_by=ByTime(61, DeliverByMode.RETURN), hold_for=60)
    assert take(params) == Promises(DeliverBy(1061.0, DeliverByMode.RETURN), 1060.0, "for;60")


def test_nor_is_it_released_after_the_time_at_which_its_sender_is_told():
    # RFC 4865 §5.2.2
    params = MailParams(deliver_by=ByTime(59, DeliverByMode.NOTIFY), hold_for=60)
    assert take(params) is replies.DELIVER_BY_PAST
    params = MailParams(deliver_by=ByTime(60, DeliverByMode.NOTIFY), hold_for=60)
    assert take(params) == Promises(DeliverBy(1060.0, DeliverByMode.NOTIFY), 1060.0, "for;60")


@pytest.mark.parametrize(
    ("params", "release_at", "asked"),
    [
        (MailParams(hold_for=3600), 4600.0, "for;3600"),
        (MailParams(hold_until=4600), 4600, "until;1970-01-01T01:16:40Z"),
        (
            MailParams(hold_until=5),
            5,
            "until;1970-01-01T00:00:05Z",
        ),  # RFC 4865 §4.2: over already, so it goes at once
    ],
)
def test_messages_are_held_back(params: MailParams, release_at: float, asked: str):
    assert has_requests(params)
    assert take(params) == Promises(release_at=release_at, hold_request=asked)


@pytest.mark.parametrize("params", [MailParams(hold_for=3601), MailParams(hold_until=4601)])
def test_but_not_for_longer_than_was_announced(params: MailParams):
    assert take(params) is replies.HOLD_TOO_LONG


@pytest.mark.parametrize(("asked", "given"), [(9, 0), (1, 0), (0, 0), (-4, -4)])
def test_strangers_do_not_come_before_others(asked: int, given: int):
    assert take(MailParams(priority=asked), may_submit=False) == Promises(priority=given)
    assert take(MailParams(priority=asked)) == Promises(priority=asked)
