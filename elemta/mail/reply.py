"""A reply and its enhanced status code (RFC 5321 §4.2, RFC 3463)."""

from __future__ import annotations

import enum
import functools

import attrs


class Severity(enum.Enum):
    """The first digit of a reply code (RFC 5321 §4.2.1)."""

    POSITIVE = 2
    INTERMEDIATE = 3
    TRANSIENT = 4
    PERMANENT = 5


# On the hot path an enumeration looked up by its value is a call too many
_SEVERITIES = {severity.value: severity for severity in Severity}


@attrs.frozen(slots=True)
class EnhancedCode:
    """Subject and detail of RFC 3463; the class is the reply's severity and never stored twice."""

    subject: int
    detail: int


@functools.lru_cache(maxsize=256)
def _read_enhanced(text: str) -> tuple[int, EnhancedCode]:
    class_, subject, detail = (int(part) for part in text.split("."))
    return class_, EnhancedCode(subject, detail)


@attrs.frozen(slots=True)
class Reply:
    """A reply code, an enhanced code where there is one, and one or more lines of text."""

    code: int
    enhanced: EnhancedCode | None
    lines: tuple[str, ...] = ("",)

    @classmethod
    def of(cls, code: int, enhanced: str | None, *lines: str) -> Reply:
        """Build one from text, as in `Reply.of(250, "2.1.0", "sender ok")`.

        Raises:
          ValueError: the class of the enhanced code is not that of the reply code.
        """
        if enhanced is None:
            return cls(code, None, lines or ("",))
        class_, parsed = _read_enhanced(enhanced)
        if class_ != code // 100:
            raise ValueError(f"{enhanced} does not go with {code}")
        return cls(code, parsed, lines or ("",))

    @property
    def severity(self) -> Severity:
        return _SEVERITIES[self.code // 100]

    @property
    def is_positive(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400

    @property
    def enhanced_text(self) -> str | None:
        """The enhanced code as it is written, such as `5.1.1`."""
        if self.enhanced is None:
            return None
        return f"{self.code // 100}.{self.enhanced.subject}.{self.enhanced.detail}"

    @property
    def text(self) -> str:
        """All lines joined by a blank, without the codes."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        """Code, enhanced code and text in one line, for people and logs."""
        enhanced = self.enhanced_text
        return f"{self.code} {enhanced} {self.text}" if enhanced else f"{self.code} {self.text}"
