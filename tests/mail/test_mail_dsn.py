"""Notices: read back with the `email` package, whatever strangers put into them."""

import email
import email.policy
import re
import time

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import (
    NULL_PATH,
    Action,
    BodyType,
    DeliverBy,
    DeliverByMode,
    DsnOptions,
    DsnRecipient,
    DsnReport,
    Envelope,
    MessageId,
    Notify,
    Recipient,
    Reply,
    Ret,
    ReversePath,
    build_dsn,
    date,
    needs_8bit,
    notice_envelope,
    parse_mailbox,
    replies,
)

SENDER = parse_mailbox("sender@example.org")
USER = parse_mailbox("user@example.net")
NOTICE = MessageId("n" * 16)
ORIGINAL = MessageId("0" * 15 + "1")
ARRIVAL = 1_700_000_000.0
ATTEMPT = 1_700_000_300.0
NOW = 1_700_000_301.0
UNKNOWN_USER = Reply.of(550, "5.1.1", "no such user")
HEADER = b"Received: from a\r\n\tby b; now\r\nMessage-ID: <one@example.org>\r\nSubject: hello\r\n"
CONTENT = HEADER + b"\r\nDear user,\r\nhello\r\n"


def failed(mailbox=USER, reply=UNKNOWN_USER, **changes):
    options = {"remote": "mx.example.net[192.0.2.25]:25", "from_remote": True, "last_attempt": ATTEMPT}
    return DsnRecipient(Recipient(mailbox), Action.FAILED, reply, **(options | changes))


def make(*recipients, content=CONTENT, complete=False, sender=SENDER, **envelope):
    recipients = recipients or (failed(),)
    return DsnReport(
        hostname="mx.example.org",
        message=NOTICE,
        time=NOW,
        original=ORIGINAL,
        envelope=Envelope(ReversePath(sender), tuple(each.recipient for each in recipients), **envelope),
        arrival=ARRIVAL,
        recipients=recipients,
        content=content,
        complete=complete,
    )


def read(report):
    """The notice and its three parts, checked for what holds of every notice."""
    raw = build_dsn(report)
    assert b"\0" not in raw
    lines = raw.split(b"\r\n")
    assert lines[-1] == b""
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) <= 998
    notice = email.message_from_bytes(raw, policy=email.policy.default)
    text, status, original = notice.get_payload()
    # An original may have any defect inside; the parts themselves have none.
    assert not any(part.defects for part in (notice, text, original, *status.walk()))
    assert notice.get_content_type() == "multipart/report"
    assert notice.get_param("report-type") == "delivery-status"
    boundary = notice.get_boundary().encode()
    assert raw.count(boundary) == 1 + 4
    head = re.search(rb"\r\n\r\n", raw).start()
    assert raw[:head].isascii() or not report.envelope.reverse_path.mailbox.is_ascii
    return notice, text, status, original


def groups(status):
    """The fields of the status part, one dict per group."""
    return [dict(group.items()) for group in status.get_payload()]


def prose(text):
    """The text for people, with line ends of Python."""
    return text.get_content().replace("\r\n", "\n")


def source(part):
    """The octets of a part's content as they were sent."""
    return part.as_bytes(policy=email.policy.SMTP).partition(b"\r\n\r\n")[2]


def test_the_header_of_a_notice():
    notice, *_ = read(make())
    assert dict(notice.items()) == {
        "From": "Mail Delivery System <MAILER-DAEMON@mx.example.org>",
        "To": "sender@example.org",
        "Subject": "Undelivered mail",
        "Date": date(NOW),
        "Message-ID": f"<{NOTICE}@mx.example.org>",
        "In-Reply-To": "<one@example.org>",
        "References": "<one@example.org>",
        "Auto-Submitted": "auto-replied",
        "X-Auto-Response-Suppress": "All",
        "MIME-Version": "1.0",
        "Content-Type": notice["Content-Type"],
    }


def test_the_status_of_a_failure():
    _, _, status, _ = read(make())
    assert status.get_content_type() == "message/delivery-status"
    assert groups(status) == [
        {"Reporting-MTA": "dns; mx.example.org", "Arrival-Date": date(ARRIVAL)},
        {
            "Final-Recipient": "rfc822; user@example.net",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.example.net",
            "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
            "Last-Attempt-Date": date(ATTEMPT),
            "Final-Log-ID": ORIGINAL,
        },
    ]


