"""Primitive types, and narratives."""

from decimal import Decimal
from typing import Any

import pytest

from hounsfield.fhir.formats import CHECKS, MAX_STRING

GOOD: dict[str, list[Any]] = {
    "base64Binary": ["YQ==", "YWJj", "YW Jj\n"],
    "boolean": [True, False],
    "canonical": ["http://x/y|1"],
    "code": ["a", "a b", "dicom-wado-rs", "<="],
    "date": ["1970", "1970-12", "2020-02-29"],
    "dateTime": ["1970", "2020-02-29T12:00:00Z", "2020-02-29T12:00:00.123456789+14:00", "2020-02-29T12:00:60Z"],
    "decimal": [0, -1, 1.5, Decimal("1.10")],
    "id": ["a", "1.2.840.10008", "A-z.9", "x" * 64],
    "instant": ["2020-02-29T12:00:00.1-05:00"],
    "integer": [0, -(2**31), 2**31 - 1],
    "markdown": ["# a"],
    "oid": ["urn:oid:1.2.3"],
    "positiveInt": [1],
    "string": ["a", " a\n\tb\r", "日本語", "💡", "x" * MAX_STRING],
    "time": ["00:00:00", "23:59:59.5"],
    "unsignedInt": [0],
    "uri": ["urn:dicom:uid", "http://x", "x"],
    "url": ["ftp://x"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
    "xhtml": ['<div xmlns="http://www.w3.org/1999/xhtml">a</div>'],
}
BAD: dict[str, list[Any]] = {
    "base64Binary": ["", "a", "YQ=", "Y@==", "é", 1],
    "boolean": ["true", 0, 1],
    "canonical": ["a b"],
    "code": [" a", "a ", "a  b", "a\n\nb"],
    "date": ["1970-1", "1970-13", "2019-02-29", "2020-01-01T00:00:00Z", "70", "0000", " 1970", "1970\n"],
    "dateTime": ["2020-01-01T10:00Z", "2020-01-01T10:00:00", "2020-01-01T25:00:00Z", "2020-01-01 10:00:00Z"],
    "decimal": ["1", True, float("nan"), float("inf"), Decimal("NaN")],
    "id": ["a_b", "x" * 65, "a/b", 1, "ä"],
    "instant": ["2020", "2020-01-01", "2020-01-01T10:00:00"],
    "integer": [2**31, 1.0, True, "1", Decimal(1)],
    "markdown": ["\n"],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1.02"],
    "positiveInt": [0, -1],
    "string": ["", "  ", "a\x00", "a\x1b", "\ud800", 1, None, [], "x" * (MAX_STRING + 1)],
    "time": ["24:00:00", "10:00", "10:00:00Z"],
    "unsignedInt": [-1],
    "uri": ["a b", ""],
    "url": ["http://x y"],
    "uuid": ["c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520"],
    "xhtml": [
        "text",
        "<div>no namespace</div>",
        '<p xmlns="http://www.w3.org/1999/xhtml">a</p>',
        '<div xmlns="http://www.w3.org/1999/xhtml"> </div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><script>a</script></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml" onclick="a()">a</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><a href=" JavaScript:a()">a</a></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">a',
        '<div xmlns="http://www.w3.org/1999/xhtml">&unheard-of;</div>',
        '<!DOCTYPE x [<!ENTITY a "a">]><div xmlns="http://www.w3.org/1999/xhtml">&a;</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><svg xmlns="http://www.w3.org/2000/svg"/>a</div>',
    ],
}


@pytest.mark.parametrize("kind", CHECKS)
def test_every_type(kind: str) -> None:
    for value in GOOD[kind]:
        assert CHECKS[kind](value) is None, value
    for value in BAD[kind]:
        assert CHECKS[kind](value), value


def test_narratives_may_use_the_entities_of_html_and_images() -> None:
    for inner in ("a&nbsp;b", "&copy;", '<img src="#a"/>', '<p xml:lang="de">&lt;</p>', "<!-- x -->a"):
        assert CHECKS["xhtml"](f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>') is None, inner


def test_no_sentence_repeats_the_value() -> None:
    for kind, values in BAD.items():
        for value in values:
            if type(value) is str and len(value) > 4:
                assert value not in str(CHECKS[kind](value))
