"""ARC fields, keys and messages in every form they may have: what RFC 6376 and RFC 8617 say of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from dkim_bed import AMS_TAGS, MESSAGE, SEAL_TAGS, chain, forge_set, rsa_key, shape, validate, zone

from elemta.policy.canonical import Form

P = rsa_key().record().partition("p=")[2]
FORMS = list(itertools.product(Form, Form))


async def outcome(message: bytes, record: str | None = None) -> str:
    return str((await validate(message, None if record is None else zone(rsa=record))).result)


def with_text(which: str, instance: int, change: Callable[[str], str]) -> bytes:
    """A chain of that length; the text of one field of its last set is changed before it is signed."""
    tags: dict[str, str | None] = {**(AMS_TAGS if which == "ams" else SEAL_TAGS), "i": str(instance)}
    if which == "seal" and instance > 1:
        tags["cv"] = "pass"
    return forge_set(chain(instance - 1), instance=instance, **{which: change(shape(tags, {}))})  # type: ignore[arg-type]


GOOD_FORMS: dict[str, Callable[[str], str]] = {
    "a semicolon at the end": lambda text: text + ";",
    "a semicolon and blanks at the end": lambda text: text + " ; ",
    "no blanks": lambda text: text.replace("; ", ";"),
    "blanks around equals signs": lambda text: text.replace("=", " =\t", 4),
    "a line for each tag": lambda text: text.replace("; ", ";\r\n\t "),
    "folded behind an equals sign": lambda text: text.replace("d=", "d=\r\n "),
    "a line of blanks": lambda text: text.replace("; ", ";\r\n \r\n ", 1),
    "the last tag first": lambda text: "; ".join(reversed(text.split("; "))),
    "tags nobody knows": lambda text: text + "; zz=1; Zz=; z_9=a b",
    "UTF-8 in a tag nobody knows": lambda text: text + "; zz=ä",
    "tags of other cases": lambda text: text + "; D=other.example; CV=fail; I=7",
}
BAD_FORMS: dict[str, Callable[[str], str]] = {
    # RFC 6376 3.2
    "two semicolons": lambda text: text.replace("; ", ";; ", 1),
    "two semicolons at the end": lambda text: text + ";;",
    "a semicolon first": lambda text: ";" + text,
    "a word that is no tag": lambda text: text + "; word",
    "a comma": lambda text: text.replace("; ", ", ", 1),
    "a comment": lambda text: text.replace("; ", "; (c) ", 1),
    "a tag twice": lambda text: text + "; s=rsa",
    "a name that begins with a digit": lambda text: text + "; 1z=1",
    "a name with a hyphen": lambda text: text + "; z-z=1",
    "a control character": lambda text: text + "; zz=\x07",
    "names of another case": lambda text: text.replace("d=", "D=").replace("s=", "S="),
}


@pytest.mark.parametrize("instance", [1, 2])
@pytest.mark.parametrize("which", ["ams", "seal"])
@pytest.mark.parametrize("form", GOOD_FORMS)
async def test_forms_of_tag_lists(form: str, which: str, instance: int) -> None:
    assert await outcome(with_text(which, instance, GOOD_FORMS[form])) == "pass"


@pytest.mark.parametrize("instance", [1, 2])
@pytest.mark.parametrize("which", ["ams", "seal"])
@pytest.mark.parametrize("form", BAD_FORMS)
async def test_what_is_no_tag_list(form: str, which: str, instance: int) -> None:
    assert await outcome(with_text(which, instance, BAD_FORMS[form])) == "fail"


# --- Which fields are signed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    ["from", "FROM:Subject:To", "from : subject : to", "from\r\n :subject", "from:to:from", "from:x-none:to", "from:from:from",
     "from:arc-authentication-results", "from:dkim-signature", "from:date:message-id:to:subject"],
)  # fmt: skip
async def test_lists_of_fields(names: str) -> None:
    text = shape(dict(AMS_TAGS), {"h": names})
    signed = [name.strip().lower() for name in names.split(":")]
    assert await outcome(forge_set(MESSAGE, ams=text, names=signed)) == "pass"


@pytest.mark.parametrize(
    "names", ["", ":", "from:", ":from", "from::to", "from,to", "from to", "to:subject", "from:arc-seal", "from:f\xfc"]
)  # fmt: skip
async def test_what_is_no_list_of_fields(names: str) -> None:
    text = shape(dict(AMS_TAGS), {"h": names})
    signed = [name.strip().lower() for name in names.split(":")]
    assert await outcome(forge_set(MESSAGE, ams=text, names=signed)) == "fail"


async def test_the_lowest_field_of_a_name_is_signed_first() -> None:
    # RFC 6376 5.4.2
    message = forge_set(MESSAGE)
    assert await outcome(b"Subject: above\r\n" + message) == "pass"
    assert await outcome(message.replace(b"Date:", b"Subject: below\r\nDate:")) == "fail"
    twice = forge_set(
        MESSAGE,
        ams=shape(dict(AMS_TAGS), {"h": "from:subject:subject"}),
        names=("from", "subject", "subject"),
    )
    assert await outcome(twice) == "pass"
    assert await outcome(b"Subject: above\r\n" + twice) == "fail"


# --- Keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [f"p={P}", f"k=rsa; p={P}", f"v=DKIM1;k=rsa;p={P};", f"v=DKIM1 ; p = {P}", f" v=DKIM1; p={P}", f"v=DKIM1; p={P[:40]} {P[40:]}",
     f"v=DKIM1; h=sha256; p={P}", f"v=DKIM1; h=sha1:sha256; p={P}", f"v=DKIM1; h=sha512 : sha256; p={P}", f"v=DKIM1; s=*; p={P}",
     f"v=DKIM1; s=email; p={P}", f"v=DKIM1; s=tlsrpt:email; p={P}", f"v=DKIM1; t=y; p={P}", f"v=DKIM1; t=s; p={P}", f"v=DKIM1; t=; p={P}",
     f"v=DKIM1; t=z; p={P}", f"v=DKIM1; n=a note; p={P}", f"v=DKIM1; g=somebody; p={P}", f"v=DKIM1; zz=1; p={P}"],
)  # fmt: skip
async def test_records_with_a_key(record: str) -> None:
    # RFC 6376 3.6.1
    assert await outcome(chain(2), record) == "pass"


@pytest.mark.parametrize(
    "record",
    ["", "nonsense", "v=DKIM1", "v=DKIM1; k=rsa", "v=DKIM1; p=", "v=DKIM1; p=AAAA", "v=DKIM1; p=***", f"v=DKIM1; p={P[:-4]}",
     f"v=DKIM2; p={P}", f"v=dkim1; p={P}", f"V=DKIM1; v=DKIM1; p={P}", f"k=rsa; v=DKIM1; p={P}", f"v=DKIM1; k=; p={P}", f"v=DKIM1; k=dsa; p={P}",
     f"v=DKIM1; k=RSA; p={P}", f"v=DKIM1; k=ed25519; p={P}", f"v=DKIM1; h=; p={P}", f"v=DKIM1; h=sha1; p={P}", f"v=DKIM1; h=SHA256; p={P}",
     f"v=DKIM1; s=; p={P}", f"v=DKIM1; s=other; p={P}", f"v=DKIM1; p={P}; p={P}", f"v=DKIM1; word; p={P}", f"v=DKIM1;; p={P}",
     f'"v=DKIM1; p={P}"', f"v=DKIM1, p={P}", f"v=DKIM1; P={P}", rsa_key(2048).record()],
)  # fmt: skip
async def test_records_without_one(record: str) -> None:
    assert await outcome(chain(2), record) == "fail"


# --- Messages -----------------------------------------------------------------------------------------------

CHANGES = [
    # of the header: what is written, what is there instead, whether the relaxed form is the same
    (b"Subject:  one", b"Subject: one", True),
    (b"Subject:  one", b"sUBJECT:  one", True),
    (b"Subject:  one", b"Subject :  one", True),
    (b"one\r\n\tmore", b"one more", True),
    (b"one\r\n\tmore", b"one \r\n more", True),
    (b"one\r\n\tmore", b"onemore", False),
    (b"word \r\n", b"word\r\n", True),
    (b"word \r\n", b"word\r\n \r\n", True),
    (b"Subject:  one", b"Subject:  One", False),
    (b"To: bob@example.net\r\n", b"", False),
    (b"To: bob@example.net\r\n", b"To: bob@example.net\r\nTo: x@example.net\r\n", False),
]
BODY_CHANGES = [
    (b"Hello  there", b"Hello there", True),
    (b"Hello  there", b"Hello \tthere", True),
    (b"Hello  there", b"Hellothere", False),
    (b"Hello", b" Hello", False),
    (b"there \t\r\n", b"there\r\n", True),
    (b"there \t\r\n\r\n", b"there \t\r\n", False),
    (b"\r\n\r\nbye", b"\r\n \t\r\nbye", True),
]


@pytest.mark.parametrize(("old", "new", "same"), CHANGES)
@pytest.mark.parametrize("forms", FORMS)
async def test_changes_of_the_header(forms: tuple[Form, Form], old: bytes, new: bytes, same: bool) -> None:
    message = forge_set(MESSAGE, ams=shape(dict(AMS_TAGS), {"c": "/".join(forms)}), forms=forms)
    assert old in message
    good = same and forms[0] is Form.RELAXED
    assert await outcome(message.replace(old, new, 1)) == ("pass" if good else "fail")


@pytest.mark.parametrize(("old", "new", "same"), BODY_CHANGES)
@pytest.mark.parametrize("forms", FORMS)
async def test_changes_of_the_body(forms: tuple[Form, Form], old: bytes, new: bytes, same: bool) -> None:
    message = forge_set(MESSAGE, ams=shape(dict(AMS_TAGS), {"c": "/".join(forms)}), forms=forms)
    assert old in message
    good = same and forms[1] is Form.RELAXED
    assert await outcome(message.replace(old, new, 1)) == ("pass" if good else "fail")


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n\r\n\r\n"])
@pytest.mark.parametrize("forms", FORMS)
async def test_empty_lines_at_the_end_mean_nothing(forms: tuple[Form, Form], end: bytes) -> None:
    # RFC 6376 3.4.3, 3.4.4
    message = forge_set(MESSAGE, ams=shape(dict(AMS_TAGS), {"c": "/".join(forms)}), forms=forms)
    assert await outcome(message.rstrip(b"\r\n") + end) == "pass"
    assert await outcome(message.rstrip(b"\r\n") + end + b".") == "fail"


HEADER = b"From: a@example.org\r\nSubject: s\r\nTo: b@example.net\r\n"


@pytest.mark.parametrize("forms", FORMS)
@pytest.mark.parametrize(
    "message",
    [HEADER, HEADER + b"\r\n", HEADER + b"\r\n\r\n\r\n", HEADER + b"\r\n \r\n", HEADER + b"\r\nlast", HEADER + b"\r\nlast \t",
     HEADER.replace(b" s", b"") + b"\r\nx\r\n", HEADER.replace(b"Subject: s\r\n", b"") + b"\r\nx\r\n"],
    ids=["no body", "an empty body", "empty lines", "blanks", "no line end", "blanks and no line end", "an empty Subject", "no Subject"],
)  # fmt: skip
async def test_messages_with_little_in_them(message: bytes, forms: tuple[Form, Form]) -> None:
    sealed = forge_set(message, ams=shape(dict(AMS_TAGS), {"c": "/".join(forms)}), forms=forms)
    assert await outcome(sealed) == "pass"
    assert await outcome(forge_set(sealed, instance=2)) == "pass"


@pytest.mark.parametrize("header", [HEADER.replace(b"From", b"X"), b"From: c@example.org\r\n" + HEADER])
async def test_a_message_has_one_author_field(header: bytes) -> None:
    assert await outcome(forge_set(header + b"\r\nx\r\n")) == "fail"


# --- What is counted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", ["ARC-Seal: i=1", "ARC-Seal: i=3; cv=pass", "ARC-Seal:", "ARC-Seal: x", "ARC-Message-Signature: i=2",
                                   "ARC-Authentication-Results: i=2; x", "ARC-Authentication-Results: i=9; x",
                                   "ARC-Authentication-Results: none"])  # fmt: skip
async def test_a_field_that_belongs_to_no_set(extra: str) -> None:
    assert await outcome(extra.encode() + b"\r\n" + chain(2)) == "fail"
    assert await outcome(chain(2).replace(b"Date:", extra.encode() + b"\r\nDate:")) == "fail"


@pytest.mark.parametrize("name", ["ARC-Seals", "X-ARC-Seal", "Arc-Authentication-Result"])
async def test_fields_that_are_none_of_arc(name: str) -> None:
    assert await outcome(f"{name}: i=1\r\n".encode() + chain(1)) == "pass"


async def test_the_sets_of_two_chains_are_no_chain() -> None:
    other = forge_set(MESSAGE.replace(b"Hello", b"Hallo"))
    first, second = (text[: text.index(b"From: Alice")] for text in (chain(1), other))
    assert await outcome(second + first + MESSAGE) == "fail"
