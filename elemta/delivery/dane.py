"""Whether a host's certificates are those that its TLSA records demand (RFC 6698, 7671, 7672).

Pure: records and certificates in, a verdict out. Which records hold for a host is in `security`.

`ssl` of Python has no DANE, so the handshake is done without verification and the chain is judged here,
before anything is said on the session.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from elemta.dns import TlsaRecord

TRUST_ANCHOR = 2
"""DANE-TA: a certificate authority, which the names in the certificate are checked for."""
END_ENTITY = 3
"""DANE-EE: the host's own certificate or key; names and dates do not matter (RFC 7672 §3.1.1)."""
WHOLE, KEY = 0, 1
"""Selectors: the certificate, or only its public key (RFC 6698 §2.1.2)."""
EXACT = 0
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}  # RFC 6698 §2.1.3, RFC 7218

_NO_WAY = "no way from the certificate to a trust anchor of the TLSA records"

MAX_SIGNATURES = 32
"""Checked for one chain; a path that takes more is not looked for."""

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)
"""RFC 5280 §4.2: a certificate with any other critical extension must be rejected."""


def usable_rules(records: Iterable[TlsaRecord]) -> tuple[TlsaRecord, ...]:
    """The records that can be met; of digests of the same thing only the strongest (RFC 7671 §9).

    RFC 7672 §3.1.3: usages 0 and 1 are unusable for SMTP, like whatever is not known.
    """
    known = [record for record in records if _is_usable(record)]
    strongest: dict[tuple[int, int], int] = {}
    for record in known:
        kind = (record.usage, record.selector)
        strongest[kind] = max(strongest.get(kind, EXACT), record.matching)
    return tuple(
        record for record in known if record.matching in (EXACT, strongest[record.usage, record.selector])
    )


def _is_usable(record: TlsaRecord) -> bool:
    if record.usage not in (TRUST_ANCHOR, END_ENTITY) or record.selector not in (WHOLE, KEY):
        return False
    digest = _DIGESTS.get(record.matching)
    if digest is not None:
        return len(record.data) == digest().digest_size
    if record.matching != EXACT:
        return False
    try:
        if record.selector == WHOLE:
            x509.load_der_x509_certificate(record.data)
        else:
            load_der_public_key(record.data)
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def disproof(
    chain: Sequence[bytes], rules: Sequence[TlsaRecord], names: Sequence[str], now: float
) -> str | None:
    """Why the certificates (DER, the host's own first) meet none of the rules; `None`: they meet one.

    `names` are those that a certificate below a trust anchor may bear (RFC 7672 §3.2.3); `now` is wall clock.
    """
    if not chain:
        return "no certificate was shown"
    try:
        own = x509.load_der_x509_certificate(chain[0])
        if any(rule.usage == END_ENTITY and _meets(own, rule) for rule in rules):
            return None
        anchors = [rule for rule in rules if rule.usage == TRUST_ANCHOR]
        if not anchors:
            return "the certificate is none of those in the TLSA records"
        others = [x509.load_der_x509_certificate(each) for each in chain[1:]]
        others += [x509.load_der_x509_certificate(rule.data) for rule in anchors if _is_certificate(rule)]
        path = _Path(others, anchors, datetime.datetime.fromtimestamp(now, datetime.UTC))
        reason = path.disproof(own, names)
        if reason == _NO_WAY and not any(_meets(other, rule) for other in others for rule in anchors):
            return f"{reason}; the host does not show the anchor"  # RFC 7671 §5.2.2: it must
        return reason
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        return f"unreadable certificate ({type(error).__name__})"


def _is_certificate(rule: TlsaRecord) -> bool:
    # RFC 7671 §5.2.2: with a whole certificate in DNS the host need not send it
    return rule.selector == WHOLE and rule.matching == EXACT


def _meets(certificate: x509.Certificate, rule: TlsaRecord) -> bool:
    whole = rule.selector == WHOLE
    data = certificate.public_bytes(Encoding.DER) if whole else public_key_info(certificate)
    digest = _DIGESTS.get(rule.matching)
    return (data if digest is None else digest(data).digest()) == rule.data


