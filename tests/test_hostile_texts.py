"""Texts of strangers wherever they are shown: they stay one field, one line, one value, and move no cursor."""

from __future__ import annotations

import email
import email.policy
import json
import re

import pytest

from elemta.events import MailLines, SessionClosed, SessionOpened, log_record
from elemta.mail import (
    AuthResult,
    AuthResults,
    MessageId,
    Origin,
    Property,
    Reply,
    Result,
    authentication_results,
    received,
)
from elemta.runtime import ConsoleRenderer, escape_text, render_json
from elemta.smtp import format_reply

HOSTILE = {
    "CR LF": "a\r\nX-Injected: yes\r\n\r\nbody",
    "LF": "a\nX-Injected: yes",
    "CR": "a\rX-Injected: yes",
    "NUL": "a\x00b",
    "clear the screen": "\x1b[2J\x1b[H",
    "CSI in eight bits": "\x9b2J",
    "DEL": "a\x7fb",
    "percent": "%s%n%(message)s",
    "braces": "{0.__class__.__mro__} {session}",
    "right to left": "a\u202etxt.exe",
    "line separator": "a\u2028b\u2029c\x85d\x0bf\x0cg",
    "surrogate": "a\ud800b",
    "brackets and quotes": '"><script>alert(1)</script>\\',
    "64 KiB": "x" * 65536,
}
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

texts = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


def one_field(raw: bytes, name: str) -> None:
    """It is one field of that name, in lines that mail may have."""
    text = raw.decode("utf-8")
    assert raw.endswith(b"\r\n")
    unfolded = re.sub(r"\r\n(?=[ \t])", "", text).removesuffix("\r\n")
    assert "\r" not in unfolded
    assert "\n" not in unfolded
    assert not CONTROL.search(unfolded.replace("\t", " "))
    message = email.message_from_bytes(raw + b"\r\n", policy=email.policy.compat32)
    assert message.keys() == [name]
    assert max(map(len, raw.split(b"\r\n"))) <= 998  # RFC 5322 2.1.1


@texts
@pytest.mark.parametrize("smtputf8", [True, False])
def test_what_a_client_calls_itself_in_a_trace_field(text: str, smtputf8: bool) -> None:
    origin = Origin("0123456789abcdef", "192.0.2.1", hello=text)
    field = received(
        origin,
        hostname="mx.example.org",
        message=MessageId("0123456789abcdef"),
        recipient=None,
        time=0.0,
        smtputf8=smtputf8,
    )
    one_field(field, "Received")


@texts
@pytest.mark.parametrize("smtputf8", [True, False])
def test_what_was_found_out_about_a_message(text: str, smtputf8: bool) -> None:
    results = AuthResults(
        tuple(
            AuthResult(method, Result.FAIL, reason=text, properties=(Property("smtp", "mailfrom", text),))
            for method in ("spf", "dkim", "iprev")
        )
    )
    field = authentication_results(results, "mx.example.org", smtputf8=smtputf8)
    if len(text) < 1000:
        one_field(field, "Authentication-Results")
    assert field.count(b"\nX-Injected") == 0
    assert len(re.findall(rb"\b(?:spf|dkim|iprev)=fail\s", field)) == 3


@texts
def test_a_reply_is_as_many_lines_as_it_was(text: str) -> None:
    shown = escape_text(text, 300)
    assert not CONTROL.search(shown)
    assert "\n" not in shown
    line = format_reply(Reply.of(550, "5.7.1", shown))
    assert line.startswith(b"550 5.7.1 ")
    assert line.count(b"\r\n") == 1
    assert len(line) <= 512  # RFC 5321 4.5.3.1.5


@texts
def test_a_record_of_the_log_is_one_line(text: str) -> None:
    record = {"time": 0.0, "level": "info", "type": "log", "logger": "test", "text": text, "peer": text}
    if "\ud800" in text:
        record = {
            key: escape_text(value, 300) if isinstance(value, str) else value for key, value in record.items()
        }
    for line in (render_json(record), ConsoleRenderer(colour=False)(record)):
        shown = line.decode("utf-8").removesuffix("\n")
        assert "\n" not in shown
        assert not CONTROL.search(shown)
    if "\ud800" not in text:
        assert json.loads(render_json(record))["peer"] == text


@texts
def test_the_classic_mail_log_has_no_further_line(text: str) -> None:
    make = MailLines()
    events = [
        SessionOpened(time=0.0, session="s", peer=text, port=1, listener="mx"),
        SessionClosed(
            time=1.0,
            session="s",
            cause=text,
            seconds=1.0,
            commands=1,
            messages=0,
            errors=0,
            octets_in=1,
            detail=text,
        ),
    ]
    for event in events:
        for _, line in make(log_record(event)):
            assert "\n" not in line
            assert not CONTROL.search(line)
