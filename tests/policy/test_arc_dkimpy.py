"""The same verdicts as dkimpy, which passes the public ARC test suite, on chains that are bent at random."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

import dkim
import pytest
from dkim_bed import AMS_TAGS, MESSAGE, SEAL_TAGS, forge_set, rsa_key, shape, validate, zone

Tags = dict[str, str | None]
VALUES = ["", "x", "0", "1", "relaxed", "simple", "rsa-sha1", "rsa-sha256", "none", "pass", "fail", "example.org",
          "from:subject:to", "from : subject:to", "from:subject:to:arc-seal", "AAAA", "12345", "ö"]  # fmt: skip


def rename(tags: Tags, name: str) -> None:
    tags[name.upper()] = tags.pop(name)


def swap(choose: random.Random, tags: Tags) -> None:
    items = list(tags.items())
    rest = items[1:]
    choose.shuffle(rest)
    tags.clear()
    tags.update([items[0], *rest])


# dkimpy looks for " i=1;" and nothing else, so i= stays where it is, with a semicolon behind it.
BENDS: list[Callable[[random.Random, Tags], None]] = [
    lambda choose, tags: None,
    lambda choose, tags: tags.pop(choose.choice(list(tags)[1:])) and None,
    lambda choose, tags: tags.update({choose.choice(list(tags)[1:]): choose.choice(VALUES)}),
    lambda choose, tags: tags.update({choose.choice(["x_unknown", "w", "T"]): choose.choice(["", "a b"])}),
    lambda choose, tags: rename(tags, choose.choice(list(tags)[1:])),
    swap,
]


def bent(choose: random.Random) -> bytes:
    """A chain of one to three sets, of which some are bent, below a message that may be changed."""
    message = MESSAGE
    for instance in range(1, choose.randint(1, 3) + 1):
        ams: Tags = {**AMS_TAGS, "i": str(instance)}
        seal: Tags = {**SEAL_TAGS, "i": str(instance), "cv": "none" if instance == 1 else "pass"}
        if choose.random() < 0.4:
            choose.choice(BENDS)(choose, ams)
        if choose.random() < 0.3:
            choose.choice(BENDS)(choose, seal)
        order = choose.choice([(0, 1, 2), (2, 1, 0), (1, 0, 2)])
        message = forge_set(message, ams=shape(ams, {}), seal=shape(seal, {}), instance=instance, order=order)
    for old, new in (
        (b"Hello", b"Hallo"),
        (b"Hello  there", b"Hello there"),
        (b"one\r\n\tmore", b"one  more"),
    ):
        if choose.random() < 0.08:
            message = message.replace(old, new)
    return message


def by_dkimpy(message: bytes) -> str:
    record = rsa_key().record().encode()
    answers = {b"rsa._domainkey.example.org.": record}
    verdict, _, _ = dkim.arc_verify(message, dnsfunc=lambda name, timeout=5: answers.get(name, b""))
    return "fail" if verdict is None else verdict.decode()  # None: the chain was declared broken


@pytest.mark.parametrize("seed", range(12))
async def test_chains_that_are_bent(seed: int) -> None:
    logging.getLogger("dkimpy").setLevel(logging.CRITICAL + 1)
    choose = random.Random(seed)
    seen = set()
    for _ in range(20):
        message = bent(choose)
        ours = await validate(message, zone(), now=time.time())
        assert str(ours.result) == by_dkimpy(message), message.decode()
        seen.add(str(ours.result))
    assert seen == {"pass", "fail"}
