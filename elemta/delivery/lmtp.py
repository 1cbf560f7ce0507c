"""LMTP (RFC 2033): LHLO in the place of EHLO, and one final reply for each accepted recipient."""

from __future__ import annotations

from typing import ClassVar

from .smtp import SmtpTransport


class LmtpTransport(SmtpTransport):
    """Sessions with a mail store. All the rest is as in SMTP; there is no older hello to fall back to."""

    lmtp: ClassVar[bool] = True
