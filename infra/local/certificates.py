"""A certificate authority for tests and measurements, and certificates for addresses of this machine."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """An authority whose certificate is in `folder`/ca.pem, for SSL_CERT_FILE. Everything ends within a week."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = "local authority"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / "ca.pem"
        root = self.certificate(self.name, self.key, [(x509.BasicConstraints(ca=True, path_length=0), True)])
        self.file.write_bytes(root.public_bytes(PEM))

    def issue(self, name: str, addresses: list[str]) -> None:
        """Writes `name`.pem and `name`.key: a P-256 certificate for these addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        extensions = [
            (x509.SubjectAlternativeName(names), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ]
        certificate = self.certificate(name, key, extensions)
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(PEM))
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.folder / f"{name}.key").write_bytes(private)

    def certificate(self, name: str, key, extensions: list) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(days=7),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())
