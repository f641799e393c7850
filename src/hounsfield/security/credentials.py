"""How we sign in at another server, as the settings say: ``Fhir:Authentication:*``, ``DicomWeb:Authentication:*``.

dicom-cast.md §7.2. Read before anything is started, so no HTTP client here.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hounsfield.errors import SettingsError
from hounsfield.security.urls import require_safe_url
from hounsfield.settings import Settings

if TYPE_CHECKING:
    from hounsfield.security.client_certificate import ClientCertificate

MANAGED_IDENTITY = "ManagedIdentityCredential"
CLIENT = "OAuth2ClientCredential"
USER_PASSWORD = "OAuth2UserPasswordCredential"  # noqa: S105  (the name of a section)
CLIENT_CERTIFICATE = "OAuth2ClientCertificateCredential"
TYPES = {
    "managedidentity": MANAGED_IDENTITY,
    **{name.lower(): name for name in (MANAGED_IDENTITY, CLIENT, USER_PASSWORD, CLIENT_CERTIFICATE)},
}
"""Section by type in lower case. Only the managed identity's type is spelt otherwise than its section."""
_REQUIRED = {
    MANAGED_IDENTITY: ("Resource",),
    CLIENT: ("TokenUri", "ClientId", "ClientSecret"),
    USER_PASSWORD: ("TokenUri", "ClientId", "Username", "Password"),
    CLIENT_CERTIFICATE: ("TokenUri", "ClientId", "Certificate"),
}


@dataclass(frozen=True, slots=True)
class Credential:
    """What a token is asked for with. ``kind`` is one of the four names above, ``section`` where the keys stand."""

    kind: str
    section: str
    resource: str = ""
    scope: str = ""
    client_id: str = ""
    tenant_id: str = ""
    token_uri: str = ""
    client_secret: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    certificate: "ClientCertificate | None" = None


def credential(settings: Settings, server: str) -> Credential | None:
    """How to sign in at ``server`` (``Fhir`` or ``DicomWeb``); None where nobody need be asked.

    Raises SettingsError for an unknown type, a key that is missing, a token endpoint that would get the secret
    unencrypted, or a certificate that cannot be read.
    """
    section = f"{server}:Authentication"
    if not settings.flag(f"{section}:Enabled"):
        return None
    kind = TYPES.get(settings.text(f"{section}:AuthenticationType").lower())
    if kind is None:
        raise SettingsError(
            f"{section}:Enabled needs {section}:AuthenticationType: ManagedIdentity, {CLIENT}, {USER_PASSWORD} or "
            f"{CLIENT_CERTIFICATE}."
        )
    place = f"{section}:{_section_name(settings, section, kind)}"
    for key in _REQUIRED[kind]:
        if not settings.text(f"{place}:{key}"):
            raise SettingsError(f"{section}:AuthenticationType needs {place}:{key}, which is not set.")
    if kind == MANAGED_IDENTITY:
        resource, client_id, tenant_id = (
            settings.text(f"{place}:{key}") for key in ("Resource", "ClientId", "TenantId")
        )
        return Credential(kind, place, resource=resource, client_id=client_id, tenant_id=tenant_id)
    require_safe_url(settings.text(f"{place}:TokenUri"), f"{place}:TokenUri")
    certificate = None
    if kind == CLIENT_CERTIFICATE:
        # The library for it is of no use to others.
        from hounsfield.security import client_certificate

        certificate = client_certificate.load(settings.text(f"{place}:Certificate"), f"{place}:Certificate")
    return Credential(
        kind,
        place,
        resource=settings.text(f"{place}:Resource"),
        scope=settings.text(f"{place}:Scope"),
        client_id=settings.text(f"{place}:ClientId"),
        token_uri=settings.text(f"{place}:TokenUri"),
        client_secret="" if certificate else settings.text(f"{place}:ClientSecret"),
        username=settings.text(f"{place}:Username") if kind == USER_PASSWORD else "",
        password=settings.text(f"{place}:Password") if kind == USER_PASSWORD else "",
        certificate=certificate,
    )


def _section_name(settings: Settings, section: str, kind: str) -> str:
    """Where the keys stand: the reference's page has those of a user's password in the section of the client's."""
    if kind == USER_PASSWORD and not any(
        settings.text(f"{section}:{USER_PASSWORD}:{key}")
        for key in (*_REQUIRED[kind], "ClientSecret", "Scope", "Resource")
    ):
        return CLIENT
    return kind
