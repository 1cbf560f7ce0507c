"""Evaluate SPF for one identity with pyspf, against a table of answers (RFC 7208 §4).

pyspf reads the records and walks through them; it passes the public test suite. What is put around it is
what a stranger's record could do to it: its macros and domains are quadratic, so they are expanded here;
records are short and few; everything that a run finds out once is kept for the next run, since it runs
once for each lookup that depends on another.
"""

from __future__ import annotations

import re
import urllib.parse
import warnings
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

import attrs

from elemta.dns import Answer, RecordKind, Status
from elemta.mail import Result

from . import lookups
from .client import IpAddress
from .lookups import Lookups

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SyntaxWarning)  # an invalid escape, told when Python 3.12 compiles it
    import spf

MAX_RECORD = 4096
"""Octets of a record. RFC 7208 §3.4 wants 512; large senders have up to 2000."""
MAX_RECORDS = 16 * 1024
"""Octets of all records of one evaluation."""
MAX_MODIFIERS = 30
"""Signs `=` in a record."""
MAX_DOMAIN_SPEC = 512
"""Characters of a domain-spec before its macros are expanded."""
MAX_ADDRESSES = 256
"""Addresses of one name that are compared."""
_MAX_NAME = 253
_MAX_HOSTS = 10  # RFC 7208 §4.6.4: of MX, of PTR, and terms that ask DNS
_MAX_TEXTS = 2
"""Of records that are none of SPF pyspf needs to know only whether there is more than one (for `exp=`)."""

_IS_SPF = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_LEADS_TO = re.compile(rb"[ ][+?~-]?(?:include:|redirect=)([A-Za-z0-9_.-]{1,253})(?= |\Z)", re.IGNORECASE)
# RFC 7208 §7.1: macro-expand
_MACRO = re.compile(r"%(?:([%_-])|\{([A-Za-z])([0-9]{0,9})([rR]?)([-.+,/_=]*)\})")
_ESCAPED = {"%": "%", "_": " ", "-": "%20"}
_TEXT_ONLY = "crt"  # §7.2: only in the text of exp=


@attrs.frozen
class SpfQuestion:
    """May the client at `address` use this name? (RFC 7208 §4.1)"""

    address: IpAddress
    domain: str
    """Whose record is asked, in A-labels."""
    local_part: str = "postmaster"
    hello: str = ""
    receiver: str = "unknown"
    """Our name, for `%{r}`."""

    @property
    def sender(self) -> str:
        return f"{self.local_part}@{self.domain}"


@attrs.frozen
class SpfAnswer:
    """The result, and for people why."""

    result: Result
    reason: str = ""
    """What is wrong; has a stranger's words in it."""
    mechanism: str = ""
    """The term of the domain's own record that matched; a stranger's, too."""
    explanation: str = ""
    """What `exp=` says: a stranger's text, for the log and never for replies (RFC 7208 §11.5)."""


@attrs.define(eq=False)
class SpfEvaluation:
    """The pure code for `lookups.evaluate`: make one for each evaluation and hand over `run`."""

    question: SpfQuestion
    _mechanisms: dict[tuple[str, str], tuple[Any, ...]] = attrs.field(factory=dict, init=False)
    _networks: dict[str, int] = attrs.field(factory=dict, init=False)

    def run(self, table: Lookups) -> SpfAnswer:
        """Never raises for what is in records.

        Raises:
          NeedLookup: the table lacks an answer.
        """
        query = _Query(self.question, table, self._mechanisms, self._networks)
        try:
            result, _, text = query.check()
        except lookups.NeedLookup:
            raise
        except Exception as error:  # pyspf stumbled over a record: it will the next time, too
            return SpfAnswer(Result.PERMERROR, f"unreadable ({type(error).__name__})")
        found = Result(result)
        if found in (Result.TEMPERROR, Result.PERMERROR):
            return SpfAnswer(found, query.prob)
        return SpfAnswer(
            found, mechanism=query.mechanism or "", explanation=text if found is Result.FAIL else ""
        )


