import csv
import io
import json

import pytest

from tests.cli.conftest import CONTROL, Hounsfield, Start
from tests.cli.dicom_files import instance
from tests.cli.dicomweb_server import DicomWebServer


@pytest.fixture(autouse=True)
def three_studies(server: DicomWebServer) -> None:
    for study in ("1.2.3", "1.2.4", "1.2.5"):
        for number in (1, 2):
            series = f"{study}.7"
            server.instances[(study, series, f"{series}.{number}")] = instance(number, study=study, series=series)


def test_table_is_readable_and_plain_without_a_terminal(server: DicomWebServer, start: Start) -> None:
    run = start("query", "studies", "PatientID=P1.2.4", "--from", server.url, FORCE_COLOR="1", COLUMNS="40")
    out, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (0, "")
    assert not CONTROL.search(out), "neither colours of ours nor control codes from the data"
    heading, row = out.splitlines()
    assert heading.split()[:4] == ["PatientName", "PatientID", "PatientBirthDate", "StudyDate"]
    assert row.startswith("Doe, John")
    assert "2024-01-31" in row
    assert "Thorax \ufffd[31mred" in row
    assert row.rstrip().endswith("1.2.4")


def test_json_lines_are_the_server_s_objects(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    run = hounsfield("query", "studies", "--from", server.url, "--json")
    assert [json.loads(line)["0020000D"]["Value"] for line in run.out.splitlines()] == [["1.2.3"], ["1.2.4"], ["1.2.5"]]
    assert "includefield" not in server.requests[0][1]


def test_csv_is_raw(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    run = hounsfield(
        "query", "instances", "--from", server.url, "--study", "1.2.3", "--csv", "--include", "PatientName"
    )
    rows = list(csv.DictReader(io.StringIO(run.out)))
    assert [row["SOPInstanceUID"] for row in rows] == ["1.2.3.7.1", "1.2.3.7.2"]
    assert rows[0]["PatientName"] == "Doe^John"
    assert rows[0]["InstanceNumber"] == "1"


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (("series",), "/v2/series"),
        (("series", "--study", "1.2.3"), "/v2/studies/1.2.3/series"),
        (("instances", "--study", "1.2.3", "--series", "1.2.3.7"), "/v2/studies/1.2.3/series/1.2.3.7/instances"),
        (("instances", "PatientName=CT&x", "--limit", "5", "--offset", "3", "--fuzzy"), "/v2/instances"),
    ],
)
def test_requests(server: DicomWebServer, hounsfield: Hounsfield, arguments: tuple[str, ...], target: str) -> None:
    assert hounsfield("query", *arguments, "--from", server.url, "--json").code == 0
    path, _, query = server.requests[0][1].partition("?")
    assert path == target
    if "--fuzzy" in arguments:
        assert query == "PatientName=CT%26x&fuzzymatching=true&limit=5&offset=3"


def test_includes_are_asked_for_and_become_columns(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    run = hounsfield(
        "query", "series", "Modality=CT", "00100020=P1.2.3", "--include", "StudyDescription", "--from", server.url
    )
    assert run.out.splitlines()[0].split()[-2:] == ["00100020", "StudyDescription"]
    assert "includefield=SeriesDescription" in server.requests[0][1]
    assert "includefield=StudyDescription" in server.requests[0][1]


def test_include_all_stands_alone(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    hounsfield("query", "studies", "--include", "all", "--include", "PatientName", "--from", server.url)
    assert server.requests[0][1] == "/v2/studies?includefield=all"


@pytest.mark.parametrize("form", ["--table", "--json", "--csv"])
def test_no_match_is_no_error(server: DicomWebServer, hounsfield: Hounsfield, form: str) -> None:
    run = hounsfield("query", "studies", "PatientID=nobody", form, "--from", server.url)
    assert run.code == 0
    assert (run.out == "no match\n") is (form == "--table")


def test_full_page_hints_at_more(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    run = hounsfield("query", "studies", "--limit", 2, "--offset", 1, "--from", server.url)
    assert "--offset 3" in run.err


def test_refusal_is_the_server_s_sentence(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    run = hounsfield("query", "studies", "PatientID=<", "--from", server.url)
    assert run.code == 2
    assert "The query parameter 'Refused' is invalid." in run.err
    assert not CONTROL.search(run.err)


def test_answer_that_is_no_dicom_json(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    server.interfere = lambda handler: handler.answer(200, b"<html>Welcome", "text/html")
    run = hounsfield("query", "studies", "--from", server.url)
    assert run.code == 2
    assert "did not answer with DICOM JSON" in run.err


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("studies", "PatientNam=x"), "Did you mean PatientName?"),
        (("studies", "PatientName"), "KEY=VALUE"),
        (("studies", "PatientName="), "KEY=VALUE"),
        (("patients",), "studies"),
        (("studies", "--study", "1.2"), "StudyInstanceUID=UID"),
        (("instances", "--series", "1.2"), "--study"),
        (("series", "--study", "1/2"), "no UID"),
        (("studies", "--json", "--csv"), "Choose one"),
        (("studies", "--from", "localhost:8080"), "http://127.0.0.1:8080/v2"),
    ],
)
def test_usage_errors_say_what_to_do(hounsfield: Hounsfield, arguments: tuple[str, ...], advice: str) -> None:
    run = hounsfield("query", *arguments)
    assert run.code == 2
    assert advice in run.err


def test_count_prints_the_number(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    server.modern = True
    run = hounsfield("query", "studies", "--count", "--from", server.url)
    assert (run.code, run.out) == (0, "3\n")
    assert server.requests[-1][1] == "/v2/studies?limit=1&count=true"


def test_count_of_a_server_that_does_not(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    server.interfere = lambda handler: handler.answer(200, b"[]", "application/dicom+json")
    run = hounsfield("query", "studies", "--count", "--from", server.url)
    assert run.code == 2
    assert "does not count" in run.err


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("arguments", [("--all",), ("--limit", "202"), ("--all", "--offset", "1")])
def test_more_than_a_page(
    server: DicomWebServer, hounsfield: Hounsfield, modern: bool, arguments: tuple[str, ...]
) -> None:
    server.modern = modern
    for number in range(203):
        server.instances["1.2.9", "1.2.9.7", f"1.2.9.7.{number}"] = instance(number, study="1.2.9", series="1.2.9.7")
    run = hounsfield("query", "instances", "--study", "1.2.9", *arguments, "--csv", "--from", server.url)
    assert run.code == 0
    found = [row["SOPInstanceUID"] for row in csv.DictReader(io.StringIO(run.out))]
    first = 1 if "--offset" in arguments else 0
    expected = range(first, 202 if "--limit" in arguments else 203)
    assert found == [f"1.2.9.7.{number}" for number in expected]


def test_attributes_in_sequences_have_columns(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    item = {"00400009": {"vr": "SH", "Value": ["STEP"]}}
    answer = [{"00400275": {"vr": "SQ", "Value": [item, item]}}]
    server.interfere = lambda handler: handler.answer(200, json.dumps(answer).encode(), "application/dicom+json")
    path = "RequestAttributesSequence.ScheduledProcedureStepID"
    run = hounsfield("query", "series", f"{path}=STEP", "--csv", "--from", server.url)
    (row,) = csv.DictReader(io.StringIO(run.out))
    assert row[path] == "STEP\\STEP"
