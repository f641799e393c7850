"""Search beyond the reference: what the standard has and clients ask for (PS3.18 §§8.3.4, 10.6; PS3.4 §C.2.2.2)."""

from typing import Any

import httpx
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import value, values
from tests.acceptance.test_search import refused, search, uids

pytestmark = pytest.mark.acceptance


def request_item(step: str, procedure: str) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID = step
    item.RequestedProcedureID = procedure
    item.ScheduledProcedureStepDescription = "step"
    return item


@pytest.fixture(scope="module")
def rich(client: httpx.Client) -> Dataset:
    """An instance with a value for everything that can be searched beyond the reference."""
    ds = factories.dataset(
        PatientID=dicomweb.patient(),
        StudyDate="20240131",
        StudyTime="101530.5",
        StudyID="S 1",
        PatientSex="F",
        SeriesNumber=7,
        SeriesDescription="Thorax axial",
        PerformedProcedureStepStartDate="20240131",
        PerformedProcedureStepStartTime="1016",
        InstanceNumber=12,
        RequestAttributesSequence=Sequence([request_item("SPS1", "RP1"), request_item("SPS2", "RP2")]),
        ProtocolName="protocol",
    )
    ds.add_new(0x00091001, "LO", "private value")
    ds.add_new(0x00090010, "LO", "creator")
    dicomweb.store(client, ds)
    return ds


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"StudyTime": "101530.5"}, True),
        ({"StudyTime": "101530.500000"}, True),
        ({"StudyTime": "10"}, False),
        ({"StudyTime": "10-11"}, True),
        ({"StudyTime": "1016-"}, False),
        ({"StudyID": "s 1"}, True),
        ({"StudyID": "s"}, False),
        ({"PatientSex": "F"}, True),
        ({"PatientSex": "M"}, False),
        ({"SeriesNumber": "7"}, True),
        ({"SeriesNumber": "+07"}, True),
        ({"SeriesNumber": "8"}, False),
        ({"SeriesDescription": "*axial"}, True),
        ({"PerformedProcedureStepStartTime": "1016"}, True),
        ({"InstanceNumber": "12"}, True),
        ({"InstanceNumber": "1"}, False),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, False),
        ({"SOPClassUID": "1.2.3,1.2.840.10008.5.1.4.1.1.2"}, True),
        ({"RequestAttributesSequence.ScheduledProcedureStepID": "sps2"}, True),
        ({"00400275.00400009": "SPS1"}, True),
        ({"RequestAttributesSequence.RequestedProcedureID": "RP?"}, True),
        ({"00400275.00400009": "SPS1", "00400275.00401001": "RP1"}, True),
        # Not of one item.
        ({"00400275.00400009": "SPS1", "00400275.00401001": "RP2"}, False),
        # The same form of range: one range of moments (PS3.4 §C.2.2.2.5).
        ({"StudyDate": "20240130-20240131", "StudyTime": "11-1016"}, True),
        ({"StudyDate": "20240130-20240131", "StudyTime": "08-1015"}, False),
        ({"StudyDate": "20240131-", "StudyTime": "1016-"}, False),
        ({"StudyDate": "20240130-", "StudyTime": "1016-"}, True),
        # Another form: each for itself.
        ({"StudyDate": "20240130-", "StudyTime": "-1015"}, False),
        ({"StudyDate": "20240131", "StudyTime": "10-11"}, True),
        ({"StudyInstanceUID": "*"}, True),
        ({"BodyPart": "*"}, None),
    ],
)
def test_what_more_is_searched(client: httpx.Client, rich: Dataset, asked: dict[str, str], found: bool | None) -> None:
    if found is None:
        refused(client, "instances", "&".join(f"{name}={text}" for name, text in asked.items()), next(iter(asked)))
        return
    series = {"SeriesInstanceUID": rich.SeriesInstanceUID, **asked}
    assert uids(search(client, "instances", **series), "SOPInstanceUID") == ([rich.SOPInstanceUID] if found else [])
    below = f"studies/{rich.StudyInstanceUID}/instances"
    if "StudyInstanceUID" not in asked:
        assert bool(search(client, below, **asked)) == found


