"""A notice of ours as a message to be stored."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from elemta.mail import DsnReport, Origin, build_dsn, marks_of, notice_envelope

from .values import NewMessage


def new_notice(report: DsnReport, sign: Callable[[bytes], bytes]) -> NewMessage:
    """The message that a report comes to, with the signatures that `sign` gives before it.

    Raises:
      ValueError: there is nobody to tell, or nothing.
    """
    body = build_dsn(report)
    signatures = sign(body)
    return NewMessage(
        id=report.message,
        envelope=notice_envelope(report, body),
        origin=Origin(session="", peer="local", hello=report.hostname, protocol="LOCAL"),
        prefix=signatures,
        body=body,
        size=len(signatures) + len(body),
        digest=blake2b(body + signatures, digest_size=16).digest(),
        received=report.time,
        marks=marks_of(body),
    )
