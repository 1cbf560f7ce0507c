"""A spool with many messages that no server runs on."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from elemta.mail import (
    BodyType,
    Envelope,
    MessageId,
    Origin,
    Recipient,
    ReversePath,
    make_id,
    parse_mailbox,
)
from elemta.spool import NewMessage, SqliteStore

BODY = b"Subject: x\r\n\r\nhello\r\n"


def fill(state: Path, messages: int, *, recipients: int = 1) -> list[MessageId]:
    """Store so many messages, due long ago; returns their ids in order."""
    folder = state / "spool"
    for part in (folder, folder / "bodies", folder / "incoming"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.chmod(0o700)
    envelope = Envelope(
        ReversePath(parse_mailbox("anna@client.example")),
        tuple(Recipient(parse_mailbox(f"r{number}@far.example")) for number in range(recipients)),
        BodyType.SEVEN_BIT,
    )
    store = SqliteStore.open(folder)
    ids = []
    try:
        store.begin()
        for number in range(messages):
            message = MessageId(make_id(1_000_000 + number, 0))
            ids.append(message)
            store.accept(
                NewMessage(
                    message,
                    envelope,
                    Origin("s", "192.0.2.9"),
                    b"",
                    BODY,
                    len(BODY),
                    blake2b(BODY, digest_size=16).digest(),
                    1000.0,
                ),
                lease=None,
                lease_until=0.0,
            )
        store.commit()
    finally:
        store.close()
    return ids
