"""The container files name what there is: settings, options, files. (Whether they run needs a container engine.)"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from hounsfield.cli.serve import serve
from hounsfield.settings import TABLE
from tests.docs.pages import ROOT

DOCKER_FILE = (ROOT / "Dockerfile").read_text()
COMPOSE_FILES = sorted((ROOT / "docker").glob("*.yml"))
KEYS = {row.key.lower() for row in TABLE}


def serve_options() -> set[str]:
    """Every option of ``hounsfield serve``."""
    app = typer.Typer()
    app.command()(serve)
    parameters = typer.main.get_command(app).params
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}


def services(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
    return found


def test_there_are_both() -> None:
    assert [file.name for file in COMPOSE_FILES] == ["docker-compose.production.yml", "docker-compose.yml"]


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_settings_and_options_of_the_server(file: Path) -> None:
    server = services(file)["hounsfield"]
    for name in server["environment"]:
        assert name.replace("__", ":").lower() in KEYS, name
    assert set(server["command"]) <= serve_options()


def test_what_a_service_waits_for_is_there() -> None:
    together = {name: service for file in COMPOSE_FILES for name, service in services(file).items()}
    volumes = {name for file in COMPOSE_FILES for name in yaml.safe_load(file.read_text())["volumes"]}
    for service in together.values():
        assert set(service.get("depends_on", ())) <= set(together)
        assert {mount.partition(":")[0] for mount in service.get("volumes", ())} <= volumes


def test_no_password_is_in_a_file() -> None:
    for file in COMPOSE_FILES:
        for line in file.read_text().splitlines():
            if re.search(r"(password|secret).*:", line, re.IGNORECASE) and not line.startswith("#"):
                assert ":?" in line, line


def test_ports_are_for_this_machine_while_security_is_off() -> None:
    (base,) = [file for file in COMPOSE_FILES if file.name == "docker-compose.yml"]
    server = services(base)["hounsfield"]
    assert "--allow-insecure" in server["command"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])


def test_the_image_copies_what_exists_and_starts_what_exists() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    for line in DOCKER_FILE.splitlines():
        words = shlex.split(line) if line.startswith("COPY") and "--from" not in line else []
        for name in words[1:-1]:
            assert (ROOT / name).exists(), name
            assert name in allowed, name
    entry = json.loads(re.findall(r"^ENTRYPOINT (.+)$", DOCKER_FILE, re.MULTILINE)[0])
    assert entry[:2] == ["/opt/hounsfield/bin/hounsfield", "serve"]
    assert {word for word in entry if word.startswith("--")} <= serve_options()
    assert "USER hounsfield" in DOCKER_FILE
