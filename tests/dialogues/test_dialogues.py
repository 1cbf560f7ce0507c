"""Every dialogue of this folder, whole and octet by octet, with a session of the real server in memory."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from auth.auth_bed import DictStore
from inbound.inbound_bed import FRIEND, STRANGER, Bed, make_config, open_bed
from trio.testing import wait_all_tasks_blocked

from elemta.auth import Authenticator
from elemta.config import Config, ListenerRole, ListenerTls
from elemta.events import TaskCrashed
from elemta.runtime import TrioWallClock

from .playing import Player, show, tls_with
from .reading import Dialogue, Step, read_dialogues

FILES = sorted(Path(__file__).parent.glob("*.dialogue"))
DIALOGUES = [dialogue for path in FILES for dialogue in read_dialogues(path)]
WAYS = [
    pytest.param(each, by_octets, id=f"{each.id}{' (octet by octet)' if by_octets else ''}")
    for each in DIALOGUES
    for by_octets in (False, True)
    if not (by_octets and each.whole)
]
ACCOUNTS = {"user@ours.example": "secret"}
PEERS = {"stranger": STRANGER, "friend": FRIEND}


def _value(current: Any, text: str) -> Any:
    """The text of a setting as a value of the same type as the present one."""
    if isinstance(current, bool):
        return text == "true"
    if isinstance(current, tuple):
        return tuple(ipaddress.ip_network(each) for each in text.split(","))
    return type(current)(text)


def make_server(settings: dict[str, str]) -> Config:
    """The bed's configuration with `role`, `tls` and others of the listener's fields, and `section.field`."""
    config = make_config(
        role=ListenerRole(settings.get("role", "mx")), tls=ListenerTls(settings.get("tls", "off"))
    )
    for name, text in settings.items():
        section, _, field = name.rpartition(".")
        if section:
            part = getattr(config, section)
            part = attrs.evolve(part, **{field: _value(getattr(part, field), text)})
            config = attrs.evolve(config, **{section: part})
        elif name not in ("role", "tls", "peer"):
            listener = config.listeners[0]
            listener = attrs.evolve(listener, **{name: _value(getattr(listener, name), text)})
            config = attrs.evolve(config, listeners=(listener,))
    return config


def check(bed: Bed, step: Step) -> None:
    """What a dialogue says of the spool."""
    found = bed.stored()
    if step.kind == "stored":
        assert len(found) == int(step.text), f"{len(found)} messages are stored"
        return
    assert found, "nothing is stored"
    message, body = max(found, key=lambda pair: pair[0].id)
    if step.kind == "body":
        assert body == step.data, f"the content is {show(body)}"
    elif step.kind == "prefix":
        prefix = message.prefix.decode()
        assert re.search(step.text, prefix, re.DOTALL), f"what is put before it is {show(prefix)}"
    elif step.kind == "options":
        options = attrs.asdict(message.envelope, recurse=False)
        for recipient in message.envelope.recipients:
            options |= attrs.asdict(recipient.dsn)
        for name, text in (word.split("=", 1) for word in step.text.split()):
            assert str(options[name]) == text, f"{name} is {options[name]}"
    else:
        envelope = message.envelope
        people = ", ".join(str(recipient.mailbox) for recipient in envelope.recipients)
        text = f"{envelope.reverse_path.mailbox or '<>'} > {people}"
        assert text == step.text, f"the envelope is {text}"


@pytest.mark.parametrize(("dialogue", "by_octets"), WAYS)
async def test_dialogue(
    dialogue: Dialogue,
    by_octets: bool,
    server_tls: SimpleNamespace,
    client_tls: ssl.SSLContext,
    autojump_clock: Any,
) -> None:
    config = make_server(dialogue.settings)
    authenticator = Authenticator(
        attrs.evolve(config.auth, failure_delay=0.0),
        DictStore(**ACCOUNTS),
        Random(7),
        TrioWallClock(),
        hostname=config.hostname,
        secret=bytes(32),
    )
    async with open_bed(config, tls=server_tls, authenticator=authenticator) as bed:
        client = bed.dial(PEERS[dialogue.settings.get("peer", "stranger")])
        player = Player(client.stream, tls_with(client_tls), wait_all_tasks_blocked, by_octets)
        await player.play(dialogue, lambda step: check(bed, step))
        crashes = bed.seen(TaskCrashed)
        assert not crashes


def test_each_title_is_used_once() -> None:
    assert [title for title, number in Counter(each.id for each in DIALOGUES).items() if number > 1] == []
