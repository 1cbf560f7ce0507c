"""Refuses, holds or marks messages by what is attached to them."""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Iterator
from typing import Final

import attrs

from elemta.plugin.api import (
    Answer,
    ByteSize,
    Changes,
    HeaderAction,
    HeaderChange,
    Hold,
    MessageView,
    Plugin,
    Quarantine,
    Reject,
    SessionView,
    hook,
)

from .archives import Budget, Member, members_of
from .kinds import kind_of, program_of
from .parts import Limits, Part, TooMuch, parts_of

# Programs and what starts them without asking, and containers that hide where a file came from
DANGEROUS: Final = (
    *(
        "ade",
        "adp",
        "ace",
        "apk",
        "app",
        "appx",
        "bas",
        "bat",
        "cab",
        "chm",
        "cmd",
        "com",
        "cpl",
        "dll",
        "dmg",
        "exe",
    ),
    *(
        "hlp",
        "hta",
        "img",
        "inf",
        "iso",
        "isp",
        "jar",
        "js",
        "jse",
        "lnk",
        "lzh",
        "mde",
        "msc",
        "msi",
        "msix",
        "msp",
    ),
    *(
        "mst",
        "pif",
        "ps1",
        "ps1xml",
        "ps2",
        "psc1",
        "psm1",
        "py",
        "reg",
        "scf",
        "scr",
        "sct",
        "settingcontent-ms",
    ),
    *("sys", "url", "vb", "vbe", "vbs", "vhd", "vhdx", "vxd", "wim", "ws", "wsc", "wsf", "wsh", "xll"),
)
_INVISIBLE: Final = re.compile(r"[\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


class Verdict(enum.StrEnum):
    """What becomes of a message, the mildest first."""

    PASS = "pass"  # noqa: S105 - no password
    TAG = "tag"
    """Take it, with a field in the header."""
    HOLD = "hold"
    QUARANTINE = "quarantine"
    REJECT = "reject"


class Of(enum.StrEnum):
    """Whose mail is looked at."""

    ANY = "any"
    OWN = "own"
    """Of clients that may send anywhere: our users and machines."""
    STRANGERS = "strangers"


def _positive(settings: Settings, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} has to be at least 1")


@attrs.frozen
class Settings:
    verdict: Verdict = Verdict.REJECT
    """Where a rule forbids what is attached."""
    extensions: tuple[str, ...] = DANGEROUS
    """Last parts of names, without the dot."""
    types: tuple[str, ...] = (
        "message/partial",
        "message/external-body",
        "application/x-msdownload",
        "application/hta",
    )
    """Declared types; `*` stands for anything."""
    programs: bool = True
    """Whether programs are known by their first octets, however they are called."""
    size: ByteSize = 0
    """Of one attachment, at most; 0: no limit."""
    archives: bool = True
    """Whether the rules hold for what is in archives: zip, tar, gzip, bzip2, xz, one in another."""
    encrypted: Verdict = Verdict.QUARANTINE
    """Where an archive is."""
    opaque: Verdict = Verdict.PASS
    """Archives that cannot be looked into: 7z, rar, cab."""
    beyond: Verdict = Verdict.QUARANTINE
    """What cannot be looked through: too deep, too much, or broken."""
    depth: int = attrs.field(default=8, validator=_positive)
    """Parts in parts, messages in messages, archives in archives: each at most so deep."""
    parts: int = attrs.field(default=500, validator=_positive)
    files: int = attrs.field(default=2_000, validator=_positive)
    """In all archives of a message."""
    lines: int = attrs.field(default=2_000_000, validator=_positive)
    archive_size: ByteSize = 32 * 1024 * 1024
    """Larger archives are beyond."""
    unpacked: ByteSize = 64 * 1024 * 1024
    """What is unpacked of one message, at most."""
    of: Of = Of.STRANGERS
    header: str = "X-Attachment-Warning"
    """The field of what is tagged; those of strangers are taken out."""
    text: str = "Attachment refused"
    """What the client reads, in front of the name."""

    def __attrs_post_init__(self) -> None:
        HeaderChange(HeaderAction.ADD, self.header)  # says what is wrong with it
        Reject(self.text)


@attrs.frozen
class Finding:
    verdict: Verdict
    name: str
    """As it is shown."""
    reason: str


class Attachments(Plugin[Settings]):
    Config = Settings

    @hook("message")
    async def look(self, session: SessionView, message: MessageView) -> Answer:
        config = self.config
        ours = session.trusted or session.identity is not None
        if config.of is not Of.ANY and (config.of is Of.OWN) is not ours:
            return Answer()
        worst = max(self._findings(message), key=lambda each: [*Verdict].index(each.verdict), default=None)
        forged = message.header(config.header) is not None
        changes = [HeaderChange(HeaderAction.REMOVE, config.header)] if forged else []
        if worst is None or worst.verdict is Verdict.PASS:
            return Answer(changes=Changes(headers=tuple(changes)))
        self.context.metrics.count(worst.verdict.value)
        reason = f"{worst.name}: {worst.reason}" if worst.name else worst.reason
        match worst.verdict:
            case Verdict.REJECT:
                return Answer(Reject(f"{config.text}: {reason}"[:400], reason=reason))
            case Verdict.QUARANTINE:
                return Answer(Quarantine(reason), Changes(headers=tuple(changes)))
            case Verdict.HOLD:
                return Answer(Hold(reason), Changes(headers=tuple(changes)))
        changes.append(HeaderChange(HeaderAction.ADD, config.header, reason))
        return Answer(changes=Changes(headers=tuple(changes)))

    def _findings(self, message: MessageView) -> Iterator[Finding]:
        config = self.config
        limits = Limits(config.depth, config.parts, config.lines, config.archive_size)
        budget = Budget(config.unpacked, config.files, config.depth)
        try:
            for part in parts_of(message.chunks(), limits):
                yield from self._of_part(part)
                if config.archives:
                    yield from self._in_archive(part, budget)
        except TooMuch as error:
            yield Finding(config.beyond, "", str(error))

    def _of_part(self, part: Part) -> Iterator[Finding]:
        config = self.config
        name = shown(part.names[0]) if part.names else ""
        if any(fnmatch.fnmatchcase(part.type, each.lower()) for each in config.types):
            yield Finding(config.verdict, name, f"type {shown(part.type)}")
        if config.size and part.size > config.size:
            yield Finding(config.verdict, name, f"larger than {config.size} octets")
        for each in part.names:
            yield from self._of_name(each)
        yield from self._of_head(name, part.head)

    def _of_name(self, name: str) -> Iterator[Finding]:
        # As Windows reads it: without blanks and dots at the end, and what cannot be seen does not count
        plain = _INVISIBLE.sub("", name).rstrip(". ").lower()
        extension = plain.rpartition(".")[2] if "." in plain else ""
        if extension in self.config.extensions:
            yield Finding(self.config.verdict, shown(name), f"names that end in .{extension}")

    def _of_head(self, name: str, head: bytes) -> Iterator[Finding]:
        if self.config.programs and (words := program_of(head)):
            yield Finding(self.config.verdict, name, words)

    def _in_archive(self, part: Part, budget: Budget) -> Iterator[Finding]:
        name = part.names[0] if part.names else ""
        if part.content is None:
            if kind_of(part.head):
                yield Finding(self.config.beyond, shown(name), "an archive too large to look into")
            return
        for member in members_of(name, bytes(part.content), budget):
            yield from self._of_member(member)

    def _of_member(self, member: Member) -> Iterator[Finding]:
        name = shown(member.name)
        if member.encrypted:
            yield Finding(self.config.encrypted, name, "encrypted")
        if member.opaque:
            yield Finding(
                self.config.opaque, name, f"an archive ({member.opaque}) that cannot be looked into"
            )
        yield from self._of_name(member.name)
        yield from self._of_head(name, member.head)


def shown(name: str) -> str:
    """A stranger's text for people: short, on one line, nothing that cannot be seen."""
    return "".join(each if each.isprintable() else "?" for each in _INVISIBLE.sub("?", name))[:100]
