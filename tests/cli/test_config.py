"""``hounsfield config show``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hounsfield.cli.config import masked
from hounsfield.settings import TABLE


def show(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hounsfield", "config", "show", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def rows(text: str) -> dict[str, list[str]]:
    """Value and origin by key."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:]}


def test_every_setting_is_there() -> None:
    done = show()
    assert done.returncode == 0, done.stderr
    assert list(rows(done.stdout)) == [row.key for row in TABLE]


def test_origins_and_secrets(tmp_path: Path) -> None:
    file = tmp_path / "appsettings.json"
    content = {"DicomServer": {"Swagger": {"Title": "file"}, "Cors": {"Origins": ["a", "b"]}, "Nothing": 1}}
    file.write_text(json.dumps({**content, "AllowedHosts": "x;y"}))
    done = show(
        "--config",
        str(file),
        "--changed",
        DICOMSERVER__SECURITY__ENABLED="TRUE",
        Database__Url="postgresql://u:geheim@h/x",
        allowedhosts="z",
    )
    assert done.returncode == 0
    assert rows(done.stdout) == {
        "Database:Url": ["postgresql://u:***@h/x", "environment"],
        "DicomServer:Security:Enabled": ["true", "environment"],
        "DicomServer:Swagger:Title": ["file", "file"],
        "DicomServer:Cors:Origins": ["a,", "b", "file"],
        "AllowedHosts": ["z", "environment"],
    }
    assert "geheim" not in done.stdout + done.stderr
    assert done.stderr == "hounsfield: Unknown setting dicomserver:nothing.\n"


def test_the_command_line_goes_before_everything(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"AllowedHosts": "file", "Fhir": {"Endpoint": "file"}, "SqlServer": {"Retry": 1}}))
    (tmp_path / "settings.Staging.json").write_text(json.dumps({"Fhir": {"Endpoint": "second"}}))
    done = show(
        *("--config", str(file), "--changed", "--set", "AllowedHosts=set", "/Patient:PatientSystemId=urn:x"),
        *("--DicomCast:Enabled", "false", "--BlobStore:ConnectionString=geheim", "--SQLSERVER:Retry:Mode", "x"),
        *("--Logging:LogLevel:Microsoft", "Debug", "--ASPNETCORE_ENVIRONMENT", "Staging"),
        AllowedHosts="environment",
        DicomCast__Enabled="true",
    )
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout) == {
        "BlobStore:ConnectionString": ["(set,", "not", "shown)", "command", "line"],
        "AllowedHosts": ["set", "command", "line"],
        "ASPNETCORE_ENVIRONMENT": ["Staging", "command", "line"],
        "Fhir:Endpoint": ["second", "environment's", "file"],
        "DicomCast:Enabled": ["false", "command", "line"],
        "Patient:PatientSystemId": ["urn:x", "command", "line"],
        "logging:loglevel:microsoft": ["Debug", "command", "line"],
        "sqlserver:retry:mode": ["(no", "effect:", "the", "index", "is", "another", "database)", "command", "line"],
    }


def test_what_the_command_line_cannot_mean() -> None:
    for arguments, said in (
        (("--set", "AllowedHosts"), "KEY=VALUE"),
        (("--DicomCast:Enabled",), "wants a value"),
        (("--DicomCast:Enabled=perhaps",), "DicomCast:Enabled must be true or false"),
        (("--Nothing", "1"), "No such option"),
        (("/data/x=1",), "unexpected extra argument"),
    ):
        done = show(*arguments)
        assert done.returncode == 2
        assert said in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:geheim@host:5432/name", "postgresql://user:***@host:5432/name"),
        ("postgresql://user:ge/he?im#@host/name", "postgresql://user:***@host/name"),
        ("postgresql://user:geheim @host/name", "postgresql://user:***@host/name"),
        ("https://geheim@host/fhir", "https://***@host/fhir"),
        ("https://host/container?sv=1&sig=geheim", "https://host/container?sv=***&sig=***"),
        ("https://host/container?geheim", "https://host/container?***"),
        ("postgresql://host/name?password=geheim", "postgresql://host/name?password=***"),
        ("http://127.0.0.1:8080/fhir", "http://127.0.0.1:8080/fhir"),
        ("no address at all?a=b", "no address at all?a=b"),
    ],
)
def test_secrets_in_addresses(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_a_database_in_another_form_is_not_shown() -> None:
    done = show("--changed", Database__Url="Host=h;Password=geheim")
    assert "geheim" not in done.stdout
    assert rows(done.stdout)["Database:Url"] == ["(set,", "not", "shown)", "environment"]


def test_a_value_that_does_not_fit() -> None:
    done = show(DicomServer__Security__Enabled="perhaps")
    assert done.returncode == 2
    assert "DicomServer:Security:Enabled" in done.stderr
