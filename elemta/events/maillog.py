"""Events in the words of a mail log: `connect`, `client=`, `from=`, `to= … delays=… status=`, `removed`.

Tools for the logs of Postfix count, search and draw by these lines. A line says what its event says; what
only the beginning of a session tells (whose it is) is remembered until its end.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import attrs

from elemta.runtime import Record, console_text, escape_text

Line: TypeAlias = tuple[str, str]
"""The part of the server, and the text."""

MOST_SESSIONS = 20_000
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_IN_BRACKETS = str.maketrans("<>", "??")
_STATUS = {
    "recipient.delivered": ("sent", "2.0.0"),
    "recipient.deferred": ("deferred", "4.0.0"),
    "recipient.failed": ("bounced", "5.0.0"),
}
_NOTICES = {"failed": "sender non-delivery", "delayed": "sender delay"}


@attrs.define
class _Session:
    peer: str
    hello: str = ""
    login: str = ""
    """What `client=` says of an account."""


class MailLines:
    """Makes lines of records, in the order in which they come. One for each log."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __call__(self, record: Record) -> Iterable[Line]:
        make = _MAKERS.get(str(record.get("type")))
        return make(self, record) if make is not None else self._other(record)

    def _client(self, record: Record) -> str:
        session = self._sessions.get(str(record.get("session")))
        peer = session.peer if session is not None else str(record.get("peer", "unknown"))
        return f"unknown[{escape_text(peer)}]"

    def _opened(self, record: Record) -> Iterable[Line]:
        self._sessions[record["session"]] = _Session(record["peer"])
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return [("smtpd", f"connect from {self._client(record)}")]

    def _forwarded(self, record: Record) -> Iterable[Line]:
        session = self._sessions.get(record["session"])
        if session is not None and record["by"] != "xforward":
            session.peer = record.get("peer", session.peer)
        return []

    def _authenticated(self, record: Record) -> Iterable[Line]:
        session = self._sessions.get(record["session"])
        if session is not None:
            method, account = escape_text(record["mechanism"]), escape_text(record["account"])
            session.login = f", sasl_method={method}, sasl_username={account}"
        return []

    def _tls(self, record: Record) -> Iterable[Line]:
        how = f"{record['version']} with cipher {record['cipher']}"
        return [("smtpd", f"Anonymous TLS connection established from {self._client(record)}: {how}")]

    def _closed(self, record: Record) -> Iterable[Line]:
        client = self._client(record)
        self._sessions.pop(record["session"], None)
        lines = []
        if record["cause"] not in ("quit", "eof"):
            lines.append(("smtpd", f"lost connection ({escape_text(str(record['cause']))}) from {client}"))
        return [*lines, ("smtpd", f"disconnect from {client} commands={record['commands']}")]

    def _accepted(self, record: Record) -> Iterable[Line]:
        message = record["message"]
        session = self._sessions.get(record["session"])
        login = session.login if session is not None else ""
        lines = [("smtpd", f"{message}: client={self._client(record)}{login}")]
        if header := record.get("message_id_header"):
            lines.append(("cleanup", f"{message}: message-id=<{_address(str(header).strip('<>'))}>"))
        sender, count = _address(record.get("sender", "")), len(record["recipients"])
        lines.append(
            ("qmgr", f"{message}: from=<{sender}>, size={record['size']}, nrcpt={count} (queue active)")
        )
        return lines

    def _rejected(self, record: Record) -> Iterable[Line]:
        client, verb, reply = (
            self._client(record),
            record.get("verb", "END-OF-MESSAGE"),
            escape_text(record["reply"]),
        )
        if verb == "AUTH":
            return [("smtpd", f"warning: {client}: SASL authentication failed: {reply}")]
        recipients = record.get("recipients") or [record.get("recipient", "")]
        to = f" to=<{_address(recipients[0])}>" if recipients[0] else ""
        sender = f"from=<{_address(record.get('sender', ''))}>"
        return [("smtpd", f"NOQUEUE: reject: {verb} from {client}: {reply}; {sender}{to} proto=ESMTP")]

    def _tried(self, record: Record) -> Iterable[Line]:
        status, code = _STATUS[record["type"]]
        reply = str(record.get("reply", ""))
        found = _ENHANCED.match(reply, 4)
        delays = record.get("delays") or (0.0, 0.0, 0.0, 0.0)
        delay = record.get("seconds", sum(delays))
        words = " ".join(escape_text(each) for each in (reply, str(record.get("detail", ""))) if each)
        relay = escape_text(str(record.get("remote", ""))).replace(",", "?") or "none"
        times = f"delay={_seconds(delay)}, delays={'/'.join(map(_seconds, delays))}"
        what = f"{record['message']}: to=<{_address(record['recipient'])}>, relay={relay}, {times}"
        result = f"dsn={found[0] if found else code}, status={status} ({words})"
        return [(_part(str(record.get("route", ""))), f"{what}, {result}")]

    def _held(self, record: Record) -> Iterable[Line]:
        what = f"<{_address(record['recipient'])}> on hold: {escape_text(record['reason'])}"
        return [("qmgr", f"warning: {record['message']}: {what}")]

    def _notice(self, record: Record) -> Iterable[Line]:
        kind = _NOTICES.get(record.get("action", ""), "sender delivery status")
        message = record["message"]
        return [
            ("bounce", f"{record['about']}: {kind} notification: {message}"),
            ("qmgr", f"{message}: from=<>, size={record.get('size', 0)}, nrcpt=1 (queue active)"),
        ]

    def _removed(self, record: Record) -> Iterable[Line]:
        part = "postsuper" if record.get("reason") == "operator" else "qmgr"
        return [(part, f"{record['message']}: removed")]

    def _other(self, record: Record) -> Iterable[Line]:
        level = record.get("level")
        prefix = {"warning": "warning: ", "error": "error: "}.get(str(level), "")
        return [("server", prefix + text) for _, text in console_text(record)]


_MAKERS: dict[str, Callable[[MailLines, Record], Iterable[Line]]] = {
    "session.opened": MailLines._opened,
    "session.forwarded": MailLines._forwarded,
    "session.authenticated": MailLines._authenticated,
    "session.tls": MailLines._tls,
    "session.closed": MailLines._closed,
    "message.accepted": MailLines._accepted,
    "message.rejected": MailLines._rejected,
    "command.rejected": MailLines._rejected,
    "recipient.delivered": MailLines._tried,
    "recipient.deferred": MailLines._tried,
    "recipient.failed": MailLines._tried,
    "recipient.held": MailLines._held,
    "notice.queued": MailLines._notice,
    "message.removed": MailLines._removed,
}


def _address(text: Any) -> str:  # Any: what a record has
    """Within angle brackets: none of its own, so that nobody's name can end it and begin another field."""
    return escape_text(str(text)).translate(_IN_BRACKETS)


def _part(route: str) -> str:
    kind = route.partition(":")[0]
    return kind if kind.isalpha() else "smtp"


def _seconds(value: float) -> str:
    """Two digits that count, as Postfix has them."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