class _Path:
    """The way from a host's certificate up to a trust anchor."""

    def __init__(
        self, others: list[x509.Certificate], anchors: list[TlsaRecord], now: datetime.datetime
    ) -> None:
        self._others = others
        self._anchors = anchors
        # RFC 7671 §5.2.3: a key that stands in DNS as it is needs no certificate; it has no name, and no end
        self._keys = [rule.data for rule in anchors if rule.selector == KEY and rule.matching == EXACT]
        self._now = now
        self._left = MAX_SIGNATURES

    def disproof(self, own: x509.Certificate, names: Sequence[str]) -> str | None:
        if not self._in_time(own):
            return "the certificate has expired or is not valid yet"
        if not bears(own, names):
            return f"the certificate is for none of {', '.join(names)}"
        if not _is_for_servers(own) or not _is_understood(own):
            return "the certificate is not for servers"
        if not self._leads_up(own, 0):
            return _NO_WAY
        return None

    def _leads_up(self, certificate: x509.Certificate, below: int) -> bool:
        """Whether an anchor issued it, perhaps through others. `below`: authorities passed so far."""
        for key in self._keys:
            if self._left:
                self._left -= 1
                if _is_signed_with(certificate, key):
                    return True
        for issuer in self._others:
            if issuer.subject != certificate.issuer or not self._left:
                continue
            self._left -= 1
            try:
                certificate.verify_directly_issued_by(issuer)
            except InvalidSignature:
                continue
            if not (self._in_time(issuer) and _may_issue(issuer, below) and _is_understood(issuer)):
                continue
            if any(_meets(issuer, rule) for rule in self._anchors):
                return True
            # An authority that signed itself leads nowhere else.
            if issuer.issuer != issuer.subject and self._leads_up(issuer, below + 1):
                return True
        return False

    def _in_time(self, certificate: x509.Certificate) -> bool:
        return certificate.not_valid_before_utc <= self._now <= certificate.not_valid_after_utc


def _is_signed_with(certificate: x509.Certificate, key: bytes) -> bool:
    """Whether the certificate bears a signature of the key (DER)."""
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    parameters, digest = certificate.signature_algorithm_parameters, certificate.signature_hash_algorithm
    try:
        match load_der_public_key(key):
            case rsa.RSAPublicKey() as public if digest is not None and not isinstance(parameters, ec.ECDSA):
                assert parameters is not None
                public.verify(signature, signed, parameters, digest)
            case ec.EllipticCurvePublicKey() as public if isinstance(parameters, ec.ECDSA):
                public.verify(signature, signed, parameters)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey() as public if digest is None:
                public.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def bears(certificate: x509.Certificate, names: Iterable[str]) -> bool:
    """Whether the certificate is for one of the names (RFC 6125 §6.4, RFC 7672 §3.2.3)."""
    shown: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        shown = extension.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        pass
    if not shown:  # the subject counts only where there is no DNS name beside it
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        shown = [str(attribute.value) for attribute in common]
    return any(matches_name(pattern, name) for pattern in shown for name in names)


def matches_name(pattern: str, name: str) -> bool:
    """Whether the name is the pattern, whose first label may be `*` and stands for one label."""
    pattern, name = pattern.lower().removesuffix("."), name.lower().removesuffix(".")
    if not pattern.startswith("*."):
        return pattern == name
    _, dot, parent = name.partition(".")
    return bool(dot) and pattern[2:] == parent


def _is_for_servers(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return bool({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usages))


def _may_issue(certificate: x509.Certificate, below: int) -> bool:
    """Whether it is an authority's, for a path with so many authorities below it (RFC 5280 §4.2.1.9)."""
    extensions = certificate.extensions
    try:
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    if not basic.ca or (basic.path_length is not None and basic.path_length < below):
        return False
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _is_understood(certificate: x509.Certificate) -> bool:
    return all(not each.critical or each.oid in _UNDERSTOOD for each in certificate.extensions)


def public_key_info(certificate: x509.Certificate) -> bytes:
    """The SubjectPublicKeyInfo exactly as it stands in the certificate: a digest of it must match."""
    body = _content(certificate.tbs_certificate_bytes)
    position = 0
    if body[:1] == b"\xa0":  # the version, which the first of them have not (RFC 5280 §4.1)
        position = _end(body, 0)
    for _ in range(5):  # serial number, algorithm, issuer, validity, subject
        position = _end(body, position)
    return body[position : _end(body, position)]


def _content(data: bytes) -> bytes:
    """What is inside of one DER element."""
    start, length = _extent(data, 0)
    return data[start : start + length]


def _end(data: bytes, position: int) -> int:
    start, length = _extent(data, position)
    return start + length


def _extent(data: bytes, position: int) -> tuple[int, int]:
    """Where the content of the DER element begins, and how long it is."""
    if position + 2 > len(data):
        raise ValueError("a certificate that ends too soon")
    first = data[position + 1]
    if first < 0x80:
        return position + 2, first
    octets = first & 0x7F
    start = position + 2 + octets
    return start, int.from_bytes(data[position + 2 : start], "big")
