"""A mail log in the manner of Postfix: lines that its tools read, and that strangers cannot forge."""

from __future__ import annotations

import re

import pytest

from elemta.events import (
    CommandRejected,
    Event,
    MailLines,
    MessageAccepted,
    MessageRejected,
    MessageRemoved,
    NoticeQueued,
    RecipientDeferred,
    RecipientDelivered,
    RecipientFailed,
    RecipientHeld,
    SessionAuthenticated,
    SessionClosed,
    SessionForwarded,
    SessionOpened,
    SessionTls,
    StorageTrouble,
    log_record,
)
from elemta.events.maillog import MOST_SESSIONS

ID = "06f9zj1q8n3k2m4p"
TO = re.compile(
    r"(?P<id>\w+): to=<(?P<to>[^>]*)>, relay=(?P<relay>[^,]+), delay=(?P<delay>[^,]+), "
    r"delays=(?P<delays>[^,]+), dsn=(?P<dsn>[^,]+), status=(?P<status>\S+) \((?P<reply>.*)\)"
)


def lines(*events: Event) -> list[str]:
    make = MailLines()
    return [f"{part}: {text}" for event in events for part, text in make(log_record(event))]


def opened(session: str = "s", peer: str = "192.0.2.9") -> Event:
    return SessionOpened(time=1.0, session=session, listener="mx", peer=peer, port=1)


def accepted(**changes: object) -> Event:
    values: dict[str, object] = {
        "time": 1.0, "session": "s", "message": ID, "sender": "anna@example.org", "recipients": ("b@far.example",),
        "size": 2000, "peer": "192.0.2.9", "protocol": "ESMTP", "message_id_header": "<1@example.org>",
    }  # fmt: skip
    return MessageAccepted(**(values | changes))  # type: ignore[arg-type]


def delivered(**changes: object) -> Event:
    values: dict[str, object] = {
        "time": 2.0, "message": ID, "recipient": "b@far.example", "route": "smtp:far.example",
        "remote": "mx.far.example[192.0.2.1]:25", "reply": "250 2.0.0 ok", "attempts": 1, "seconds": 123.456,
        "delays": (0.0, 0.0012, 0.21, 123.25),
    }  # fmt: skip
    return RecipientDelivered(**(values | changes))  # type: ignore[arg-type]


