"""A certificate authority of the test's own: certificates of servers and clients, made anew for each run."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOW = datetime.datetime.now(datetime.timezone.utc)


class Authority:
    """Signs certificates; `pem` is its own."""

    def __init__(self, name="the test's authority"):
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), _named(name)
        constraint = x509.BasicConstraints(ca=True, path_length=0)
        self.pem = self._signed(self._name, self._key.public_key(), constraint)

    def certificate(self, *hosts, name="twin"):
        """Key and certificate chain, in PEM, of a party that goes by these DNS names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_general(host) for host in hosts])
        extensions = [names] if hosts else []
        certificate = self._signed(_named(name), key.public_key(), *extensions)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return secret, certificate + self.pem

    def _signed(self, subject, public_key, *extensions):
        builder = x509.CertificateBuilder(self._name, subject, public_key, x509.random_serial_number())
        builder = builder.not_valid_before(_NOW - datetime.timedelta(days=1))
        builder = builder.not_valid_after(_NOW + datetime.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
