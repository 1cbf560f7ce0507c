"""Recoverable secrets: for one key, one account, one credential."""

from __future__ import annotations

import pytest

from elemta.auth.sealing import SealBroken, Sealer

SEALER = Sealer(b"k" * 32)


def test_a_sealed_secret_opens_for_its_account_only() -> None:
    sealed = SEALER.seal("tim", "password", "päncil")
    assert sealed.startswith("AES-256-GCM$")
    assert SEALER.open("tim", "password", sealed) == "päncil".encode()
    assert SEALER.seal("tim", "password", "päncil") != sealed
    assert len(SEALER.seal("tim", "password", "x")) == len(sealed)
    assert SEALER.open("tim", "password", SEALER.seal("tim", "password", "x" * 1024)) == b"x" * 1024
    for name, credential in (("ann", "password"), ("tim", "app:phone")):
        with pytest.raises(SealBroken):
            SEALER.open(name, credential, sealed)
    with pytest.raises(SealBroken) as caught:
        Sealer(b"x" * 32).open("tim", "password", sealed)
    assert str(caught.value) == "the recoverable secret of tim does not open with this key"


@pytest.mark.parametrize(
    "sealed", ["", "AES-256-GCM$", "AES-256-GCM$AAAA", "AES-256-GCM$A", "AES-256-GCM$" + "A" * 100]
)
def test_damage_does_not_open(sealed: str) -> None:
    with pytest.raises(SealBroken):
        SEALER.open("tim", "password", sealed)
