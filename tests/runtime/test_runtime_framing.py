"""Records for syslog, journald and files: the right head, one line each, whatever strangers put into values."""

from __future__ import annotations

import os
import re

import pytest

from elemta.runtime import console_text, fields_of_journal, json_text, lines_of_file, lines_of_syslog
from elemta.runtime.framing import FACILITIES

RECORD = {
    "time": "2026-03-01T12:00:00.125Z",
    "level": "warning",
    "type": "recipient.deferred",
    "recipient": "a\n<0>b@example.org",
    "recipients": ["one@a.example", "two@b.example"],
}
# RFC 5424 6: HEADER SP STRUCTURED-DATA SP MSG
SYSLOG = re.compile(r"<(\d{1,3})>1 (\S+) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) - (.*)\n")


@pytest.mark.parametrize("texts", [json_text, console_text])
def test_a_syslog_message_is_one_line_of_rfc_5424(texts) -> None:  # type: ignore[no-untyped-def]
    render = lines_of_syslog(texts, hostname="mx.example.org", tag="elemta", facility="mail")
    found = SYSLOG.fullmatch(render(RECORD).decode())
    assert found
    assert found[1] == str(2 * 8 + 4)
    assert found.group(2, 3, 4, 5, 6) == (
        "2026-03-01T12:00:00.125Z", "mx.example.org", "elemta", str(os.getpid()), "recipient.deferred",
    )  # fmt: skip
    assert "two@b.example" in found[7]


def test_head_and_parts_cannot_be_forged() -> None:
    render = lines_of_syslog(
        lambda _: [("a" * 100, "text")], hostname="m\nx <1>", tag="elemta", facility="local7"
    )
    found = SYSLOG.fullmatch(render({"time": 1.0, "level": "error", "type": "x y" * 40}).decode())
    assert found
    assert found.group(1, 2, 3) == (str(23 * 8 + 3), "1970-01-01T00:00:01.000Z", "m?x?<1>")
    assert (len(found[4]), len(found[6])) == (48, 32)


def test_all_facilities_are_those_of_the_standard() -> None:
    assert FACILITIES["mail"] == 2
    assert FACILITIES["daemon"] == 3
    assert [FACILITIES[f"local{number}"] for number in range(8)] == list(range(16, 24))


def test_a_journal_entry_has_a_field_for_each_value() -> None:
    render = fields_of_journal(console_text, tag="elemta", facility="mail")
    (entry, rest) = render(RECORD | {"exception": "Traceback\n  here\nValueError"}).decode().split("\n\n")
    assert rest == ""
    lines = entry.split("\n")
    fields = [line.partition("=")[::2] for line in lines]
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name) for name, _ in fields)
    assert ("PRIORITY", "4") in fields
    assert ("SYSLOG_IDENTIFIER", "elemta") in fields
    assert ("ELEMTA_RECIPIENT", r"a\n<0>b@example.org") in fields
    assert [value for name, value in fields if name == "ELEMTA_RECIPIENTS"] == RECORD["recipients"]
    assert [value for name, value in fields if name == "ELEMTA_EXCEPTION"] == [
        "Traceback",
        "  here",
        "ValueError",
    ]
    assert fields[0][0] == "MESSAGE"
    assert "recipient.deferred" in fields[0][1]


def test_the_journal_has_a_field_for_each_phase_of_an_attempt() -> None:
    render = fields_of_journal(json_text, tag="elemta", facility="mail")
    lines = render(RECORD | {"phases": {"dns": 0.001, "connect": 0.25}}).decode().split("\n")
    assert {"ELEMTA_PHASES_DNS=0.001", "ELEMTA_PHASES_CONNECT=0.25"} <= set(lines)
    assert not [line for line in lines if line.startswith("ELEMTA_PHASES=")]


def test_a_line_of_a_file_begins_as_those_of_syslog_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    render = lines_of_file(lambda _: [("smtpd", "one"), ("", "two")], hostname="mx", tag="elemta")
    head = "Mar  1 12:00:00 mx elemta"
    pid = os.getpid()
    assert render(RECORD).decode() == f"{head}/smtpd[{pid}]: one\n{head}[{pid}]: two\n"
    assert render({"time": 1_772_366_400.9}).decode().startswith(head)
