"""TLSA records against chains of certificates: every usage, selector and matching type."""

import datetime
import hashlib

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from elemta.delivery.dane import bears, disproof, matches_name, public_key_info, usable_rules
from elemta.dns import TlsaRecord

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
NAMES = ("mx.example.org", "example.org")


class Signer:
    """A certificate with its key, which can issue others."""

    def __init__(self, name, issuer=None, *, ca=False, length=None, names=(), days=(-1, 90), **options):
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=length), critical=True)
        )
        if names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
            builder = builder.add_extension(alternative, critical=False)
        for extension, critical in options.get("extensions", ()):
            builder = builder.add_extension(extension, critical=critical)
        self.certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def rule(self, usage, selector=1, matching=1):
        data = self.der if selector == 0 else self.spki
        digest = {0: bytes, 1: lambda d: hashlib.sha256(d).digest(), 2: lambda d: hashlib.sha512(d).digest()}
        return TlsaRecord(usage, selector, matching, digest[matching](data))


ROOT = Signer("root", ca=True)
MIDDLE = Signer("middle", ROOT, ca=True)
LEAF = Signer("leaf", MIDDLE, names=["mx.example.org"])
CHAIN = (LEAF.der, MIDDLE.der, ROOT.der)


def judge(chain, *rules, names=NAMES, now=NOW):
    return disproof(chain, usable_rules(rules), names, now.timestamp())


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_every_form_of_record_meets_its_certificate_and_no_other(selector, matching):
    assert judge(CHAIN, LEAF.rule(3, selector, matching)) is None
    assert judge(CHAIN, ROOT.rule(2, selector, matching)) is None
    assert judge(CHAIN, MIDDLE.rule(2, selector, matching)) is None
    stranger = Signer("stranger", ca=True)
    assert "none of those" in judge(CHAIN, stranger.rule(3, selector, matching))
    assert "no way" in judge(CHAIN, stranger.rule(2, selector, matching))


def test_one_record_that_is_met_is_enough():
    assert judge(CHAIN, Signer("next").rule(3), LEAF.rule(3)) is None
    assert judge(CHAIN, Signer("next").rule(3), ROOT.rule(2)) is None


def test_own_certificate_needs_neither_name_nor_date():
    old = Signer("old", names=["other.example"], days=(-20, -10))
    assert judge((old.der,), old.rule(3)) is None


def test_certificate_below_an_anchor_needs_name_date_and_purpose():
    def issued(**options):
        leaf = Signer("leaf", ROOT, **{"names": ["mx.example.org"], **options})
        return judge((leaf.der, ROOT.der), ROOT.rule(2))

    assert issued() is None
    assert issued(names=["*.example.org"]) is None
    assert issued(names=["example.org"]) is None
    assert "for none of mx.example.org" in issued(names=["other.example"])
    assert "expired" in issued(days=(-20, -10))
    assert "not valid yet" in issued(days=(10, 20))
    for usage, fine in ((ExtendedKeyUsageOID.SERVER_AUTH, True), (ExtendedKeyUsageOID.CODE_SIGNING, False)):
        reason = issued(extensions=[(x509.ExtendedKeyUsage([usage]), False)])
        assert (reason is None) == fine
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert "not for servers" in issued(extensions=[(strange, True)])


def test_authorities_on_the_way_must_be_such():
    def through(middle):
        leaf = Signer("leaf", middle, names=["mx.example.org"])
        return judge((leaf.der, middle.der, ROOT.der), ROOT.rule(2))

    assert through(Signer("middle", ROOT, ca=True)) is None
    assert "no way" in through(Signer("middle", ROOT, ca=False))
    assert "no way" in through(Signer("middle", ROOT, ca=True, days=(-20, -10)))
    no_signing = x509.KeyUsage(*[False] * 9)
    assert "no way" in through(Signer("middle", ROOT, ca=True, extensions=[(no_signing, True)]))


