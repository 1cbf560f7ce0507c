"""OpenDKIM: it verifies what we sign, we verify what it signs, and both say the same of the same messages."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from inbound.inbound_bed import FRIEND, FakeSpool, make_config, open_bed
from policy.dkim_bed import MESSAGE, TAGS, ed25519_key, entry, forge, rsa_key, shape, sign, verify, zone
from proofs.servers import require

from elemta.policy import Notary, PrivateKeys
from elemta.policy.canonical import Form
from elemta.policy.keyring import write_key
from elemta.runtime import SystemClock
from elemta.testing.dns import FakeResolver

pytestmark = [pytest.mark.interop, pytest.mark.deadline(60)]

LONG_KEY = rsa_key(2048)
PLAIN = MESSAGE.replace(b"Subject:  one\r\n\tmore  word ", b"Subject: one")
"""Its test mode does not give blanks at the ends of fields to the library, which "simple" would see."""
RECORDS = zone(rsa=LONG_KEY.record())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    require("opendkim")
    records = "".join(f"{name} {kinds['TXT'][0]}\n" for name, kinds in RECORDS.items())
    (tmp_path / "records").write_text(records)
    write_key(tmp_path / "key.pem", LONG_KEY)
    # Mail from this machine counts as its own, which is not verified
    verifying = f"Mode v\nTestPublicKeys {tmp_path}/records\nAlwaysAddARHeader yes\nInternalHosts 192.0.2.1\n"
    (tmp_path / "verify.conf").write_text(verifying)
    return tmp_path


def opendkim(folder: Path, config: str, message: bytes) -> str:
    """What it says in its test mode."""
    (folder / "message.eml").write_bytes(message)
    done = subprocess.run(
        ["opendkim", "-x", str(folder / config), "-t", str(folder / "message.eml"), "-vv"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode in (0, 70), done.stderr
    return done.stdout + done.stderr


def their_results(folder: Path, message: bytes) -> list[str]:
    return re.findall(r"\bdkim=(\w+)", opendkim(folder, "verify.conf", message))


async def our_results(message: bytes) -> list[str]:
    return [str(each.result) for each in await verify(message, RECORDS, now=time.time())]


@pytest.mark.parametrize("header", list(Form))
@pytest.mark.parametrize("body", list(Form))
@pytest.mark.parametrize("selector", ["rsa", "ed"])
async def test_opendkim_finds_our_signatures_good(
    folder: Path, header: Form, body: Form, selector: str
) -> None:
    key = LONG_KEY if selector == "rsa" else ed25519_key()
    ours = entry(selector, header_form=header, body_form=body)
    ours = type(ours)(ours.pattern, ours.domain, selector, key, header, body)
    signed = await sign(MESSAGE if header is Form.RELAXED else PLAIN, ours, now=time.time())
    assert their_results(folder, signed) == ["pass"]
    assert their_results(folder, signed.replace(b"Hello", b"Hallo")) == ["fail"]


@pytest.mark.parametrize("form", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
@pytest.mark.parametrize("body", [b"", b"\r\n", b"one\r\n", b" two  \t words \r\n\r\n\r\n"])
async def test_we_find_the_signatures_of_opendkim_good(folder: Path, form: str, body: bytes) -> None:
    (folder / "sign.conf").write_text(
        f"Mode s\nDomain example.org\nKeyFile {folder}/key.pem\nSelector rsa\nRequireSafeKeys no\n"
        f"Canonicalization {form}\nSignatureAlgorithm rsa-sha256\nOversignHeaders From\n"
    )
    original = MESSAGE if form.startswith("relaxed") else PLAIN
    message = original.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    said = opendkim(folder, "sign.conf", message)
    found = re.search(r"hname='DKIM-Signature' hvalue='(.*?)'", said, re.DOTALL)
    assert found, said
    field = f"DKIM-Signature: {found[1]}".replace("\n", "\r\n").encode() + b"\r\n"
    assert await our_results(field + message) == ["pass"]
    assert await our_results(field + message.replace(b"Alice", b"Alise")) == ["fail"]


async def test_a_signature_with_sha1_is_not_accepted(folder: Path) -> None:
    require("opendkim-testmsg")
    done = subprocess.run(
        ["opendkim-testmsg", "-C", "-d", "example.org", "-k", str(folder / "key.pem"), "-s", "rsa"],
        input=MESSAGE, check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    assert b"a=rsa-sha1" in done.stdout
    assert await our_results(done.stdout) == ["permerror"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"v": "2"}, {"v": None}, {"a": "rsa-md5"}, {"d": "other.example"}, {"d": None}, {"s": "none"}, {"h": "subject:to"},
     {"i": "@sub.example.org"}, {"i": "@other.example"}, {"q": "dns"}, {"unknown": "x"}, {"b": "AAAA"}, {"bh": "AAAA"},
     {"x": "1699999998"}, {"t": "1600000000", "x": "1600000001"}, {"c": "simple/simple"}, {"c": None}, {"l": "x"}],
    ids=str,
)  # fmt: skip
async def test_both_find_the_same_messages_good(folder: Path, changes: dict[str, str | None]) -> None:
    message = forge(MESSAGE, shape(dict(TAGS), changes), key=LONG_KEY) + MESSAGE
    theirs = "pass" in their_results(folder, message)
    assert (await our_results(message) == ["pass"]) is theirs


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"Subject:  one", b"SUBJECT : one"), (b"Subject:  one", b"Subject: two"), (b"bye\r\n\r\n\r\n", b"bye\r\n"), (b"bye\r\n", b"bye \r\n"),
     (b"Date: ", b"Subject: added\r\nDate: "), (b"Hello  there", b"Hello there"), (b"Hello  there", b"Hellothere"), (b" s=rsa;", b"\r\n\ts=rsa;")],
)  # fmt: skip
async def test_both_bear_the_same_changes(folder: Path, old: bytes, new: bytes) -> None:
    message = forge(MESSAGE, shape(dict(TAGS), {}), key=LONG_KEY) + MESSAGE
    assert old in message
    message = message.replace(old, new)
    theirs = "pass" in their_results(folder, message)
    assert (await our_results(message) == ["pass"]) is theirs


@pytest.mark.parametrize("body", [b"", b"\r\n", b"one\r\n..two\r\n", b" x \r\n" * 30_000], ids=len)
async def test_what_a_session_stores_and_relays_is_good_for_opendkim(folder: Path, body: bytes) -> None:
    config, spool = make_config(), FakeSpool()
    ours = entry("rsa")
    ours = type(ours)(ours.pattern, ours.domain, "rsa", LONG_KEY)
    notary = Notary(config, PrivateKeys((ours,)), FakeResolver(), SystemClock())
    async with open_bed(config, spool=spool, notary=notary) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        await client.begin("alice@example.org")
        message = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
        assert (await client.data(message))[:3] == "250"
    [(_, _, prefix, stored)] = spool.stored.values()
    assert their_results(folder, prefix + stored) == ["pass"]
    assert their_results(folder, (prefix + stored).replace(b"Alice", b"Alise")) == ["fail"]
