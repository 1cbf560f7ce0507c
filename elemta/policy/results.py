"""What each check found, in the words of Authentication-Results (RFC 8601 §2.7).

The values themselves are in `elemta.mail`, since plugins and events have them, too.
"""

from __future__ import annotations

from elemta.dns import ReverseName
from elemta.mail import AuthResult, AuthResults, Property, Result

from .client import IpAddress

__all__ = ["AuthResult", "AuthResults", "Property", "Result", "iprev_result"]


def iprev_result(found: ReverseName, address: IpAddress) -> AuthResult:
    """RFC 8601 §2.7.3."""
    reason = found.name or ", ".join(found.unconfirmed)
    return AuthResult(
        "iprev", Result(found.result.value), reason, (Property("policy", "iprev", str(address)),)
    )
