"""Search by extended query tags: routes by level, matching by VR, answers, header (extended-query-tags.md §§6–8)."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb, query_tags
from tests.acceptance.dicomweb import VERSIONS
from tests.acceptance.query_tags import PRIVATE_CREATOR, add, added, enable, ended, entry, errors, get
from tests.acceptance.test_lifecycle import running
from tests.acceptance.test_search import search
from tests.server import Server

pytestmark = pytest.mark.acceptance

STUDY_TAG, SERIES_TAG, INSTANCE_TAG = "PatientAge", "BodyPartExamined", "AcquisitionTime"
PRIVATE_TAG = "12051003"
BY_VR = {
    "AE": "ScheduledStationAETitle",
    "AS": "PatientAge",
    "CS": "BodyPartExamined",
    "DA": "AcquisitionDate",
    "DT": "AcquisitionDateTime",
    "FD": "TagAngleFirstAxis",
    "FL": "TableTopPitchAngle",
    "IS": "AcquisitionNumber",
    "LO": "DeviceSerialNumber",
    "PN": "OperatorsName",
    "SH": "StationName",
    "SL": "ReferencePixelX0",
    "SS": "TagSpacingFirstDimension",
    "TM": "AcquisitionTime",
    "UI": "FrameOfReferenceUID",
    "UL": "SimpleFrameList",
    "US": "RecommendedDisplayFrameRate",
}
ENTRIES = [
    entry(STUDY_TAG, "Study"),
    entry(SERIES_TAG, "Series"),
    *(entry(keyword, vr=vr) for vr, keyword in BY_VR.items() if vr not in ("AS", "CS", "FD", "SS", "IS", "UL", "US")),
    entry("TagAngleFirstAxis"),
    entry("AcquisitionNumber"),
    entry("SimpleFrameList"),
    entry("SmallestImagePixelValue", vr="SS"),
    entry("LargestImagePixelValue", vr="US"),
    entry(PRIVATE_TAG, vr="LO", creator=PRIVATE_CREATOR),
    entry("PerformingPhysicianName", "Study"),
    entry("PerformedProcedureStepStartTime", "Series"),
]
ROUTES = {
    "studies": "S",
    "series": "SE",
    "instances": "SEI",
    "studies/{study}/series": "E",
    "studies/{study}/instances": "EI",
    "studies/{study}/series/{series}/instances": "I",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("tags") / "data", "--workers", "2") as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        response = add(client, *ENTRIES)
        assert response.status_code == 202, response.text
        ended(client, response.json()["href"])
        yield client


def private(ds: Dataset, value: str, creator: str = PRIVATE_CREATOR) -> Dataset:
    ds.private_block(0x1205, creator, create=True).add_new(0x03, "LO", value)
    return ds


def found(client: httpx.Client, ds: Dataset, path: str = "instances", **asked: Any) -> bool:
    """Whether the instance's study, series or instance is found at a route."""
    where = {"study": ds.StudyInstanceUID, "series": ds.SeriesInstanceUID}
    own = {} if "{study}" in path else {"StudyInstanceUID": ds.StudyInstanceUID}
    return bool(search(client, path.format(**where), **own, **asked))


# --- §8: routes ---


@pytest.mark.parametrize("path", ROUTES)
def test_each_level_at_its_routes(client: httpx.Client, path: str) -> None:
    ds = private(factories.dataset(PatientAge="041Y", BodyPartExamined="KNEE", AcquisitionTime="112233"), "deep")
    dicomweb.store(client, ds)
    values = {"S": (STUDY_TAG, "041Y"), "E": (SERIES_TAG, "knee"), "I": (INSTANCE_TAG, "112233")}
    for level in ROUTES[path]:
        name, value = values[level]
        assert found(client, ds, path, **{name: value})
        assert not found(client, ds, path, **{name: "112234" if level == "I" else "x"})
    if "I" in ROUTES[path]:
        assert found(client, ds, path, **{PRIVATE_TAG: "DEEP"})
        assert not found(client, ds, path, **{PRIVATE_TAG: "other"})


