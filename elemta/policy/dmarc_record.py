"""One DMARC policy record as a value (RFC 9989 §4.7, §4.8)."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

import attrs

MAX_RECORD = 4096
"""Octets; a longer one counts as none."""
MAX_ADDRESSES = 10
"""Addresses for reports that are kept."""

_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_TAG = re.compile(r"[ \t]*([A-Za-z]+)[ \t]*=[ \t]*([\x20-\x3a\x3c-\x7e]*)")
# RFC 3986 §3; commas and exclamation points must be encoded (RFC 9989 §4.8)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@$&'()*+;=%-]+")


class DmarcPolicy(enum.StrEnum):
    """What a domain wants to be done with mail that fails."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def in_test(self) -> DmarcPolicy:
        """One level below (RFC 9989 §4.7, t=y)."""
        return DmarcPolicy.QUARANTINE if self is DmarcPolicy.REJECT else DmarcPolicy.NONE


class SuffixFlag(enum.StrEnum):
    """Whether others register names below (psd=)."""

    YES = "y"
    NO = "n"
    UNKNOWN = "u"


@attrs.frozen
class DmarcRecord:
    """What a domain publishes. Texts are a stranger's."""

    policy: DmarcPolicy = DmarcPolicy.NONE
    subdomains: DmarcPolicy | None = None
    """sp="""
    missing: DmarcPolicy | None = None
    """np=, for names that do not exist."""
    strict_dkim: bool = False
    strict_spf: bool = False
    suffix: SuffixFlag = SuffixFlag.UNKNOWN
    testing: bool = False
    """t="""
    aggregate: tuple[str, ...] = ()
    """rua=, addresses for aggregate reports (RFC 9990)."""
    failure: tuple[str, ...] = ()
    """ruf=, addresses for failure reports (RFC 9991)."""
    failure_options: frozenset[str] = frozenset({"0"})
    """fo=, of `0`, `1`, `d` and `s`; only where there is a ruf=."""
    usable: bool = True
    """False: its policies cannot be read and it wants no reports, so it asks for nothing (§4.10.1)."""

    def policy_for(self, *, own: bool, exists: bool) -> DmarcPolicy:
        """What it asks for mail that fails.

        Args:
          own: the mail is of the very domain that has the record, not of one below.
          exists: the domain of the mail is in DNS.
        """
        asked = self.policy
        if not own:
            if self.subdomains is not None:
                asked = self.subdomains
            if not exists and self.missing is not None:
                asked = self.missing
        return asked.in_test if self.testing else asked


def find_record(texts: Iterable[bytes]) -> DmarcRecord | None:
    """The record among the TXT records of a name; none if there are several (RFC 9989 §4.10, steps 2, 6)."""
    found = [text for text in texts if len(text) <= MAX_RECORD and _VERSION.match(text)]
    return parse_record(found[0]) if len(found) == 1 else None


def parse_record(text: bytes) -> DmarcRecord:
    """A text that begins with the version. What cannot be read counts as if it were not there (§4.7)."""
    tags: dict[str, str] = {}
    for part in text.decode("latin-1").split(";")[1:]:
        tag = _TAG.fullmatch(part)
        if tag:
            tags.setdefault(tag[1].lower(), tag[2].rstrip(" "))
    policies = {name: _policy(tags[name]) for name in ("p", "sp", "np") if name in tags}
    aggregate = _addresses(tags.get("rua", ""))
    failure = _addresses(tags.get("ruf", ""))
    options = frozenset(part.strip() for part in tags.get("fo", "").lower().split(":")) & set("01ds")
    record = DmarcRecord(
        strict_dkim=tags.get("adkim", "").lower() == "s",
        strict_spf=tags.get("aspf", "").lower() == "s",
        suffix=_flag(tags.get("psd", "")),
        testing=tags.get("t", "").lower() == "y",
        aggregate=aggregate,
        failure=failure,
        failure_options=options if options and failure else frozenset({"0"}),
    )
    if None in policies.values():
        # §4.10.1: not a valid p=, sp= or np=: as if p=none, for the sake of the reports it wants
        return attrs.evolve(record, usable=bool(aggregate))
    return attrs.evolve(
        record,
        policy=policies.get("p") or DmarcPolicy.NONE,  # §4.7: without p= it is none
        subdomains=policies.get("sp"),
        missing=policies.get("np"),
    )


def _policy(value: str) -> DmarcPolicy | None:
    try:
        return DmarcPolicy(value.lower())
    except ValueError:
        return None


def _flag(value: str) -> SuffixFlag:
    try:
        return SuffixFlag(value.lower())
    except ValueError:
        return SuffixFlag.UNKNOWN


def _addresses(value: str) -> tuple[str, ...]:
    # RFC 7489 had a size behind a "!": it is ignored (RFC 9989 §4.6)
    uris = (item.partition("!")[0].strip(" \t") for item in value.split(","))
    return tuple(dict.fromkeys(uri for uri in uris if _URI.fullmatch(uri)))[:MAX_ADDRESSES]
