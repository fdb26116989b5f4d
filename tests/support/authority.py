"""An authority that issues certificates to servers and clients.

authority = Authority("a company's")
mine = authority.issue("meanwhile")
secret = {"clientCertificate": mine.chain, "clientKey": mine.key}
"""

import ipaddress
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

type PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DAY = timedelta(days=1)
PKCS8 = serialization.PrivateFormat.PKCS8
PKCS1 = serialization.PrivateFormat.TraditionalOpenSSL


class Issued(NamedTuple):
    """A certificate with those between it and the root, its own first, and its key; in PEM."""

    chain: str
    key: str


@dataclass
class Authority:
    """Issues certificates for a day; `strict` ones have all that RFC 5280 asks for."""

    name: str
    issuer: "Authority | None" = None
    strict: bool = True
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        issuer = self.issuer or self
        builder = _builder(self.name, issuer.name, self.key, -DAY, DAY)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=self.strict
        )
        if self.strict:
            usage = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
            ) | {"encipher_only": False, "decipher_only": False}
            builder = builder.add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage),
                critical=True,
            )
            builder = builder.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
            ).add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
            )
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return _pem(self.certificate)

    def issue(
        self,
        name: str,
        *,
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
        key: PrivateKey | None = None,
        form: serialization.PrivateFormat = PKCS8,
        password: str | None = None,
    ) -> Issued:
        """Certify a client, or the server of the loopback address."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, self.name, key, begins, ends)
        if self.strict:
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        between = self.pem if self.issuer else ""
        return Issued(_pem(certificate) + between, written(key, form, password))

    def server(
        self, clients: "Authority | None", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        """Make a server's settings, which asks its clients for a certificate of that authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = version
        own = self.issue("127.0.0.1")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "own.pem")
            path.write_text(own.key + own.chain)
            context.load_cert_chain(path)
        if clients is not None:
            context.load_verify_locations(cadata=clients.pem)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def written(key: PrivateKey, form: serialization.PrivateFormat = PKCS8, password: str | None = None) -> str:
    encryption = (
        serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


def _builder(
    name: str, issuer: str, key: PrivateKey, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
