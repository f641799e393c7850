import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hounsfield.cli import operation_progress
from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.exports import files, identifier
from tests.acceptance.test_lifecycle import running
from tests.cli.conftest import Hounsfield
from tests.cli.dicomweb_server import DicomWebServer, Handler
from tests.server import Server

ID = "4853cda8c05c44e497d2bc071f8e92c4"

Sent = list[dict[str, Any]]


def record(status: str = "succeeded", skipped: int = 0) -> dict[str, Any]:
    results = {"exported": 2, "skipped": skipped, "errorHref": "file:///somewhere/errors.log"}
    return {"operationId": ID, "type": "export", "status": status, "results": results}


@pytest.fixture(autouse=True)
def sent(server: DicomWebServer, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The bodies of exports."""
    monkeypatch.setattr(operation_progress, "LOOK_SECONDS", 0.05)
    for name in (
        "HOUNSFIELD_EXPORT_TO",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    server.documents = {f"/operations/{ID}": (200, record())}
    found: Sent = []

    def take(handler: Handler) -> bool:
        if handler.path != "/export":
            return False
        found.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
        return handler.answer(202, json.dumps({"id": ID}).encode(), "application/json")

    server.interfere = take
    return found


def test_what_is_sent_and_said(server: DicomWebServer, hounsfield: Hounsfield, sent: Sent, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("1.4\n\n 1.5/6 \n")
    run = hounsfield(
        "export", "1.2", "1.3/4", "--list", tmp_path / "list", "--to", "/mnt/exports", "--at", server.root,
        "--format", "zip", "--deidentify", "--retain-uids",
    )  # fmt: skip
    assert run.code == 0, run.err
    assert [line.split() for line in run.out.splitlines()[-5:]] == [
        ["operation", ID],
        ["status", "succeeded"],
        ["exported", "2"],
        ["skipped", "0"],
        ["errorHref", "file:///somewhere/errors.log"],
    ]
    assert sent == [
        {
            "source": {"type": "identifiers", "settings": {"values": ["1.2", "1.3/4", "1.4", "1.5/6"]}},
            "destination": {"type": "folder", "settings": {"path": "/mnt/exports"}},
            "format": "zip",
            "deidentify": {"retainUids": True},
        }
    ]


def test_addresses_of_destinations(
    server: DicomWebServer, hounsfield: Hounsfield, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = "https://name.blob.core.windows.net/exports?sv=1&sig=2"
    monkeypatch.setenv("HOUNSFIELD_EXPORT_TO", container)
    assert hounsfield("export", "1.2", "--at", server.root, "--no-wait") == (0, f"Operation {ID}.\n", "")
    assert hounsfield("export", "1.2", "--at", server.root, "--no-wait", "--managed-identity").code == 0
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word")
    at = ("--to", "s3://research/ct/new", "--endpoint", "http://localhost:9000")
    assert json.loads(hounsfield("export", "1.2", "--at", server.root, "--no-wait", "--json", *at).out) == {"id": ID}
    bucket = {"bucket": "research", "prefix": "ct/new", "endpoint": "http://localhost:9000"}
    assert [each["destination"] for each in sent] == [
        {"type": "azureBlob", "settings": {"blobContainerUri": container}},
        {"type": "azureBlob", "settings": {"blobContainerUri": container, "useManagedIdentity": True}},
        {"type": "s3", "settings": {**bucket, "accessKeyId": "key", "secretAccessKey": "word"}},
    ]


@pytest.mark.parametrize("ended", [record(skipped=1), record("failed"), record("canceled")])
def test_an_end_that_is_not_all(server: DicomWebServer, hounsfield: Hounsfield, ended: dict[str, Any]) -> None:
    server.documents[f"/operations/{ID}"] = (200, ended)
    run = hounsfield("export", "1.2", "--to", "/mnt", "--at", server.root, "--json")
    assert (run.code, json.loads(run.out)) == (1, ended)


def test_what_is_refused(server: DicomWebServer, hounsfield: Hounsfield, sent: Sent, tmp_path: Path) -> None:
    at = ("--at", server.root)
    for arguments, words in (
        (("1.2", *at), "Where to?"),
        (("--to", "/mnt", *at), "Which study"),
        (("--list", tmp_path / "none", "--to", "/mnt", *at), "The list cannot be read: FileNotFoundError."),
    ):
        run = hounsfield("export", *arguments)
        assert run.code == 2 and words in run.err
    assert sent == []


def test_help(hounsfield: Hounsfield) -> None:
    run = hounsfield("export", "--help")
    assert run.code == 0
    for text in ("Have a server copy files to somewhere else.", "--to", "--deidentify", "Exit code", "--no-wait"):
        assert text in run.out


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server, and the folder exports may go to."""
    allowed = tmp_path_factory.mktemp("allowed")
    environment = {"Export__Sinks__Folder__AllowedDirectories__0": str(allowed)}
    with running(tmp_path_factory.mktemp("archive") / "data", *QUIET, environment=environment) as server:
        yield server, allowed


@pytest.mark.acceptance
def test_against_a_server(archive: tuple[Server, Path], tmp_path: Path) -> None:
    server, allowed = archive
    ds = factories.dataset()
    with server.client() as client:
        dicomweb.store(client, ds, other := factories.dataset())

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [
            sys.executable,
            "-m",
            "hounsfield",
            "export",
            *arguments,
            "--at",
            f"http://127.0.0.1:{server.port}/v2",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = run(identifier(ds, 1), identifier(other), "--to", str(allowed), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["status"], last["results"]["exported"]) == ("succeeded", 2)
    assert files(allowed / last["operationId"]) == {
        "errors.log": b"",
        **{f"results/{identifier(one)}.dcm": factories.part10(one) for one in (ds, other)},
    }
    # One that is not there is skipped, which somebody who asked for it has to know.
    done = run(identifier(ds), "9.9.9", "--to", str(allowed))
    assert done.returncode == 1
    assert ["skipped", "1"] in [line.split() for line in done.stdout.splitlines()]
    done = run(identifier(ds), "--to", str(tmp_path))
    assert done.returncode == 2
    assert "Export:Sinks:Folder:AllowedDirectories" in done.stderr and "Traceback" not in done.stderr
