"""The transition table as data."""

import pytest

from elemta.mail import Severity
from elemta.smtp import TRANSITIONS, State, Verb, is_legal

TRANSACTION = (State.MAIL, State.REFUSED, State.RCPT)


def test_every_state_is_reached_and_all_but_the_final_ones_are_left():
    reached = set(TRANSITIONS.values())
    left = {state for state, _, _ in TRANSITIONS}
    assert reached | {State.GREETING, State.ERROR} == set(State)
    assert left == set(State) - {State.CLOSED, State.ERROR}


def test_every_legal_command_may_be_refused_for_now_and_for_ever():
    for state, verb in {key[:2] for key in TRANSITIONS}:
        assert {(state, verb, Severity.TRANSIENT), (state, verb, Severity.PERMANENT)} <= TRANSITIONS.keys()


def test_only_data_and_auth_have_an_intermediate_reply():
    verbs = {verb for _, verb, severity in TRANSITIONS if severity is Severity.INTERMEDIATE}
    assert verbs == {Verb.DATA, Verb.AUTH}


def test_a_transaction_cannot_be_opened_within_one():
    assert is_legal(State.READY, "MAIL")
    assert not any(is_legal(state, "MAIL") for state in (*TRANSACTION, State.HELLO, State.BODY))


@pytest.mark.parametrize("state", TRANSACTION)
@pytest.mark.parametrize("verb", ["EHLO", "HELO", "LHLO", "RSET"])
def test_hello_and_rset_end_a_transaction_unless_they_are_refused(state, verb):
    assert TRANSITIONS[state, verb, Severity.POSITIVE] is State.READY
    assert TRANSITIONS[state, verb, Severity.PERMANENT] is state


def test_rset_before_hello_does_not_replace_it():
    assert TRANSITIONS[State.HELLO, "RSET", Severity.POSITIVE] is State.HELLO


@pytest.mark.parametrize("severity", [Severity.POSITIVE, Severity.TRANSIENT, Severity.PERMANENT])
def test_any_reply_to_the_body_ends_the_transaction(severity):
    assert TRANSITIONS[State.BODY, "BODY", severity] is State.READY


@pytest.mark.parametrize("state", [State.REFUSED, State.RCPT])
def test_a_refused_data_command_keeps_the_transaction(state):
    assert TRANSITIONS[state, "DATA", Severity.TRANSIENT] is state


def test_nothing_but_quit_after_a_rejecting_greeting():
    assert {verb for state, verb, _ in TRANSITIONS if state is State.REJECTED} == {"QUIT"}


def test_a_verb_is_found_by_its_plain_text():
    assert (
        TRANSITIONS[State.READY, "MAIL", Severity.POSITIVE]
        is TRANSITIONS[State.READY, Verb.MAIL, Severity.POSITIVE]
    )
    assert {Verb.MAIL: 1}["MAIL"] == 1
