"""Store: what the answer says about each instance, and what becomes of duplicates (store.md §§3–6)."""

import itertools
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import VERSIONS, comments, failed, reason, referenced, value
from tests.acceptance.test_store import VALIDATION, is_stored, latest, post
from tests.server import Server

pytestmark = pytest.mark.acceptance

EXISTS = 45070

# --- validation: the answers (the rules themselves are tested in tests/dicom) ---


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("keyword", "tag"),
    [
        ("SOPClassUID", "(0008,0016)"),
        ("StudyInstanceUID", "(0020,000d)"),
        ("SeriesInstanceUID", "(0020,000e)"),
        ("SOPInstanceUID", "(0008,0018)"),
        ("PatientID", "(0010,0020)"),
    ],
)
@pytest.mark.parametrize("given", [None, "", ["1.2", "1.3"]])
def test_a_required_attribute(client: httpx.Client, keyword: str, tag: str, given: Any, version: str) -> None:
    response = post(client, factories.instance(**{keyword: given}), path=f"/{version}/studies")
    if keyword == "PatientID" and version == "v2" and given is not None:
        assert response.status_code == 202
        assert ("warning" in response.headers) == (given != "")
        return
    assert reason(response) == VALIDATION
    (comment,) = comments(failed(response)[0])
    assert comment == f"DICOM100: {tag} - The required tag '{tag}' is missing."


@pytest.mark.parametrize("version", VERSIONS)
def test_the_study_must_be_the_one_in_the_path(client: httpx.Client, version: str) -> None:
    mine, other = factories.dataset(), factories.dataset()
    path = dicomweb.study_path(mine, version)
    response = dicomweb.post(client, [factories.part10(mine), factories.part10(other)], path)
    assert response.status_code == 202
    (item,) = failed(response)
    assert value(item, "00081155") == other.SOPInstanceUID
    assert value(item, "00081197") == VALIDATION
    text = "The StudyInstanceUid in the payload does not match the specified StudyInstanceUid."
    assert comments(item) == [f"DICOM100: (0020,000d) - {text}"]
    assert value(response.json(), "00081190") == f"{client.base_url}{path}".replace("//v", "/v")
    assert not is_stored(client, other)


def test_a_failure_alone_has_no_study_url(client: httpx.Client) -> None:
    response = dicomweb.post(client, [factories.instance()], f"/v2/studies/{factories.uid()}")
    assert response.status_code == 409
    assert list(response.json()) == ["00081198"]


@pytest.mark.parametrize(
    ("keyword", "tag", "vr", "text", "reason_text"),
    [
        ("StudyDate", "(0008,0020)", "DA", "20241301", "Value cannot be parsed as a valid date."),
        ("AccessionNumber", "(0008,0050)", "SH", "A" * 17, "Value length exceeds maximum length of 16."),
        ("PatientID", "(0010,0020)", "LO", "P" * 65, "Value length exceeds maximum length of 64."),
        ("StudyDescription", "(0008,1030)", "LO", "a\bb", "Value contains invalid character."),
        ("PatientName", "(0010,0010)", "PN", "A^B^C^D^E^F", "Value contains more than 5 components."),
    ],
)
def test_an_indexed_attribute_fails_v1_and_is_dropped_by_v2(
    client: httpx.Client, keyword: str, tag: str, vr: str, text: str, reason_text: str
) -> None:
    ds = factories.dataset(**{keyword: text})
    response = post(client, factories.part10(ds), path="/v1/studies")
    assert reason(response) == VALIDATION
    (item,) = failed(response)
    flaw = f"Dicom element '{keyword}' failed validation for VR '{vr}': {reason_text}"
    assert comments(item) == [f"DICOM100: {tag} - {flaw}"]
    assert value(item, "00081150") == factories.CT
    assert value(item, "00081155") == ds.SOPInstanceUID
    assert not is_stored(client, ds)
    response = post(client, factories.part10(ds))
    if keyword == "PatientID":
        assert reason(response) == VALIDATION
        return
    assert response.status_code == 202
    (item,) = referenced(response)
    assert value(item, "00081196") == 1
    (comment,) = comments(item)
    assert comment.startswith(f"DICOM100: {tag} - Content ")
    (metadata,) = client.get(f"{dicomweb.instance_path(ds)}/metadata").json()
    assert tag[1:10].replace(",", "").upper() not in metadata
    search = client.get("/v2/studies", params={"StudyInstanceUID": ds.StudyInstanceUID})
    assert tag[1:10].replace(",", "").upper() not in search.json()[0]