def test_the_deadline_of_the_sender_is_shown():
    by = DeliverBy(NOW, DeliverByMode.RETURN)
    expired = failed(reply=replies.EXPIRED, from_remote=False)
    _, _, status, _ = read(make(expired, deliver_by=by))
    about, fields = groups(status)
    assert about["Deliver-By-Date"] == date(NOW)
    assert fields["Status"] == "5.4.7"


@pytest.mark.parametrize("request_", ["for;3600", "until;2023-11-15T00:00:00Z"])
def test_how_the_message_was_to_be_held_back_is_shown(request_):
    # RFC 4865 §5.1.2
    _, _, status, _ = read(make(release_at=NOW + 3600, hold_request=request_))
    about, _ = groups(status)
    assert about["Future-Release-Request"] == request_
    assert "Arrival-Date" in about


def test_a_success_names_the_server_that_took_it():
    taken = DsnRecipient(
        Recipient(USER),
        Action.RELAYED,
        Reply.of(250, "2.6.0", "queued"),
        "mx.example.net[192.0.2.25]:25",
        True,
    )
    _, text, status, _ = read(make(taken))
    fields = groups(status)[1]
    assert (fields["Action"], fields["Remote-MTA"]) == ("relayed", "dns; mx.example.net")
    assert fields["Diagnostic-Code"] == "smtp; 250 2.6.0 queued"
    assert "passed on" in prose(text)


def test_the_text_of_a_failure():
    _, text, _, _ = read(make())
    assert text.get_content_type() == "text/plain"
    content = prose(text)
    assert "could not be delivered" in content
    assert "<user@example.net>\n    mx.example.net [192.0.2.25] said: 550 5.1.1 no such user\n" in content
    assert ORIGINAL in content
    assert max(map(len, content.split("\n"))) < 78


def test_equal_reports_are_equal_bytes():
    assert build_dsn(make()) == build_dsn(make())


def test_what_this_server_found_is_no_diagnostic_code():
    recipient = failed(reply=replies.NO_SUCH_DOMAIN, from_remote=False, remote="/var/mail/secret")
    notice, text, status, _ = read(make(recipient))
    fields = groups(status)[1]
    assert fields["Status"] == "5.1.2"
    assert "Diagnostic-Code" not in fields
    assert "Remote-MTA" not in fields
    assert "Reason: 550 5.1.2 the domain does not exist" in prose(text)
    assert "secret" not in notice.as_string()


def test_a_recipient_that_was_never_tried_has_no_attempt():
    assert "Last-Attempt-Date" not in groups(read(make(failed(last_attempt=None)))[2])[1]


def test_giving_up_keeps_the_code_of_the_last_problem():
    # RFC 3463 §3.5 X.4.7: "If possible, the code for the actual problem found … should be returned"
    recipient = failed(reply=replies.CONNECT_FAILED, from_remote=False)
    _, text, status, _ = read(make(recipient))
    assert groups(status)[1]["Action"] == "failed"
    assert groups(status)[1]["Status"] == "4.4.1"
    assert "Given up after many attempts: 451 4.4.1" in prose(text)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply.of(550, None, "no"), "5.0.0"),
        (Reply.of(452, None, "later"), "4.0.0"),
        (Reply.of(250, None, "ok"), "2.0.0"),
        (Reply.of(354, None, "what"), "4.5.0"),
        (Reply.of(199, None, "what"), "4.5.0"),
        (Reply.of(550, "5.7.512", "no"), "5.7.512"),
    ],
)
def test_a_reply_without_an_enhanced_code_has_the_status_of_its_class(reply, status):
    assert groups(read(make(failed(reply=reply)))[2])[1]["Status"] == status


def delayed(**changes):
    return attrs.evolve(
        failed(reply=replies.CONNECT_FAILED, from_remote=False), action=Action.DELAYED, **changes
    )


def test_a_delay_says_until_when():
    notice, text, status, original = read(make(delayed(retry_until=NOW + 86400)))
    assert notice["Subject"] == "Delayed mail (still being tried)"
    assert groups(status)[1]["Action"] == "delayed"
    assert groups(status)[1]["Will-Retry-Until"] == date(NOW + 86400)
    assert "no need to send it again" in prose(text).replace("\n", " ")
    assert original.get_content_type() == "text/rfc822-headers"


def test_only_a_delay_says_until_when():
    assert "Will-Retry-Until" not in groups(read(make(failed(retry_until=NOW)))[2])[1]
    assert "Will-Retry-Until" not in groups(read(make(delayed()))[2])[1]


