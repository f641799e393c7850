"""DICOM JSON → DICOM file: what pydicom reads in the file is what the JSON says."""

import base64
import contextlib
import io
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from hounsfield.dicom.json_dataset import BadDataset, Bulk, JsonDataset, PixelDescription, Pixels, write_file
from hounsfield.dicom.json_values import MAX_VALUES, BadValue, value_field
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.source import BytesSource, UnreadableInstance

Json = dict[str, Any]
TEXT_VRS = ["AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM", "UC", "UI"]
LOCALISED = ["LO", "SH", "UC"]
SINGLE = ["LT", "ST", "UR", "UT"]
INTEGERS = {"SS": (-(2**15), 2**15 - 1), "US": (0, 2**16 - 1), "SL": (-(2**31), 2**31 - 1), "UL": (0, 2**32 - 1)}
INTEGERS |= {"SV": (-(2**63), 2**63 - 1), "UV": (0, 2**64 - 1)}
BINARY = {"OB": 1, "OW": 2, "OF": 4, "OD": 8, "OL": 4, "OV": 8, "UN": 1}


decode = msgspec.json.Decoder(JsonDataset).decode


class NoReferences:
    """For datasets that refer to nothing."""

    def value(self, tag: int, uri: str) -> Bulk:
        raise AssertionError(tag)

    def pixels(self, uri: str, described: PixelDescription) -> Pixels:
        raise AssertionError(uri)


def written(dataset: Any) -> bytes:
    chunks = write_file(decode(json.dumps(dataset).encode()), NoReferences())
    (file,) = chunks
    assert isinstance(file, bytearray)
    return bytes(file)


def read(dataset: Any) -> Dataset:
    file = written(dataset)
    assert len(file) % 2 == 0
    return dcmread(io.BytesIO(file))


ascii_text = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), max_size=12)
any_text = st.text(st.characters(exclude_characters="\\\0", exclude_categories=["Cs", "Cc", "Zs"]), max_size=12)


def values_of(one: Any) -> Any:
    return st.lists(st.none() | one, max_size=4)


texts = st.sampled_from(TEXT_VRS).flatmap(
    lambda vr: st.tuples(st.just(vr), values_of(any_text if vr in LOCALISED else ascii_text))
)
singles = st.tuples(st.sampled_from(SINGLE), st.lists(ascii_text, max_size=1))
integers = st.sampled_from(sorted(INTEGERS)).flatmap(
    lambda vr: st.tuples(st.just(vr), st.lists(st.integers(*INTEGERS[vr]), max_size=4))
)
floats = st.tuples(st.just("FD"), st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4))
floats |= st.tuples(st.just("FL"), st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=4))
names = st.fixed_dictionaries(
    {},
    optional={
        group: st.text(st.characters(exclude_characters="\\=\0", exclude_categories=["Cs", "Cc", "Zs"]), max_size=8)
        for group in ("Alphabetic", "Ideographic", "Phonetic")
    },
)
person_names = st.tuples(st.just("PN"), values_of(names))
decimals = st.tuples(st.just("IS"), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4))
tags = st.tuples(st.just("AT"), st.lists(st.integers(0, 2**32 - 1).map(lambda tag: f"{tag:08X}"), max_size=3))
plain = texts | singles | integers | floats | person_names | decimals | tags
plain_elements = plain.map(lambda pair: {"vr": pair[0], "Value": pair[1]})
binary_elements = st.sampled_from(sorted(BINARY)).flatmap(
    lambda vr: st.lists(st.binary(min_size=BINARY[vr], max_size=BINARY[vr]), max_size=5).map(
        lambda parts: {"vr": vr, "InlineBinary": base64.b64encode(b"".join(parts)).decode()}
    )
)
# Private, so that pydicom believes the VR that is written.
keys = st.integers(0x1001, 0x10FF).map(lambda element: f"0099{element:04X}")
datasets = st.recursive(
    st.dictionaries(keys, plain_elements | binary_elements, max_size=6),
    lambda inner: st.dictionaries(
        keys, st.lists(inner, max_size=3).map(lambda items: {"vr": "SQ", "Value": items}), max_size=3
    ),
    max_leaves=8,
)