def test_path_length_of_an_authority_is_kept():
    short = Signer("short", ca=True, length=0)
    middle = Signer("middle", short, ca=True)
    leaf = Signer("leaf", middle, names=["mx.example.org"])
    assert "no way" in judge((leaf.der, middle.der, short.der), short.rule(2))
    direct = Signer("leaf", short, names=["mx.example.org"])
    assert judge((direct.der, short.der), short.rule(2)) is None


def test_forged_issuer_of_the_same_name_is_no_way_up():
    impostor = Signer("root", ca=True)
    leaf = Signer("leaf", impostor, names=["mx.example.org"])
    assert "no way" in judge((leaf.der, ROOT.der), ROOT.rule(2))


def test_anchor_in_dns_as_a_whole_need_not_be_sent():
    assert judge((LEAF.der, MIDDLE.der), ROOT.rule(2, 0, 0)) is None
    assert judge((LEAF.der, MIDDLE.der), ROOT.rule(2, 0, 1)).endswith("the host does not show the anchor")


def test_bare_key_in_dns_is_an_anchor_that_need_not_be_sent():
    """RFC 7671 §5.2.3"""
    assert judge((LEAF.der, MIDDLE.der), ROOT.rule(2, 1, 0)) is None
    assert judge((LEAF.der,), MIDDLE.rule(2, 1, 0)) is None
    assert judge((LEAF.der, MIDDLE.der), Signer("other").rule(2, 1, 0), ROOT.rule(2, 1, 0)) is None
    for stranger in (Signer("root", ca=True), Signer("other", ca=True)):
        assert "does not show the anchor" in judge((LEAF.der, MIDDLE.der), stranger.rule(2, 1, 0))
    # what is below it has to be right all the same
    assert "for none of" in judge((LEAF.der, MIDDLE.der), ROOT.rule(2, 1, 0), names=["other.example"])
    assert "expired" in judge((LEAF.der, MIDDLE.der), ROOT.rule(2, 1, 0), now=NOW + 100 * DAY)
    no_authority = Signer("middle", ROOT)
    leaf = Signer("leaf", no_authority, names=["mx.example.org"])
    assert "no way" in judge((leaf.der, no_authority.der), ROOT.rule(2, 1, 0))


@pytest.mark.parametrize("matching", [1, 2])
@pytest.mark.parametrize("selector", [0, 1])
def test_digest_of_an_anchor_that_is_not_sent_is_told_as_that(selector, matching):
    """RFC 7671 §5.2.2: nothing can be made of it, and the host must not do so."""
    reason = judge((LEAF.der, MIDDLE.der), ROOT.rule(2, selector, matching))
    assert reason == (
        "no way from the certificate to a trust anchor of the TLSA records; the host does not show the anchor"
    )
    # the anchor is there, and what is wrong is something else
    impostor = Signer("root", ca=True)
    leaf = Signer("leaf", impostor, names=["mx.example.org"])
    reason = judge((leaf.der, ROOT.der), ROOT.rule(2, selector, matching))
    assert reason == "no way from the certificate to a trust anchor of the TLSA records"


