"""MAIL and RCPT parameters, xtext."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.mail import (
    BodyType,
    DeliverByMode,
    MailSyntaxError,
    Notify,
    Ret,
    parse_forward_path,
    parse_reverse_path,
    replies,
)
from elemta.smtp import (
    BadCommand,
    ByTime,
    Capabilities,
    Mail,
    MailParams,
    Rcpt,
    RcptParams,
    decode_xtext,
    encode_xtext,
    format_command,
    parse_command,
)
from elemta.testing.pairs import EVERYTHING

RETURN, NOTIFY = DeliverByMode.RETURN, DeliverByMode.NOTIFY
WITH_BINARY = Capabilities(binary_mime=True, eight_bit_mime=True, chunking=True)


def mail(words: str, offered: Capabilities = EVERYTHING):
    return parse_command(f"MAIL FROM:<a@example.org> {words}".encode(), offered)


def rcpt(words: str, offered: Capabilities = EVERYTHING, *, utf8: bool = False):
    return parse_command(f"RCPT TO:<a@example.org> {words}".encode(), offered, utf8=utf8)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("SIZE=0", MailParams(size=0)),
        ("size=12345678901234567890", MailParams(size=12345678901234567890)),
        ("BODY=8bitmime", MailParams(body_type=BodyType.EIGHT_BIT_MIME)),
        ("BODY=7BIT", MailParams(body_type=BodyType.SEVEN_BIT)),
        ("SMTPUTF8", MailParams(smtputf8=True)),
        ("RET=HDRS ENVID=QQ+2B314", MailParams(ret=Ret.HEADERS, envelope_id="QQ+314")),
        ("RET=full", MailParams(ret=Ret.FULL)),
        ("AUTH=<>", MailParams(auth="")),
        ("AUTH=e+3Dmc2@example.com", MailParams(auth="e=mc2@example.com")),
        ("AUTH=e+3dmc2@example.com", MailParams(auth="e=mc2@example.com")),
        ("REQUIRETLS MT-PRIORITY=-9", MailParams(require_tls=True, priority=-9)),
        ("MT-PRIORITY=0", MailParams(priority=0)),
        ("MT-PRIORITY=9", MailParams(priority=9)),
        ("BODY=binarymime", MailParams(body_type=BodyType.BINARY_MIME)),
        ("BY=120;R", MailParams(deliver_by=ByTime(120, RETURN))),
        ("by=+60;rt", MailParams(deliver_by=ByTime(60, RETURN, trace=True))),
        ("BY=0;N", MailParams(deliver_by=ByTime(0, NOTIFY))),
        ("BY=1;N", MailParams(deliver_by=ByTime(1, NOTIFY))),  # less than is announced is for R only
        ("BY=-999999999;NT", MailParams(deliver_by=ByTime(-999_999_999, NOTIFY, trace=True))),
        ("HOLDFOR=1", MailParams(hold_for=1)),
        ("HOLDFOR=86400", MailParams(hold_for=86400)),
        ("HOLDUNTIL=2027-01-15T08:00:00Z", MailParams(hold_until=1_800_000_000)),
        ("holduntil=2027-01-15T09:00:00.5+01:00", MailParams(hold_until=1_800_000_000)),
        ("HOLDUNTIL=1970-01-01T00:00:00Z", MailParams(hold_until=0)),
        ("  SIZE=1   BODY=7BIT  ", MailParams(size=1, body_type=BodyType.SEVEN_BIT)),
        ("", MailParams()),
    ],
)
def test_mail_parameters_are_typed(words, expected):
    command = mail(words)
    assert isinstance(command, Mail)
    assert command.params == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("NOTIFY=NEVER", RcptParams(notify=Notify.NEVER)),
        ("NOTIFY=success,Delay", RcptParams(notify=Notify.SUCCESS | Notify.DELAY)),
        ("NOTIFY=FAILURE", RcptParams(notify=Notify.FAILURE)),
        ("ORCPT=rfc822;Bob+2Bx@example.org", RcptParams(original_recipient="rfc822;Bob+x@example.org")),
        ("ORCPT=utf-8;a\\x{FC}@example.org", RcptParams(original_recipient="utf-8;a\\x{FC}@example.org")),
        ("ORCPT=utf-8;\\x{2B}\\x{10FFFF}", RcptParams(original_recipient="utf-8;\\x{2B}\\x{10FFFF}")),
        ("ORCPT=rfc822;a\\b@example.org", RcptParams(original_recipient="rfc822;a\\b@example.org")),
    ],
)
def test_rcpt_parameters_are_typed(words, expected):
    command = rcpt(words)
    assert isinstance(command, Rcpt)
    assert command.params == expected


@pytest.mark.parametrize(
    "words",
    [
        "SIZE=1 SIZE=1",
        "SIZE=1 size=2",
        "SIZE",
        "SIZE=",
        "SIZE=+5",
        "SIZE=1_000",
        "SIZE=123456789012345678901",
        "SIZE=\u0661",
        "SIZE=\u00b2",
        "BODY=9BIT",
        "BODY",
        "BODY=\uff17BIT",
        "SMTPUTF8=1",
        "RET=BOTH",
        "RET=\uff26ULL",
        "ENVID=a+",
        "ENVID=a+0D+0A",
        "ENVID=a+80",
        "ENVID=a+2b",  # RFC 3461 §4: digits in upper case
        "ENVID=a=b",
        "ENVID=" + "a" * 101,
        "AUTH=",
        "MT-PRIORITY=10",
        "MT-PRIORITY=+1",
        "MT-PRIORITY=-0",
        "MT-PRIORITY=01",
        "MT-PRIORITY=-10",
        "MT-PRIORITY=",
        "MT-PRIORITY",
        "MT-PRIORITY=1 MT-PRIORITY=1",
        "REQUIRETLS=1",
        "REQUIRETLS REQUIRETLS",
        "SMTPUTF8 SMTPUTF8",
        "BODY=7BIT BODY=8BITMIME",
        "RET=FULL RET=FULL",
        "ENVID=a ENVID=a",
        "AUTH=<> AUTH=<>",
        "BY",
        "BY=60",
        "BY=60;",
        "BY=60;X",
        "BY=60;R;T",
        "BY=60;TR",
        "BY=;R",
        "BY=1234567890;R",
        "BY=-;N",
        "BY=0;R",
        "BY=-60;R",
        "BY=\u0661;N",
        "BY=60;R BY=60;R",
        "HOLDFOR",
        "HOLDFOR=0",
        "HOLDFOR=-1",
        "HOLDFOR=060",
        "HOLDFOR=1234567890",
        "HOLDFOR=60 HOLDFOR=60",
        "HOLDUNTIL=60",
        "HOLDUNTIL=2027-01-15",
        "HOLDUNTIL=2027-13-15T08:00:00Z",
        "HOLDFOR=60 HOLDUNTIL=2027-01-15T08:00:00Z",
        "=1",
        "SIZE=1=2",
        "-X=1",
    ],
)
def test_wrong_mail_parameters_are_501(words):
    assert mail(words) == BadCommand("MAIL", replies.BAD_PARAMETER_VALUE)


@pytest.mark.parametrize(
    "words",
    [
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=SUCCESS,NEVER",
        "NOTIFY=",
        "NOTIFY=SUCCESS,",
        "NOTIFY=SOMETIMES",
        "NOTIFY=\uff2eEVER",
        "NOTIFY=NEVER NOTIFY=NEVER",
        "ORCPT=Bob@example.org",
        "ORCPT=;x",
        "ORCPT=rfc822;",
        "ORCPT=rf c822;x",
        "ORCPT=rfc822;+0AX",
        "ORCPT=utf-8;\u00fc@example.org",
        "ORCPT=rfc822;" + "a" * 500,
        "ORCPT=rfc822;a ORCPT=rfc822;a",
        "ORCPT=utf-8;a\\b",
        "ORCPT=utf-8;\\x{D800}",
        "ORCPT=utf-8;\\x{110000}",
        "ORCPT=utf-8;\\x{0FC}",
        "ORCPT=utf-8;\\x{FC",
    ],
)
def test_wrong_rcpt_parameters_are_501(words):
    command = rcpt(words)
    assert isinstance(command, BadCommand)
    # "c822;x" is a word of its own, and looks like no parameter
    assert command.reply == replies.BAD_PARAMETER_VALUE


def test_an_original_recipient_beyond_ascii_needs_smtputf8_and_its_type():
    command = rcpt("ORCPT=utf-8;\u00fc@example.org", utf8=True)
    assert isinstance(command, Rcpt)
    assert command.params.original_recipient == "utf-8;\u00fc@example.org"
    assert isinstance(rcpt("ORCPT=rfc822;\u00fc@example.org", utf8=True), BadCommand)


@pytest.mark.parametrize("words", ["XFOO", "XFOO=1", "NOTIFY=NEVER"])
def test_parameters_that_are_not_known_are_555(words):
    assert mail(words) == BadCommand("MAIL", replies.UNKNOWN_PARAMETER)


@pytest.mark.parametrize(
    "words",
    [
        *("SIZE=1", "BODY=7BIT", "SMTPUTF8", "RET=FULL", "ENVID=a", "AUTH=<>", "REQUIRETLS"),
        *("MT-PRIORITY=1", "BY=60;R", "HOLDFOR=60", "HOLDUNTIL=2027-01-15T08:00:00Z"),
    ],
)
def test_parameters_that_are_not_announced_are_555(words):
    assert mail(words, Capabilities()) == BadCommand("MAIL", replies.UNKNOWN_PARAMETER)
    assert rcpt("NOTIFY=NEVER", Capabilities()) == BadCommand("RCPT", replies.UNKNOWN_PARAMETER)
    assert rcpt("ORCPT=rfc822;a", Capabilities()) == BadCommand("RCPT", replies.UNKNOWN_PARAMETER)


def test_binary_mime_where_it_is_not_offered():
    offered = Capabilities(eight_bit_mime=True, chunking=True)
    assert mail("BODY=BINARYMIME", offered) == BadCommand("MAIL", replies.UNKNOWN_PARAMETER)


def test_with_mode_r_there_is_a_least_time_to_deliver_by():
    # RFC 2852 §3
    assert mail("BY=59;R") == BadCommand("MAIL", replies.DELIVER_BY_TOO_SOON)
    assert mail("BY=0;R") == BadCommand("MAIL", replies.BAD_PARAMETER_VALUE)
    assert isinstance(mail("BY=60;R"), Mail)
    assert isinstance(mail("BY=1;R", Capabilities(deliver_by=0)), Mail)


@pytest.mark.parametrize("words", ["HOLDFOR=86401", "HOLDUNTIL=2027-01-15T08:00:01Z"])
def test_messages_are_not_held_longer_than_was_announced(words):
    # RFC 4865 §3, §4
    assert mail(words) == BadCommand("MAIL", replies.HOLD_TOO_LONG)


def test_binary_mime_where_it_is_offered():
    command = mail("BODY=BINARYMIME", WITH_BINARY)
    assert isinstance(command, Mail)
    assert command.params.body_type is BodyType.BINARY_MIME


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


@given(printable)
@settings(deadline=None)
def test_xtext_round_trip(text):
    encoded = encode_xtext(text)
    assert encoded.isascii()
    assert " " not in encoded
    assert decode_xtext(encoded) == text


def test_xtext_beyond_ascii():
    assert encode_xtext("\u00fc") == "\\x{FC}"
    assert encode_xtext("\u00fc", utf8=True) == "\u00fc"
    assert decode_xtext("\u00fc+20", utf8=True) == "\u00fc "
    with pytest.raises(MailSyntaxError):
        decode_xtext("\u00fc")


mail_params = st.builds(
    MailParams,
    size=st.none() | st.integers(0, 10**20 - 1),
    body_type=st.none() | st.sampled_from([BodyType.SEVEN_BIT, BodyType.EIGHT_BIT_MIME]),
    smtputf8=st.booleans(),
    ret=st.none() | st.sampled_from(Ret),
    envelope_id=st.none() | printable,
    auth=st.none() | st.just("") | printable,
    require_tls=st.booleans(),
    priority=st.none() | st.integers(-9, 9),
    deliver_by=st.none()
    | st.builds(ByTime, st.integers(60, 999_999_999), st.sampled_from(DeliverByMode), st.booleans())
    | st.builds(ByTime, st.integers(-999_999_999, 60), st.just(NOTIFY), st.booleans()),
    hold_for=st.none(),
    hold_until=st.none() | st.integers(0, 1_800_000_000),
) | st.builds(MailParams, hold_for=st.integers(1, 86400))
rcpt_params = st.builds(
    RcptParams,
    notify=st.none()
    | st.sampled_from([Notify.NEVER, Notify.SUCCESS, Notify.SUCCESS | Notify.DELAY, ~Notify.NEVER]),
    original_recipient=st.none() | printable.map("rfc822;".__add__),
)


@given(mail_params)
@settings(deadline=None)
def test_mail_round_trip(params):
    command = Mail(parse_reverse_path("<a@example.org>"), params)
    expected = command if params.auth != "<>" else None
    parsed = parse_command(format_command(command, utf8=params.smtputf8)[:-2], EVERYTHING)
    assert parsed == expected or (expected is None and isinstance(parsed, Mail))


@given(rcpt_params)
@settings(deadline=None)
def test_rcpt_round_trip(params):
    command = Rcpt(parse_forward_path("<a@example.org>"), params)
    assert parse_command(format_command(command)[:-2], EVERYTHING) == command