def expected(vr: str, values: list[Any]) -> list[Any]:
    """What reading gives: padding is gone, and with it what is empty at the end of a single value."""
    if vr == "PN":
        groups = ("Alphabetic", "Ideographic", "Phonetic")
        return ["=".join((value or {}).get(group, "") for group in groups).rstrip("=") for value in values]
    if vr in ("AT", *INTEGERS, "FD", "FL", "IS"):
        return [int(value, 16) if vr == "AT" else value for value in values]
    return [value or "" for value in values]


def check(back: Dataset, dataset: Json) -> None:
    assert [f"{element.tag:08X}" for element in back if element.tag != 0x00080005] == sorted(dataset)
    for key, attribute in dataset.items():
        element = back[int(key, 16)]
        assert attribute["vr"] == element.VR
        if element.VR == "SQ":
            assert len(element.value) == len(attribute["Value"])
            for item, other in zip(element.value, attribute["Value"], strict=True):
                check(item, other)
        elif "InlineBinary" in attribute:
            content = base64.b64decode(attribute["InlineBinary"])
            assert (element.value or b"") == content + b"\0" * (len(content) % 2)
        else:
            values = expected(element.VR, attribute["Value"])
            found = element.value if element.VM > 1 else [] if element.value in (None, "") else [element.value]
            if values == [""]:
                values = []
            if element.VR == "PN":
                found = ["=".join(name.components).rstrip("=") for name in found] if found != [""] else []
            assert list(found) == values, (element.VR, found, values)


@given(datasets)
def test_pydicom_reads_what_the_json_says(dataset: Json) -> None:
    with config.disable_value_validation():
        check(read(dataset), dataset)


@given(datasets)
def test_our_reader_reads_what_the_json_says(dataset: Json) -> None:
    file = written({"00080016": {"vr": "UI", "Value": ["1.2"]}, **dataset})
    instance = read_instance(BytesSource(file))
    assert instance.transfer_syntax == "1.2.840.10008.1.2.1"
    again = written(instance.dataset)
    assert read_instance(BytesSource(again)).dataset == instance.dataset


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
vrs = st.sampled_from([*TEXT_VRS, *SINGLE, *INTEGERS, *BINARY, "FD", "FL", "PN", "DS", "IS", "AT", "SQ", "", "ZZ"])
members = st.fixed_dictionaries({"vr": vrs | anything}, optional={"Value": anything, "InlineBinary": anything})
members |= vrs.flatmap(lambda vr: st.fixed_dictionaries({"vr": st.just(vr), "Value": st.lists(anything, max_size=3)}))
any_keys = st.integers(0, 2**32 - 1).map(lambda tag: f"{tag:08x}") | st.text(max_size=8)


@given(st.dictionaries(any_keys, members | anything, max_size=4))
def test_any_json_is_written_or_refused(dataset: Json) -> None:
    try:
        file = written(dataset)
    except BadDataset as problem:
        assert str(problem).endswith(".")
        return
    try:
        read_instance(BytesSource(file))
    except UnreadableInstance:
        raise AssertionError(dataset) from None


@given(datasets, st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=3)), max_size=4))
def test_json_with_other_bytes_in_it_is_written_or_refused(dataset: Json, changes: list[tuple[int, bytes]]) -> None:
    data = json.dumps(dataset, ensure_ascii=False).encode()
    for place, other in changes:
        at = place % (len(data) + 1)
        data = data[:at] + other + data[at + len(other) :]
    # What is no JSON at all never comes as far as the writer.
    with contextlib.suppress(msgspec.DecodeError), contextlib.suppress(BadDataset, UnicodeDecodeError):
        assert write_file(decode(data), NoReferences())