def test_several_uids_and_modalities(client: httpx.Client) -> None:
    mine = dicomweb.patient()
    datasets = [factories.dataset(PatientID=mine, Modality=modality) for modality in ("CT", "MR", "US")]
    dicomweb.store(client, *datasets)
    names = [ds.StudyInstanceUID for ds in datasets]
    for separator in (",", "\\"):
        found = search(client, "studies", StudyInstanceUID=separator.join(names[:2]))
        assert uids(found, "StudyInstanceUID") == [names[1], names[0]]
        found = search(client, "studies", PatientID=mine, ModalitiesInStudy=separator.join(["US", "ct"]))
        assert uids(found, "StudyInstanceUID") == [names[2], names[0]]


def test_multiple_values(client: httpx.Client) -> None:
    first, second = (factories.dataset(PatientID=dicomweb.patient()) for _ in range(2))
    dicomweb.store(client, first, second)
    asked = {"PatientID": f"{first.PatientID}\\{second.PatientID}"}
    assert search(client, "studies", **asked) == []
    assert len(search(client, "studies", **asked, multiplevaluematching="true")) == 2


def test_missing_values(client: httpx.Client) -> None:
    mine = dicomweb.patient()
    without = factories.dataset(PatientID=mine, AccessionNumber=None)
    dicomweb.store(client, without, factories.dataset(PatientID=mine, AccessionNumber="A1"))
    for empty in ("", '""'):
        asked = {"PatientID": mine, "AccessionNumber": empty}
        (found,) = search(client, "studies", **asked, emptyvaluematching="true")
        assert value(found, "0020000D") == without.StudyInstanceUID
    refused(client, "studies", "AccessionNumber=", "AccessionNumber")
    assert search(client, "studies", PatientID=mine, AccessionNumber='""') == []
    assert len(search(client, "studies", PatientID=mine, AccessionNumber="*")) == 2


def test_attributes_of_levels_above_on_every_route(client: httpx.Client, rich: Dataset) -> None:
    study = f"studies/{rich.StudyInstanceUID}"
    for path in (f"{study}/series", f"{study}/instances", f"{study}/series/{rich.SeriesInstanceUID}/instances"):
        asked = {"PatientID": rich.PatientID, "StudyDate": "20240101-", "ModalitiesInStudy": "CT"}
        (found,) = search(client, path, **asked)
        assert value(found, "00100020") == rich.PatientID
        assert values(found, "00080061") == ["CT"]
        assert search(client, path, PatientID="another") == []
    assert len(search(client, f"{study}/series/{rich.SeriesInstanceUID}/instances", Modality="CT")) == 1


def test_a_key_that_cannot_be_searched_is_told_what_can(client: httpx.Client) -> None:
    response = client.get("/v2/studies?SeriesNumber=1")
    assert response.status_code == 400
    assert "StudyInstanceUID, PatientName, PatientID" in response.text
    assert "SeriesInstanceUID" not in response.text
    assert "RequestAttributesSequence.ScheduledProcedureStepID" in client.get("/v2/series?Rows=1").text


def test_any_stored_attribute_comes_on_request(client: httpx.Client, rich: Dataset) -> None:
    def found(fields: str) -> dict[str, Any]:
        (dataset,) = search(client, "series", SeriesInstanceUID=rich.SeriesInstanceUID, includefield=fields)
        return dataset

    assert value(found("00091001"), "00091001") == "private value"
    assert [sorted(item) for item in values(found("RequestAttributesSequence"), "00400275")] == [
        ["00400007", "00400009", "00401001"]
    ] * 2
    steps = found("RequestAttributesSequence.ScheduledProcedureStepID,00400275.00400007,ProtocolName")
    assert [sorted(item) for item in values(steps, "00400275")] == [["00400007", "00400009"]] * 2
    assert value(steps, "00181030") == "protocol"
    assert "00400275" not in found("RequestAttributesSequence.StudyInstanceUID")
    assert "00181030" in found("all,ProtocolName")
    (searched,) = search(client, "series", **{"00400275.00400009": "SPS1", "PatientID": rich.PatientID})
    assert [list(item) for item in values(searched, "00400275")] == [["00400009"]] * 2


