"""Log records for syslog and journald: what their receivers sort and search by is around the text."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeAlias

from .clock import rfc3339
from .render import ConsoleRenderer, Record, render_json
from .text import escape_text

Texts: TypeAlias = Callable[[Record], Iterable[tuple[str, str]]]
"""A record as lines of text, each with the part of the program that it is about; empty: the whole."""

FACILITIES = {"mail": 2, "daemon": 3, **{f"local{number}": 16 + number for number in range(8)}}
_SEVERITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_NOT_PRINTABLE = re.compile(r"[^!-~]")
_NOT_IN_A_NAME = re.compile(r"[^A-Z0-9_]")
_MOST_LINES = 100
"""Of one value in the journal."""

_console = ConsoleRenderer(colour=False, times=False)


def json_text(record: Record) -> Iterable[tuple[str, str]]:
    """The record as JSON."""
    return (("", render_json(record).decode().rstrip("\n")),)


def console_text(record: Record) -> Iterable[tuple[str, str]]:
    """The record for people, without time and level, which stand elsewhere; a traceback in the same line."""
    return (("", _console(record).decode().rstrip("\n").replace("\n    ", " | ")),)


def lines_of_syslog(texts: Texts, *, hostname: str, tag: str, facility: str) -> Callable[[Record], bytes]:
    """A renderer for messages of the form of RFC 5424, a line each."""
    base = FACILITIES[facility] * 8
    process = os.getpid()
    host = _NOT_PRINTABLE.sub("?", hostname)[:255]

    def render(record: Record) -> bytes:
        moment = record["time"]
        stamp = moment if isinstance(moment, str) else rfc3339(moment)
        # RFC 5424 6.2.1: facility * 8 + severity
        priority = base + _SEVERITIES.get(str(record.get("level")), 6)
        kind = _NOT_PRINTABLE.sub("?", str(record.get("type", "")))[:32] or "-"  # RFC 5424 6.2.7: MSGID
        lines = []
        for part, text in texts(record):
            name = f"{tag}/{part}"[:48] if part else tag  # RFC 5424 6.2.5: APP-NAME
            # RFC 5424 6.3: no structured data, whose names would need a number of ours from IANA
            lines.append(f"<{priority}>1 {stamp} {host} {name} {process} {kind} - {text}\n")
        return "".join(lines).encode()

    return render


def fields_of_journal(texts: Texts, *, tag: str, facility: str) -> Callable[[Record], bytes]:
    """A renderer for journald's own protocol: a field a line, an empty line behind each entry."""
    number = FACILITIES[facility]
    process = os.getpid()

    def render(record: Record) -> bytes:
        priority = _SEVERITIES.get(str(record.get("level")), 6)
        own = []
        for key, value in _flat(record):
            name = "ELEMTA_" + _NOT_IN_A_NAME.sub("_", key.upper())[:50]
            if isinstance(value, (list, tuple)):
                values = [str(each) for each in value[:_MOST_LINES]]
            elif key == "exception":
                values = str(value).splitlines()[:_MOST_LINES]
            else:
                values = [str(value)]
            own += [f"{name}={escape_text(each)}\n" for each in values]
        tail = "".join(own)
        entries = [
            f"MESSAGE={text}\nPRIORITY={priority}\nSYSLOG_FACILITY={number}\n"
            f"SYSLOG_IDENTIFIER={f'{tag}/{part}' if part else tag}\nSYSLOG_PID={process}\n{tail}\n"
            for part, text in texts(record)
        ]
        return "".join(entries).encode()

    return render


def _flat(record: Record) -> Iterable[tuple[str, object]]:
    """Names and values; what has names of its own, such as the phases of an attempt, is a field for each."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield f"{key}_{name}", inner
        else:
            yield str(key), value


def lines_of_file(texts: Texts, *, hostname: str, tag: str) -> Callable[[Record], bytes]:
    """A renderer for the form in which syslog daemons write files: local time, host, program, process."""
    process = os.getpid()
    known = ("", "")

    def stamp(moment: object) -> str:
        nonlocal known
        whole = str(moment)[:19] if isinstance(moment, str) else str(int(float(str(moment))))
        if known[0] != whole:
            seconds = (
                datetime.fromisoformat(f"{whole}+00:00").timestamp()
                if isinstance(moment, str)
                else int(whole)
            )
            local = time.localtime(seconds)
            # RFC 3164 4.1.2: the day of the month with a blank in the place of a leading zero
            known = (
                whole,
                f"{time.strftime('%b', local)} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}",
            )
        return known[1]

    def render(record: Record) -> bytes:
        head = f"{stamp(record['time'])} {hostname} {tag}"
        return "".join(
            f"{head}{f'/{part}' if part else ''}[{process}]: {text}\n" for part, text in texts(record)
        ).encode()

    return render
