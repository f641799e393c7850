"""Search: which values match (query.md §4)."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_search import refused, search, uids

pytestmark = pytest.mark.acceptance


def matches(client: httpx.Client, stored: Mapping[str, Any], asked: Mapping[str, str], path: str = "instances") -> bool:
    """Whether an instance with the attributes ``stored`` is found by ``asked``."""
    ds = factories.dataset(**stored)
    response = dicomweb.post(client, [factories.part10(ds)])
    assert response.status_code in (200, 202)
    parameters = {"StudyInstanceUID": ds.StudyInstanceUID, **asked}
    return [ds.SOPInstanceUID] == uids(search(client, path, **parameters), "SOPInstanceUID")


@pytest.mark.parametrize("keyword", ["PatientID", "AccessionNumber", "StudyDescription", "ManufacturerModelName"])
@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ("Ab 1", "Ab 1", True),
        ("Ab 1", "aB 1", True),
        ("Ab 1", "Ab  1", False),
        ("Ab 1", "Ab", False),
        ("Ab", "Ab 1", False),
        ("Ab 1", "*b 1", True),
        ("Ab 1", "Ab_1", False),
        ("Ab 1", "Ab%1", False),
        ("Ab 1", "Ab?1", True),
        ("Ab 1", "Ab??1", False),
        ("Ab 1", "a*1", True),
        ("Ab 1", "A*", True),
        ("Ab 1", "*", True),
        ("A%b!_", "?%*!_", True),
        ("Ab", "?%*", False),
        ("A,b", "A,b", True),
        ("A,b", "A", False),
        ("Ab", "Ab  ", True),
        ("Ab\0\0", "Ab", True),
        ("Ab", "Ab\0", True),
        ("Ab\0", "AB \0", True),
        ("Café", "CAFÉ", True),
        ("Café", "Cafe", False),
        ("Straße", "STRASSE", True),
        ("'; DROP TABLE study; --", "'; drop table study; --", True),
    ],
)
def test_whole_values(client: httpx.Client, keyword: str, stored: str, asked: str, found: bool) -> None:
    if len(stored) > 16 and keyword == "AccessionNumber":
        stored, asked = stored[:16], asked[:16]
    attributes = {"SpecificCharacterSet": "ISO_IR 192", keyword: stored}
    assert matches(client, attributes, {keyword: asked}) == found


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [("CT", "CT", True), ("CT", "ct", True), ("X\0", "X", True), ("X\0", "X\0", True), ("CT", "C", False)],
)
def test_modality(client: httpx.Client, stored: str, asked: str, found: bool) -> None:
    assert matches(client, {"Modality": stored}, {"Modality": asked}) == found
    assert matches(client, {"Modality": stored}, {"ModalitiesInStudy": asked}) == found


@pytest.mark.parametrize("keyword", ["PatientName", "ReferringPhysicianName"])
@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ("Doe^John", "Doe^John", True),
        ("Doe^John", "DOE^JOHN", True),
        ("Doe^John", "Doe", False),
        ("Doe^John", "Doe John", False),
        ("Müller^Jürgen", "muller^jurgen", True),
        ("Muller^Jurgen", "Müller^Jürgen", True),
        ("Wang^XiaoDong=王^小东=", "wang^xiaodong=王^小东", True),
        ("Wang^XiaoDong=王^小东=", "wang^xiaodong", False),
        ("Doe^John", "Doe*", True),
        ("Doe^John", "doe^j*", True),
        ("Doe^John", "*^john", True),
        ("Doe^John", "John*", False),
        ("Doe^John", "Do?^John", True),
        ("Müller^Jürgen", "MULLER*", True),
        ("Doe ^ John ^", "Doe^J*n", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田*", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "=山田*", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "=山田^太郎", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "==やまだ*", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "=やまだ*", False),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada*=山?^*", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada*=王*", False),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "*^tarou", True),
    ],
)
def test_names_without_fuzzy_matching(client: httpx.Client, keyword: str, stored: str, asked: str, found: bool) -> None:
    attributes = {"SpecificCharacterSet": "ISO_IR 192", keyword: stored}
    assert matches(client, attributes, {keyword: asked}) == found
    assert matches(client, attributes, {keyword: asked, "fuzzymatching": "false"}) == found


@pytest.mark.parametrize("keyword", ["PatientName", "ReferringPhysicianName"])
@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ("John^Doe", "joh", True),
        ("John^Doe", "do", True),
        ("John^Doe", "jo do", True),
        ("John^Doe", "Doe", True),
        ("John^Doe", "John Doe", True),
        ("John^Doe", "John^Doe", True),
        ("John^Doe", "ohn", False),
        ("John^Doe", "do jo", False),
        ("John^Doe", "jo doe x", False),
        ("John^Mid^Doe", "jo do", False),
        ("John^Mid^Doe", "jo m d", True),
        ("Gödel^Kurt", "godel", True),
        ("Godel^Kurt", "GÖD", True),
        ("Wang^XiaoDong=王^小东=", "王", True),
        ("Wang^XiaoDong=王^小东=", "xiao 王", True),
        ("O'Neil [x]^A.B", "o'neil [x] a.b", True),
        ("Ab^C", "a.", False),
        ("Ab^C", "b*", False),
        ("Ab^C", "*b^*", True),
        ("Yamada^Tarou\0", "tarou", True),
    ],
)
def test_names_with_fuzzy_matching(client: httpx.Client, keyword: str, stored: str, asked: str, found: bool) -> None:
    attributes = {"SpecificCharacterSet": "ISO_IR 192", keyword: stored}
    assert matches(client, attributes, {keyword: asked, "FuzzyMatching": "TRUE"}) == found


def test_fuzzy_matching_leaves_other_filters_exact(client: httpx.Client) -> None:
    given = {"PatientName": "John^Doe", "StudyDescription": "Chest CT"}
    assert not matches(client, given, {"PatientName": "jo", "StudyDescription": "Chest", "fuzzymatching": "true"})
    assert matches(client, given, {"PatientName": "jo", "StudyDescription": "chest ct", "fuzzymatching": "true"})
    both = {"PatientName": "jo", "ReferringPhysicianName": "an", "fuzzymatching": "true"}
    assert matches(client, {"PatientName": "John^Doe", "ReferringPhysicianName": "Ref^Anna"}, both)
    assert not matches(client, {"PatientName": "John^Doe", "ReferringPhysicianName": "Ref^Bea"}, both)


def test_a_quote_is_refused_in_a_fuzzy_name_only(client: httpx.Client) -> None:
    refused(client, "studies", "PatientName=%22jo&fuzzymatching=true", "PatientName")
    refused(client, "studies", "PatientName=%22jo*&fuzzymatching=true", "PatientName")
    assert client.get("/v2/studies?PatientName=%22jo%22").status_code == 204
    assert client.get("/v2/studies?PatientID=%22jo%22&fuzzymatching=true").status_code == 204


@pytest.mark.parametrize("keyword", ["StudyDate", "PatientBirthDate", "PerformedProcedureStepStartDate"])
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("20240131", True),
        ("20240130", False),
        ("20240131-20240131", True),
        ("20240101-20240131", True),
        ("20240131-20240201", True),
        ("20240101 - 20240201", True),
        ("20240201-20240301", False),
        ("20240131-", True),
        ("20240201-", False),
        ("-20240131", True),
        ("-20240130", False),
        (" 20240131 ", True),
        ("00010101-99991231", True),
    ],
)
def test_dates(client: httpx.Client, keyword: str, asked: str, found: bool) -> None:
    assert matches(client, {keyword: "20240131"}, {keyword: asked}) == found


@pytest.mark.parametrize("keyword", ["StudyDate", "PatientBirthDate", "PerformedProcedureStepStartDate"])
@pytest.mark.parametrize(
    "asked",
    ["-", "20240201-20240131", "20240230", "20241301", "2024", "202401", "2024-01-31", "20240101-20240102-20240103",
     "20240131-x", "tomorrow", "2024013100", "00000101"],
)  # fmt: skip
def test_bad_dates_are_refused(client: httpx.Client, keyword: str, asked: str) -> None:
    refused(client, "instances", f"{keyword}={asked}", keyword)


@pytest.mark.parametrize("given", [None, "", "20240231"])
def test_a_date_that_is_missing_or_none_matches_no_range(client: httpx.Client, given: str | None) -> None:
    for asked in ("00010101-", "-99991231", "00010101-99991231"):
        attributes = {} if given is None else {"PerformedProcedureStepStartDate": given}
        assert not matches(client, attributes, {"PerformedProcedureStepStartDate": asked})


def test_filters_are_anded(client: httpx.Client) -> None:
    stored = {"PatientID": dicomweb.patient(), "StudyDate": "20240131", "Modality": "MR"}
    right = {"PatientID": stored["PatientID"], "StudyDate": "20240101-", "Modality": "mr", "ModalitiesInStudy": "MR"}
    assert matches(client, stored, right)
    for keyword, wrong in (
        ("PatientID", "x"),
        ("StudyDate", "-20240130"),
        ("Modality", "CT"),
        ("ModalitiesInStudy", "CT"),
    ):
        assert not matches(client, stored, {**right, keyword: wrong})


def test_only_the_first_of_several_values_is_searched(client: httpx.Client) -> None:
    ds = factories.dataset(AccessionNumber=["ONE", "TWO"])
    assert dicomweb.post(client, [factories.part10(ds)], "/v1/studies").status_code == 200
    for asked, found in (("one", True), ("TWO", False), ("ONE\\TWO", False)):
        assert bool(search(client, "studies", StudyInstanceUID=ds.StudyInstanceUID, AccessionNumber=asked)) == found


def test_hostile_values_are_only_values(client: httpx.Client) -> None:
    hostile = [
        "\0",
        "1\0.2",
        "zz\0zz",
        "%",
        "_",
        "\\",
        "\ufffd",
        "\U0010ffff",
        "\u0301",
        "١٢٣",
        "'",
        '"',
        "(((",
        "[[[]",
        "\r\n",
        "х" * 3000,
    ]
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "ModalitiesInStudy", "SOPInstanceUID", "StudyDate"):
        for asked in hostile:
            for fuzzy in ("false", "true"):
                response = client.get("/v2/instances", params={keyword: asked, "fuzzymatching": fuzzy})
                assert response.status_code in (200, 204, 400), (keyword, asked, response.status_code, response.text)


WORDS = st.sampled_from(["an", "Anna", "anne", "Bö", "bob", "B", "x-ray", "Ü"])


@given(
    st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, min_size=1, max_size=3), st.sampled_from(["^", " ", "="])
)
@settings(max_examples=40, deadline=None)
def test_fuzzy_means_prefixes_of_consecutive_words(
    client: httpx.Client, words: list[str], asked: list[str], separator: str
) -> None:
    plain = {"Bö": "bo", "Ü": "u"}
    have = [plain.get(word, word.lower()) for word in words]
    want = [plain.get(word, word.lower()) for word in asked]
    expected = any(
        len(have[start:]) >= len(want)
        and all(word.startswith(prefix) for word, prefix in zip(have[start:], want, strict=False))
        for start in range(len(have))
    )
    attributes = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "^".join(words)}
    assert matches(client, attributes, {"PatientName": separator.join(asked), "fuzzymatching": "true"}) == expected
