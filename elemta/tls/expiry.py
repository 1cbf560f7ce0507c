"""When to say that a certificate ends soon. Pure: certificates and the time in, warnings out."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from .certificates import Certificate

DAY = 86400.0
WARN_AT = (14, 7, 3, 1, 0)
"""Days before the end. ACME clients renew at thirty: at fourteen something is wrong."""


@attrs.frozen
class Expiring:
    """A certificate that ends in at most so many days, and was not said to be so near its end before."""

    certificate: Certificate
    days: int
    """One of `WARN_AT`; 0: it has ended."""


class ExpiryAlarm:
    """Remembers what was said of each certificate, so that each step is said once."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    def due(self, certificates: Iterable[Certificate], now: float) -> list[Expiring]:
        """What is to be said now. Certificates that are not among the given ones are forgotten."""
        said, self._said = self._said, {}
        found: list[Expiring] = []
        for certificate in certificates:
            if certificate.fingerprint in self._said:  # one certificate, several times
                continue
            left = (certificate.not_after - now) / DAY
            before = said.get(certificate.fingerprint, WARN_AT[0] + 1)
            day = min((day for day in WARN_AT if left <= day), default=before)
            self._said[certificate.fingerprint] = min(day, before)
            if day < before:
                found.append(Expiring(certificate, day))
        return found
