"""Senders that are rewritten, and the way back from them."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import Domain, Mailbox, parse_mailbox
from elemta.routing.srs import Srs, SrsSecretsError, read_srs_secrets

DAY = 86400.0
NOW = 20_000 * DAY + 5
SRS = Srs(Domain("ours.example"), (b"a secret of some length",), 21 * DAY)
FIRST = Srs(Domain("first.example"), (b"the secret of another host",), 21 * DAY)

names = st.from_regex(r"[A-Za-z0-9_.+=-]{1,12}", fullmatch=True).map(
    lambda text: f"a{text}".replace("..", ".x")
)
senders = st.builds(lambda name: Mailbox(name, Domain("origin.example")), names)
times = st.floats(0, 3e9)


@given(senders, times, st.integers(0, 20))
def test_whoever_was_rewritten_is_found_again_for_as_long_as_the_configuration_says(sender, now, days):
    made = SRS.rewrite(sender, now)
    assert made is not None
    assert made.domain == SRS.domain
    assert SRS.is_ours(made)
    assert SRS.reverse(made, now + days * DAY) == sender
    assert SRS.reverse(made, now + 23 * DAY) is None


@given(senders, times, st.randoms(use_true_random=False))
def test_relays_that_change_the_case_of_letters_do_no_harm(sender, now, random):
    made = SRS.rewrite(sender, now)
    assert made is not None
    text = "".join(random.choice((letter.lower(), letter.upper())) for letter in made.local_part)
    found = SRS.reverse(attrs.evolve(made, local_part=text), now)
    assert found is not None
    assert found.local_part.lower() == sender.local_part.lower()
    assert found.domain.text.lower() == sender.domain.text


@given(senders, times, st.integers(0, 200), st.sampled_from("0aZ=+-.é"))
def test_no_changed_address_leads_anywhere_else(sender, now, place, letter):
    made = SRS.rewrite(sender, now)
    assert made is not None
    place %= len(made.local_part)
    text = made.local_part[:place] + letter + made.local_part[place + 1 :]
    found = SRS.reverse(attrs.evolve(made, local_part=text), now)
    assert found is None or str(found).lower() == str(sender).lower()


@given(st.text(max_size=64), times)
def test_no_text_breaks_it(text, now):
    for mark in ("", "SRS0=", "SRS1=", "srs0+", "SRS1=AAAAAA=x.example="):
        assert SRS.reverse(Mailbox(mark + text, SRS.domain), now) is None
        SRS.rewrite(Mailbox(mark + text, Domain("origin.example")), now)


def test_what_another_host_sent_on_goes_back_to_that_host_however_long_the_way():
    made = FIRST.rewrite(parse_mailbox("alice@o.example"), NOW)
    ours = SRS.rewrite(made, NOW)
    assert ours.local_part.startswith("SRS1=")
    assert SRS.reverse(ours, NOW + 900 * DAY) == made  # too old is for the first host to say
    third = Srs(Domain("third.example"), (b"a third secret, as long",), 21 * DAY)
    last = third.rewrite(ours, NOW)
    assert len(last.local_part) == len(ours.local_part)
    assert third.reverse(last, NOW) == made
    assert FIRST.reverse(made, NOW) == parse_mailbox("alice@o.example")


def test_what_came_back_by_way_of_another_host_goes_to_who_wrote_it():
    sender = parse_mailbox("alice@o.example")
    again = SRS.rewrite(FIRST.rewrite(SRS.rewrite(sender, NOW), NOW), NOW)
    assert again.local_part.startswith("SRS1=")
    assert SRS.reverse(again, NOW) == sender
    assert SRS.reverse(again, NOW + 23 * DAY) is None


def test_another_host_cannot_say_who_is_behind_an_address_of_ours():
    forged = Mailbox("SRS1=AAAA=ours.example==AAAAAA=AA=o.example=alice", Domain("first.example"))
    assert SRS.reverse(SRS.rewrite(forged, NOW), NOW) is None


def test_a_host_with_another_separator_finds_its_own_address_again():
    made = Mailbox("SRS0+abcd=XY=o.example=alice", Domain("first.example"))
    assert SRS.reverse(SRS.rewrite(made, NOW), NOW) == made


@pytest.mark.parametrize(
    "sender",
    [
        Mailbox("a" * 50, Domain("origin.example")),
        Mailbox("victim%elsewhere.example", Domain("origin.example")),
        Mailbox("elsewhere.example!victim", Domain("origin.example")),
    ],
)
def test_what_would_be_too_long_or_asks_for_routing_stays_as_it_is(sender):
    assert SRS.rewrite(sender, NOW) is None


LONG = Mailbox("bounces+1234567-89ab-alice=partner.example", Domain("mailings.origin.example"))


def test_what_is_too_long_is_kept_under_a_key_that_comes_back():
    kept = {}
    made = SRS.rewrite(LONG, NOW, lambda key, sender, until: kept.update({key: (sender, until)}))
    assert len(made.local_part) <= 64
    assert SRS.is_ours(made)
    for text in (made.local_part, made.local_part.lower()):
        found = SRS.reverse(attrs.evolve(made, local_part=text), NOW + 21 * DAY)
        assert kept[found.key][0] == LONG
    assert kept[found.key][1] > NOW + 22 * DAY
    assert SRS.reverse(made, NOW + 23 * DAY) is None
    again = SRS.rewrite(LONG, NOW, lambda key, sender, until: None)
    assert again == made  # one sender, one entry
    # nobody else can make one
    for forged in (made.local_part.replace("SRS0=", "SRS0=A"), made.local_part[:-1] + "A"):
        if forged != made.local_part:
            assert SRS.reverse(attrs.evolve(made, local_part=forged), NOW) is None
    # and hosts behind us find the way back through us
    third = Srs(Domain("third.example"), (b"the secret of a third host",), 21 * DAY)
    assert third.reverse(third.rewrite(made, NOW), NOW) == made
    assert SRS.reverse(SRS.rewrite(third.rewrite(made, NOW), NOW), NOW) == found


def test_short_senders_and_those_that_ask_for_routing_are_never_kept():
    def keep(key, sender, until):
        raise AssertionError

    assert SRS.rewrite(parse_mailbox("alice@o.example"), NOW, keep) == SRS.rewrite(
        parse_mailbox("alice@o.example"), NOW
    )
    assert SRS.rewrite(Mailbox("a" * 50 + "%x", Domain("origin.example")), NOW, keep) is None


def test_what_only_looks_rewritten_is_rewritten_like_any_other():
    sender = parse_mailbox("srs1=x@o.example")
    assert SRS.reverse(SRS.rewrite(sender, NOW), NOW) == sender


def test_what_an_older_secret_made_is_known_until_the_secret_is_gone():
    made = SRS.rewrite(parse_mailbox("alice@o.example"), NOW)
    new = b"the secret of this year"
    assert attrs.evolve(SRS, secrets=(new, *SRS.secrets)).reverse(made, NOW) is not None
    assert attrs.evolve(SRS, secrets=(new,)).reverse(made, NOW) is None


def test_the_secrets_are_in_no_text_of_it():
    assert "secret of" not in repr(SRS)


def test_the_file_has_a_secret_in_each_line(tmp_path):
    file = tmp_path / "srs"
    file.write_text("# of 2026\nABCDEFGHIJKLMNOPQRST\n\nolder-older-older-older\r\n")
    file.chmod(0o600)
    assert read_srs_secrets(file) == (b"ABCDEFGHIJKLMNOPQRST", b"older-older-older-older")


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("", 0o600, "there is no secret in it"),
        ("short\n", 0o600, "srs:1: a secret has at least 16 characters"),
        ("ABCDEFGHIJKLMNOPQRST\n", 0o644, "is open to others"),
        (None, 0, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, mode, reason):
    file = tmp_path / "srs"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(SrsSecretsError, match=reason) as caught:
        read_srs_secrets(file)
    assert "short" not in str(caught.value)
