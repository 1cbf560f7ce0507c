"""The folder of a maildir route, from names that strangers chose."""

from __future__ import annotations

import hashlib
import re

from elemta.mail import Mailbox

from .tables import fold_local_part

MAX_COMPONENT = 200
"""Octets of one name; file systems allow 255, and a temporary suffix must still fit."""

_PLACEHOLDER = re.compile(r"\{(domain|local_part)\}")
_UNSAFE = re.compile(rb"[^a-z0-9._+=@~-]")


def fill_folder(template: str, mailbox: Mailbox) -> str:
    """The template with `{domain}` and `{local_part}` filled in, each as one safe path component.

    ASCII case of the local part is folded: `User@` and `user@` share a folder.
    """
    names = {"domain": mailbox.domain.text, "local_part": fold_local_part(mailbox.local_part)}
    # One pass, no str.format: what was filled in is never read as a template again.
    return _PLACEHOLDER.sub(lambda match: safe_component(names[match[1]]), template)


def safe_component(name: str) -> str:
    """A name as one component of a path, which can never be `.`, `..`, hidden, or hold a `/`.

    Octets of UTF-8 other than `a-z 0-9 . _ + = @ ~ -`, and a leading dot, become `%XX`; `%` itself too,
    so that two names never meet and the name can be read back. What is still too long (no local part
    from SMTP is) is cut and told apart by a digest after `%%`, which nothing else produces.
    """
    octets = name.encode("utf-8", "surrogatepass")
    encoded = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], octets).decode("ascii")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) > MAX_COMPONENT:
        digest = hashlib.blake2b(octets, digest_size=16).hexdigest()
        encoded = f"{encoded[: MAX_COMPONENT - len(digest) - 2]}%%{digest}"
    return encoded or "%"