@pytest.mark.parametrize("action", [Action.DELIVERED, Action.RELAYED, Action.EXPANDED])
def test_a_success_is_no_failure(action):
    recipient = failed(reply=Reply.of(250, "2.1.5", "ok"))
    notice, text, status, _ = read(make(attrs.evolve(recipient, action=action)))
    assert notice["Subject"] == "Delivered mail"
    assert groups(status)[1]["Action"] == action
    assert groups(status)[1]["Status"] == "2.1.5"
    assert "could not" not in prose(text)


def test_a_local_delivery_says_what_was_done():
    recipient = DsnRecipient(Recipient(USER), Action.DELIVERED, Reply.of(250, "2.0.0", "in the mailbox"))
    assert "    250 2.0.0 in the mailbox\n" in prose(read(make(recipient))[1])


def test_several_recipients_have_a_group_each():
    other = parse_mailbox("other@example.com")
    notice, text, status, _ = read(make(delayed(), failed(other), failed()))
    assert notice["Subject"] == "Undelivered mail"
    assert [group["Final-Recipient"] for group in groups(status)[1:]] == [
        "rfc822; user@example.net",
        "rfc822; other@example.com",
        "rfc822; user@example.net",
    ]
    content = prose(text)
    assert content.index("<other@example.com>") < content.index("It is still")


# --- What the sender asked for -----------------------------------------------------------------------------


def test_envelope_id_and_original_recipient_are_given_back():
    options = DsnOptions(original_recipient="rfc822;first+last=x@example.com")
    recipient = attrs.evolve(failed(), recipient=Recipient(USER, options))
    _, _, status, _ = read(make(recipient, envelope_id="QQ+314159 a=b"))
    assert groups(status)[0]["Original-Envelope-Id"] == "QQ+314159 a=b"
    assert groups(status)[1]["Original-Recipient"] == "rfc822; first+last=x@example.com"


def test_what_was_not_given_is_not_made_up():
    raw = build_dsn(make())
    assert b"Original-Envelope-Id" not in raw
    assert b"Original-Recipient" not in raw


def test_the_header_comes_back_by_default():
    for report in (make(), make(complete=True), make(complete=True, ret=Ret.HEADERS), make(ret=Ret.FULL)):
        original = read(report)[3]
        assert original.get_content_type() == "text/rfc822-headers"
        assert original["Content-Transfer-Encoding"] == "7bit"
        assert source(original) == HEADER


def test_the_whole_message_comes_back_where_asked_for():
    original = read(make(content=CONTENT, complete=True, ret=Ret.FULL))[3]
    assert original.get_content_type() == "message/rfc822"
    [message] = original.get_payload()
    assert message["Subject"] == "hello"
    assert build_dsn(make(complete=True, ret=Ret.FULL)).count(CONTENT) == 1


def test_a_delay_never_returns_the_whole_message():
    # RFC 3461 §4.3
    assert read(make(delayed(), complete=True, ret=Ret.FULL))[3].get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    "body",
    [b"x" * 999 + b"\r\n", b"a\0b\r\n", b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\n", b"a\n\r\n"],
    ids=["long", "nul", "lf", "cr", "cr before crlf", "lf before crlf"],
)
def test_a_message_that_cannot_travel_comes_back_as_its_header(body):
    original = read(make(content=HEADER + b"\r\n" + body, complete=True, ret=Ret.FULL))[3]
    assert original.get_content_type() == "text/rfc822-headers"
    assert source(original) == HEADER


def test_the_longest_line_can_travel():
    content = HEADER + b"\r\n" + b"x" * 998
    assert read(make(content=content, complete=True, ret=Ret.FULL))[3].get_content_type() == "message/rfc822"


# --- 8-bit and UTF-8 -------------------------------------------------------------------------------------


def test_a_plain_notice_needs_nothing_of_the_next_hop():
    report = make(envelope_id="x", priority=4)
    notice = build_dsn(report)
    assert not needs_8bit(notice)
    assert notice_envelope(report, notice) == Envelope(
        NULL_PATH,
        (Recipient(SENDER, DsnOptions(notify=Notify.NEVER)),),
        priority=4,  # RFC 6710 §4.6: as urgent as what it is about
    )