def test_v2_keeps_null_padded_values_and_v1_refuses_them(client: httpx.Client) -> None:
    ds = factories.dataset(StudyDescription="Chest\0\0\0")
    assert reason(post(client, factories.part10(ds), path="/v1/studies")) == VALIDATION
    assert post(client, factories.part10(ds)).status_code == 200
    (metadata,) = client.get(f"{dicomweb.instance_path(ds)}/metadata").json()
    assert value(metadata, "00081030") == "Chest\0\0\0"
    found = client.get("/v2/studies", params={"StudyInstanceUID": ds.StudyInstanceUID, "StudyDescription": "chest"})
    assert found.status_code == 200


def test_a_uid_with_leading_zeros_is_stored_warned_about_and_kept(client: httpx.Client) -> None:
    ds = factories.dataset(SOPInstanceUID=f"{factories.uid()}.01")
    response = post(client, factories.part10(ds))
    assert response.status_code == 202
    assert value(referenced(response)[0], "00081155") == ds.SOPInstanceUID
    (metadata,) = client.get(f"{dicomweb.instance_path(ds)}/metadata").json()
    assert value(metadata, "00080018") == ds.SOPInstanceUID
    ds = factories.dataset(SOPInstanceUID=f"{factories.uid()}.01")
    assert post(client, factories.part10(ds), path="/v1/studies").status_code == 200


def test_a_bad_uid_is_echoed_as_it_is(client: httpx.Client) -> None:
    for version in VERSIONS:
        response = post(client, factories.instance(SOPInstanceUID="1.2.X"), path=f"/{version}/studies")
        assert reason(response) == VALIDATION
        assert value(failed(response)[0], "00081155") == "1.2.X"


def test_one_uid_may_name_study_series_and_instance(client: httpx.Client) -> None:
    uid = factories.uid()
    ds = factories.dataset(StudyInstanceUID=uid, SeriesInstanceUID=uid, SOPInstanceUID=uid)
    assert post(client, factories.part10(ds)).status_code == 200
    assert is_stored(client, ds)


# --- the answer ---


@pytest.mark.parametrize("version", [*VERSIONS, "v1.0", "V2", "v2.0", "v1-prerelease", "v1.0-prerelease"])
def test_the_answer_to_a_success(client: httpx.Client, version: str) -> None:
    ds = factories.dataset()
    response = post(
        client, factories.part10(ds), path=f"/{version}/studies/{ds.StudyInstanceUID}", host="pacs.example:99"
    )
    assert response.status_code == 200
    study = f"http://pacs.example:99/{version}/studies/{ds.StudyInstanceUID}"
    item: dict[str, Any] = {
        "00081150": {"vr": "UI", "Value": [factories.CT]},
        "00081155": {"vr": "UI", "Value": [ds.SOPInstanceUID]},
        "00081190": {"vr": "UR", "Value": [f"{study}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"]},
    }
    if version.lower().startswith("v2"):
        item["00741048"] = {"vr": "SQ"}
    assert response.json() == {
        "00081190": {"vr": "UR", "Value": [study]},
        "00081199": {"vr": "SQ", "Value": [item]},
    }
    assert response.text.index('"00081190"') < response.text.index('"00081199"')
    assert "warning" not in response.headers


KINDS = ("good", "implicit", "attribute", "bad")


def make(kind: str) -> bytes:
    if kind == "implicit":
        return factories.instance(ImplicitVRLittleEndian)
    changes: dict[str, dict[str, Any]] = {"good": {}, "attribute": {"PatientSex": "male"}, "bad": {"PatientID": None}}
    return factories.instance(**changes[kind])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kinds", [pair for pair in itertools.product(KINDS, KINDS) if pair[0] <= pair[1]])