@given(st.floats(-1e307, 1e307) | st.integers(-(10**20), 10**20))
def test_decimal_strings_have_16_characters_at_most(number: float) -> None:
    text = value_field("DS", msgspec.Raw(json.dumps([number]).encode())).decode()
    assert len(text) <= 16
    # 16 characters hold nine digits beside sign, point, and the longest exponent.
    assert math.isclose(float(text), number, rel_tol=1e-8, abs_tol=5e-324 * 10**8)
    if len(repr(number)) <= 16:
        assert float(text) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.5, b"1.5"),
        (2.0, b"2.0"),
        (0.1 + 0.2, b"0.3"),
        (1 / 3, b"0.33333333333333"),
        (-1 / 3, b"-0.3333333333333"),
        (-0.12345678901234, b"-.12345678901234"),
        (1234567890123456.0, b"1234567890123456"),
        (12345678901234567, b"1.2345678901e+16"),
        (-1.2345678901234567e-300, b"-1.23456789e-300"),
    ],
)
def test_decimal_strings(number: float, text: bytes) -> None:
    assert value_field("DS", msgspec.Raw(json.dumps([number]).encode())) == text


def test_decimal_and_integer_strings_stay_as_they_are() -> None:
    assert value_field("DS", msgspec.Raw(b'["1.50", null, "+2e1", 3]')) == b"1.50\\\\+2e1\\3"
    assert value_field("IS", msgspec.Raw(b'["+07", null, 3, 4.0]')) == b"+07\\\\3\\4"


def test_a_value_too_many() -> None:
    assert len(value_field("US", msgspec.Raw(b"[" + b"0," * (MAX_VALUES - 1) + b"0]"))) == 2 * MAX_VALUES
    for vr, one in (("US", b"0"), ("DS", b"0"), ("LO", b'"a"'), ("UC", b'""')):
        with pytest.raises(BadValue, match="more values"):
            value_field(vr, msgspec.Raw(b"[" + (one + b",") * MAX_VALUES + one + b"]"))


def test_sequences_are_nested_as_deep_as_they_are_read() -> None:
    def nested(depth: int) -> Json:
        return {"00081140": {"vr": "SQ", "Value": [nested(depth - 1)] if depth else []}}

    assert read_instance(BytesSource(written({"00080016": {"vr": "UI", "Value": ["1.2"]}, **nested(63)})))
    with pytest.raises(BadDataset, match="deeper"):
        written(nested(65))


def test_what_is_not_part_of_the_instance_is_left_out() -> None:
    back = read(
        {
            "00020016": {"vr": "AE", "Value": ["SOMEONE"]},
            "00080000": {"vr": "UL", "Value": [5]},
            "00083002": {"vr": "UI", "Value": ["1.2.840.10008.1.2"]},
            "00100020": {"vr": "LO", "Value": ["P"]},
        }
    )
    assert [element.tag for element in back] == [0x00100020]
    assert "SourceApplicationEntityTitle" not in back.file_meta


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.3 ", "1.2.34\0"])
def test_the_file_meta_names_the_instance(uid: str) -> None:
    back = read({"00080016": {"vr": "UI", "Value": ["1.2.4"]}, "00080018": {"vr": "UI", "Value": [uid]}})
    assert back.file_meta.MediaStorageSOPClassUID == "1.2.4"
    assert back.file_meta.MediaStorageSOPInstanceUID == uid.rstrip(" \0")


@pytest.mark.parametrize("uid", ["", "1" * 65, "1.é", 5, {"a": 1}])
def test_uids_that_are_none_are_not_repeated_in_it(uid: Any) -> None:
    try:
        file = written({"00080018": {"vr": "UI", "Value": [uid]}})
    except BadDataset:
        return
    assert b"\2\0\3\0" not in file[:300]
