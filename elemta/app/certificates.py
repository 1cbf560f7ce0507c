"""Certificates while the server runs: new files are taken into use, and what ends soon is told."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from elemta.events import EventBus, TlsExpiring, TlsReloaded, TlsTrouble
from elemta.runtime import WallClock, rfc3339
from elemta.tls import Certificate, ExpiryAlarm, FileWatcher, TlsContexts

EXPIRY_INTERVAL = 3600.0
"""Seconds between two looks at the dates."""


async def watch_files(tls: TlsContexts, bus: EventBus, clock: WallClock) -> None:
    """Take new files into use until cancelled. Run it supervised."""

    def on_reload() -> None:
        certificates = tuple(describe(tls.certificates()))
        bus.publish(TlsReloaded(time=clock.time(), certificates=certificates))

    def on_trouble(reason: str) -> None:
        bus.publish(TlsTrouble(time=clock.time(), reason=reason))

    await FileWatcher(tls, on_reload, on_trouble).run()


async def watch_dates(tls: TlsContexts, bus: EventBus, clock: WallClock) -> None:
    """Tell of certificates that end soon until cancelled. Run it supervised."""
    alarm = ExpiryAlarm()
    while True:
        now = clock.time()
        for expiring in alarm.due(tls.certificates(), now):
            certificate = expiring.certificate
            bus.publish(
                TlsExpiring(
                    time=now,
                    certificate=str(certificate.path),
                    names=certificate.names,
                    days=expiring.days,
                    until=rfc3339(certificate.not_after),
                )
            )
        await trio.sleep(EXPIRY_INTERVAL)


def describe(certificates: Iterable[Certificate]) -> Iterable[str]:
    """Each in a few words."""
    for certificate in certificates:
        yield f"{', '.join(certificate.names)} until {rfc3339(certificate.not_after)}"
