"""What checks and signs: swapped at a reload as a whole, or not at all."""

from pathlib import Path

import pytest
from dkim_bed import MESSAGE, NOW, FixedClock, ed25519_key, verify, zone

from elemta.config import parse_config
from elemta.mail import parse_reverse_path
from elemta.policy import MessageHead, Notary, PrivateKeys, SigningError, load_keys
from elemta.policy.keyring import write_key
from elemta.testing.dns import FakeResolver

PLAIN = parse_config('hostname = "mx.example.net"\n', "test.toml")
ALICE = parse_reverse_path("<alice@example.org>")


def signing(key: Path, policy: str = ""):
    return parse_config(
        'hostname = "mx.example.net"\n[[signing]]\ndomain = "example.org"\nselector = "a"\n'
        f'key = "{key}"\n{policy}',
        "test.toml",
    )


@pytest.fixture
def key(tmp_path: Path) -> Path:
    write_key(tmp_path / "key.pem", ed25519_key())
    return tmp_path / "key.pem"


def notary() -> Notary:
    return Notary(PLAIN, PrivateKeys(), FakeResolver(), FixedClock(NOW))


async def test_a_reload_brings_keys_and_names(key: Path):
    made = notary()
    before = made.checks
    assert (made.signer, made.sealer) == (None, None)
    seal = f'[policy.arc]\nseal_domain = "example.org"\nseal_selector = "a"\nseal_key = "{key}"\n'
    fresh = signing(key, f'[policy]\nauthserv_id = "other.example.net"\n{seal}')
    swap = await made.prepare(fresh, None)
    assert made.checks is before
    swap()
    assert made.checks is not before  # messages under way keep theirs
    assert (before.authserv_id, made.checks.authserv_id) == ("mx.example.net", "other.example.net")
    assert made.signer is not None
    assert len(made.signer.choose(MessageHead(MESSAGE), ALICE)) == 1
    assert made.sealer is not None
    assert made.sealer.domain == "example.org"
    (await made.prepare(PLAIN, None))()
    assert (made.signer, made.sealer) == (None, None)


async def test_a_key_that_cannot_be_read_changes_nothing(tmp_path: Path):
    made = notary()
    with pytest.raises(SigningError, match=r"signing\[0\]\.key: .*missing\.pem"):
        await made.prepare(signing(tmp_path / "missing.pem"), None)
    assert made.signer is None


def test_without_keys_nothing_is_read():
    keys = load_keys(PLAIN, None)
    assert (keys.entries, keys.sealing) == ((), None)


def test_what_was_done_is_counted():
    made = notary()
    made.count("checked", ("spf=pass", "dkim=none"))
    made.count("checked", ("spf=fail",))
    made.count("refused")
    found = made.statistics()
    assert (found.checked, found.refused, found.signed) == (2, 1, 0)
    assert found.results == (("dkim=none", 1), ("spf=fail", 1), ("spf=pass", 1))


@pytest.mark.parametrize("size", [0, 10, 500_000])
async def test_messages_of_our_own_are_signed_at_once(key: Path, size: int):
    made = notary()
    assert made.sign_own(MESSAGE) == b""
    (await made.prepare(signing(key), None))()
    message = MESSAGE + b"line\r\n" * (size // 6)
    fields = made.sign_own(message)
    assert fields.startswith(b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/simple; d=example.org;")
    [found] = await verify(fields + message, zone(a=ed25519_key().record()))
    assert found.passed
    assert made.sign_own(MESSAGE.replace(b"example.org", b"other.example")) == b""
    assert made.statistics().signed == 1


async def test_what_cannot_be_signed_goes_out_without(key: Path, monkeypatch: pytest.MonkeyPatch):
    made = notary()
    (await made.prepare(signing(key), None))()

    def broken(*arguments: object) -> bytes:
        raise ValueError("no entropy")

    monkeypatch.setattr("elemta.policy.signing.make_signatures", broken)
    assert made.sign_own(MESSAGE) == b""


def test_a_key_without_a_domain_signs_for_each_local_one(key: Path) -> None:
    entry = f'[[signing]]\nselector = "a"\nkey = "{key}"\n'
    local = '[domains]\nlocal = ["one.example", "two.example"]\n[[routes]]\nmatch = "local"\ntransport = "discard"\n'
    config = parse_config(f'hostname = "mx.example.net"\n{entry}{local}', "test.toml")
    made = load_keys(config, None).entries
    assert [(entry.domain, entry.selector, entry.index) for entry in made] == [
        ("one.example", "a", 0),
        ("two.example", "a", 0),
    ]