def test_eight_bit_content_is_announced():
    content = HEADER + b"X: \xe9\r\n\r\n"
    report = make(content=content)
    notice, _, _, original = read(report)
    assert notice["Content-Transfer-Encoding"] == "8bit"
    assert original["Content-Transfer-Encoding"] == "8bit"
    raw = build_dsn(report)
    assert HEADER + b"X: \xe9\r\n" in raw
    assert needs_8bit(raw)
    assert notice_envelope(report, raw).body_type is BodyType.EIGHT_BIT_MIME
    assert not notice_envelope(report, raw).smtputf8


def test_a_whole_message_may_be_eight_bit():
    content = HEADER + b"\r\n\xff\xfe\r\n"
    _, _, _, original = read(make(content=content, complete=True, ret=Ret.FULL))
    assert original.get_content_type() == "message/rfc822"
    assert original["Content-Transfer-Encoding"] == "8bit"


def test_require_tls_holds_for_the_notice():
    report = make(require_tls=True)
    assert notice_envelope(report, build_dsn(report)).require_tls


def test_an_international_message_has_the_global_types():
    user = parse_mailbox("jörg@müller.example", utf8=True)
    sender = parse_mailbox("用户@example.org", utf8=True)
    recipient = failed(user, Reply.of(550, "5.1.1", "unbekannt: jörg"))
    header = "Subject: grüße\r\n".encode()
    report = make(recipient, sender=sender, smtputf8=True, content=header + b"\r\n")
    _, text, status, original = read(report)
    assert "To: <用户@example.org>\r\n".encode() in build_dsn(report)
    assert text.get_content_charset() == "utf-8"
    assert "<jörg@xn--mller-kva.example>" in prose(text)
    assert status.get_content_type() == "message/global-delivery-status"
    raw = build_dsn(report).decode()
    assert "Final-Recipient: utf-8; jörg@xn--mller-kva.example\r\n" in raw
    assert "Diagnostic-Code: smtp; 550 5.1.1 unbekannt: jörg\r\n" in raw
    assert original.get_content_type() == "message/global-headers"
    envelope = notice_envelope(report, build_dsn(report))
    assert envelope.smtputf8
    assert envelope.body_type is BodyType.EIGHT_BIT_MIME


def test_an_international_message_comes_back_as_message_global():
    report = make(content=CONTENT, complete=True, ret=Ret.FULL, smtputf8=True)
    assert b"Content-Type: message/global\r\n" in build_dsn(report)
    assert not notice_envelope(report, build_dsn(report)).smtputf8


def test_without_smtputf8_everything_is_written_in_ascii():
    # RFC 6533 §3: utf-8-addr-xtext
    options = DsnOptions(original_recipient="utf-8;jörg@example.com")
    user = parse_mailbox("jörg@example.net", utf8=True)
    recipient = attrs.evolve(
        failed(reply=Reply.of(550, "5.1.1", "né 💩")), recipient=Recipient(user, options)
    )
    report = make(recipient)
    _, text, status, _ = read(report)
    fields = groups(status)[1]
    assert fields["Original-Recipient"] == "utf-8; j\\x{F6}rg@example.com"
    assert fields["Final-Recipient"] == "utf-8; j\\x{F6}rg@example.net"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 n\\x{E9} \\x{1F4A9}"
    assert text.get_content_charset() == "us-ascii"
    assert not needs_8bit(build_dsn(report))


# --- Strangers' text -------------------------------------------------------------------------------------

