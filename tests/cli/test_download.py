import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import CONTROL, Hounsfield, Start, peak_memory, wait_until
from tests.cli.dicom_files import instance
from tests.cli.dicomweb_server import DicomWebServer, Handler

DEFLATED = "1.2.840.10008.1.2.1.99"


def fill(server: DicomWebServer, series: int = 2, instances: int = 5, pixels: int = 20_000) -> None:
    for one in range(1, series + 1):
        for number in range(1, instances + 1):
            uid = f"1.2.3.{one}"
            server.instances[("1.2.3", uid, f"{uid}.{number}")] = instance(number, series=uid, pixels=pixels)


def files(folder: Path) -> dict[tuple[str, ...], bytes]:
    return {path.relative_to(folder).parts: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected(server: DicomWebServer) -> dict[tuple[str, ...], bytes]:
    return {(study, series, f"{sop}.dcm"): content for (study, series, sop), content in server.instances.items()}


def test_study_arrives_unchanged_in_one_answer(server: DicomWebServer, tmp_path: Path, start: Start) -> None:
    fill(server)
    server.instances[("1.2.3", "1.2.3.8", "1.2.3.8.1")] = instance(1, series="1.2.3.8", syntax=DEFLATED)
    server.page = 3
    run = start("download", "1.2.3", "--from", server.url, "--to", tmp_path / "new" / "out")
    out, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (0, "")
    assert not CONTROL.search(out)
    assert "complete:         all 11 instances" in out
    assert files(tmp_path / "new" / "out") == expected(server)
    assert server.counted("GET", "/v2/studies/1.2.3") - server.counted("GET", "/instances") == 1
    accept = next(headers["Accept"] for _, path, headers in server.requests if path == "/v2/studies/1.2.3")
    assert accept == 'multipart/related; type="application/dicom"; transfer-syntax=*'


def test_only_what_is_missing_is_loaded(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    fill(server, series=3)
    arguments = ("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    assert hounsfield(*arguments).code == 0
    for path in (tmp_path / "1.2.3" / "1.2.3.1").iterdir():
        path.unlink()
    (tmp_path / "1.2.3" / "1.2.3.2" / "1.2.3.2.4.dcm").write_bytes(b"")
    (tmp_path / "1.2.3" / "1.2.3.3" / "1.2.3.3.1.dcm").write_bytes(b"mine")
    server.requests.clear()
    run = hounsfield(*arguments)
    assert run.code == 0
    assert "there before:     9" in run.out
    assert {path for _, path, _ in server.requests if "limit" not in path} == {
        "/v2/studies/1.2.3/series/1.2.3.1",
        "/v2/studies/1.2.3/series/1.2.3.2/instances/1.2.3.2.4",
    }
    assert files(tmp_path)[("1.2.3", "1.2.3.3", "1.2.3.3.1.dcm")] == b"mine"
    assert hounsfield(*arguments, "--overwrite").code == 0
    assert files(tmp_path) == expected(server)


def test_series_and_instance(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    fill(server)
    arguments = ("download", "1.2.3", "--from", server.url, "--series", "1.2.3.2", "--to")
    assert hounsfield(*arguments, tmp_path / "a").code == 0
    assert len(files(tmp_path / "a")) == 5
    assert hounsfield(*arguments, tmp_path / "b", "--instance", "1.2.3.2.3").code == 0
    assert list(files(tmp_path / "b")) == [("1.2.3", "1.2.3.2", "1.2.3.2.3.dcm")]


def test_broken_answer_is_resumed(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    fill(server)
    broken: list[str] = []

    def break_twice(handler: Handler) -> bool:
        if "limit" in handler.path or len(broken) == 2:
            return False
        broken.append(handler.path)
        handler.send_multipart(list(server.instances.values()), cut_after=70_000)
        return True

    server.interfere = break_twice
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    assert run.code == 0
    assert files(tmp_path) == expected(server)
    assert broken == ["/v2/studies/1.2.3", "/v2/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.4"]


def test_answer_that_always_breaks_leaves_no_rubbish(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    fill(server, series=1, instances=1)

    def always_break(handler: Handler) -> bool:
        if "limit" in handler.path:
            return False
        handler.send_multipart(list(server.instances.values()), cut_after=10_000)
        return True

    server.interfere = always_break
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path, "--retries", 1)
    assert run.code == 1
    assert "missing:          1 of 1" in run.out
    assert "broke" in run.out
    assert files(tmp_path) == {}


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_download_goes_on(
    server: DicomWebServer, tmp_path: Path, kill: signal.Signals, hounsfield: Hounsfield, start: Start
) -> None:
    fill(server, series=1, instances=20)
    slow = True

    def trickle(handler: Handler) -> bool:
        if slow and "limit" not in handler.path:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/related; boundary=xyz\r\n\r\n")
            for content in server.instances.values():
                handler.wfile.write(b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n")
                time.sleep(0.05)
            handler.close_connection = True
            return True
        return False

    server.interfere = trickle
    run = start("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    wait_until(lambda: len(list(tmp_path.rglob("*.dcm"))) >= 3)
    run.send_signal(kill)
    out, _ = run.communicate(timeout=10)
    if kill == signal.SIGINT:
        assert run.returncode == 130
        assert "goes on where it stopped" in out
        assert not list(tmp_path.glob(".hounsfield-*"))
    found = files(tmp_path)
    there = sum(name[-1].endswith(".dcm") for name in found)
    assert all(expected(server)[name] == content for name, content in found.items() if name[-1].endswith(".dcm"))
    for left_over in tmp_path.glob(".hounsfield-*"):
        os.utime(left_over, (0, 0))
    slow = False
    again = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    assert again.code == 0
    assert f"there before:     {there}" in again.out
    assert files(tmp_path) == expected(server)


@pytest.mark.parametrize(
    "uids",
    [
        ("1.2.3", "../../escaped", "1.2.3.1.1"),
        ("1.2.3", "1.2.3.1", "/etc/passwd"),
        ("1.2.3", "..", "1"),
        ("../x", "1.2", "1.3"),
        ("9.9", "1.2", "1.3"),
    ],
)
@pytest.mark.parametrize("listed", [1, 2])
def test_hostile_or_foreign_instances_are_not_saved(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield, uids: tuple[str, str, str], listed: int
) -> None:
    evil = bytearray(instance(1))
    for old, new in zip(("1.2.3", "1.2.3.4", "1.2.3.4.1"), uids, strict=True):
        encoded = new.encode() + b"\0" * (len(new) % 2)
        before = old.encode() + b"\0" * (len(old) % 2)
        evil = evil.replace(
            b"UI" + len(before).to_bytes(2, "little") + before, b"UI" + len(encoded).to_bytes(2, "little") + encoded
        )
    fill(server, series=1, instances=listed)

    def send_evil(handler: Handler) -> bool:
        if "limit" not in handler.path:
            handler.send_multipart([bytes(evil)])
            return True
        return False

    server.interfere = send_evil
    (tmp_path / "deep" / "er").mkdir(parents=True)
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path / "deep" / "er")
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    if (
        uids[0] != "9.9" and listed == 1
    ):  # asked for by name, an instance whose header has no valid identifiers gets that name
        assert [path.relative_to(tmp_path / "deep" / "er").parts for path in kept] == [
            ("1.2.3", "1.2.3.1", "1.2.3.1.1.dcm")
        ]
    else:
        assert run.code == 1
        assert kept == []


def test_server_without_search_is_asked_for_everything(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    fill(server)
    server.interfere = lambda handler: "limit" in handler.path and handler.answer(405, b"")
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    assert run.code == 0
    assert "nobody can tell whether these are all" in run.out
    assert files(tmp_path) == expected(server)


def test_instance_that_does_not_come_is_missing(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    fill(server, series=1)

    def leave_one_out(handler: Handler) -> bool:
        if "limit" not in handler.path:
            handler.send_multipart(list(server.instances.values())[1:])
            return True
        return False

    server.interfere = leave_one_out
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    assert run.code == 1
    assert "missing:          1 of 5" in run.out
    assert "  1.2.3.1/1.2.3.1.1" in run.out


def test_single_part_answer_of_one_instance(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    fill(server, series=1, instances=1)
    (content,) = server.instances.values()
    server.interfere = lambda handler: handler.answer(200, content, "application/dicom; transfer-syntax=*")
    run = hounsfield(
        "download", "1.2.3", "--from", server.url, "--to", tmp_path, "--series", "1.2.3.1", "--instance", "1.2.3.1.1"
    )
    assert run.code == 0
    assert files(tmp_path) == expected(server)


@pytest.mark.parametrize(
    ("status", "content_type", "text"),
    [
        (401, "text/plain", "--token"),
        (200, "text/html", "did not answer with DICOM files (text/html)"),
        (200, "multipart/related", "no boundary"),
    ],
)
def test_refusals(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield, status: int, content_type: str, text: str
) -> None:
    fill(server, series=1, instances=2)
    server.interfere = lambda handler: "limit" not in handler.path and handler.answer(status, b"<html>", content_type)
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    assert run.code == 2
    assert text in run.err


@pytest.mark.parametrize(("status", "advice"), [(406, "--transfer-syntax '*'"), (500, "log")])
def test_what_is_refused_as_a_whole_is_asked_for_singly(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield, status: int, advice: str
) -> None:
    fill(server)

    def refuse(handler: Handler) -> bool:
        whole = "limit" not in handler.path and "/instances/" not in handler.path
        return (whole or handler.path.endswith("1.2.3.2.4")) and handler.answer(status, b"No.")

    server.interfere = refuse
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path, "--transfer-syntax", "1.2.3")
    assert run.code == 1
    assert "missing:          1 of 10" in run.out
    assert f"/instances/1.2.3.2.4 in transfer syntax 1.2.3 (HTTP {status}). No." in run.out
    assert advice in run.out
    assert len(files(tmp_path)) == 9


def test_server_that_refuses_everything_is_not_asked_for_ever(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    fill(server, instances=50)
    server.interfere = lambda handler: "limit" not in handler.path and handler.answer(500, b"")
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    assert run.code == 2
    assert "HTTP 500" in run.err
    assert len(server.requests) < 20


def test_unknown_study(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    run = hounsfield("download", "1.2.99", "--from", server.url, "--to", tmp_path)
    assert run.code == 1
    assert "The server has no such study" in run.out


def test_folder_that_cannot_be_written(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    fill(server)
    (tmp_path / "1.2.3").write_text("in the way")
    run = hounsfield("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    assert run.code == 2
    assert "Cannot write to" in run.err
    assert not list(tmp_path.glob(".hounsfield-*"))


@pytest.mark.parametrize(
    "arguments",
    [("1.2.x",), ("../1",), ("1.2", "--instance", "1.3"), ("1.2", "--transfer-syntax", "jpeg"), ("1.2", "--from", "x")],
)
def test_usage_errors(hounsfield: Hounsfield, arguments: tuple[str, ...]) -> None:
    assert hounsfield("download", *arguments).code == 2


def test_memory_stays_flat(server: DicomWebServer, tmp_path: Path, start: Start) -> None:
    head = instance(1, series="1.2.3.1")
    server.instances[("1.2.3", "1.2.3.1", "1.2.3.1.1")] = head
    zeros = bytes(1 << 20)

    def send_much(handler: Handler) -> bool:
        if "limit" in handler.path:
            return False
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/related; boundary=xyz\r\n\r\n--xyz\r\n\r\n" + head
        )
        for _ in range(300):
            handler.wfile.write(zeros)
        handler.wfile.write(b"\r\n--xyz--")
        handler.close_connection = True
        return True

    server.interfere = send_much
    run = start("download", "1.2.3", "--from", server.url, "--to", tmp_path)
    peak = peak_memory(run)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out
    assert (tmp_path / "1.2.3" / "1.2.3.1" / "1.2.3.1.1.dcm").stat().st_size == len(head) + (300 << 20)
    assert 10_000 < peak < 150_000, "kB"


def test_progress_is_plain_lines_without_a_terminal(server: DicomWebServer, tmp_path: Path, start: Start) -> None:
    fill(server)
    out, _ = start("download", "1.2.3", "--from", server.url, "--to", tmp_path).communicate(timeout=30)
    assert re.search(r"^received: .* files/s, .*B/s$", out, re.M)
