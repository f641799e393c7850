"""How versions are kept: tails, and differences from the next version."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.fhir import content
from hounsfield.fhir.outcomes import Invalid

plain = st.dictionaries(st.sampled_from(["text", "name", "id", "status"]), st.text(max_size=5), max_size=4)


@given(plain, plain)
def test_a_resource_comes_back_with_our_meta(rest: dict[str, Any], meta: dict[str, Any]) -> None:
    resource = {**rest, "resourceType": "Patient", "meta": {**meta, "versionId": "9"}}
    sent = msgspec.json.decode(content.full("Patient/a", 3, 1_600_000_000_123_000, content.tail_of(resource)))
    assert sent == {
        **rest,
        "resourceType": "Patient",
        "id": "a",
        "meta": {**meta, "versionId": "3", "lastUpdated": "2020-09-13T12:26:40.123Z"},
    }


def test_the_order_of_elements_is_kept() -> None:
    resource = {
        "resourceType": "Patient",
        "gender": "male",
        "active": True,
        "meta": {"source": "x"},
        "birthDate": "1970",
    }
    sent = content.full("Patient/a", 1, 0, content.tail_of(resource))
    assert list(msgspec.json.decode(sent)) == ["resourceType", "id", "meta", "gender", "active", "birthDate"]


def test_numbers_keep_their_digits() -> None:
    value = content.parse(b'{"a":1.10,"b":1e2,"c":0.1234567890123456789,"d":5}')
    assert value["a"] == Decimal("1.10")
    assert content.encode_json(value) == b'{"a":1.10,"b":1E+2,"c":0.1234567890123456789,"d":5}'


@given(st.binary(max_size=2000))
def test_packing(tail: bytes) -> None:
    assert content.unpack(content.pack(tail)) == tail


def test_repetitive_text_is_compressed() -> None:
    assert len(content.pack(b'{"uid":"1.2.3"}' * 1000)) < 500


# Neighbours share long stretches, as versions of a resource do.
pieces = st.lists(st.sampled_from([b"a", b"ab", b"abc" * 50, b"b" * 300, b""]), max_size=6).map(b"".join)


@given(st.lists(pieces, min_size=2, max_size=8), st.integers(1, 70))
def test_a_chain_of_differences_gives_back_every_version(tails: list[bytes], first: int) -> None:
    kept = [
        content.pack_former(tail, first + place, following) for place, (tail, following) in enumerate(pairwise(tails))
    ]
    kept.append(content.pack(tails[-1]))
    for place, tail in enumerate(tails):
        assert content.unpack_former(kept[place:]) == tail


def test_a_difference_is_small_and_now_and_then_a_version_is_whole() -> None:
    before = b"".join(b'{"uid":"1.2.%d"},' % number for number in range(2000))
    after = before[:20_000] + b'{"uid":"1.2.99999"},' + before[20_000:]
    assert len(content.pack_former(before, 1, after)) < 20
    whole = content.pack_former(before, content.SNAPSHOT_EVERY, after)
    assert not content.is_difference(whole)
    assert content.unpack(whole) == before


def test_a_chain_without_an_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="whole version"):
        content.unpack_former([content.pack_former(b"a", 1, b"ab")])


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":}', b"\xff", b"[" * 100_000, b'{"a":"\\ud800"}', b"{} x"])
def test_bad_json_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        content.parse(body)


@pytest.mark.parametrize("value", ["\ud800", object(), float])
def test_values_outside_json_are_refused(value: Any) -> None:
    with pytest.raises(Invalid):
        content.tail_of({"resourceType": "Patient", "x": value})
