"""``Fhir:Authentication:*`` and ``DicomWeb:Authentication:*``: types, spellings, what must be there."""

import re

import pytest

from hounsfield.errors import SettingsError
from hounsfield.security.credentials import Credential, credential
from hounsfield.settings import Settings, load

TOKEN_URI = "https://login.example/tenant/oauth2/token"
OAUTH = {"TokenUri": TOKEN_URI, "Resource": "https://fhir.example", "Scope": "a b", "ClientId": "client"}
FULL = {
    "ManagedIdentityCredential": {"Resource": "https://fhir.example", "ClientId": "identity", "TenantId": "tenant"},
    "OAuth2ClientCredential": {**OAUTH, "ClientSecret": "secret"},
    "OAuth2UserPasswordCredential": {**OAUTH, "ClientSecret": "secret", "Username": "Ann", "Password": "pass"},
}


def settings(kind: str, section: str = "", server: str = "Fhir", **keys: str) -> Settings:
    """Settings with ``keys`` in a section, which has the type's name if no other is given."""
    given = {f"{server}:Authentication:Enabled": "true", f"{server}:Authentication:AuthenticationType": kind}
    given |= {f"{server}:Authentication:{section or kind}:{key}": value for key, value in keys.items()}
    found, warnings = load(environment={key.replace(":", "__"): value for key, value in given.items()})
    assert warnings == []
    return found


def test_off_unless_asked_for() -> None:
    assert credential(load(environment={})[0], "Fhir") is None
    given = {"Fhir__Authentication__AuthenticationType": "Nonsense"}
    assert credential(load(environment=given)[0], "Fhir") is None


@pytest.mark.parametrize("server", ["Fhir", "DicomWeb"])
@pytest.mark.parametrize("kind", ["ManagedIdentity", "managedidentity", "ManagedIdentityCredential"])
def test_a_managed_identity(server: str, kind: str) -> None:
    section = "ManagedIdentityCredential"
    assert credential(settings(kind, section, server, **FULL[section]), server) == Credential(
        section,
        f"{server}:Authentication:{section}",
        resource="https://fhir.example",
        client_id="identity",
        tenant_id="tenant",
    )


@pytest.mark.parametrize("server", ["Fhir", "DicomWeb"])
def test_a_client(server: str) -> None:
    kind = "OAuth2ClientCredential"
    assert credential(settings(kind, "", server, **FULL[kind]), server) == Credential(
        kind,
        f"{server}:Authentication:{kind}",
        resource="https://fhir.example",
        scope="a b",
        client_id="client",
        token_uri=TOKEN_URI,
        client_secret="secret",
    )


@pytest.mark.parametrize("section", ["OAuth2UserPasswordCredential", "OAuth2ClientCredential"])
def test_a_user_in_the_section_of_the_source_or_that_of_the_page(section: str) -> None:
    kind = "OAuth2UserPasswordCredential"
    found = credential(settings(kind, section, **FULL[kind]), "Fhir")
    assert found is not None
    assert found == Credential(
        kind,
        f"Fhir:Authentication:{section}",
        resource="https://fhir.example",
        scope="a b",
        client_id="client",
        token_uri=TOKEN_URI,
        client_secret="secret",
        username="Ann",
        password="pass",
    )
    assert "secret" not in repr(found)
    assert "pass'" not in repr(found)


def test_a_client_has_no_user() -> None:
    found = credential(settings("OAuth2ClientCredential", **FULL["OAuth2UserPasswordCredential"]), "Fhir")
    assert found is not None
    assert (found.username, found.password) == ("", "")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("ManagedIdentityCredential", "Resource"),
        *(("OAuth2ClientCredential", key) for key in ("TokenUri", "ClientId", "ClientSecret")),
        *(("OAuth2UserPasswordCredential", key) for key in ("TokenUri", "ClientId", "Username", "Password")),
    ],
)
def test_what_is_missing_is_named(kind: str, key: str) -> None:
    given = {name: value for name, value in FULL[kind].items() if name != key}
    with pytest.raises(SettingsError, match=f"Fhir:Authentication:{kind}:{key}"):
        credential(settings(kind, **given), "Fhir")


@pytest.mark.parametrize(
    ("kind", "optional"),
    [
        ("ManagedIdentityCredential", ("ClientId", "TenantId")),
        ("OAuth2ClientCredential", ("Resource", "Scope")),
        ("OAuth2UserPasswordCredential", ("Resource", "Scope", "ClientSecret")),
    ],
)
def test_the_rest_may_be_left_out(kind: str, optional: tuple[str, ...]) -> None:
    given = {name: value for name, value in FULL[kind].items() if name not in optional}
    assert credential(settings(kind, **given), "Fhir") is not None


@pytest.mark.parametrize("kind", ["", "OAuth2", "ManagedIdentityCredentials"])
def test_unknown_types(kind: str) -> None:
    with pytest.raises(SettingsError, match=re.escape("Fhir:Authentication:AuthenticationType: ManagedIdentity,")):
        credential(settings(kind or "", "OAuth2ClientCredential", **FULL["OAuth2ClientCredential"]), "Fhir")


@pytest.mark.parametrize(
    "url", ["http://login.example/token", "http://10.0.0.1/token", "login.example", "ftp://x", "https://", "http://[::"]
)
@pytest.mark.parametrize("kind", ["OAuth2ClientCredential", "OAuth2UserPasswordCredential"])
def test_a_secret_is_sent_encrypted_or_not_at_all(kind: str, url: str) -> None:
    with pytest.raises(SettingsError, match="TokenUri must be an https URL"):
        credential(settings(kind, **{**FULL[kind], "TokenUri": url}), "Fhir")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/token", "http://localhost/token", "http://[::1]/t", TOKEN_URI])
def test_this_machine_needs_no_encryption(url: str) -> None:
    found = credential(
        settings("OAuth2ClientCredential", **{**FULL["OAuth2ClientCredential"], "TokenUri": url}), "Fhir"
    )
    assert found is not None
    assert found.token_uri == url
