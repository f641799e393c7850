"""Search: what the answer says of a match, and where it comes from (query.md §§5, 6)."""

import httpx
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import VERSIONS, Json, value
from tests.acceptance.test_search import TAGS, search

pytestmark = pytest.mark.acceptance


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
        PatientID=dicomweb.patient(),
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
    first = factories.dataset(PatientID=dicomweb.patient(), Modality="MR")
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
    first = factories.dataset(PatientID=dicomweb.patient(), PatientName="Old^Name", StudyDescription="kept")
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
    first = factories.dataset(PatientID=dicomweb.patient(), StudyID="FIRST")
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
        ds = factories.dataset(PatientName=f"Quick^Nr{number}", PatientID=dicomweb.patient())
        dicomweb.store(client, ds)
        assert len(search(client, "instances", PatientID=ds.PatientID, PatientName="nr", fuzzymatching="true")) == 1