class _Query(spf.query):
    """A query of pyspf, made for one run."""

    def __init__(
        self,
        question: SpfQuestion,
        table: Lookups,
        mechanisms: dict[tuple[str, str], tuple[Any, ...]],
        networks: dict[str, int],
    ) -> None:
        super().__init__(str(question.address), "", question.hello, receiver=question.receiver)
        # Not by its arguments: it would take the domain of `"a@b"@example.org` from the first sign
        self.s = question.sender
        self.l = question.local_part
        self.o = self.d = question.domain
        self.prob = ""
        self.set_default_explanation("")
        self._octets = 0
        self._table = table
        self._mechanisms = mechanisms
        self._networks = networks
        self._own = int(self.ipaddr)

    def check0(self, spf: str | None, recursion: int) -> tuple[str, int, str]:
        if spf:
            self._octets += len(spf)
            if self._octets > MAX_RECORDS:
                raise _perm_error("the records are too long")
            if spf.count("=") > MAX_MODIFIERS:
                raise _perm_error("too many modifiers")
        return super().check0(spf, recursion)

    def dns(
        self, name: str, qtype: str, cnames: dict[str, str] | None = None, ignore_void: bool = False
    ) -> list[Any]:
        found = super().dns(name, qtype, cnames, ignore_void)
        # Their addresses come next, one by one: let them be fetched together
        if qtype == "MX":
            self._wish(host for _, host in sorted(found)[:_MAX_HOSTS])
        elif qtype == "PTR":
            self._wish(found[:_MAX_HOSTS])
        return found

    def validated_ptrs(self) -> list[str]:
        """RFC 7208 §5.5: names that cannot be had for now are no names."""
        try:
            names = self.dns_ptr(self.i)[:_MAX_HOSTS]
        except spf.TempError:
            return []
        return [name for name in names if self._leads_back(name)]

    def _leads_back(self, name: str) -> bool:
        try:
            return self.cidrmatch(self.dns_a(name, self.A), self.cidrmax)
        except spf.TempError:
            return False

    def _wish(self, hosts: Iterable[str]) -> None:
        for host in hosts:
            self._table.wish(host, RecordKind(self.A))

    def validate_mechanism(self, mech: str) -> tuple[Any, ...]:
        if "%{p" in mech.lower():  # asks DNS
            return super().validate_mechanism(mech)
        key = (mech, self.d)
        known = self._mechanisms.get(key)
        if known is None:
            known = self._mechanisms[key] = super().validate_mechanism(mech)
        return known

    def cidrmatch(self, ipaddrs: list[str], n: int) -> bool:
        shift = self.cidrmax - n
        own, known = self._own >> shift, self._networks
        for text in ipaddrs:  # thousands of them, if somebody means ill
            number = known.get(text)
            if number is None:
                number = known[text] = _number(text)
            if number >> shift == own:
                return True
        return False

    def expand_domain(self, arg: str) -> str:
        if len(arg) > MAX_DOMAIN_SPEC:
            raise _perm_error("a domain is too long")
        return super().expand_domain(arg)

    def expand(self, s: str, stripdot: bool = True) -> str:
        """RFC 7208 §7: `stripdot` for domains, without it for the text of `exp=`."""
        parts = []
        position = 0
        while (sign := s.find("%", position)) >= 0:
            parts.append(s[position:sign])
            macro = _MACRO.match(s, sign)
            if macro is None:
                raise _perm_error("invalid macro")  # §4.6, §7.1
            parts.append(_ESCAPED[macro[1]] if macro[1] else self._expand_macro(macro, stripdot))
            position = macro.end()
        parts.append(s[position:])
        text = "".join(parts)
        if not stripdot:
            return text
        text = text.removesuffix(".")
        while len(text) > _MAX_NAME and "." in text:  # §7.3: whole labels are dropped from the left
            text = text.partition(".")[2]
        return text

    def _expand_macro(self, macro: re.Match[str], is_domain: bool) -> str:
        letter = macro[2].lower()
        if letter not in "slodiphcrtv" or (is_domain and letter in _TEXT_ONLY):
            raise _perm_error("unknown macro")
        value = self.getp() if letter == "p" else str(getattr(self, letter))
        count, delimiters = macro[3], macro[5]
        if count and not int(count):
            raise _perm_error("invalid macro")  # §7.1: the digits mean at least 1
        if count or macro[4] or delimiters:
            labels = re.split(f"[{re.escape(delimiters or '.')}]", value)
            if macro[4]:
                labels.reverse()
            value = ".".join(labels[-int(count) :] if count else labels)
        # §7.3: upper case letters are escaped for URLs
        return urllib.parse.quote(value, safe="~") if macro[2].isupper() else value


def _number(text: str) -> int:
    try:
        return int.from_bytes(inet_pton(AF_INET6 if ":" in text else AF_INET, text))
    except (OSError, ValueError) as cause:
        raise _perm_error("not an address") from cause


def _look_up(
    name: str, kind: str, strict: bool = True, timeout: float = 0
) -> list[tuple[tuple[str, str], Any]]:
    """In place of pyspf's own, which would block."""
    table = lookups.current()
    answer = table.get(name, RecordKind(kind))
    if answer.status is Status.FAILED:
        raise spf.TempError("DNS failed")
    values: Iterable[Any]
    match kind:
        case "MX":
            values = [(record.preference, record.host) for record in answer.mail_exchangers]
        case "TXT":
            values = [(text,) for text in _texts(answer, table)]
        case _:
            values = answer.records[:MAX_ADDRESSES]
    return [((name, kind), value) for value in values]


def _texts(answer: Answer, table: Lookups) -> list[bytes]:
    records = [text for text in answer.strings if _IS_SPF.match(text)]
    others = [text[:MAX_RECORD] for text in answer.strings if not _IS_SPF.match(text)]
    for record in records[:1]:
        if len(record) > MAX_RECORD:
            raise _perm_error("the record is too long")
        # Included records are asked for one by one, too
        for lead in _LEADS_TO.findall(record)[:_MAX_HOSTS]:
            table.wish(lead.decode("ascii"), RecordKind.TXT)
    return records[:2] + others[:_MAX_TEXTS]


def _perm_error(text: str) -> Exception:
    return spf.PermError(text)


spf.DNSLookup = _look_up
