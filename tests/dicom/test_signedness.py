"""US or SS: which, when the file does not say (implicit VR)."""

from struct import pack
from typing import Any

import pytest

from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.source import BytesSource
from tests.dicom.elements import BIG_ENDIAN, IDENTITY, IMPLICIT, element, file, header, item, sequence

SMALLEST, ZERO_VELOCITY = 0x00280106, 0x00189810
UNSIGNED = {"vr": "US", "Value": [65535]}
SIGNED = {"vr": "SS", "Value": [-1]}


def read(dataset: bytes, syntax: str = IMPLICIT) -> dict[str, Any]:
    return read_instance(BytesSource(file(dataset, syntax))).dataset


def representation(number: int) -> bytes:
    return element(0x00280103, "", pack("<H", number))


def ambiguous(tag: int = SMALLEST) -> bytes:
    return element(tag, "", b"\xff\xff")


@pytest.mark.parametrize(
    ("representation", "vr", "number"), [(0, "US", 65535), (1, "SS", -1), (0, "US", 65535), (255, "SS", -1)]
)
def test_signedness_of_implicit_values(representation: int, vr: str, number: int) -> None:
    dataset = element(0x00280103, "", pack("<H", representation)) + element(0x00280106, "", b"\xff\xff")
    assert read(dataset)["00280106"] == {"vr": vr, "Value": [number]}


def test_without_pixel_representation_numbers_are_unsigned() -> None:
    assert read(element(0x00080060, "", b"MR") + ambiguous()) == {
        "00080060": {"vr": "CS", "Value": ["MR"]},
        "00280106": UNSIGNED,
    }


def test_numbers_before_pixel_representation() -> None:
    start = element(0x00080060, "", b"MR") + ambiguous(ZERO_VELOCITY)
    assert read(start + representation(1))["00189810"] == SIGNED
    assert read(start + representation(0))["00189810"] == UNSIGNED


def test_numbers_in_items_before_pixel_representation() -> None:
    """The nearest dataset that has one decides; what lies beside or around it is not touched."""
    inner = [
        item(ambiguous()),
        item(representation(0) + ambiguous()),
        item(ambiguous(ZERO_VELOCITY) + representation(0)),
    ]
    outer = item(sequence(0x00186011, inner, "", undefined=True) + ambiguous(), undefined=True)
    for _ in range(2):  # the second time from memory, if it was kept
        found = read(sequence(0x00082112, [outer], "") + representation(1))
        (middle,) = found["00082112"]["Value"]
        assert middle["00280106"] == SIGNED
        first, second, third = middle["00186011"]["Value"]
        assert (first["00280106"], second["00280106"], third["00189810"]) == (SIGNED, UNSIGNED, UNSIGNED)
        assert (
            read(sequence(0x00082112, [outer], "") + representation(0))["00082112"]["Value"][0]["00280106"] == UNSIGNED
        )


def test_an_item_does_not_decide_for_what_is_around_it() -> None:
    found = read(sequence(0x00082112, [item(representation(1) + ambiguous())], "") + ambiguous())
    assert found["00082112"]["Value"][0]["00280106"] == SIGNED
    assert found["00280106"] == UNSIGNED


def test_of_an_attribute_written_twice_the_later_stands() -> None:
    twice = ambiguous(ZERO_VELOCITY) + element(ZERO_VELOCITY, "", b"\1\0")
    found = read(element(0x00080060, "", b"MR") + twice + representation(1))
    assert found["00189810"] == {"vr": "SS", "Value": [1]}


def test_unknown_vr_before_pixel_representation() -> None:
    dataset = IDENTITY + element(ZERO_VELOCITY, "UN", b"\xff\xff") + element(0x00280103, "US", b"\1\0")
    assert read(dataset, "1.2.840.10008.1.2.1")["00189810"] == SIGNED


def test_elements_without_vr_follow_the_byte_order_of_the_dataset() -> None:
    dataset = element(0x00080060, "CS", "MR", ">") + header(0x00280010, "", 2, ">") + b"\1\0"
    assert read(dataset, BIG_ENDIAN)["00280010"] == {"vr": "US", "Value": [256]}
