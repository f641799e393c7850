"""Workitems in XML through HTTP: the Native DICOM Model beside DICOM JSON (worklist.md, PS3.18 §8.7.3)."""

import re
from typing import Any

import httpx
import pytest

from hounsfield.dicom.native_model import from_xml, to_xml
from tests.acceptance.test_workitems import DICOM_JSON, NOT_FOUND, created, found, retrieved, send
from tests.dicom.native_model import DATASET
from tests.worklist import make
from tests.worklist.make import element, new_uid, to_state

pytestmark = pytest.mark.acceptance

DICOM_XML = "application/dicom+xml"
XML = {"content-type": DICOM_XML, "accept": DICOM_XML}
PARTS = f'multipart/related; type="{DICOM_XML}"'


def parts(answer: httpx.Response) -> list[dict[str, Any]]:
    """The datasets of a multipart answer."""
    kind = answer.headers["content-type"]
    boundary = re.fullmatch(rf'multipart/related; type="{re.escape(DICOM_XML)}"; boundary=(\w+)', kind)
    assert boundary
    opening = f"--{boundary[1]}\r\nContent-Type: {DICOM_XML}\r\n".encode()
    empty, *pieces = answer.content.removesuffix(f"--{boundary[1]}--\r\n".encode()).split(opening)
    assert empty == b""
    bodies = [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces]
    assert [int(piece.partition(b"\r\n")[0].split(b": ")[1]) for piece in pieces] == [len(body) for body in bodies]
    return [from_xml(body) for body in bodies]


def test_the_whole_way_of_a_workitem_in_xml(client: httpx.Client) -> None:
    uid, lock, patient = new_uid(), new_uid(), new_uid()[-20:]
    sent = make.workitem(t00100020=element("LO", patient), t00100010=DATASET["00100010"])
    answer = send(client, "POST", f"?{uid}", to_xml(sent), XML)
    assert (answer.status_code, answer.content) == (201, b"")
    answer = send(client, "GET", uid, headers={"accept": DICOM_XML})
    assert answer.headers["content-type"] == DICOM_XML
    assert from_xml(answer.content) == retrieved(client, uid)
    assert retrieved(client, uid)["00100010"] == DATASET["00100010"]
    (one,) = parts(send(client, "GET", uid, headers={"accept": PARTS}))
    assert one == retrieved(client, uid)
    assert send(client, "PUT", f"{uid}/state", to_xml(to_state("IN PROGRESS", lock)), XML).status_code == 200
    changes = {key: one for key, one in DATASET.items() if key not in ("00100010", "0040A370")}  # not to be changed so
    answer = send(client, "POST", f"{uid}?{lock}", to_xml(changes), XML)
    assert answer.status_code == 200, answer.text
    assert {key: retrieved(client, uid)[key] for key in changes} == changes
    assert send(client, "POST", f"{uid}?{lock}", to_xml(make.performed()), XML).status_code == 200
    answer = send(client, "PUT", f"{uid}/state", to_xml(to_state("COMPLETED", lock)), XML)
    assert (answer.status_code, answer.content) == (200, b"")
    for accept in (DICOM_XML, PARTS):
        answer = send(client, "GET", f"?PatientID={patient}&includefield=all", headers={"accept": accept})
        assert parts(answer) == [retrieved(client, uid)]
    assert "00081195" not in from_xml(send(client, "GET", uid, headers={"accept": DICOM_XML}).content)


def test_a_search_has_a_part_for_each_workitem(client: httpx.Client) -> None:
    patient = new_uid()[-20:]
    uids = [created(client, t00100020=element("LO", patient)) for _ in range(3)]
    answer = send(client, "GET", f"?PatientID={patient}", headers={"accept": PARTS, "accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    got = parts(answer)
    assert [one["00080018"]["Value"][0] for one in got] == uids[::-1] == found(client, f"PatientID={patient}")
    assert "00741216" not in got[0]  # only what an answer shows
    answer = send(client, "GET", "?PatientID=nobody-has-it", headers={"accept": PARTS})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_request_to_cancel_in_xml(client: httpx.Client) -> None:
    uid = created(client)
    reason = to_xml({"00741238": element("LT", "No contrast <agent> left")})
    answer = send(client, "POST", f"{uid}/cancelrequest", reason, XML)
    assert (answer.status_code, answer.text) == (202, "The workitem instance has been cancelled.")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "No contrast <agent> left" in str(retrieved(client, uid)["00741002"]["Value"])


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (f"{DICOM_XML}, {DICOM_JSON}", DICOM_JSON),
        (f"{DICOM_XML}, */*;q=0.5", DICOM_XML),
        (f"{DICOM_XML};q=0.5, application/*", DICOM_JSON),
        (f"{PARTS};q=0.8, {DICOM_JSON};q=0.7", "multipart/related"),
        ("*/*", DICOM_JSON),
        (f"text/html, {DICOM_XML};q=0.1", DICOM_XML),
    ],
)
def test_dicom_json_unless_xml_is_preferred(client: httpx.Client, accept: str, content_type: str) -> None:
    answer = send(client, "GET", created(client), headers={"accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == content_type


def test_what_is_neither_is_refused_as_before(client: httpx.Client) -> None:
    uid = created(client)
    for path in ("", uid):
        for accept in ("application/xml", "text/xml", f"{DICOM_XML};q=0", 'multipart/related; type="application/xml"'):
            answer = send(client, "GET", path, headers={"accept": accept})
            assert (answer.status_code, answer.content) == (406, b""), accept
    for content_type in ("application/xml", "text/xml", PARTS, f"{DICOM_XML}+zip"):
        answer = send(client, "POST", f"?{new_uid()}", to_xml(make.workitem()), {**XML, "content-type": content_type})
        assert answer.status_code == 415, content_type


BOMB = b'<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><NativeDicomModel>&b;</NativeDicomModel>'
FILE = b'<!DOCTYPE b [<!ENTITY b SYSTEM "file:///etc/passwd">]><NativeDicomModel>&b;</NativeDicomModel>'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not well-formed XML"),
        (b"[{}]", "not well-formed XML"),
        (BOMB, "must not have a document type"),
        (FILE, "must not have a document type"),
        (to_xml(make.workitem())[:-30], "not well-formed XML"),
        (b"<NativeDicomModel/>" + b" " * 80_000 + b"<", "not well-formed XML"),
        (b'<NativeDicomModel><DicomAttribute tag="00741204" vr="ZZ"/></NativeDicomModel>', "'(0074,1204)' has no VR"),
        (to_xml(make.workitem(t00741200=element("CS"))), "The value for tag '(0074,1200)' is missing."),
    ],
)
def test_a_bad_document_is_refused_and_changes_nothing(client: httpx.Client, body: bytes, reason: str) -> None:
    uid, there = new_uid(), created(client)
    before = retrieved(client, there)
    for path in (f"?{uid}", there):
        if path == there and "1200" in reason:
            body = to_xml({"00741200": element("CS")})
            reason = "The attribute with tag '(0074,1200)' must not be empty."
        answer = send(client, "POST", path, body, XML)
        assert answer.status_code == 400
        assert reason in answer.text
        assert answer.headers["content-type"].startswith("text/plain")
    answer = send(client, "GET", uid, headers={"accept": DICOM_XML})
    assert (answer.status_code, answer.text) == (404, NOT_FOUND)
    assert retrieved(client, there) == before
