"""Search: routes, parameters, matching, response attributes, order (query.md)."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset

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
        ("limit=%D9%A3", "limit"),  # a digit three, in Arabic
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
        ("StudyTime=x", "StudyTime"),
        ("PatientAge=1", "PatientAge"),
        ("NumberOfStudyRelatedInstances=1", "NumberOfStudyRelatedInstances"),
        ("RequestAttributesSequence=1", "RequestAttributesSequence"),
        ("PatientID.StudyID=1", "PatientID.StudyID"),
        ("RequestAttributesSequence.=1", "RequestAttributesSequence."),
        ("RequestAttributesSequence.StudyInstanceUID=1", "RequestAttributesSequence.StudyInstanceUID"),
        ("includefield=PatientID.StudyID", "includefield"),
        ("includefield=" + "RequestAttributesSequence." * 8 + "StudyID", "includefield"),
        ("count=1", "count"),
        ("count=true&Count=true", "Count"),
        ("emptyvaluematching=yes", "emptyvaluematching"),
        ("multiplevaluematching=", "multiplevaluematching"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=first&offset=0", "offset"),
        ("StudyInstanceUID=1.2,,1.3", "StudyInstanceUID"),
        ("StudyInstanceUID=" + ",".join(["1.2"] * 201), "StudyInstanceUID"),
        ("PatientID=" + "*a" * 11, "PatientID"),
        ("PatientID=a%5C*&multiplevaluematching=true", "PatientID"),
        ("PatientName=*%3D*%3D*%3D*", "PatientName"),
        ("PatientName=%3D%3D", "PatientName"),
        ("StudyDate=20240101-20240101&StudyTime=12-10", "StudyTime"),
        ("ModalitiesInStudy=&emptyvaluematching=true", "ModalitiesInStudy"),
        ("TimezoneOffsetFromUTC=1", "TimezoneOffsetFromUTC"),
    ],
)
def test_queries_that_are_refused(client: httpx.Client, query: str, name: str) -> None:
    for path in ("studies", "instances"):
        refused(client, path, query, name)


@pytest.mark.parametrize("key", ["Modality", "InstanceNumber", "patientname", "0010FFFE", "Foo", "PatientID.Foo"])
def test_who_asks_for_what_cannot_be_searched_learns_what_can(client: httpx.Client, key: str) -> None:
    response = client.get("/v2/studies", params={key: "1"})
    assert response.status_code == 400
    assert f"'{key}'" in response.text
    listed = response.text.rstrip(".").rpartition(": ")[2].split(", ")
    assert {"StudyInstanceUID", "PatientName", "StudyTime", "ModalitiesInStudy"} <= set(listed)
    assert not {"Modality", "SOPInstanceUID"} & set(listed)


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
UNUSED = {"PatientBirthDate": "17770707", "StudyDate": "17770707", "PerformedProcedureStepStartDate": "17770707"}


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
    mine = dicomweb.patient()
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
    mine = dicomweb.patient()
    old, new = factories.dataset(PatientID=mine), factories.dataset(PatientID=mine)
    dicomweb.store(client, old, new)
    dicomweb.store(
        client, dicomweb.sibling(old, PatientID=mine), dicomweb.sibling(old, same_series=False, PatientID=mine)
    )
    for version in VERSIONS:
        response = client.get(f"/{version}/studies", params={"PatientID": mine})
        assert uids(response.json(), "StudyInstanceUID") == [new.StudyInstanceUID, old.StudyInstanceUID]
