"""Each way of the log takes what it should, in its form; a reload changes that."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import attrs
import pytest
from tls_files import write_pair

from elemta.app import Logs, Wanted, Way, open_logs
from elemta.config import (
    Config,
    HostPort,
    LogFormat,
    LoggingConfig,
    LogLevel,
    LogOutputConfig,
    LogTarget,
    SyslogProtocol,
)
from elemta.events import EventBus, MessageAccepted, RecipientDeferred, ServerReloaded, SessionOpened
from elemta.runtime import LEVELS, LogPump, get_logger


def opened(session: str) -> SessionOpened:
    return SessionOpened(time=1.0, session=session, listener="mx", peer="192.0.2.1", port=1)


def accepted(message: str, sender: str = "a@b.example") -> MessageAccepted:
    return MessageAccepted(
        time=1.0,
        session="s",
        message=message,
        sender=sender,
        recipients=("c@d.example",),
        size=1,
        peer="192.0.2.1",
        protocol="ESMTP",
    )


def deferred(message: str) -> RecipientDeferred:
    return RecipientDeferred(
        time=1.0,
        message=message,
        recipient="c@d.example",
        route="smtp:d.example",
        remote="",
        cause="dns",
        reply="451 4.4.3 no",
        detail="",
        attempts=1,
        due=2.0,
    )


class Listening:
    """A way whose lines can be read at once, for its pump does not run."""

    def __init__(self, wanted: Wanted) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self.pump = LogPump(self._writer)
        self.way = Way("log", self.pump, wanted)

    def types(self) -> list[str]:
        try:
            return [json.loads(line)["type"] for line in os.read(self._reader, 1_000_000).splitlines()]
        except BlockingIOError:
            return []

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in os.read(self._reader, 1_000_000).splitlines()]

    def close(self) -> None:
        self.pump.close()
        os.close(self._reader)
        os.close(self._writer)


@pytest.fixture
def listen():  # type: ignore[no-untyped-def]
    made: list[Listening] = []

    def make(wanted: Wanted) -> Listening:
        made.append(Listening(wanted))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_an_event_becomes_a_line(listen) -> None:  # type: ignore[no-untyped-def]
    log, bus = listen(Wanted()), EventBus()
    Logs((log.way,)).follow(bus)
    bus.publish(accepted("m", "a\x1b@b"))
    bus.publish(ServerReloaded(time=1.0, changed=()))
    first, second = log.records()
    assert first == {
        "time": "1970-01-01T00:00:01.000Z", "level": "info", "type": "message.accepted", "session": "s", "message": "m",
        "sender": "a\x1b@b", "recipients": ["c@d.example"], "size": 1, "peer": "192.0.2.1", "protocol": "ESMTP",
    }  # fmt: skip
    assert second["changed"] == []


def test_levels_and_types_are_those_of_the_way(listen) -> None:  # type: ignore[no-untyped-def]
    warnings, messages, bus = (
        listen(Wanted(LEVELS["warning"])),
        listen(Wanted(types=("message.accepted", "recipient.*"))),
        EventBus(),
    )
    logs = Logs((warnings.way, messages.way))
    logs.follow(bus)
    for event in (opened("s"), accepted("m"), deferred("m")):
        bus.publish(event)
    with logs.taking_all():
        get_logger("x").warning("a diagnostic")
    assert warnings.types() == ["recipient.deferred", "log"]
    assert messages.types() == ["message.accepted", "recipient.deferred"]


def test_a_sample_has_all_of_a_message_or_nothing_and_every_warning(listen) -> None:  # type: ignore[no-untyped-def]
    log, bus = listen(Wanted(sample=0.25)), EventBus()
    Logs((log.way,)).follow(bus)
    for number in range(100):
        bus.publish(accepted(f"m{number}"))
        bus.publish(accepted(f"m{number}"))
        bus.publish(deferred(f"m{number}"))
    bus.publish(ServerReloaded(time=1.0, changed=()))
    records = log.records()
    told = [record["message"] for record in records if record["type"] == "message.accepted"]
    assert 10 <= len(set(told)) <= 45
    assert len(told) == 2 * len(set(told))
    assert sum(record["type"] == "recipient.deferred" for record in records) == 100
    assert records[-1]["type"] == "server.reloaded"


def configured(path: Path, **changes: object) -> Config:
    output = LogOutputConfig(LogTarget.FILE, path=path, format=LogFormat.MAIL)
    return Config(
        hostname="mx.example.org",
        logging=LoggingConfig(format=LogFormat.OFF, outputs=(attrs.evolve(output, **changes),)),
    )  # type: ignore[arg-type]


async def test_a_reload_opens_files_again_and_changes_what_is_taken(tmp_path: Path) -> None:
    path, bus = tmp_path / "mail.log", EventBus()
    logs = open_logs(configured(path), colour=False)
    logs.follow(bus)
    bus.publish(opened("s"))
    path.rename(tmp_path / "mail.log.1")
    prepared = await logs.part().prepare(configured(path, level=LogLevel.WARNING))
    assert prepared.restart == ()
    prepared.commit()
    bus.publish(accepted("m"))
    bus.publish(deferred("m"))
    assert "connect from unknown[192.0.2.1]" in (tmp_path / "mail.log.1").read_text()
    assert "status=deferred" in path.read_text()
    assert "client=" not in path.read_text()
    for way in logs.ways:
        way.pump.close()


async def test_other_places_need_a_restart(tmp_path: Path) -> None:
    logs = open_logs(configured(tmp_path / "one"), colour=False)
    prepared = await logs.part().prepare(configured(tmp_path / "two"))
    assert prepared.restart == ("logging: places and forms",)
    prepared.commit()
    assert [way.name for way in logs.ways] == [f"log:file:{tmp_path}/one"]
    for way in logs.ways:
        way.pump.close()


def test_the_ways_have_names_of_their_own_and_are_counted(tmp_path: Path) -> None:
    config = Config(
        hostname="mx.example.org",
        logging=LoggingConfig(
            outputs=(LogOutputConfig(LogTarget.JOURNAL), LogOutputConfig(LogTarget.SYSLOG))
        ),
    )
    logs = open_logs(config, colour=False)
    assert list(logs.statistics()) == ["log", "log:journal", "log:syslog"]
    for way in logs.ways:
        way.pump.close()


def over_tls(**options: Path) -> Config:
    output = LogOutputConfig(
        LogTarget.SYSLOG, address=HostPort("127.0.0.1", 6514), protocol=SyslogProtocol.TLS, **options
    )
    return Config(hostname="mx.example.org", logging=LoggingConfig(outputs=(output,)))


def test_the_certificate_for_a_log_over_tls_is_read_at_the_start(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "ours", now=time.time())
    options = {"authorities": pair.certificate, "certificate": pair.certificate, "key": pair.key}
    logs = open_logs(over_tls(**options), colour=False)
    assert list(logs.statistics()) == ["log", "log:syslog:127.0.0.1:6514/tls"]
    for way in logs.ways:
        way.pump.close()


@pytest.mark.parametrize("option", ["authorities", "certificate"])
def test_a_file_that_a_log_over_tls_lacks_is_named(tmp_path: Path, option: str) -> None:
    pair = write_pair(tmp_path, "ours", now=time.time())
    options = {"authorities": pair.certificate, "certificate": pair.certificate, "key": pair.key}
    for content in (None, "no PEM"):
        path = tmp_path / "damaged"
        if content is not None:
            path.write_text(content)
        with pytest.raises(OSError) as error:
            open_logs(over_tls(**(options | {option: path})), colour=False)
        assert error.value.filename == str(path)