@pytest.mark.parametrize(("times", "expected"), [("09-11", True), ("11-12", False), ("1015-1015", True)])
def test_a_time_that_is_a_tag_counts_for_itself(client: httpx.Client, times: str, expected: bool) -> None:
    ds = factories.dataset(PerformedProcedureStepStartDate="20240131", PerformedProcedureStepStartTime="1015")
    dicomweb.store(client, ds)
    days = {"PerformedProcedureStepStartDate": "20240101-20240201"}
    assert found(client, ds, "series", **days, PerformedProcedureStepStartTime=times) is expected


@pytest.mark.parametrize(
    ("path", "name"),
    [("studies", SERIES_TAG), ("studies", INSTANCE_TAG), ("series", INSTANCE_TAG), ("studies/1.2/series", PRIVATE_TAG)],
)
def test_not_above_their_level(client: httpx.Client, path: str, name: str) -> None:
    response = client.get(f"/v2/{path}", params={name: "1"})
    assert response.status_code == 400
    assert name in response.text
    assert STUDY_TAG in response.text  # among those that can be searched


# --- §8: matching ---

MATCHING: list[tuple[str, Any, str, bool]] = [
    ("ScheduledStationAETitle", "Scanner 1", "scanner 1", True),
    ("ScheduledStationAETitle", "Scanner 1", "scanner", False),
    ("ScheduledStationAETitle", "Scanner 1", "scan*", True),
    ("ScheduledStationAETitle", "Scanner 1", "?canner*1", True),
    ("PatientAge", "033Y", "033y", True),
    ("PatientAge", "033Y", "034Y", False),
    ("BodyPartExamined", "HEAD", "head ", True),
    ("DeviceSerialNumber", "Größe\0", "GRÖSSE", True),
    ("DeviceSerialNumber", "Größe", "Grosse", False),
    ("OperatorsName", ["One^A", "Two^B"], "one^a", True),
    ("OperatorsName", ["One^A", "Two^B"], "two^b", False),
    ("StationName", "a,b", "A,B", True),
    ("FrameOfReferenceUID", "1.2.3", "1.2.3", True),
    ("FrameOfReferenceUID", "1.2.3", "1.2", False),
    ("FrameOfReferenceUID", "1.2.3", "4.5,1.2.3", True),
    ("AcquisitionDate", "20240229", "20240229", True),
    ("AcquisitionDate", "20240229", "20240228", False),
    ("AcquisitionDate", "20240229", "20240201-20240301", True),
    ("AcquisitionDate", "20240229", "20240229-", True),
    ("AcquisitionDate", "20240229", "-20240228", False),
    ("AcquisitionDateTime", "20240229120000.5", "20240229120000.5", True),
    ("AcquisitionDateTime", "20240229120000.5+0100", "20240229120000.500000", True),
    ("AcquisitionDateTime", "20240229120000", "2024-2025", True),
    ("AcquisitionDateTime", "20240229120000", "-20240229", False),
    ("AcquisitionDateTime", "2024", "20240101000000", True),
    ("AcquisitionTime", "000000", "000000", True),
    ("AcquisitionTime", "000000", "-01", True),
    ("AcquisitionTime", "1230", "123000.000", True),
    ("AcquisitionTime", "1230", "12-13", True),
    ("AcquisitionTime", "235959.999999", "2359-", True),
    ("AcquisitionTime", "1230", "1231-", False),
    ("AcquisitionNumber", "03", "3", True),
    ("AcquisitionNumber", "-3", "-03", True),
    ("AcquisitionNumber", "3", "4", False),
    ("ReferencePixelX0", -70000, "-70000", True),
    ("SimpleFrameList", 4294967295, "4294967295", True),
    ("SmallestImagePixelValue", -5, "-5", True),
    ("LargestImagePixelValue", 65535, "65535", True),
    ("LargestImagePixelValue", 65535, "99999999999", False),
    ("TagAngleFirstAxis", 0.1, "0.1", True),
    ("TagAngleFirstAxis", 0.1, "1e-1", True),
    ("TagAngleFirstAxis", 0.1, "0.10000000149011612", False),
    ("TableTopPitchAngle", 0.1, "0.1", True),
    ("TableTopPitchAngle", 0.0, "-0", True),
    ("OperatorsName", "Müller^Jörg", "muller^jorg", True),
    ("OperatorsName", "Müller^Jörg", "muller", False),
    ("OperatorsName", "Müller^Jörg", "mull*", True),
    ("OperatorsName", "Yamada^Tarou=山田^太郎", "=山田*", True),
    ("PerformingPhysicianName", "Doe^John", "DOE^JOHN", True),
]


