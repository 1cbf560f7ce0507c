"""Sign what leaves with the keys of its domain (DKIM, RFC 6376 §5, RFC 8463).

A signature is made of the header and of a hash of the body that was computed while the body came, so a
message is not read again. The arithmetic of private keys runs in threads of its own pool. All that is written
into a field comes from the configuration, from the lists in here and from base64: nothing of a message can
get into a signature.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs

from elemta.config import DomainPattern, SigningConfig
from elemta.mail import NULL_PATH, Domain, Mailbox, ReversePath, split_header
from elemta.runtime import ThreadPool, WallClock, run_in_thread

from .author import find_authors
from .canonical import BodyHashes, BodyNeed, Form, hash_body
from .head import Field, MessageHead
from .keyring import KeyFileError, SigningKey, load_key
from .signatures import MAX_NAMES

MayWriteAs = Callable[[Mailbox], bool]
"""Whether whoever sends a message may stand in its From with that address."""

LINE_LENGTH = 77
"""Characters of a line, below the 78 of RFC 5322 §2.1.1."""

SINGLE_FIELDS = (
    # RFC 5322 §3.6: a message has at most one of each, and readers are shown them
    b"from", b"reply-to", b"subject", b"date", b"message-id", b"to", b"cc",
    b"in-reply-to", b"references",
    b"mime-version", b"content-type", b"content-transfer-encoding",
)  # fmt: skip
"""Fields that are signed, and signed once more than they are there, so that none can be added."""
SIGNED_FIELDS = (
    *SINGLE_FIELDS,
    # RFC 6376 §5.4.1. Senders, resenders and lists may add theirs: signed only where they are there.
    b"sender",
    b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id",
    b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-post",
    b"list-owner", b"list-archive", b"content-id", b"content-description", b"content-disposition",
)  # fmt: skip


class SigningError(Exception):
    """Keys cannot be used. Each line of the text names an entry of the configuration and what is wrong."""


@attrs.frozen(eq=False)
class SigningEntry:
    """One key with what is to be signed with it."""

    pattern: DomainPattern
    domain: str
    """d=."""
    selector: str
    key: SigningKey
    header_form: Form = Form.RELAXED
    body_form: Form = Form.RELAXED
    names: tuple[bytes, ...] = SIGNED_FIELDS
    oversigned: frozenset[bytes] = frozenset(SINGLE_FIELDS)
    lifetime: int = 0
    """Seconds; 0: without end."""
    index: int = 0
    """Where it stands in `[[signing]]`."""

    @property
    def need(self) -> BodyNeed:
        return BodyNeed(self.body_form)


def load_entries(
    configs: Iterable[SigningConfig], credentials: Path | None = None, local: Sequence[Domain] = ()
) -> tuple[SigningEntry, ...]:
    """The entries with their keys; one that names no domain becomes one for each of `local`.

    Reads files, and takes 40 ms for each RSA key: use a thread.

    Raises:
      SigningError: some cannot be used; names all of them.
    """
    entries = []
    troubles = []
    for index, config in enumerate(configs):
        try:
            entries += _load_entry(config, index, credentials, local)
        except KeyFileError as error:
            troubles.append(f"signing[{index}].key: {error}")
    if troubles:
        raise SigningError("\n".join(troubles))
    return tuple(entries)


def _load_entry(
    config: SigningConfig, index: int, credentials: Path | None, local: Sequence[Domain]
) -> list[SigningEntry]:
    key = load_key(config.key, credentials)
    if config.algorithm is not None and config.algorithm != key.algorithm:
        raise KeyFileError(f"{config.key}: is a key for {key.algorithm}, not for {config.algorithm}")
    header_form, _, body_form = config.canonicalization.partition("/")
    return [
        SigningEntry(
            pattern,
            (config.sign_as or pattern.domain).text,
            config.selector,
            key,
            Form(header_form),
            Form(body_form),
            with_from(config.headers) if config.headers else SIGNED_FIELDS,
            frozenset(SINGLE_FIELDS if config.oversign else (b"from",)),
            int(config.lifetime),
            index,
        )
        for pattern in config.patterns(local)
    ]


class DkimSigner:
    """Signs messages of our users. What it may sign is the session's to know: whoever can write From into a
    message that is signed speaks for that domain.

    Args:
      pool: threads for the arithmetic, of nobody else.
    """

    def __init__(self, entries: Sequence[SigningEntry], clock: WallClock, pool: ThreadPool) -> None:
        self._entries: dict[DomainPattern, tuple[SigningEntry, ...]] = {}
        for entry in entries:
            self._entries[entry.pattern] = (*self._entries.get(entry.pattern, ()), entry)
        self._clock = clock
        self._pool = pool

    def choose(
        self, head: MessageHead, sender: ReversePath, may_write_as: MayWriteAs | None = None
    ) -> tuple[SigningEntry, ...]:
        """The entries that sign a message: those of the first author that has some, else those of the sender.

        None for a message without exactly one From field, of which readers see who knows which.

        Args:
          may_write_as: what is to hold for each author whose domain has a key; who that is must then be
            readable. The sender's own right is the session's to know.
        """
        if len(head.named(b"from")) != 1 or head.excess:
            return ()
        authors = find_authors(head)
        if may_write_as is not None:
            if authors.problem:
                return ()
            for mailbox in authors.mailboxes:
                if (
                    isinstance(mailbox.domain, Domain)
                    and self._closest(mailbox.domain)
                    and not may_write_as(mailbox)
                ):
                    return ()
        domains = list(authors.domains)
        if sender.mailbox is not None and isinstance(sender.mailbox.domain, Domain):
            domains.append(sender.mailbox.domain)
        return next(filter(None, map(self._closest, domains)), ())

    def needs(
        self, head: MessageHead, sender: ReversePath, may_write_as: MayWriteAs | None = None
    ) -> list[BodyNeed]:
        """What must be hashed of the body for `sign`."""
        return [entry.need for entry in self.choose(head, sender, may_write_as)]

    async def sign(
        self,
        head: MessageHead,
        hashes: BodyHashes,
        sender: ReversePath,
        may_write_as: MayWriteAs | None = None,
    ) -> bytes:
        """The DKIM-Signature fields to put before the message, with CR LF; empty where nobody signs for it.

        Cancelled, nothing was signed, or it was and is forgotten.

        Args:
          head: as it will leave: `hashed.head.below(prefix)` with the fields that are added.
          hashes: of the body, by what `needs` said.
        """
        chosen = self.choose(head, sender, may_write_as)
        entries = [entry for entry in chosen if entry.need in hashes.digests]
        if not entries:
            return b""
        return await run_in_thread(
            self._pool, make_signatures, entries, head, hashes, int(self._clock.time())
        )

    def sign_own(self, message: bytes, sender: ReversePath = NULL_PATH) -> bytes:
        """The fields to put before a message of our own, which is whole and small: up to 1 MiB.

        In the loop, for where nobody may wait: takes some milliseconds for each RSA key. The body is hashed
        in its simple form, which is quick, and we make no blanks that others take away.
        """
        head = MessageHead(message)
        entries = [attrs.evolve(entry, body_form=Form.SIMPLE) for entry in self.choose(head, sender)]
        if not entries:
            return b""
        body = message[split_header(message) :]
        hashes = hash_body(body, [entry.need for entry in entries])
        return make_signatures(entries, head, hashes, int(self._clock.time()))

    def _closest(self, domain: Domain) -> tuple[SigningEntry, ...]:
        """The entries of the domain itself, else of the longest pattern above it."""
        found = self._entries.get(DomainPattern(domain), ())
        above = domain.text
        while not found and "." in above:
            above = above.partition(".")[2]
            found = self._entries.get(DomainPattern(Domain(above), subdomains=True), ())
        return found


def make_signatures(
    entries: Iterable[SigningEntry], head: MessageHead, hashes: BodyHashes, now: int
) -> bytes:
    """The fields, one below the other. Pure, and slow as private keys are."""
    return b"".join(_make_signature(entry, head, hashes.digests[entry.need], now) for entry in entries)


def _make_signature(entry: SigningEntry, head: MessageHead, body_hash: bytes, now: int) -> bytes:
    names = signed_names(head, entry.names, entry.oversigned)
    expires = (f"x={now + entry.lifetime}",) if entry.lifetime else ()
    tags = [
        "v=1",
        f"a={entry.key.algorithm}",
        f"c={entry.header_form}/{entry.body_form}",
        f"d={entry.domain}",
        f"s={entry.selector}",
        f"t={now}",
        *expires,
        fold_names(names),
        f"bh={base64.b64encode(body_hash).decode('ascii')}",
    ]
    unsigned = fold_tags("DKIM-Signature: ", tags) + b";\r\n\tb="
    # The last tag, so what RFC 6376 §3.7 takes out of it can be put behind it
    (digest,) = head.hashes(entry.header_form, names, Field(b"dkim-signature", unsigned))
    value = base64.b64encode(entry.key.sign(digest))
    width = LINE_LENGTH - 3
    lines = [value[start : start + width] for start in range(0, len(value), width)]
    return unsigned + b"\r\n\t".join(lines) + b"\r\n"


def with_from(names: Sequence[str]) -> tuple[bytes, ...]:
    """These names in their order, each once; From in front where it is missing (RFC 6376 §5.4)."""
    missing = () if "from" in names else ("from",)
    return tuple(dict.fromkeys(name.encode("ascii") for name in (*missing, *names)))


def signed_names(head: MessageHead, names: Iterable[bytes], oversigned: frozenset[bytes]) -> list[bytes]:
    """h=: each field that is there, and one that must not be added (RFC 6376 §5.4.2).

    A message that has so many of them that nobody would look at the list is signed with as many as fit.
    """
    found: list[bytes] = []
    for name in names:
        found += [name] * (len(head.named(name)) + (name in oversigned))
    return found[:MAX_NAMES]


def fold_tags(start: str, tags: Iterable[str]) -> bytes:
    """Tags behind the name of a field, in lines that break only behind a semicolon; without the last one."""
    lines = []
    line = start
    for index, tag in enumerate(tags):
        if index and len(line) + len(tag.partition("\r")[0]) + 2 > LINE_LENGTH:
            lines.append(line + ";")
            line = "\t" + tag
        else:
            line += f"; {tag}" if index else tag
        if "\n" in tag:  # a folded one: what counts is its last line
            before, _, line = line.rpartition("\n")
            lines.append(before.removesuffix("\r"))
    return "\r\n".join((*lines, line)).encode("ascii")


def fold_names(names: Sequence[bytes]) -> str:
    """h= with its list of names, folded behind its colons (RFC 6376 §3.5)."""
    lines = []
    line = "h="
    for index, name in enumerate(names):
        text = name.decode("ascii") + (":" if index + 1 < len(names) else "")
        if len(line) + len(text) >= LINE_LENGTH:
            lines.append(line)
            line = "\t"
        line += text
    return "\r\n".join((*lines, line))
