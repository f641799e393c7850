"""Reading datasets of workitems from requests (PS3.18 annex F)."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.errors import BadRequest
from hounsfield.worklist import dataset as datasets


def parse(value: Any) -> datasets.Dataset:
    return datasets.parse(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[{]", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"{}", "array of at least one dataset"),
        (b"[]", "array of at least one dataset"),
        (b"null", "array of at least one dataset"),
        (b"[1]", "must be a JSON object"),
        (b'[{"PatientName": {"vr": "PN"}}]', "eight hexadecimal digits"),
        (b'[{"0010001g": {"vr": "PN"}}]', "eight hexadecimal digits"),
        (b'[{"0010001A": {"vr": "LO"}, "0010001a": {"vr": "LO"}}]', r"'\(0010,001a\)' appears twice"),
        (b'[{"00100010": 1}]', r"'\(0010,0010\)' has no VR"),
        (b'[{"00100010": {"vr": "XX"}}]', "no VR"),
        (b'[{"00100010": {"vr": []}}]', "no VR"),
        (b'[{"00100010": {"vr": "PN", "Value": {}}}]', "not an array"),
        (b'[{"00100010": {"vr": "PN", "value": []}}]', "at most one of"),
        (b'[{"00100010": {"vr": "PN", "Value": [], "BulkDataURI": "x"}}]', "at most one of"),
        (b'[{"00100010": {"vr": "PN", "Value": ["Doe"]}}]', "JSON type VR PN"),
        (b'[{"00100010": {"vr": "PN", "Value": [{"Latin": "Doe"}]}}]', "JSON type VR PN"),
        (b'[{"00100020": {"vr": "LO", "Value": [1]}}]', "JSON type VR LO"),
        (b'[{"00280010": {"vr": "US", "Value": [true]}}]', "JSON type VR US"),
        (b'[{"00100020": {"vr": "LO", "InlineBinary": "AAAA"}}]', "no InlineBinary"),
        (b'[{"0040A370": {"vr": "SQ", "Value": [{"00080050": {"vr": "SH", "Value": [{}]}}]}}]', r"\(0008,0050\)"),
        (b'[{"0040A370": {"vr": "SQ", "Value": ["x"]}}]', "must be a JSON object"),
    ],
)
def test_what_is_no_dataset_is_refused_with_attribute_and_rule(body: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        datasets.parse(body)


def test_nesting_has_a_limit() -> None:
    dataset: Any = {}
    for _ in range(100):
        dataset = {"0040A370": {"vr": "SQ", "Value": [dataset]}}
    with pytest.raises(BadRequest, match="nested deeper"):
        parse([dataset])


def test_only_the_first_dataset_counts_and_keys_are_made_alike() -> None:
    assert parse([{"0040a370": {"vr": "SQ", "Value": [None]}, "00100020": {"vr": "LO"}}, "whatever"]) == {
        "00100020": {"vr": "LO"},
        "0040A370": {"vr": "SQ", "Value": [{}]},
    }


_VALUES = st.one_of(
    st.tuples(st.sampled_from(["LO", "SH", "DT", "UI", "AT"]), st.lists(st.none() | st.text(), max_size=3)),
    st.tuples(st.sampled_from(["US", "FD", "DS", "IS"]), st.lists(st.none() | st.integers(0, 9), max_size=3)),
    st.tuples(st.just("PN"), st.lists(st.dictionaries(st.sampled_from(["Alphabetic", "Phonetic"]), st.text()))),
)
_DATASETS = st.recursive(
    st.dictionaries(
        st.from_regex("[0-9A-F]{8}", fullmatch=True), _VALUES.map(lambda pair: {"vr": pair[0], "Value": pair[1]})
    ),
    lambda inner: st.dictionaries(
        st.from_regex("[0-9A-F]{8}", fullmatch=True),
        st.lists(inner, max_size=2).map(lambda items: {"vr": "SQ", "Value": items}),
    ),
    max_leaves=5,
)


@given(_DATASETS)
def test_what_is_one_comes_back_as_it_was(dataset: dict[str, Any]) -> None:
    read = parse([dataset])
    assert read == dataset
    assert datasets.unpacked(datasets.packed(read)) == dataset


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["vr", "Value", "00100010", "0040A370", "InlineBinary"]) | st.text(max_size=2), inner
            )
        ),
    )
)
def test_anything_else_is_read_or_refused(value: Any) -> None:
    try:
        datasets.parse(msgspec.json.encode([value]))
    except BadRequest as error:
        assert error.message