@pytest.mark.parametrize(("keyword", "stored", "asked", "expected"), MATCHING, ids=lambda value: str(value)[:30])
def test_matching(client: httpx.Client, keyword: str, stored: Any, asked: str, expected: bool) -> None:
    more = {} if keyword in ("SmallestImagePixelValue", "LargestImagePixelValue") else {keyword: stored}
    ds = factories.dataset(SpecificCharacterSet="ISO_IR 192", **more)
    if not more:
        ds.add_new(keyword, "SS" if keyword.startswith("Small") else "US", stored)
    assert dicomweb.post(client, [factories.part10(ds)]).status_code in (200, 202)
    assert found(client, ds, **{keyword: asked}) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("joh", True), ("do", True), ("jo do", False), ("do jo", True), ("ohn", False), ("doe john", True)],
)
@pytest.mark.parametrize("keyword", ["OperatorsName", "PerformingPhysicianName"])
def test_fuzzy_matching(client: httpx.Client, keyword: str, asked: str, expected: bool) -> None:
    ds = factories.dataset(**{keyword: "Doe^John"})
    dicomweb.store(client, ds)
    assert found(client, ds, fuzzymatching="true", **{keyword: asked}) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AcquisitionNumber", "1.5"),
        ("LargestImagePixelValue", "x"),
        ("TagAngleFirstAxis", "wide"),
        ("AcquisitionDate", "2024"),
        ("AcquisitionDate", "20240301-20240229"),
        ("AcquisitionDateTime", "2024+0100"),
        ("AcquisitionTime", "25"),
        ("AcquisitionTime", ""),
        ("PatientAge", " "),
        ("OperatorsName", "="),
    ],
)
def test_values_that_are_refused(client: httpx.Client, name: str, value: str) -> None:
    response = client.get("/v2/instances", params={name: value})
    assert response.status_code == 400
    assert name in response.text


def test_the_same_tag_twice(client: httpx.Client) -> None:
    response = client.get("/v2/instances?PatientAge=034Y&00101010=034Y")
    assert response.status_code == 400
    assert "more than once" in response.text


def test_several_filters_must_all_match(client: httpx.Client) -> None:
    ds = factories.dataset(PatientAge="001D", BodyPartExamined="ARM", OperatorsName="A^B", PatientID=dicomweb.patient())
    dicomweb.store(client, ds)
    asked = {"PatientAge": "001D", "BodyPartExamined": "ARM", "OperatorsName": "a^b", "PatientID": ds.PatientID}
    assert found(client, ds, **asked)
    for name in ("PatientAge", "BodyPartExamined", "OperatorsName", "PatientID"):
        assert not found(client, ds, **{**asked, name: "001W"})


def test_private_values_belong_to_their_creator(client: httpx.Client) -> None:
    mine, other = private(factories.dataset(), "mine"), private(factories.dataset(), "mine", "SOMEBODY ELSE")
    second = private(private(factories.dataset(), "theirs", "SOMEBODY ELSE"), "mine")
    dicomweb.store(client, mine, other, second)
    assert found(client, mine, **{PRIVATE_TAG: "mine"})
    assert not found(client, other, **{PRIVATE_TAG: "mine"})
    assert found(client, second, **{PRIVATE_TAG: "mine"})
    assert not found(client, second, **{PRIVATE_TAG: "theirs"})