HOSTILE = [
    "a\r\nBcc: victim@example.com\r\n\r\n--x",
    "\r\n\r\n\r\n",
    "a\0b",
    "\x1b[2J\x9b2J",
    "\u202egnp.exe",
    "\ud800\udfff",
    "\u2028\u2029\x85\x1c",
    "x" * 100_000,
    "é" * 100_000,
    "\x01" * 100_000,
    "a " * 100_000,
    " " * 100_000,
    "%s %n {0} $(id) =?utf-8?q?x?=",
    f"--elemta={NOTICE}=0--",
    "",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("smtputf8", [False, True])
def test_a_hostile_reply_stays_in_its_field(text, smtputf8):
    _, _, status, _ = read(make(failed(reply=Reply(550, None, (text, text))), failed(), smtputf8=smtputf8))
    raw = status.as_bytes()
    assert len(re.findall(rb"(?m)^Action: ", raw)) == 2
    assert b"\nBcc:" not in raw
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", raw.replace(b"\r\n", b"\n"))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("smtputf8", [False, True])
def test_hostile_options_stay_in_their_fields(text, smtputf8):
    recipient = attrs.evolve(failed(), recipient=Recipient(USER, DsnOptions(original_recipient=text)))
    _, _, status, _ = read(make(recipient, envelope_id=text, smtputf8=smtputf8))
    raw = status.as_bytes()
    assert len(re.findall(rb"(?m)^Action: ", raw)) == 1
    assert b"\nBcc:" not in raw


@pytest.mark.parametrize(
    ("remote", "shown", "said"),
    [
        ("mx.example.net[192.0.2.25]:25", "dns; mx.example.net", "mx.example.net [192.0.2.25] said"),
        ("mx.example.net:25", "dns; mx.example.net", "mx.example.net said"),
        ("mx.example.net", "dns; mx.example.net", "mx.example.net said"),
        ("[2001:db8::1]:25", "dns; [IPv6:2001:db8::1]", "[IPv6:2001:db8::1] said"),
        ("192.0.2.25[192.0.2.25]:25", "dns; [192.0.2.25]", "[192.0.2.25] said"),
        ("2001:db8::1[2001:db8::1]:25", "dns; [IPv6:2001:db8::1]", "[IPv6:2001:db8::1] said"),
        ("[IPv6:2001:db8::1]", "dns; [IPv6:2001:db8::1]", "[IPv6:2001:db8::1] said"),
        ("evil\r\nBcc: x[1]:25", "dns; [1]", "[1] said"),
        ("a[b\nc]", "dns; a", "a said"),
        ("/var/mail/user", None, "The next server said"),
        ("[[x", None, "The next server said"),
        ("", None, "The next server said"),
    ],
)
def test_the_remote_is_named_by_host_or_address(remote, shown, said):
    _, text, status, _ = read(make(failed(remote=remote)))
    assert groups(status)[1].get("Remote-MTA") == shown
    assert f"    {said}: 550" in prose(text)


def test_a_long_reply_is_folded_at_blanks():
    text = " ".join(["word"] * 100)
    raw = build_dsn(make(failed(reply=Reply.of(550, "5.1.1", text))))
    folded = re.search(rb"Diagnostic-Code: (?:.*\r\n )*.*\r\n", raw)[0]
    assert max(map(len, folded.split(b"\r\n"))) <= 76
    assert folded.replace(b"\r\n ", b" ") == f"Diagnostic-Code: smtp; 550 5.1.1 {text}\r\n".encode()


def test_an_address_is_never_folded_or_cut():
    mailbox = parse_mailbox('"' + "a " * 30 + '"@' + ".".join(["d" * 60] * 3))
    raw = build_dsn(make(failed(mailbox), sender=mailbox))
    assert f"Final-Recipient: rfc822; {mailbox}\r\n".encode() in raw
    assert f"To: <{mailbox}>\r\n".encode() in raw
    assert f"\r\n<{mailbox}>\r\n".encode() in raw


def test_the_longest_address_in_escaped_form_fits():
    mailbox = parse_mailbox("é" * 32 + "@" + ".".join(["d" * 60] * 4), utf8=True)
    _, _, status, _ = read(make(failed(mailbox)))
    assert groups(status)[1]["Final-Recipient"] == "utf-8; " + "\\x{E9}" * 32 + "@" + mailbox.domain.text


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"\r\nbody only\r\n", b""),
        (b"A: b", b"A: b\r\n"),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"A: b\r\n\r\n", b"A: b\r\n"),
        (b"A: b\r\n\r\nbody\r\n", b"A: b\r\n"),
        (b"A: b\0c\r\n\r\n", b"A: b?c\r\n"),
        (b"A: b\nB: c\rd\r\n\r\n", b"A: b?B: c?d\r\n"),
        (b"A: " + b"x" * 995 + b"\r\n\r\n", b"A: " + b"x" * 995 + b"\r\n"),
        (b"A: " + b"x" * 996 + b"\r\n\r\n", b"A: " + b"x" * 995 + b"\r\n x\r\n"),
        (
            b"A: " + b"x" * 3000 + b"\r\nB: c\r\n\r\n",
            b"A: "
            + b"x" * 995
            + b"\r\n "
            + b"x" * 997
            + b"\r\n "
            + b"x" * 997
            + b"\r\n "
            + b"x" * 11
            + b"\r\nB: c\r\n",
        ),
        (
            b"A: " + b"x" * 994 + "€€".encode() + b"\r\n\r\n",
            b"A: " + b"x" * 994 + b"\r\n " + "€€".encode() + b"\r\n",
        ),
        (b"\x80" * 1000, b"\x80" * 995 + b"\r\n " + b"\x80" * 5 + b"\r\n"),
    ],
)
def test_a_bad_header_is_mended(content, kept):
    report = make(content=content)
    read(report)
    raw = build_dsn(report)
    assert (
        raw.partition(b"text/rfc822-headers\r\n")[2].partition(b"\r\n\r\n")[2].partition(b"\r\n--elemta")[0]
        == kept
    )


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"no id",
        b"<a@b",
        b"<a@b> <c@d>",
        b"<a b@c>",
        b"<a@b\x80>",
        b"<" + b"a" * 999 + b"@b>",
        b"<a@b>\0",
        b"<a;b@c>",
    ],
)
def test_a_message_id_that_is_none_is_not_repeated(value):
    notice, *_ = read(make(content=b"Message-ID: " + value + b"\r\n\r\n"))
    assert "References" not in notice


