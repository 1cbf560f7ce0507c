"""`[[signing]]`, `[policy.dkim]` and `[policy.arc]`: what is taken, and what does not go together."""

from __future__ import annotations

import pytest

from elemta.config import (
    ArcConfig,
    Canonicalization,
    Config,
    ConfigError,
    DkimConfig,
    DomainPattern,
    MessageAction,
    SigningAlgorithm,
    parse_config,
)
from elemta.mail import Domain

HEAD = 'hostname = "mx.example.org"\n'
ENTRY = '[[signing]]\ndomain = "example.org"\nselector = "s"\nkey = "k.pem"\n'


def parse(text: str) -> Config:
    return parse_config(HEAD + text, "f")


def test_nothing_is_signed_and_nobody_refused_by_default() -> None:
    config = parse("")
    assert config.signing == ()
    assert config.policy.dkim == DkimConfig()
    assert config.policy.arc == ArcConfig()
    assert config.policy.dkim.action is MessageAction.NOTE
    assert not config.policy.dkim.partial_body


def test_all_settings() -> None:
    config = parse(
        ENTRY + 'sign_as = "org"\nalgorithm = "ed25519-sha256"\ncanonicalization = "relaxed/simple"\n'
        'headers = ["Subject", "x-mine"]\noversign = false\nlifetime = "30d"\n'
        '[[signing]]\ndomain = "*.example.org"\nselector = "A.b-1"\nkey = "credential:dkim"\n'
        '[policy.dkim]\naction = "refuse"\nsignatures = 3\ntimeout = "5s"\nminimum_key = 2048\nclock_skew = "1h"\npartial_body = true\n'
        '[policy.arc]\naction = "off"\ntimeout = "5s"\ntrusted = ["lists.example", "*.lists.example"]\n'
        'seal_domain = "example.org"\nseal_selector = "seal"\nseal_key = "k.pem"\nseal_headers = ["From"]\n'
    )
    first, second = config.signing
    assert first.sign_as == Domain("org")
    assert (first.algorithm, first.canonicalization) == (
        SigningAlgorithm.ED25519_SHA256,
        Canonicalization.RELAXED_SIMPLE,
    )
    assert (first.headers, first.oversign, first.lifetime) == (("subject", "x-mine"), False, 30 * 86400.0)
    assert (second.domain, second.selector) == (DomainPattern(Domain("example.org"), True), "a.b-1")
    assert (second.algorithm, second.oversign, second.headers) == (None, True, ())
    assert config.policy.arc.seal_headers == ("from",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[signing]]\ndomain = "example.org"\n', "f:2: signing[0].selector: is required"),
        (ENTRY.replace('"s"', '"s_"'), "f:4: signing[0].selector: 's_' is not a selector; use letters, digits, hyphens and dots, like \"mail2026\""),
        (ENTRY.replace('"s"', '"a..b"'), "f:4: signing[0].selector: 'a..b' is not a selector"),
        (ENTRY.replace('"example.org"', '"*"'), "f:3: signing[0].domain: '*' would take every domain"),
        (ENTRY + 'algorithm = "rsa-sha1"', "f:6: signing[0].algorithm: 'rsa-sha1' is not one of rsa-sha256, ed25519-sha256"),
        (ENTRY + 'headers = ["Subject:"]', "f:6: signing[0].headers[0]: 'Subject:' is not the name of a header field; leave out the colon"),
        (ENTRY + 'headers = ["a b"]', "f:6: signing[0].headers[0]: 'a b' is not the name of a header field"),
        (ENTRY + 'lifetime = "1h"', "f:6: signing[0].lifetime: 1h is less than 1d or 0s"),
        (ENTRY + 'sign_as = "example.com"', "f:6: signing[0].sign_as: example.com cannot sign for example.org: DMARC wants the same domain or one above"),
        (ENTRY + 'sign_as = "sub.example.org"', "f:6: signing[0].sign_as: sub.example.org cannot sign for example.org"),
        (ENTRY + ENTRY, "f:8: signing[1].selector: signing[0] signs the same mail with the same selector; give each key its own"),
        (ENTRY.replace('domain = "example.org"\n', ""), "f:2: signing[0]: there is no domain to sign for; say domain, or domains.local"),
        ("[policy.dkim]\nminimum_key = 512", "f:3: policy.dkim.minimum_key: 512 is less than 1024 (RFC 8301 3.2)"),
        ("[policy.dkim]\nsignatures = 0", "f:3: policy.dkim.signatures: 0 is less than 1"),
        ('[policy.arc]\nseal_domain = "example.org"', "f:3: policy.arc.seal_domain: a seal needs seal_selector and seal_key, too"),
        ('[policy.arc]\nseal_selector = "s"\nseal_key = "k"', "f:3: policy.arc.seal_selector: a seal needs seal_domain, too"),
    ],
)  # fmt: skip
def test_what_is_not_taken(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert any(line.startswith(problem) for line in str(caught.value).splitlines()), str(caught.value)
