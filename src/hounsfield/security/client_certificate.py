"""A certificate in place of a client's secret: signed assertions (RFC 7523 §2.2, dicom-cast.md §7.2)."""

import base64
import binascii
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from hounsfield.errors import SettingsError

LIFETIME_SECONDS = 600
_PEM = b"-----BEGIN"


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A private key and the certificate the identity provider knows."""

    key: RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate

    def assertion(self, client_id: str, audience: str) -> str:
        """A JWT that says who asks, good for ten minutes. ``x5t`` is how Microsoft Entra ID finds the certificate."""
        now = int(time.time())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": str(uuid.uuid4()),
            "nbf": now,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        }
        thumbprints = {"x5t": hashes.SHA1(), "x5t#S256": hashes.SHA256()}  # noqa: S303  (RFC 7515 §4.1.7)
        headers = {name: _base64url(self.certificate.fingerprint(how)) for name, how in thumbprints.items()}
        return jwt.encode(claims, self.key, "RS256", headers)


def load(text: str, setting: str) -> ClientCertificate:
    """A certificate with its RSA key: the path of a PEM or PKCS #12 file, PEM itself, or PKCS #12 in base64.

    The last two are how Azure Key Vault keeps certificates as secrets. A key with a password is not read. Raises
    SettingsError naming ``setting``.
    """
    problem = SettingsError(
        f"{setting} must be a certificate with its RSA key and no password: the path of a PEM or PKCS #12 file, or "
        "its content (PKCS #12 in base64)."
    )
    try:
        content = _content(text)
        if _PEM in content:
            key, certificate = load_pem_private_key(content, None), x509.load_pem_x509_certificate(content)
        else:
            key, certificate = load_key_and_certificates(content, None)[:2]  # type: ignore[assignment]
    except (OSError, ValueError, TypeError, binascii.Error) as error:
        raise problem from error
    if not isinstance(key, RSAPrivateKey) or not isinstance(certificate, x509.Certificate):
        raise problem
    return ClientCertificate(key, certificate)


def _content(text: str) -> bytes:
    if text.startswith(_PEM.decode()):
        return text.encode()
    try:
        return Path(text).read_bytes()
    except (OSError, ValueError):
        return base64.b64decode("".join(text.split()), validate=True)


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