def test_status_and_warning_reasons(client: httpx.Client, kinds: tuple[str, str], version: str) -> None:
    response = dicomweb.post(client, [make(kind) for kind in kinds], f"/{version}/studies")
    bad = kinds.count("bad")
    warns = {"v1": {"implicit"}, "v2": {"implicit", "attribute"}}[version] & set(kinds)
    if bad == 2:
        expected = 409
    elif bad or (warns and version == "v2"):
        expected = 202
    else:
        expected = 200
    assert response.status_code == expected
    assert [value(item, "00081197") for item in failed(response)] == [VALIDATION] * bad
    reasons = {"good": None, "implicit": 45063, "attribute": 1 if version == "v2" else None}
    found = [value(item, "00081196") if "00081196" in item else None for item in referenced(response)]
    assert found == [reasons[kind] for kind in kinds if kind != "bad"]
    if version == "v2":
        number = [len(item["00741048"].get("Value", [])) for item in referenced(response)]
        assert number == [1 if kind == "attribute" else 0 for kind in kinds if kind != "bad"]


def test_items_are_in_the_order_of_the_request(client: httpx.Client) -> None:
    datasets = [factories.dataset(PatientID=None if number % 3 == 0 else "P") for number in range(80)]
    response = dicomweb.post(client, map(factories.part10, datasets))
    assert response.status_code == 202
    for items, expected in ((failed(response), 0), (referenced(response), 1)):
        uids = [ds.SOPInstanceUID for number, ds in enumerate(datasets) if bool(number % 3) == bool(expected)]
        assert [value(item, "00081155") for item in items] == uids


@pytest.mark.parametrize(("version", "warns"), [("v1", True), ("v2", False)])
def test_several_values_of_an_indexed_attribute(client: httpx.Client, version: str, warns: bool) -> None:
    ds = factories.dataset(AccessionNumber=["FIRST", "SECOND"])
    response = post(client, factories.part10(ds), path=f"/{version}/studies", host="pacs.example:99")
    # By the full rules of v2 two values are a violation of the attribute's multiplicity of 1.
    assert response.status_code == (200 if warns else 202)
    text = '299 pacs.example: "One or more indexed Dicom tag(s) have multiple values, only first value is indexed."'
    assert response.headers.get("warning") == (text if warns else None)
    if warns:
        again = post(
            client, factories.part10(factories.dataset(AccessionNumber=["A", "B"])), path="/v1/studies", host="[::1]:9"
        )
        assert again.headers["warning"].startswith("299 [::1]: ")
        found = client.get("/v1/studies", params={"StudyInstanceUID": ds.StudyInstanceUID, "AccessionNumber": "first"})
        assert found.status_code == 200


# --- duplicates ---


@pytest.mark.parametrize("version", VERSIONS)
def test_an_instance_that_exists_is_a_conflict_and_stays_as_it_was(client: httpx.Client, version: str) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds, version=version)
    before = latest(client)
    ds.PatientName = "Other^Name"
    response = post(client, factories.part10(ds), path=f"/{version}/studies")
    assert response.status_code == 409
    assert failed(response) == [
        {
            "00081150": {"vr": "UI", "Value": [factories.CT]},
            "00081155": {"vr": "UI", "Value": [ds.SOPInstanceUID]},
            "00081197": {"vr": "US", "Value": [EXISTS]},
        }
    ]
    assert latest(client) == before
    (metadata,) = client.get(f"{dicomweb.instance_path(ds)}/metadata").json()
    assert value(metadata, "00100010") == {"Alphabetic": "Doe^John"}
    found = client.get("/v2/studies", params={"StudyInstanceUID": ds.StudyInstanceUID, "PatientName": "Other^Name"})
    assert found.status_code == 204


def test_a_duplicate_inside_one_request(client: httpx.Client) -> None:
    ds = factories.dataset()
    first = factories.part10(ds)
    ds.PatientName = "Other^Name"
    response = dicomweb.post(client, [first, factories.part10(ds), factories.instance()])
    assert response.status_code == 202
    assert [value(item, "00081197") for item in failed(response)] == [EXISTS]
    assert len(referenced(response)) == 2
    back = client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL})
    assert back.content == first


def test_the_same_instance_uid_in_another_series_or_study(client: httpx.Client) -> None:
    ds = factories.dataset()
    uid = ds.SOPInstanceUID
    here, elsewhere = dicomweb.sibling(ds, same_series=False, SOPInstanceUID=uid), factories.dataset(SOPInstanceUID=uid)
    dicomweb.store(client, ds, here, elsewhere)
    for one in (ds, here, elsewhere):
        assert is_stored(client, one)


