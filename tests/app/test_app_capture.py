"""What is shown of a captured message."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from elemta.app import capture
from elemta.mail import NULL_PATH

PARCEL = cast(
    Any,
    SimpleNamespace(
        message="1",
        envelope=SimpleNamespace(reverse_path=NULL_PATH),
        recipients=(),
        content=SimpleNamespace(size=1),
    ),
)


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("=?utf-8?q?caf=C3=A9?=", "café"),
        ("=?utf-8?b?A?=", None),
        ("=?é?q?a?=", "=?é?q?a?="),
        ("=?nope?q?a?=", "=?nope?q?a?="),
    ],
)
def test_a_subject_that_cannot_be_decoded_is_shown_as_it_stands(subject: str, shown: str | None) -> None:
    head = f"Subject: {subject}\r\n\r\nbody\r\n".encode()
    found = capture._describe(PARCEL, Path("x"), head)
    assert shown is None or found.subject == shown
