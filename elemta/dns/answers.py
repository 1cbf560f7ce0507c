"""What DNS said, as values: records, a status, how long it holds, and whether it was authenticated.

"No such name" is an answer like any other; only `FAILED` means that nobody knows for now.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs


class Status(enum.Enum):
    """What an answer is worth."""

    OK = "ok"
    NXDOMAIN = "nxdomain"
    """The name does not exist, with no type of record (RFC 8020)."""
    NODATA = "nodata"
    """The name exists, without records of this kind (RFC 2308 §2.2)."""
    FAILED = "failed"
    """No usable answer for now: SERVFAIL, REFUSED, silence, nonsense. Try again later."""


class RecordKind(enum.StrEnum):
    """The types of record we ask for."""

    MX = "MX"
    A = "A"
    AAAA = "AAAA"
    TXT = "TXT"
    PTR = "PTR"
    CNAME = "CNAME"
    TLSA = "TLSA"


@attrs.frozen(slots=True)
class MxRecord:
    """A mail exchanger. An empty host is the root: with preference 0 and alone, a null MX (RFC 7505)."""

    preference: int
    host: str


@attrs.frozen(slots=True)
class TlsaRecord:
    """What a certificate must look like (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


Record: TypeAlias = str | bytes | MxRecord | TlsaRecord
"""`str` for A, AAAA (canonical text), PTR, CNAME (lower case, no final dot); `bytes` for TXT (joined)."""


@attrs.frozen(slots=True)
class Answer:
    """The result of one query."""

    status: Status
    records: tuple[Record, ...] = ()
    """All of the kind that was asked for; empty unless OK. The order is the server's."""
    ttl: float = 0.0
    """Seconds for which it holds: the least of the CNAME chain, or the negative TTL (RFC 2308 §5)."""
    authentic: bool = False
    """Whether a validating resolver that we trust vouched for it (RFC 4035 §3.2.3, AD; `dns.trust_ad`)."""
    canonical: str = ""
    """The name at the end of the CNAME chain."""
    detail: str = ""
    """Why it failed, for the operator only."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The records of A, AAAA, PTR and CNAME."""
        return tuple(record for record in self.records if isinstance(record, str))

    @property
    def mail_exchangers(self) -> tuple[MxRecord, ...]:
        return tuple(record for record in self.records if isinstance(record, MxRecord))

    @property
    def strings(self) -> tuple[bytes, ...]:
        """The records of TXT."""
        return tuple(record for record in self.records if isinstance(record, bytes))

    @property
    def certificate_rules(self) -> tuple[TlsaRecord, ...]:
        """The records of TLSA."""
        return tuple(record for record in self.records if isinstance(record, TlsaRecord))
