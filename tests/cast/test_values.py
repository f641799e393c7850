"""Reading single values out of DICOM JSON."""

from typing import Any

import pytest

from hounsfield.cast.values import Values
from tests.cast.memory_archive import dicom_json

TAG = "00100020"


def one(*values: Any) -> Values:
    return Values({TAG: {"vr": "LO", "Value": list(values)}})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], None),
        ([""], None),
        (["  "], None),
        (["\0"], None),
        ([None], None),
        ([5], None),
        (["a", "b"], None),
        (["a"], "a"),
        (["a  "], "a"),
        (["a\0"], "a"),
        ([" a"], " a"),
    ],
)
def test_only_one_non_blank_string_is_a_text(values: list[Any], text: str | None) -> None:
    assert one(*values).text(TAG) == text


def test_an_absent_tag_and_a_malformed_element_count_as_absent() -> None:
    for dataset in ({}, {TAG: None}, {TAG: {"vr": "LO"}}, {TAG: {"vr": "LO", "Value": "a"}}):
        assert Values(dataset).text(TAG) is None


def test_a_code_has_no_spaces_on_either_side() -> None:
    assert one(" CT ").code(TAG) == "CT"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7),
        ("7", 7),
        (" 07 ", 7),
        (7.0, 7),
        (0, 0),
        (2**31 - 1, 2**31 - 1),
        (2**31, None),
        (-1, None),
        (7.5, None),
        ("7.0", None),
        ("x", None),
        (True, None),
        (None, None),
        (float("inf"), None),
    ],
)
def test_unsigned_numbers(value: Any, number: int | None) -> None:
    assert one(value).unsigned(TAG) == number


@pytest.mark.parametrize(
    ("value", "number"),
    [(1.5, 1.5), ("1.5", 1.5), (" 2E1 ", 20.0), (3, 3), ("x", None), ("nan", None), (False, None), (None, None)],
)
def test_decimals(value: Any, number: float | None) -> None:
    assert one(value).decimal(TAG) == number


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"Alphabetic": "Doe^Jane "}, "Doe^Jane"),
        ({"Alphabetic": "Yamada^Tarou=山田^太郎=やまだ^たろう"}, "Yamada^Tarou"),
        ({"Ideographic": "山田^太郎"}, None),
        ({"Alphabetic": ""}, None),
        ("Doe^Jane=x", "Doe^Jane"),
        (5, None),
    ],
)
def test_the_alphabetic_group_is_the_name(value: Any, name: str | None) -> None:
    assert one(value).person_name(TAG) == name


def test_items_that_are_no_datasets_are_passed_over() -> None:
    assert [item.text(TAG) for item in one(None, {TAG: {"vr": "LO", "Value": ["a"]}}).items(TAG)] == ["a"]


@pytest.mark.parametrize("character", ["\0", "\x08", "\x0b", "\x1b", "\x1f"])
def test_a_text_with_control_characters_counts_as_absent(character: str) -> None:
    values = Values(dicom_json(StudyDescription=f"A{character}B", PatientName=f"A{character}B^C"))
    assert values.text("00081030") is values.code("00081030") is values.person_name("00100010") is None


def test_white_space_that_fhir_knows_stays_in_texts_and_is_one_space_in_codes() -> None:
    values = Values(dicom_json(StudyDescription="A\r\nB\tC\fD  E"))
    assert values.text("00081030") == "A\r\nB\tC\nD  E"
    assert values.code("00081030") == "A B C D E"
