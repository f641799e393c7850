"""The Endpoint, its root URL and its search (dicom-cast.md §6.2, D8)."""

import pytest

from hounsfield.cast import endpoint
from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.options import normalise_root
from hounsfield.cast.reference import escape, identifier_parameter, query
from hounsfield.errors import SettingsError
from tests.cast.conftest import ROOT
from tests.cast.fhir_content import check


def test_created() -> None:
    created = endpoint.create(ROOT)
    check(created)
    assert created == {
        "resourceType": "Endpoint",
        "name": "DICOM WADO-RS endpoint https://dicom.example.com/",
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "address": "https://dicom.example.com/",
        "payloadType": [{"text": "DICOM WADO-RS"}],
        "payloadMimeType": ["application/dicom"],
    }


def test_search() -> None:
    assert query(endpoint.search(ROOT)) == (
        "name:exact=DICOM%20WADO-RS%20endpoint%20https://dicom.example.com/"
        "&connection-type=http://terminology.hl7.org/CodeSystem/endpoint-connection-type%7Cdicom-wado-rs"
    )


def test_another_address_is_refused() -> None:
    endpoint.check(endpoint.create(ROOT), ROOT)
    with pytest.raises(EntryRefused) as refused:
        endpoint.check(endpoint.create("https://other.example/"), ROOT)
    assert refused.value.name == "FhirResourceValidationException"


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("https://dicom.example.com", "https://dicom.example.com/"),
        ("HTTPS://DICOM.Example.COM:443", "https://dicom.example.com/"),
        ("http://dicom.example.com:80/", "http://dicom.example.com/"),
        ("http://dicom.example.com:8080", "http://dicom.example.com:8080/"),
        ("https://dicom.example.com:80/V2/Path", "https://dicom.example.com:80/V2/Path"),
        ("https://dicom.example.com/v2/", "https://dicom.example.com/v2/"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
        (" http://127.0.0.1:8080 ", "http://127.0.0.1:8080/"),
    ],
)
def test_root(url: str, root: str) -> None:
    assert normalise_root(url) == root


@pytest.mark.parametrize("url", ["", "dicom.example.com", "ftp://dicom.example.com/", "http://", "http://a:b/"])
def test_no_root(url: str) -> None:
    with pytest.raises(SettingsError, match="DicomWeb:Endpoint"):
        normalise_root(url)


def test_search_values_are_escaped_and_encoded() -> None:
    assert escape("a\\b|c,d$e") == "a\\\\b\\|c\\,d\\$e"
    assert query([identifier_parameter(None, "a|b&c")]) == "identifier=%7Ca%5C%7Cb%26c"
    assert query([identifier_parameter("urn:x", "1+1")]) == "identifier=urn:x%7C1%2B1"