def test_the_boundary_occurs_in_no_part():
    content = HEADER + f"X: elemta={NOTICE}=0 elemta={NOTICE}=1\r\n\r\n".encode()
    content += f"\r\n--elemta={NOTICE}=2--\r\n".encode()
    assert read(make(content=content))[0].get_boundary() == f"elemta={NOTICE}=2"
    report = make(content=content, complete=True, ret=Ret.FULL)
    assert read(report)[0].get_boundary() == f"elemta={NOTICE}=3"


def test_a_notice_about_a_notice_that_was_read_before():
    inner = build_dsn(make())
    report = make(content=inner, complete=True, ret=Ret.FULL)
    notice = email.message_from_bytes(build_dsn(report), policy=email.policy.default)
    assert [part.get_content_type() for part in notice.walk()].count("multipart/report") == 2
    assert not any(part.defects for part in notice.walk())


@given(
    st.text(max_size=200),
    st.text(max_size=50),
    st.lists(
        st.sampled_from([b"A: ", b"x" * 500, b"\r\n", b"\0", b"\n", b" ", b"\xff", b"\xe2\x82\xac" * 300])
    ),
    st.booleans(),
    st.booleans(),
)
def test_any_report_gives_a_message_of_three_parts(text, remote, content, complete, smtputf8):
    recipient = failed(reply=Reply(550, None, (text,)), remote=remote)
    recipient = attrs.evolve(recipient, recipient=Recipient(USER, DsnOptions(original_recipient=text)))
    read(
        make(
            recipient,
            content=b"".join(content),
            complete=complete,
            smtputf8=smtputf8,
            ret=Ret.FULL,
            envelope_id=text,
        )
    )


def test_a_large_header_and_many_recipients_take_little_time():
    start = time.process_time()
    build_dsn(make(*[failed()] * 500, content=b"A: " + b"x" * 1_000_000 + b"\r\n" + b"B: c\r\n" * 50_000))
    assert time.process_time() - start < 1.0


def test_nobody_is_told_about_a_message_from_nobody():
    report = make(sender=None)
    with pytest.raises(ValueError, match="a sender"):
        build_dsn(report)
    with pytest.raises(ValueError, match="a sender"):
        notice_envelope(report, b"")


def test_a_notice_about_nobody_is_a_mistake():
    with pytest.raises(ValueError, match="a recipient"):
        build_dsn(attrs.evolve(make(), recipients=()))


@pytest.mark.parametrize(
    ("original", "shown"),
    [
        (r"utf-8;ren\x{E9}e@x.example", "utf-8; renée@x.example"),
        (r"UTF-8;a\x{2B}b@x.example", "UTF-8; a+b@x.example"),
        (r"utf-8;a\x{D800}\x{110000}@x.example", r"utf-8; a\x{D800}\x{110000}@x.example"),
        (r"utf-8;a\x{0D}\x{0A}X: y@x.example", r"utf-8; a\x{D}\x{A}X: y@x.example"),
        (r"rfc822;a\x{E9}@x.example", r"rfc822; a\x{E9}@x.example"),
    ],
)
def test_characters_named_by_number_are_spelled_out_where_utf8_may_stand(original, shown):
    recipient = Recipient(USER, DsnOptions(original_recipient=original))
    each = attrs.evolve(failed(), recipient=recipient)
    assert f"Original-Recipient: {shown}\r\n".encode() in build_dsn(make(each, smtputf8=True))
