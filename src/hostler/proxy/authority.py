"""The authority that vouches for amazonaws.com in the shells that trust it, and the certificates that it issues.

Its certificate holds name constraints (RFC 5280 §4.2.1.10): whoever trusts it trusts it for amazonaws.com alone. Its
key and its certificate are one file, `authority.pem` (0600), made at first use. The keys of the certificates that it
issues are in memory alone.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostler.aws.hosts import DOMAIN, s3_domain
from hostler.errors import UserError
from hostler.proxy import folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder, Name

FILE = "authority.pem"
LEAF_LIFE = datetime.timedelta(days=1)
_LIFE = datetime.timedelta(days=3650)
_RENEWED = datetime.timedelta(days=30)  # before its end
_EARLIER = datetime.timedelta(days=1)  # a certificate begins then: clocks are set back, by hours where a zone was wrong


@dataclass(frozen=True)
class Authority:
    """The authority's key and certificate."""

    key: EllipticCurvePrivateKey
    certificate: Certificate

    @property
    def pem(self) -> bytes:
        """The certificate, without the key."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.certificate.public_bytes(Encoding.PEM)

    def is_good(self, now: datetime.datetime) -> bool:
        """Return whether it is valid and will be for a while."""
        return self.certificate.not_valid_before_utc <= now < self.certificate.not_valid_after_utc - _RENEWED

    def issue(self, names: tuple[str, ...], now: datetime.datetime) -> bytes:
        """Return a certificate for these names with a key of its own, in PEM: key, certificate, the authority's."""
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = _new_key()
        subject = x509.Name([])  # so the names are a critical extension (RFC 5280 §4.2.1.6); no name is too long for it
        builder = _builder(subject, self.certificate.subject, key, now, LEAF_LIFE)
        for extension, critical in (
            (x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), True),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(digital_signature=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical)
        return _pem(key, _signed(builder, self.key)) + self.pem


def certificate_names(host: str) -> tuple[str, ...]:
    """Return the names of the certificate for a host: as AWS's, a wildcard for S3's buckets, else the host alone.

    A wildcard stands for one label. So a bucket with a dot in its name has no certificate, here as on AWS.
    """
    domain = s3_domain(host)
    return (domain, f"*.{domain}") if domain else (host,)


def open_authority(data: Path, now: datetime.datetime) -> Authority:
    """Return the data folder's authority; make it if there is none that is good, renew it with its key near its end.

    A key that other users may have read is not used. Raises UserError.
    """
    require_cryptography()
    with folder.locked(data) as where:
        path = where / FILE
        found = _read(path)
        if found is None or not found.is_good(now):
            key = found.key if found else _new_key()
            found = Authority(key, _certificate(key, now))
            folder.write(path, _pem(found.key, found.certificate))
        return found


def require_cryptography() -> None:
    """Raise UserError where the package cryptography is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise UserError(
            "certificates for AWS's host names need the package cryptography: pip install 'hostler[aws-hosts]'"
        ) from None


def _read(path: Path) -> Authority | None:
    """Return the authority of a file; None if there is none, if it is damaged, or if others may read it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with contextlib.suppress(FileNotFoundError, ValueError, TypeError), open(path, "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            return None
        pem = file.read(2**16)
        key, certificate = load_pem_private_key(pem, None), x509.load_pem_x509_certificate(pem)
        if isinstance(key, EllipticCurvePrivateKey) and key.public_key() == certificate.public_key():
            return Authority(key, certificate)
    return None


def _certificate(key: EllipticCurvePrivateKey, now: datetime.datetime) -> Certificate:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"hostler for {DOMAIN} {identifier.digest.hex()[:8]}")])
    every_address = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    constraints = x509.NameConstraints(
        permitted_subtrees=[x509.DNSName(DOMAIN)],
        excluded_subtrees=[x509.IPAddress(network) for network in every_address],
    )
    builder = _builder(name, name, key, now, _LIFE)
    for extension, critical in (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (constraints, True),
        (_key_usage(key_cert_sign=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (identifier, False),
    ):
        builder = builder.add_extension(extension, critical)
    return _signed(builder, key)


def _builder(
    subject: Name, issuer: Name, key: EllipticCurvePrivateKey, now: datetime.datetime, life: datetime.timedelta
) -> CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + life)
    )


def _key_usage(digital_signature: bool = False, key_cert_sign: bool = False) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=key_cert_sign, crl_sign=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _signed(builder: CertificateBuilder, key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography.hazmat.primitives.hashes import SHA256

    return builder.sign(key, SHA256())


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: EllipticCurvePrivateKey, certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
