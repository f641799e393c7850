"""Search: routes, parameters, matching, response attributes, order (query.md)."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import VERSIONS, Json, value

pytestmark = pytest.mark.acceptance

TAGS = {
    "StudyInstanceUID": "0020000D",
    "PatientName": "00100010",
    "PatientID": "00100020",
    "PatientBirthDate": "00100030",
    "AccessionNumber": "00080050",
    "ReferringPhysicianName": "00080090",
    "StudyDate": "00080020",
    "StudyDescription": "00081030",
    "ModalitiesInStudy": "00080061",
    "SeriesInstanceUID": "0020000E",
    "Modality": "00080060",
    "PerformedProcedureStepStartDate": "00400244",
    "ManufacturerModelName": "00081090",
    "SOPInstanceUID": "00080018",
}
STUDY = list(TAGS)[:9]
SERIES = list(TAGS)[9:13]
INSTANCE = list(TAGS)[13:]


def patient() -> str:
    """A PatientID no other test uses."""
    return f"P-{factories.uid().rpartition('.')[2]}"


def search(client: httpx.Client, path: str, **parameters: Any) -> list[Json]:
    """The datasets found."""
    response = client.get(f"/v2/{path}", params=parameters)
    if response.status_code == 204:
        assert response.content == b""
        return []
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/dicom+json"
    found: list[Json] = response.json()
    assert found
    for dataset in found:
        assert list(dataset) == sorted(dataset)
    return found


def uids(found: list[Json], keyword: str) -> list[str]:
    return [value(dataset, TAGS[keyword]) for dataset in found]


def refused(client: httpx.Client, path: str, query: str, name: str) -> None:
    """Asserts that a query is refused and its parameter named."""
    response = client.get(f"/v2/{path}?{query}")
    assert response.status_code == 400, query
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert name in response.text


@pytest.fixture(scope="module")
def tree(client: httpx.Client) -> list[Dataset]:
    """Two series of two instances each in one study, oldest first."""
    first = factories.dataset(
        PatientID=patient(),
        PerformedProcedureStepStartDate="20240203",
        ManufacturerModelName="Scan-O-Mat",
        SeriesDescription="first series",
    )
    same = {name: first.get(name) for name in ("PatientID", "PerformedProcedureStepStartDate", "ManufacturerModelName")}
    second = dicomweb.sibling(first, InstanceNumber=2, SeriesDescription="first series", **same)
    third = dicomweb.sibling(first, same_series=False, Modality="SR", **same)
    fourth = dicomweb.sibling(third, Modality="SR", InstanceNumber=2, **same)
    dicomweb.store(client, first, second, third, fourth)
    return [first, second, third, fourth]


# --- routes ---


@pytest.mark.parametrize("version", VERSIONS)
def test_the_six_routes(client: httpx.Client, tree: list[Dataset], version: str) -> None:
    first, _, third, _ = tree
    study, mine = first.StudyInstanceUID, {"PatientID": first.PatientID}
    sops = [ds.SOPInstanceUID for ds in reversed(tree)]
    series = [third.SeriesInstanceUID, first.SeriesInstanceUID]

    def found(path: str, keyword: str, **parameters: str) -> list[str]:
        response = client.get(f"/{version}/{path}", params=parameters)
        return uids(response.json(), keyword)

    assert found("studies", "StudyInstanceUID", **mine) == [study]
    assert found("series", "SeriesInstanceUID", **mine) == series
    assert found("instances", "SOPInstanceUID", **mine) == sops
    assert found(f"studies/{study}/series", "SeriesInstanceUID") == series
    assert found(f"studies/{study}/instances", "SOPInstanceUID") == sops
    path = f"studies/{study}/series/{first.SeriesInstanceUID}/instances"
    assert found(path, "SOPInstanceUID") == sops[2:]
    for dataset in client.get(f"/{version}/{path}").json():
        assert value(dataset, TAGS["StudyInstanceUID"]) == study
        assert value(dataset, TAGS["SeriesInstanceUID"]) == first.SeriesInstanceUID


def test_a_path_of_something_else_finds_nothing(client: httpx.Client, tree: list[Dataset]) -> None:
    first = tree[0]
    other = factories.dataset()
    dicomweb.store(client, other)
    assert search(client, f"studies/{factories.uid()}/series") == []
    assert search(client, f"studies/{factories.uid()}/instances") == []
    assert search(client, f"studies/{first.StudyInstanceUID}/series/{other.SeriesInstanceUID}/instances") == []


@pytest.mark.parametrize(
    "path",
    ["studies/x/series", "studies/x/instances", "studies/1.2/series/1./instances", "studies/x/series/1.2/instances"],
)
def test_a_bad_uid_in_the_path_is_400(client: httpx.Client, path: str) -> None:
    refused(client, path, "", "InstanceUid")


# --- parameters ---


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/*", "Application/Dicom+JSON", ""])
def test_accept_headers_that_are_satisfied(client: httpx.Client, tree: list[Dataset], accept: str) -> None:
    response = client.get(f"/v2/studies?PatientID={tree[0].PatientID}", headers={"accept": accept})
    assert response.status_code == 200


@pytest.mark.parametrize("accept", ["application/dicom", "application/dicom+xml", "text/html", "application/data"])
def test_other_accept_headers_are_406(client: httpx.Client, accept: str) -> None:
    for path in ("studies", "series", "instances", "studies/1.2/series"):
        response = client.get(f"/v2/{path}", headers={"accept": accept})
        assert response.status_code == 406
        assert response.content == b""
        assert client.get(f"/v2/{path}?limit=0", headers={"accept": accept}).status_code == 400


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("LIMIT=0", "limit"),
        ("limit=1&limit=1", "limit"),
        ("limit=1&Limit=1", "Limit"),
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("offset=9223372036854775808", "offset"),
        ("offset=1&offset=2", "offset"),
        ("fuzzymatching=yes", "fuzzymatching"),
        ("fuzzymatching=1", "fuzzymatching"),
        ("fuzzymatching=", "fuzzymatching"),
        ("fuzzymatching=true&FuzzyMatching=true", "FuzzyMatching"),
        ("includefield=", "includefield"),
        ("includefield=PatientName,", "includefield"),
        ("includefield=NoSuchKeyword", "includefield"),
        ("includefield=patientname", "includefield"),
        ("includefield=0010,0010", "includefield"),
        ("includefield=00109998", "includefield"),
        ("PatientID=", "PatientID"),
        ("PatientID=%20%20", "PatientID"),
        ("PatientID=1&PatientID=1", "PatientID"),
        ("PatientID=1&00100020=1", "00100020"),
        ("0020000d=1&0020000D=1", "0020000D"),
        ("patientid=1", "patientid"),
        ("Patientid=1", "Patientid"),
        ("0010,0020=1", "0010,0020"),
        ("0x00100020=1", "0x00100020"),
        ("00109998=1", "00109998"),
        ("00091001=1", "00091001"),
        ("NoSuchKeyword=1", "NoSuchKeyword"),
        ("=1", ""),
        ("SOPClassUID=1", "SOPClassUID"),
        ("StudyTime=10", "StudyTime"),
        ("StudyID=1", "StudyID"),
        ("PatientSex=M", "PatientSex"),
        ("NumberOfStudyRelatedInstances=1", "NumberOfStudyRelatedInstances"),
        ("TimezoneOffsetFromUTC=1", "TimezoneOffsetFromUTC"),
    ],
)
def test_queries_that_are_refused(client: httpx.Client, query: str, name: str) -> None:
    for path in ("studies", "instances"):
        refused(client, path, query, name)


@pytest.mark.parametrize("query", ["PatientName=<b>", "PatientName=%3cb", "x=%3C", "limit=1&%3c"])
def test_a_query_with_an_angle_bracket_is_refused_everywhere(client: httpx.Client, query: str) -> None:
    for path in ("v2/studies", "v1/changefeed", "health/check", "nowhere", "v2/studies/1.2"):
        response = client.get(httpx.URL(f"/{path}", query=query.encode()))
        assert response.status_code == 400
        assert response.text == "The query string included invalid characters."


SEARCHABLE: Mapping[str, list[str]] = {
    "studies": STUDY,
    "series": STUDY + SERIES,
    "instances": STUDY + SERIES + INSTANCE,
    "studies/1.2/series": SERIES,
    "studies/1.2/instances": SERIES + INSTANCE,
    "studies/1.2/series/1.3/instances": INSTANCE,
}
UNUSED = {"PatientBirthDate": "19000101", "StudyDate": "19000101", "PerformedProcedureStepStartDate": "19000101"}


@pytest.mark.parametrize("path", SEARCHABLE)
@pytest.mark.parametrize("keyword", TAGS)
def test_where_an_attribute_can_be_searched(client: httpx.Client, path: str, keyword: str) -> None:
    asked = UNUSED.get(keyword, "7.7.7.7")
    for identifier in (keyword, TAGS[keyword], TAGS[keyword].lower()):
        response = client.get(f"/v2/{path}", params={identifier: asked})
        if keyword in SEARCHABLE[path]:
            assert response.status_code == 204
        # Attributes of a level above may be searched too (the deliberate difference of relational keys).
        elif keyword in STUDY[1:] + SERIES[1:] and "/" in path:
            assert response.status_code in (204, 400)
        else:
            assert response.status_code == 400
            assert identifier in response.text


def test_paging(client: httpx.Client) -> None:
    mine = patient()
    datasets = [factories.dataset(PatientID=mine) for _ in range(7)]
    dicomweb.store(client, *datasets)
    newest_first = [ds.StudyInstanceUID for ds in reversed(datasets)]
    for offset in range(9):
        for limit in (1, 2, 3, 7, 200):
            page = search(client, "studies", PatientID=mine, offset=offset, limit=limit)
            assert uids(page, "StudyInstanceUID") == newest_first[offset : offset + limit]
    assert search(client, "studies", PatientID=mine, OFFSET=5, Limit=1) != []
    assert search(client, "studies", PatientID=mine, offset=9223372036854775807) == []
    assert client.get(f"/v2/studies?PatientID={mine}&offset=%2B1&limit=%201").status_code == 200


def test_defaults_and_maximum_of_limit(client: httpx.Client) -> None:
    first = factories.dataset(PixelData=None)
    dicomweb.store(client, first, *(dicomweb.sibling(first, PixelData=None) for _ in range(204)))
    path = f"studies/{first.StudyInstanceUID}/instances"
    assert len(search(client, path)) == 100
    assert len(search(client, path, limit=200)) == 200
    assert len(search(client, path, limit=200, offset=200)) == 5
    everything = search(client, path, limit=200) + search(client, path, limit=200, offset=200)
    assert len(set(uids(everything, "SOPInstanceUID"))) == 205


def test_a_later_instance_of_an_old_study_does_not_move_it(client: httpx.Client) -> None:
    mine = patient()
    old, new = factories.dataset(PatientID=mine), factories.dataset(PatientID=mine)
    dicomweb.store(client, old, new)
    dicomweb.store(
        client, dicomweb.sibling(old, PatientID=mine), dicomweb.sibling(old, same_series=False, PatientID=mine)
    )
    for version in VERSIONS:
        response = client.get(f"/{version}/studies", params={"PatientID": mine})
        assert uids(response.json(), "StudyInstanceUID") == [new.StudyInstanceUID, old.StudyInstanceUID]


# --- matching ---


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
        ("Ab 1", "*b 1", False),
        ("Ab 1", "Ab_1", False),
        ("Ab 1", "Ab%1", False),
        ("Ab 1", "Ab?1", False),
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
        ("Doe^John", "Doe*", False),
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
        ("Ab^C", "a*", False),
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
    stored = {"PatientID": patient(), "StudyDate": "20240131", "Modality": "MR"}
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


# --- response attributes ---


def tags(text: str) -> set[str]:
    return set(text.split())


V2_STUDY = tags("00080020 00080050 00080090 00081030 00100010 00100020 00100030 0020000D")
V2_SERIES = tags("00080060 00081090 0020000E 00400244")
V2_INSTANCE = tags("00080018")
V1_STUDY = tags("00080005 00080020 00080030 00080050 00080056 00080090 00080201 00100010 00100020 00100030 00100040")
V1_STUDY |= tags("0020000D 00200010")
V1_SERIES = tags("00080005 00080060 00080201 0008103E 0020000E 00400244 00400245 00400275")
V1_INSTANCE = tags("00080005 00080016 00080018 00080056 00080201 00200013 00280008 00280010 00280011 00280100")
ALL_STUDY = V1_STUDY | tags("00081030 00080063 00081032 00081060 00081080 00081110 00101010 00101020 00101030")
ALL_STUDY |= tags("00102180 001021B0")
ALL_SERIES = V1_SERIES | tags("00200011 00200060 00080021 00080031")


@pytest.fixture(scope="module")
def full(client: httpx.Client) -> Dataset:
    """An instance that has every attribute a search can answer, and others."""
    item = Dataset()
    item.CodeValue = "X"
    ds = factories.dataset(
        PatientID=patient(),
        SpecificCharacterSet="ISO_IR 192",
        InstanceAvailability="ONLINE",
        TimezoneOffsetFromUTC="+0100",
        AnatomicRegionsInStudyCodeSequence=Sequence([item]),
        ProcedureCodeSequence=Sequence([item]),
        NameOfPhysiciansReadingStudy="Reader^R",
        AdmittingDiagnosesDescription="none",
        ReferencedStudySequence=Sequence([item]),
        PatientAge="054Y",
        PatientSize="1.8",
        PatientWeight="80",
        Occupation="tester",
        AdditionalPatientHistory="long",
        SeriesDescription="a series",
        PerformedProcedureStepStartDate="20240131",
        PerformedProcedureStepStartTime="1000",
        RequestAttributesSequence=Sequence([item]),
        ManufacturerModelName="Scan-O-Mat",
        Laterality="L",
        SeriesDate="20240131",
        SeriesTime="1001",
        NumberOfFrames="1",
        ProtocolName="protocol",
        ImageComments="comment",
    )
    dicomweb.store(client, ds)
    return ds


@pytest.mark.parametrize(
    ("version", "field", "study", "series", "instance"),
    [
        ("v1", None, V1_STUDY, V1_SERIES, V1_INSTANCE),
        ("v1", "all", ALL_STUDY, ALL_SERIES, V1_INSTANCE),
        ("v1-prerelease", "ALL", ALL_STUDY, ALL_SERIES, V1_INSTANCE),
        ("v2", None, V2_STUDY, V2_SERIES, V2_INSTANCE),
        ("v2", "all", ALL_STUDY, ALL_SERIES | {"00081090"}, V1_INSTANCE),
    ],
)
def test_response_attributes(
    client: httpx.Client,
    full: Dataset,
    version: str,
    field: str | None,
    study: set[str],
    series: set[str],
    instance: set[str],
) -> None:
    mine = {"PatientID": full.PatientID}
    below = f"studies/{full.StudyInstanceUID}"
    below_series = f"{below}/series/{full.SeriesInstanceUID}/instances"
    extra = {} if field is None else {"includefield": field}
    for path, parameters, expected in (
        ("studies", mine, study),
        ("series", mine, study | series),
        ("instances", mine, study | series | instance),
        (f"{below}/series", {}, series | {"0020000D"}),
        (f"{below}/instances", {}, series | instance | {"0020000D"}),
        (below_series, {}, instance | {"0020000D", "0020000E"}),
    ):
        (found,) = client.get(f"/{version}/{path}", params={**parameters, **extra}).json()
        assert set(found) == expected | {TAGS[keyword] for keyword in parameters}, path
        (metadata,) = client.get(f"{dicomweb.instance_path(full)}/metadata").json()
        for tag in found:
            assert found[tag] == metadata[tag]


def test_include_fields(client: httpx.Client, full: Dataset) -> None:
    mine = {"StudyInstanceUID": full.StudyInstanceUID}
    (metadata,) = client.get(f"{dicomweb.instance_path(full)}/metadata").json()
    for fields in (
        ["ProtocolName"],
        ["00181030"],
        ["ProtocolName,ImageComments"],
        ["ProtocolName", "00204000"],
        ["PixelData", "00091001", "PatientAddress"],
        ["SeriesDescription", "SOPInstanceUID", "ProcedureCodeSequence"],
    ):
        query = [*mine.items(), *(("includefield", field) for field in fields)]
        for path, default in (("studies", V2_STUDY), ("series", V2_STUDY | V2_SERIES)):
            (found,) = client.get(f"/v2/{path}", params=query).json()
            names = ",".join(fields).split(",")
            asked = {tag_of(name) for name in names}
            assert set(found) == default | (asked & set(metadata))
            for tag in found:
                assert found[tag] == metadata[tag]


def tag_of(name: str) -> str:
    number = tag_for_keyword(name)
    return name if number is None else f"{number:08X}"


def test_filtered_attributes_are_answered(client: httpx.Client, full: Dataset) -> None:
    query = {"PatientID": full.PatientID, "Modality": "CT", "ManufacturerModelName": "scan-o-mat"}
    (found,) = client.get("/v1/series", params=query).json()
    assert value(found, "00081090") == "Scan-O-Mat"
    (found,) = client.get("/v1/studies", params={"PatientID": full.PatientID, "ModalitiesInStudy": "ct"}).json()
    assert found["00080061"] == {"vr": "CS", "Value": ["CT"]}


def test_all_beside_other_fields(client: httpx.Client, full: Dataset) -> None:
    query = [("PatientID", full.PatientID), ("includefield", "all,ProtocolName"), ("includefield", "all")]
    (found,) = client.get("/v2/studies", params=query).json()
    assert set(found) >= ALL_STUDY


@pytest.mark.parametrize("version", VERSIONS)
def test_computed_attributes(client: httpx.Client, tree: list[Dataset], version: str) -> None:
    mine = {"PatientID": tree[0].PatientID}

    def found(path: str, fields: str, **parameters: str) -> list[Json]:
        answer: list[Json] = client.get(f"/{version}/{path}", params={"includefield": fields, **parameters}).json()
        return answer

    (study,) = found("studies", "NumberOfStudyRelatedInstances,ModalitiesInStudy", **mine)
    assert study["00201208"] == {"vr": "IS", "Value": [4]}
    assert study["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}
    for path, parameters in (("series", mine), (f"studies/{tree[0].StudyInstanceUID}/series", {})):
        for series in found(path, "NumberOfSeriesRelatedInstances", **parameters):
            assert series["00201209"] == {"vr": "IS", "Value": [2]}
    for series in found("series", "00080061,00201208", **mine) + found("instances", "00201209", **mine):
        assert value(series, "00100020") == mine["PatientID"]


def test_counts_and_modalities_follow_deletes(client: httpx.Client) -> None:
    first = factories.dataset(PatientID=patient(), Modality="MR")
    second, third = dicomweb.sibling(first, same_series=False, Modality="SR"), dicomweb.sibling(first, Modality="MR")
    dicomweb.store(client, first, second, third)

    def study() -> Json:
        fields = "NumberOfStudyRelatedInstances,ModalitiesInStudy"
        (found,) = search(client, "studies", StudyInstanceUID=first.StudyInstanceUID, includefield=fields)
        return found

    assert study()["00201208"]["Value"] == [3]
    assert study()["00080061"]["Value"] == ["MR", "SR"]
    client.delete(dicomweb.instance_path(third))
    assert study()["00201208"]["Value"] == [2]
    client.delete(dicomweb.series_path(first))
    assert study()["00201208"]["Value"] == [1]
    assert study()["00080061"]["Value"] == ["SR"]
    asked = {"StudyInstanceUID": first.StudyInstanceUID, "ModalitiesInStudy": "MR"}
    assert search(client, "studies", **asked) == []


# --- rows ---


def test_the_latest_value_wins_and_a_missing_one_erases_nothing(client: httpx.Client) -> None:
    first = factories.dataset(PatientID=patient(), PatientName="Old^Name", StudyDescription="kept")
    dicomweb.store(client, first)
    dicomweb.store(
        client, dicomweb.sibling(first, PatientID=first.PatientID, PatientName="New^Name", StudyDescription=None)
    )
    study = {"StudyInstanceUID": first.StudyInstanceUID}
    assert search(client, "studies", **study, PatientName="Old^Name") == []
    assert search(client, "studies", **study, PatientName="Old", fuzzymatching="true") == []
    for extra in (
        {"PatientName": "New^Name"},
        {"PatientName": "ne", "fuzzymatching": "true"},
        {"StudyDescription": "KEPT"},
    ):
        (found,) = search(client, "studies", **study, **extra)
        assert value(found, "00100010") == {"Alphabetic": "New^Name"}
        assert value(found, "00081030") == "kept"
    empty = dicomweb.sibling(first, PatientID="", PatientName="", StudyDescription="", StudyDate="")
    assert dicomweb.post(client, [factories.part10(empty)]).status_code == 202
    (found,) = search(
        client, "studies", **study, PatientName="New^Name", PatientID=first.PatientID, StudyDate="20240131"
    )
    assert value(found, "00081030") == "kept"
    # Deleting the instance that gave a value does not bring the one before back.
    client.delete(dicomweb.instance_path(first))
    assert len(search(client, "studies", **study, PatientName="New^Name", StudyDescription="kept")) == 1


def test_v1_answers_from_the_newest_instance(client: httpx.Client) -> None:
    first = factories.dataset(PatientID=patient(), StudyID="FIRST")
    second = dicomweb.sibling(first, PatientID=first.PatientID, StudyID="SECOND")
    dicomweb.store(client, first, second)
    (found,) = client.get("/v1/studies", params={"PatientID": first.PatientID}).json()
    assert value(found, "00200010") == "SECOND"
    client.delete(dicomweb.instance_path(second))
    (found,) = client.get("/v1/studies", params={"PatientID": first.PatientID}).json()
    assert value(found, "00200010") == "FIRST"


def test_v2_leaves_invalid_values_out_and_takes_later_ones(client: httpx.Client) -> None:
    first = factories.dataset(AccessionNumber="A" * 17, StudyDate="2024013x")
    assert dicomweb.post(client, [factories.part10(first)]).status_code == 202
    (found,) = search(client, "studies", StudyInstanceUID=first.StudyInstanceUID)
    assert not {"00080050", "00080020"} & set(found)
    dicomweb.store(client, dicomweb.sibling(first, AccessionNumber="RIGHT"))
    asked = {"StudyInstanceUID": first.StudyInstanceUID, "AccessionNumber": "right", "StudyDate": "20240131"}
    assert len(search(client, "studies", **asked)) == 1


def test_a_store_is_found_as_soon_as_it_is_answered(client: httpx.Client) -> None:
    for number in range(20):
        ds = factories.dataset(PatientName=f"Quick^Nr{number}", PatientID=patient())
        dicomweb.store(client, ds)
        assert len(search(client, "instances", PatientID=ds.PatientID, PatientName="nr", fuzzymatching="true")) == 1


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