# --- §7, §8: answers ---


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_filtered_by_is_answered(client: httpx.Client, version: str) -> None:
    values = {"PatientAge": "077Y", "OperatorsName": "A^B=山", "AcquisitionNumber": "7", "TagAngleFirstAxis": 0.5}
    ds = factories.dataset(SpecificCharacterSet="ISO_IR 192", **values)
    dicomweb.store(client, ds)
    asked = {
        "StudyInstanceUID": ds.StudyInstanceUID,
        "PatientAge": "077y",
        "00081070": "a*",
        "AcquisitionNumber": "07",
        "TagAngleFirstAxis": "0.5",
    }
    (dataset,) = client.get(f"/{version}/instances", params=asked).json()
    assert dataset["00101010"] == {"vr": "AS", "Value": ["077Y"]}
    assert dataset["00081070"] == {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Ideographic": "山"}]}
    assert dataset["00200012"] == {"vr": "IS", "Value": [7]}
    assert dataset[f"{tag_for_keyword('TagAngleFirstAxis'):08X}"] == {"vr": "FD", "Value": [0.5]}
    assert list(dataset) == sorted(dataset)
    (plain,) = client.get(f"/{version}/instances", params={"StudyInstanceUID": ds.StudyInstanceUID}).json()
    assert "00101010" not in plain


def test_the_newest_instance_that_has_a_value_gives_it(client: httpx.Client) -> None:
    first = factories.dataset(PatientAge="001Y", BodyPartExamined="HEAD")
    second = dicomweb.sibling(first, PatientAge="002Y", BodyPartExamined="NECK")
    third = dicomweb.sibling(first, same_series=False)
    dicomweb.store(client, first)
    dicomweb.store(client, second)
    dicomweb.store(client, third)
    assert not found(client, first, "studies", PatientAge="001Y")
    (dataset,) = search(client, "studies", StudyInstanceUID=first.StudyInstanceUID, PatientAge="002Y")
    assert dataset["00101010"]["Value"] == ["002Y"]
    assert len(search(client, "series", StudyInstanceUID=first.StudyInstanceUID, BodyPartExamined="NECK")) == 1
    assert len(search(client, "instances", StudyInstanceUID=first.StudyInstanceUID, PatientAge="002Y")) == 3
    # An instance's going does not bring former values back; the last one takes them along.
    assert client.delete(dicomweb.instance_path(second)).status_code == 204
    (dataset,) = search(client, "studies", StudyInstanceUID=first.StudyInstanceUID, PatientAge="002Y")
    assert dataset["00101010"]["Value"] == ["002Y"]
    assert client.delete(dicomweb.study_path(first)).status_code == 204
    dicomweb.store(client, dicomweb.sibling(first))
    assert not found(client, first, "studies", PatientAge="002Y")


def test_v1_refuses_and_v2_drops_invalid_values(client: httpx.Client) -> None:
    ds = factories.dataset(PatientAge="1Y", BodyPartExamined="HEAD")
    response = dicomweb.post(client, [factories.part10(ds)], "/v1/studies")
    assert response.status_code == 409
    assert "(0010,1010) - Dicom element 'PatientAge' failed validation for VR 'AS'" in response.text
    response = dicomweb.post(client, [factories.part10(ds)], "/v2/studies")
    assert response.status_code == 202
    assert not found(client, ds, PatientAge="1Y")
    (dataset,) = search(client, "instances", StudyInstanceUID=ds.StudyInstanceUID, includefield="PatientAge")
    assert "00101010" not in dataset
    assert found(client, ds, BodyPartExamined="HEAD")
    assert dicomweb.post(client, [factories.instance(PatientAge="034Y")], "/v1/studies").status_code == 200


def test_v1_refuses_another_vr(client: httpx.Client) -> None:
    ds = factories.dataset()
    ds.add_new(0x00280106, "US", 5)
    response = dicomweb.post(client, [factories.part10(ds)], "/v1/studies")
    assert response.status_code == 409
    assert "is expected to have VR 'SS' but has 'US' in file." in response.text
    dicomweb.store(client, ds)
    assert not found(client, ds, SmallestImagePixelValue="5")


def test_v1_warns_of_several_values(client: httpx.Client) -> None:
    response = dicomweb.post(client, [factories.instance(DeviceSerialNumber=["a", "b"])], "/v1/studies")
    assert response.status_code == 200
    assert "multiple values" in response.headers["warning"]


# --- §6: query status, header ---


def test_disabled_tags_are_indexed_but_not_searched(client: httpx.Client) -> None:
    try:
        enable(client, "PatientAge", "Disabled")
        ds = factories.dataset(PatientAge="055Y")
        dicomweb.store(client, ds)
        for path in ("studies", "instances"):
            response = client.get(f"/v2/{path}", params={"00101010": "055Y"})
            assert response.status_code == 400
            assert "00101010" in response.text
            assert "disabled" in response.text
        (dataset,) = search(client, "studies", StudyInstanceUID=ds.StudyInstanceUID, includefield="PatientAge")
        assert dataset["00101010"]["Value"] == ["055Y"]
    finally:
        enable(client, "PatientAge")
    assert found(client, ds, "studies", PatientAge="055Y")


def test_filters_with_errors_are_named_in_the_answer(client: httpx.Client) -> None:
    bad, good = factories.dataset(StudyComments="x"), factories.dataset()
    for ds, value in ((bad, "a\tb"), (good, "fine")):
        ds.RequestingService = value
        dicomweb.store(client, ds, version="v1")
    added(client, entry("RequestingService"), entry("InstitutionName"))
    assert get(client, "RequestingService")["queryStatus"] == "disabled"
    response = client.get("/v2/instances", params={"RequestingService": "fine"})
    assert response.status_code == 400
    assert "errors" in response.text
    enable(client, "RequestingService")
    asked = {"StudyInstanceUID": good.StudyInstanceUID}
    response = client.get("/v2/instances", params={**asked, "RequestingService": "fine"})
    assert response.status_code == 200
    assert response.headers["erroneous-dicom-attributes"] == "RequestingService"
    response = client.get("/v1/instances", params={**asked, "00321033": "other", "InstitutionName": "x"})
    assert response.status_code == 204
    assert response.headers["erroneous-dicom-attributes"] == "00321033"
    response = client.get("/v2/instances", params={**asked, "InstitutionName": "x", "includefield": "00321033"})
    assert "erroneous-dicom-attributes" not in response.headers
    assert len(errors(client, "RequestingService")) == 1
    assert client.delete(dicomweb.study_path(bad)).status_code == 204
    response = client.get("/v2/instances", params={**asked, "RequestingService": "fine"})
    assert response.status_code == 200
    assert "erroneous-dicom-attributes" not in response.headers


def test_what_is_searchable_anyway_can_be_a_tag_at_another_level(client: httpx.Client) -> None:
    first = factories.dataset(SeriesDescription="one")
    second = dicomweb.sibling(first, SeriesDescription="two")
    dicomweb.store(client, first, second)
    asked = {"StudyInstanceUID": first.StudyInstanceUID}
    assert len(search(client, "instances", **asked, SeriesDescription="two")) == 2
    added(client, entry("SeriesDescription", "Instance"))
    assert len(search(client, "instances", **asked, SeriesDescription="one")) == 1
    assert len(search(client, "series", **asked, SeriesDescription="two")) == 1
    enable(client, "SeriesDescription", "Disabled")
    assert client.get("/v2/series", params={"SeriesDescription": "two"}).status_code == 400
    query_tags.delete(client, "SeriesDescription")
    assert len(search(client, "instances", **asked, SeriesDescription="two")) == 2


def test_a_tag_that_is_gone_is_not_searchable(client: httpx.Client) -> None:
    ds = factories.dataset(ProtocolName="head")
    dicomweb.store(client, ds)
    assert client.get("/v2/instances", params={"ProtocolName": "head"}).status_code == 400
    added(client, entry("ProtocolName"))
    assert found(client, ds, ProtocolName="head")
    query_tags.delete(client, "ProtocolName")
    assert client.get("/v2/instances", params={"ProtocolName": "head"}).status_code == 400
    added(client, entry("ProtocolName", "Study"))
    assert found(client, ds, "studies", ProtocolName="head")


# --- partitions ---


def test_tags_are_of_all_partitions_and_searches_of_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    more = {"DicomServer__Features__EnableDataPartitions": "true"}
    path = tmp_path_factory.mktemp("partitions") / "data"
    with running(path, environment=more) as server, server.client() as client:
        before, after, bad = (factories.dataset(PatientAge=age) for age in ("034Y", "034Y", "1Y"))
        for name, ds in (("one", before), ("two", bad)):
            url = f"/v1/partitions/{name}/studies"
            assert dicomweb.post(client, [factories.part10(ds)], url).status_code == 200
        added(client, entry("PatientAge", "Study"))
        assert [error["partitionName"] for error in errors(client, "PatientAge")] == ["two"]
        enable(client, "PatientAge")
        assert client.get("/v2/partitions/one/extendedquerytags").status_code == 404
        assert dicomweb.post(client, [factories.part10(after)], "/v2/partitions/two/studies").status_code == 200
        for name, ds in (("one", before), ("two", after)):
            response = client.get(f"/v2/partitions/{name}/studies", params={"PatientAge": "034Y"})
            assert [found["0020000D"]["Value"] for found in response.json()] == [[ds.StudyInstanceUID]]
        assert server.stop() == 0
