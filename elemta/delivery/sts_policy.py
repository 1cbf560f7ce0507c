"""MTA-STS records and policies as values (RFC 8461 §3): parsed strictly, matched against hosts. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

import attrs

from .dane import matches_name

LARGEST_POLICY = 64 * 1024
"""Octets (RFC 8461 §3.3)."""
LONGEST = 31_557_600
"""Seconds of max_age: a year (§3.2)."""

_VERSION = re.compile(rb"v=STSv1[ \t]*(?:;|\Z)")
_ID = re.compile(rb"[ \t]*id[ \t]*=[ \t]*([A-Za-z0-9]{1,32})[ \t]*")
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})[ \t]*:[ \t]*(.*)")
_DIGITS = re.compile(r"[0-9]{1,10}")


class StsMode(enum.StrEnum):
    """What becomes of mail that a host of the domain may not get."""

    ENFORCE = "enforce"
    TESTING = "testing"
    """It is delivered all the same; reports tell of it."""
    NONE = "none"


@attrs.frozen
class StsPolicy:
    """What a domain says of its mail hosts."""

    mode: StsMode
    max_age: int
    mx: tuple[str, ...] = ()

    def allows(self, host: str) -> bool:
        """Whether mail for the domain may go to the host (§4.1)."""
        return any(matches_name(pattern, host) for pattern in self.mx)

    @property
    def lines(self) -> tuple[str, ...]:
        """As it stands in the file, for reports (RFC 8460 §4.4)."""
        hosts = [f"mx: {host}" for host in self.mx]
        return ("version: STSv1", f"mode: {self.mode}", *hosts, f"max_age: {self.max_age}")


def parse_record(texts: Iterable[bytes]) -> str | None:
    """The id of the domain's record; `None` where there is none, or more than one (§3.1)."""
    records = [text for text in texts if _VERSION.match(text)]
    if len(records) != 1:
        return None
    ids = [found[1] for field in records[0].split(b";")[1:] if (found := _ID.fullmatch(field))]
    return ids[0].decode("ascii") if ids else None


def parse_policy(body: bytes) -> StsPolicy:
    """The policy in the file. Of a field that comes twice the first counts; unknown ones do not (§3.2).

    Raises:
      ValueError: it is none; the text says why.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the policy is not UTF-8") from None
    fields: dict[str, str] = {}
    hosts: list[str] = []
    for line in re.split(r"\r?\n", text):
        if not line.strip(" \t"):
            continue
        found = _FIELD.fullmatch(line.rstrip(" \t"))
        if found is None:
            raise ValueError("a line of the policy is no field")
        if found[1] == "mx":
            hosts.append(found[2].lower().removesuffix("."))
        else:
            fields.setdefault(found[1], found[2])
    if fields.get("version") != "STSv1":
        raise ValueError("the policy has no version STSv1")
    if not _DIGITS.fullmatch(fields.get("max_age", "")):
        raise ValueError("the policy has no max_age")
    try:
        mode = StsMode(fields.get("mode", ""))
    except ValueError:
        raise ValueError("the policy has no mode that is known") from None
    if mode is not StsMode.NONE and not hosts:
        raise ValueError("the policy names no host")
    return StsPolicy(mode, min(int(fields["max_age"]), LONGEST), tuple(hosts))