def test_uids_compare_without_trailing_spaces(client: httpx.Client) -> None:
    uid = factories.uid()
    uid += ".1" if len(uid) % 2 else ".11"  # odd, so that a padding character follows
    ds = factories.dataset(StudyInstanceUID=uid)
    padded = factories.part10(ds).replace(f"{uid}\0".encode(), f"{uid} ".encode())
    assert padded.count(f"{uid} ".encode()) == 1
    assert post(client, padded).status_code == 200
    assert reason(post(client, factories.part10(ds))) == EXISTS
    for spelling in (uid, f"{uid}%20", f"{uid}%20%20"):
        assert client.get(f"/v2/studies/{spelling}/metadata").status_code == 200
        assert len(client.get(f"/v2/studies?StudyInstanceUID={spelling}").json()) == 1
    back = client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL})
    assert back.content == padded


def test_one_of_many_concurrent_stores_of_an_instance_wins(server: Server) -> None:
    ds = factories.dataset()
    bodies = []
    for number in range(12):
        ds.StudyDescription = f"Writer {number}"
        bodies.append(factories.part10(ds))
    with server.client() as client, ThreadPoolExecutor(len(bodies)) as pool:
        before = latest(client)
        answers = list(pool.map(lambda body: post(client, body), bodies))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] + [409] * (len(bodies) - 1)
        assert {reason(answer) for answer in answers if answer.status_code == 409} == {EXISTS}
        assert latest(client) == before + 1
        winner = next(body for body, answer in zip(bodies, answers, strict=True) if answer.status_code == 200)
        back = client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL})
        assert back.content == winner
    assert len(files_of(server, ds)) == 1


def test_concurrent_first_instances_of_a_study_do_not_fail_each_other(server: Server) -> None:
    first = factories.dataset()
    datasets = [first] + [dicomweb.sibling(first, same_series=number % 2 == 0) for number in range(23)]
    with server.client() as client, ThreadPoolExecutor(12) as pool:
        answers = pool.map(lambda ds: post(client, factories.part10(ds)), datasets)
        assert {answer.status_code for answer in answers} == {200}
        assert len(client.get(f"{dicomweb.study_path(first)}/metadata").json()) == len(datasets)
        found = client.get("/v2/studies", params={"StudyInstanceUID": first.StudyInstanceUID})
        assert len(found.json()) == 1


def files_of(server: Server, ds: Dataset) -> list[Path]:
    """The files the object store holds of the study of ``ds``."""
    return [path for path in (server.data_dir / "dicom" / ds.StudyInstanceUID).rglob("*") if path.is_file()]


def test_files_lie_where_a_person_finds_them(client: httpx.Client, server: Server) -> None:
    ds = factories.dataset()
    body = factories.part10(ds)
    assert post(client, body).status_code == 200
    (path,) = files_of(server, ds)
    assert path.parent.name == ds.SeriesInstanceUID
    assert path.name.startswith(ds.SOPInstanceUID)
    assert path.suffix == ".dcm"
    assert path.read_bytes() == body
    assert path.stat().st_mode & 0o007 == 0


# --- texts ---


def test_no_patient_data_is_logged(client: httpx.Client, server: Server) -> None:
    secrets: Mapping[str, str] = {
        "PatientName": "Zyxwv^Quentin",
        "PatientID": "SECRET-4711",
        "PatientBirthDate": "19991231",
    }
    post(client, factories.instance(**secrets))
    post(client, factories.instance(**secrets)[:-60])
    post(client, factories.instance(**{**secrets, "PatientID": "SECRET-4711" * 8}))
    client.get("/v2/studies", params={"PatientName": "Zyxwv", "fuzzymatching": "true"})
    client.get("/v2/studies", params={"PatientBirthDate": "19991231-19991232"})
    # The audit log repeats the whole address of a request, and with it what was searched for (server.md §10).
    asked = [json.loads(line) for line in server.log().splitlines() if '"AuditEvent"' in line]
    said = [line for line in server.log().splitlines() if '"AuditEvent"' not in line]
    for entry in asked:
        entry["RequestUri"] = entry["RequestUri"].partition("?")[0]
    assert asked
    assert not re.search("Zyxwv|SECRET-4711|19991231", "\n".join([*said, *map(json.dumps, asked)]))