class Issuer:
    """A key of any kind that issues one certificate for the host."""

    def __init__(self, key, digest):
        self.key = key
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
        alternative = x509.SubjectAlternativeName([x509.DNSName("mx.example.org")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(name)
            .public_key(LEAF.key.public_key())
            .serial_number(1)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(alternative, critical=True)
        )
        self.issued = builder.sign(key, digest).public_bytes(Encoding.DER)
        self.rule = TlsaRecord(
            2, 1, 0, key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )


def test_bare_key_may_be_of_any_kind():
    issuers = [
        Issuer(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        Issuer(rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        Issuer(ed25519.Ed25519PrivateKey.generate(), None),
        Issuer(ed448.Ed448PrivateKey.generate(), None),
    ]
    for issuer in issuers:
        for other in issuers:
            assert (judge((issuer.issued,), other.rule) is None) == (issuer is other)
        assert judge((issuer.issued,), *(each.rule for each in issuers)) is None
    # the same by a digest needs the certificate
    digest = TlsaRecord(2, 1, 1, hashlib.sha256(issuers[0].rule.data).digest())
    assert "does not show the anchor" in judge((issuers[0].issued,), digest)


def test_key_that_is_none_spoils_no_other_record():
    for selector in (0, 1):
        nonsense = TlsaRecord(2, selector, 0, b"nonsense")
        assert usable_rules([nonsense]) == ()
        assert judge(CHAIN, nonsense, ROOT.rule(2)) is None


def test_many_keys_are_not_all_tried():
    """Records are DNS's to send; signatures cost time."""
    rules = [Signer("other").rule(2, 1, 0) for _ in range(40)]
    assert "no way" in judge((LEAF.der, MIDDLE.der), *rules, ROOT.rule(2, 1, 0))


def test_own_certificate_is_no_anchor():
    own = Signer("mx.example.org", ca=True, names=["mx.example.org"])
    assert judge((own.der,), own.rule(2)) is not None


def test_chain_of_authorities_that_sign_each_other_ends():
    one = Signer("one", ca=True)
    ring = [Signer(f"ring {number}", one, ca=True) for number in range(14)]
    leaf = Signer("leaf", one, names=["mx.example.org"])
    assert "no way" in judge((leaf.der, one.der, *(each.der for each in ring)), ROOT.rule(2))


def test_nonsense_and_nothing_are_no_proof():
    assert judge((), LEAF.rule(3)) == "no certificate was shown"
    assert "unreadable" in judge((b"nonsense",), LEAF.rule(3))
    assert "unreadable" in judge((LEAF.der, b"nonsense"), ROOT.rule(2))


def test_usages_and_digests_that_are_unknown_or_not_for_smtp_are_unusable():
    data = bytes(32)
    for record in (
        TlsaRecord(0, 1, 1, data),  # RFC 7672 §3.1.3
        TlsaRecord(1, 1, 1, data),
        TlsaRecord(4, 1, 1, data),
        TlsaRecord(3, 2, 1, data),
        TlsaRecord(3, 1, 3, data),
        TlsaRecord(3, 1, 1, data[:31]),
        TlsaRecord(3, 1, 2, data),
        TlsaRecord(3, 1, 0, b""),
    ):
        assert usable_rules([record]) == ()
    assert usable_rules([TlsaRecord(255, 255, 255, b"x"), LEAF.rule(3)]) == (LEAF.rule(3),)


def test_weaker_digest_does_not_count_beside_a_stronger_one():
    # RFC 7671 §9: else who can forge the weak one need not care for the strong one
    weak, strong = LEAF.rule(3, 1, 1), Signer("other").rule(3, 1, 2)
    assert usable_rules([weak, strong]) == (strong,)
    assert "none of those" in judge(CHAIN, weak, strong)
    assert judge(CHAIN, weak, LEAF.rule(3, 0, 2)) is None


def test_key_is_cut_out_as_it_stands():
    for signer in (ROOT, MIDDLE, LEAF):
        assert public_key_info(signer.certificate) == signer.spki
    blob = trustme.CA().issue_cert("rsa.example", key_type=trustme.KeyType.RSA).cert_chain_pems[0].bytes()
    certificate = x509.load_pem_x509_certificate(blob)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_key_info(certificate) == key


@pytest.mark.parametrize(
    ("pattern", "name", "same"),
    [
        ("mx.example.org", "MX.example.org.", True),
        ("*.example.org", "mx.example.org", True),
        ("*.example.org", "a.mx.example.org", False),
        ("*.example.org", "example.org", False),
        ("m*.example.org", "mx.example.org", False),
        ("*", "org", False),
        ("", "", True),
    ],
)
def test_names_match_whole_or_by_one_label(pattern, name, same):
    assert matches_name(pattern, name) == same


def test_common_name_counts_only_without_a_dns_name():
    assert bears(Signer("mx.example.org").certificate, NAMES)
    assert not bears(Signer("mx.example.org", names=["other.example"]).certificate, NAMES)
