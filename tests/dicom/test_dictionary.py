"""The data dictionary agrees with pydicom's, repeating groups included."""

import pytest
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword

from hounsfield.dicom.dictionary import UNBOUNDED, attribute, display_tag, is_private, key_of, tag_of


@pytest.mark.parametrize("tag", [0x00100010, 0x7FE00010, 0x60003000, 0x60FE3000, 0x50022000, 0x00203101, 0x002804F0])
def test_rows(tag: int) -> None:
    found = attribute(tag)
    assert found is not None
    assert found.vr == dictionary_VR(tag)
    assert found.vm == dictionary_VM(tag).split(" or ")[0]
    if tag < 0x50000000:
        assert found.keyword == keyword_for_tag(tag)


@pytest.mark.parametrize("tag", [0x00090010, 0x60013000, 0x00100011, 0xFFFEE000 + 1])
def test_unknown_and_private(tag: int) -> None:
    assert attribute(tag) is None


@pytest.mark.parametrize(
    ("keyword", "low", "high"),
    [
        ("PatientID", 1, 1),
        ("ImageType", 2, UNBOUNDED),
        ("PixelSpacing", 2, 2),
        ("PatientTelephoneNumbers", 1, UNBOUNDED),
        ("ImageOrientationPatient", 6, 6),
        ("VerticesOfThePolygonalShutter", 2, UNBOUNDED),
        ("SpecificCharacterSet", 1, UNBOUNDED),
        ("CenterOfCircularExposureControlSensingRegion", 2, 2),
        ("LUTData", 1, UNBOUNDED),
    ],
)
def test_multiplicity(keyword: str, low: int, high: int) -> None:
    tag = tag_of(keyword)
    assert tag == tag_for_keyword(keyword)
    assert tag is not None
    found = attribute(tag)
    assert found is not None
    assert (found.vm_min, found.vm_max) == (low, high)


def test_keys_and_labels() -> None:
    assert key_of("StudyInstanceUID") == "0020000D"
    assert tag_of("NoSuchKeyword") is None
    assert is_private(0x00091001)
    assert not is_private(0x00081001)
    assert display_tag(0x0020000D) == "(0020,000d)"
    assert display_tag(0x00091001, "ACME") == "(0009,1001:ACME)"
