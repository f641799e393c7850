"""``hounsfield config show``."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
        "Database:Url": ["(set,", "not", "shown)", "environment"],
        "DicomServer:Security:Enabled": ["true", "environment"],
        "DicomServer:Swagger:Title": ["file", "file"],
        "DicomServer:Cors:Origins": ["a,", "b", "file"],
        "AllowedHosts": ["z", "environment"],
    }
    assert "geheim" not in done.stdout + done.stderr
    assert done.stderr == "hounsfield: Unknown setting dicomserver:nothing.\n"


def test_a_value_that_does_not_fit() -> None:
    done = show(DicomServer__Security__Enabled="perhaps")
    assert done.returncode == 2
    assert "DicomServer:Security:Enabled" in done.stderr