@pytest.mark.parametrize("version", dicomweb.VERSIONS)
def test_what_the_standard_wants_of_an_answer_comes_on_request(
    client: httpx.Client, rich: Dataset, version: str
) -> None:
    series = f"studies/{rich.StudyInstanceUID}/series/{rich.SeriesInstanceUID}"
    expected = {
        "InstanceAvailability": "ONLINE",
        "ModalitiesInStudy": "CT",
        "SOPClassesInStudy": rich.SOPClassUID,
        "NumberOfStudyRelatedSeries": 1,
        "NumberOfStudyRelatedInstances": 1,
        "StudyTime": "101530.5",
        "PatientSex": "F",
        "StudyID": "S 1",
        "SeriesNumber": 7,
        "SeriesDescription": "Thorax axial",
        "NumberOfSeriesRelatedInstances": 1,
        "PerformedProcedureStepStartTime": "1016",
        "SOPClassUID": rich.SOPClassUID,
        "InstanceNumber": 12,
        "Rows": 8,
    }
    below = {
        "studies": f"studies/{rich.StudyInstanceUID}",
        "series": series,
        "instances": f"{series}/instances/{rich.SOPInstanceUID}",
    }
    for path, where in below.items():
        fields = ",".join([*expected, "RetrieveURL"])
        (found,) = client.get(f"/{version}/{path}", params={"PatientID": rich.PatientID, "includefield": fields}).json()
        for keyword, text in expected.items():
            tag = f"{tag_for_keyword(keyword):08X}"
            if not (path == "studies" and keyword == "NumberOfSeriesRelatedInstances"):
                assert value(found, tag) == text, (path, keyword)
        url = value(found, "00081190")
        assert url == f"{client.base_url.copy_with(path=f'/{version}/{where}')}"
        assert client.get(f"{url}/metadata").status_code == 200


# --- pages ---


def test_counts(client: httpx.Client, rich: Dataset) -> None:
    for number in (1, 2):
        dicomweb.store(client, dicomweb.sibling(rich, PatientID=rich.PatientID, InstanceNumber=20 + number))
    mine = {"PatientID": rich.PatientID, "InstanceNumber": "20-"}
    asked = {"PatientID": rich.PatientID, "Modality": "C*", "limit": "1", "count": "true"}
    for path, total in (("series", "1"), ("instances", "3")):
        response = client.get(f"/v2/{path}", params=asked)
        assert response.headers["x-total-count"] == total
        assert len(response.json()) == 1
    nothing = client.get("/v2/studies", params={"PatientID": "nobody at all", "count": "true"})
    assert (nothing.status_code, nothing.headers["x-total-count"]) == (204, "0")
    assert "x-total-count" not in client.get("/v2/studies").headers
    refused(client, "instances", "&".join(f"{name}={text}" for name, text in mine.items()), "InstanceNumber")


def test_pages_by_cursor(client: httpx.Client) -> None:
    mine = dicomweb.patient()
    datasets = [factories.dataset(PatientID=mine) for _ in range(5)]
    dicomweb.store(client, *datasets)
    newest_first = [ds.StudyInstanceUID for ds in reversed(datasets)]
    response = client.get("/v2/studies", params={"PatientID": mine, "limit": "2", "cursor": "first"})
    found = uids(response.json(), "StudyInstanceUID")
    # What is stored meanwhile shifts nothing.
    dicomweb.store(client, factories.dataset(PatientID=mine))
    while "next" in response.links:
        url = response.links["next"]["url"]
        response = client.get(url)
        found += uids(response.json(), "StudyInstanceUID")
    assert found == newest_first
    assert "link" not in client.get("/v2/studies", params={"PatientID": mine, "limit": "2"}).headers
    # Of another query, on another route, altered: refused.
    cursor = httpx.URL(url).params["cursor"]
    other = "B" if cursor[5] == "A" else "A"
    for path, patient, text in (
        ("studies", "x", cursor),
        ("series", mine, cursor),
        ("studies", mine, cursor[:5] + other + cursor[6:]),
        ("studies", mine, cursor + "A"),
    ):
        refused(client, path, f"PatientID={patient}&cursor={text}", "cursor")


def test_a_page_of_another_origin_may_read_where_to_go_on(client: httpx.Client) -> None:
    headers = client.get("/v2/studies?limit=1&cursor=first&count=true").headers
    assert headers["access-control-expose-headers"] == "X-Total-Count, Link"