def test_the_life_of_a_message() -> None:
    assert lines(
        opened(),
        SessionTls(time=1.0, session="s", version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"),
        SessionAuthenticated(time=1.0, session="s", account="anna", mechanism="PLAIN", credential="password"),
        accepted(),
        SessionClosed(
            time=1.0, session="s", cause="quit", seconds=1.0, commands=5, messages=1, errors=0, octets_in=9
        ),
        delivered(),
        MessageRemoved(time=2.0, message=ID, reason="done"),
    ) == [
        "smtpd: connect from unknown[192.0.2.9]",
        "smtpd: Anonymous TLS connection established from unknown[192.0.2.9]: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384",
        f"smtpd: {ID}: client=unknown[192.0.2.9], sasl_method=PLAIN, sasl_username=anna",
        f"cleanup: {ID}: message-id=<1@example.org>",
        f"qmgr: {ID}: from=<anna@example.org>, size=2000, nrcpt=1 (queue active)",
        "smtpd: disconnect from unknown[192.0.2.9] commands=5",
        f"smtp: {ID}: to=<b@far.example>, relay=mx.far.example[192.0.2.1]:25, delay=123, delays=0/0.0012/0.21/123, dsn=2.0.0, status=sent (250 2.0.0 ok)",
        f"qmgr: {ID}: removed",
    ]


def test_each_attempt_has_its_delays() -> None:
    common = {
        "time": 1.0,
        "message": ID,
        "recipient": "b@far.example",
        "remote": "",
        "attempts": 2,
        "detail": "why",
    }
    deferred = RecipientDeferred(
        route="lmtp:x",
        cause="connect",
        reply="451 4.4.1 no answer",
        due=9.0,
        delays=(1.0, 0.5, 2.0, 0.0),
        **common,
    )  # type: ignore[arg-type]
    failed = RecipientFailed(route="maildir:x", cause="refused", reply="550 gone", delays=None, **common)  # type: ignore[arg-type]
    first, second = (TO.fullmatch(line.partition(": ")[2]) for line in lines(deferred, failed))
    assert first
    assert first.group("relay", "delay", "delays", "dsn", "status", "reply") == (
        "none", "3.5", "1/0.5/2/0", "4.4.1", "deferred", "451 4.4.1 no answer why",
    )  # fmt: skip
    assert second
    assert second.group("delays", "dsn", "status") == ("0/0/0/0", "5.0.0", "bounced")
    assert [line.partition(":")[0] for line in lines(deferred, failed)] == ["lmtp", "maildir"]


def test_what_is_refused() -> None:
    rejected = CommandRejected(
        time=1.0,
        session="s",
        verb="RCPT",
        reply="550 5.1.1 no such mailbox",
        sender="a@b.example",
        recipient="c@d.example",
    )
    login = CommandRejected(time=1.0, session="s", verb="AUTH", reply="535 5.7.8 wrong")
    body = MessageRejected(
        time=1.0, session="t", sender="", recipients=("c@d.example",), reply="554 5.7.1 no", reason="x"
    )
    assert lines(opened(), rejected, login, body)[1:] == [
        "smtpd: NOQUEUE: reject: RCPT from unknown[192.0.2.9]: 550 5.1.1 no such mailbox; from=<a@b.example> to=<c@d.example> proto=ESMTP",
        "smtpd: warning: unknown[192.0.2.9]: SASL authentication failed: 535 5.7.8 wrong",
        "smtpd: NOQUEUE: reject: END-OF-MESSAGE from unknown[unknown]: 554 5.7.1 no; from=<> to=<c@d.example> proto=ESMTP",
    ]


def test_the_client_behind_a_proxy_is_the_one_that_is_named() -> None:
    proxied = SessionForwarded(time=1.0, session="s", by="proxy", via="192.0.2.9", peer="198.51.100.7")
    assert f"smtpd: {ID}: client=unknown[198.51.100.7]" in lines(opened(), proxied, accepted())


def test_notices_holds_and_the_rest() -> None:
    made = lines(
        NoticeQueued(time=1.0, message="n", about=ID, recipient="anna@example.org", action="failed"),
        RecipientHeld(
            time=1.0, message=ID, recipient="b@far.example", reason="crashes", detail="", attempts=3
        ),
        StorageTrouble(time=1.0, what="slow", detail="x"),
        MessageRemoved(time=2.0, message=ID, reason="operator"),
    )
    assert made == [
        f"bounce: {ID}: sender non-delivery notification: n",
        "qmgr: n: from=<>, size=0, nrcpt=1 (queue active)",
        f"qmgr: warning: {ID}: <b@far.example> on hold: crashes",
        "server: error: storage.trouble what=slow detail=x",
        f"postsuper: {ID}: removed",
    ]


@pytest.mark.parametrize(
    "recipient",
    [
        '"x>, relay=none, delay=0, status=sent (250)"@evil.example',
        "a\nNov 1 00:00:00 mx elemta/smtp[1]: x@evil.example",
    ],
)
def test_nobody_can_end_a_field_or_begin_a_line(recipient: str) -> None:
    (line,) = lines(delivered(recipient=recipient, reply="550 5.1.1 <x>\r\nfaked", remote="evil, delay=0"))
    found = TO.fullmatch(line.partition(": ")[2])
    assert found
    assert "\n" not in line
    assert found["to"].endswith("@evil.example")
    assert found["relay"] == "evil? delay=0"


def test_sessions_are_forgotten_at_their_end_and_bounded() -> None:
    make = MailLines()
    for number in range(MOST_SESSIONS + 10):
        make(log_record(opened(str(number))))
    assert len(make._sessions) == MOST_SESSIONS
    make(
        log_record(
            SessionClosed(
                time=1.0,
                session=str(MOST_SESSIONS),
                cause="eof",
                seconds=1.0,
                commands=0,
                messages=0,
                errors=0,
                octets_in=0,
            )
        )
    )
    assert len(make._sessions) == MOST_SESSIONS - 1
