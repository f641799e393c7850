"""Cutting search values apart, and escapes, against a naive reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.fhir.conditions import MAX_ALTERNATIVES, Context, UnknownParameter, condition, escape, unescape
from hounsfield.fhir.conditions import split_escaped as split
from hounsfield.fhir.indexing import MAX_STRING, MAX_TOKEN, fold, token_key
from hounsfield.fhir.outcomes import Invalid

CONTEXT = Context(("http://hospital.example/fhir",), 0)
texts = st.text(st.sampled_from("ab,|$\\"), max_size=8)


def naive(text: str) -> list[list[str]]:
    """Alternatives, each as parts between bars, character by character."""
    alternatives = [[""]]
    rest = iter(text)
    for character in rest:
        if character == "\\":
            following = next(rest, "")
            alternatives[-1][-1] += following if following and following in ",|$\\" else "\\" + following
        elif character == ",":
            alternatives.append([""])
        elif character == "|":
            alternatives[-1].append("")
        else:
            alternatives[-1][-1] += character
    return alternatives


@given(texts)
def test_splitting_and_unescaping(text: str) -> None:
    read = [[unescape(part) for part in split(alternative, "|")] for alternative in split(text, ",")]
    assert read == naive(text)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_escaped_values_come_back(values: list[str]) -> None:
    assert [unescape(part) for part in split(",".join(map(escape, values)), ",")] == values


@given(st.text(max_size=20))
def test_folding_settles(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_folding_drops_case_and_accents() -> None:
    assert fold("Ärzte  STRASSE ") == "arzte strasse"
    assert fold("straße") == "strasse"
    assert fold("İstanbul") == fold("istanbul")


@given(st.text(min_size=MAX_TOKEN - 2, max_size=MAX_TOKEN + 40), st.text(max_size=3))
def test_token_keys_are_short_and_distinct(text: str, more: str) -> None:
    assert len(token_key(text)) <= MAX_TOKEN
    assert (token_key(text) == token_key(text + more)) == (not more)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("birthdate", "yesterday"),
        ("birthdate", "xx2020"),
        ("birthdate", "2020-02-30"),
        ("birthdate:exact", "2020"),
        ("identifier", "a|b|c"),
        ("identifier", "|"),
        ("identifier", ","),
        ("identifier", "a\x00"),
        ("identifier:text", "a"),
        ("identifier:missing", "yes"),
        ("name:not", "a"),
        ("name.family", "a"),
        ("_id:exact", "a"),
        ("identifier", ",".join("a" * (MAX_ALTERNATIVES + 1))),
    ],
)
def test_bad_values_and_modifiers_are_refused(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        condition("Patient", name, value, CONTEXT)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patient:Device", "1"),
        ("subject:Endpoint", "1"),
        ("subject:Patient", "Device/1"),
        ("subject", "#local"),
        ("subject:Group.identifier", "1"),
        ("endpoint:Patient.identifier", "1"),
        ("patient.unknown:exact.x.y.z", "1"),
    ],
)
def test_bad_references_are_refused(name: str, value: str) -> None:
    with pytest.raises((Invalid, UnknownParameter)):
        condition("ImagingStudy", name, value, CONTEXT)


def test_unknown_parameters_are_told_apart() -> None:
    for name in ("nonsense", "nonsense:exact", "Identifier", "patient.nonsense"):
        with pytest.raises(UnknownParameter):
            condition("ImagingStudy", name, "1", CONTEXT)


def test_values_never_reach_the_sql_text() -> None:
    for name in ("identifier", "name", "name:exact", "name:contains", "_id"):
        found = condition("Patient", name, "ZZZ'", CONTEXT)
        assert "zzz" not in found.sql.lower()
        assert found.values


def test_long_names_are_found_by_their_beginning() -> None:
    found = condition("Patient", "name", "x" * (MAX_STRING + 50), CONTEXT)
    assert found.values[0] == "x" * MAX_STRING
