"""The command behind ``make run``: the whole server on this machine, with sample studies in it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hounsfield import settings as settings_table
from hounsfield.cli.serve import require_free_port
from hounsfield.cli.terminal import printable
from hounsfield.errors import HounsfieldError, SettingsError

START_SECONDS = 60
CAST_SECONDS = 60
POLL_SECONDS = 0.2

_FOR_SHOW = {"Logging:LogLevel:AuditEvent": "None", "DicomServer:Features:EnableOhifViewer": "true"}
"""Settings here, unless somebody has set them: the audit log stays out of the summary, the viewer is there."""


class DemoFailed(HounsfieldError):
    """The server did not start or did not do its work; the message says what to look at."""


def demo(
    samples: Annotated[Path, typer.Option(help="Folder of DICOM files to load.", exists=True)],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")] = 8080,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Where the data live; they stay.")] = Path("data"),
) -> None:
    """Run the server, load sample studies through STOW-RS, and say what to open next.

    Ctrl-C stops it; running it again continues with the same data.
    """
    try:
        # Here too, as another server on the port would answer the questions below, and get the samples.
        require_free_port("127.0.0.1", port)
    except SettingsError as error:
        raise DemoFailed(f"{error.message} With make: make run PORT=9000.") from error
    console = Console(highlight=False, soft_wrap=True)
    root = f"http://127.0.0.1:{port}"
    console.print(Text(f"Starting Hounsfield on {root}, data in {data_dir.resolve()} …"))
    program = [sys.executable, "-m", "hounsfield"]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*program, "serve", *address, "--data-dir", str(data_dir)], env=_environment())
    stopping = threading.Event()

    def stop(number: int, _frame: object) -> None:
        stopping.set()
        # Ctrl-C reaches the server too, as it is in the same process group.
        if number == signal.SIGTERM:
            server.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        with httpx.Client(base_url=root, timeout=30) as client:
            if not _wait_until_ready(client, server):
                raise typer.Exit(server.wait() or 2)
            # Not resumed: the data may have been deleted since an earlier run, and what is there is only counted.
            upload = [*program, "upload", str(samples), "--to", f"{root}/v2", "--restart"]
            if not _run_unless(stopping, upload) and not stopping.is_set():
                console.print("[yellow]Not every sample could be loaded; see above.[/yellow]")
            _wait_for_cast(client, server)
            if not stopping.is_set():
                _summary(console, client, root)
        raise typer.Exit(server.wait())
    except httpx.TransportError as error:
        if not stopping.is_set():
            raise DemoFailed("The server does not answer any more; look at its messages above.") from error
        raise typer.Exit(server.wait()) from error
    finally:
        if server.poll() is None:
            server.terminate()
            server.wait()
        if data_dir.exists():
            console.print(Text(f"Stopped. Your data stay in {data_dir.resolve()}"))


def _environment() -> dict[str, str]:
    """The server's environment.

    Raises DemoFailed where the server would ask for tokens, as there is nobody to get one from, or for partitions.
    """
    settings, _ = settings_table.load()
    if settings.flag("DicomServer:Security:Enabled"):
        raise DemoFailed(
            "DicomServer:Security:Enabled is set in the environment, and the samples are loaded without a token. "
            "Unset it, or start `hounsfield serve` and load files with `hounsfield upload --token`."
        )
    if settings.flag("DicomServer:Features:EnableDataPartitions"):
        raise DemoFailed(
            "DicomServer:Features:EnableDataPartitions is set in the environment, and the samples are for a server "
            "without. Unset it, or start `hounsfield serve` and load files with `hounsfield upload`."
        )
    ours = {
        key.replace(":", "__"): value
        for key, value in _FOR_SHOW.items()
        if settings.origin(key) == settings_table.DEFAULT
    }
    return {**os.environ, **ours}


def _run_unless(stopping: threading.Event, command: Sequence[str]) -> bool:
    """Whether the command ended well. Ctrl-C does not reach it, which would make it complain: it is ended quietly."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        while process.poll() is None and not stopping.wait(POLL_SECONDS):
            pass
    finally:
        process.terminate()
        process.wait()
    return process.returncode == 0


def _wait_until_ready(client: httpx.Client, server: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None:
        if time.monotonic() > deadline:
            raise DemoFailed(f"The server was not ready within {START_SECONDS} seconds; look at its messages above.")
        try:
            if client.get("/health/check").status_code == 200:
                return True
        except httpx.TransportError:
            pass
        time.sleep(POLL_SECONDS)
    return False


def _wait_for_cast(client: httpx.Client, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + CAST_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            status = client.get("/cast/status").json()
            latest = client.get("/v2/changefeed/latest", params={"includeMetadata": "false"})
        except httpx.TransportError:
            return
        if not status["enabled"]:
            return
        newest = latest.json()["sequence"] if latest.status_code == 200 else 0
        if (status.get("syncedSequence") or 0) >= newest:
            return
        time.sleep(POLL_SECONDS)


def _summary(console: Console, client: httpx.Client, root: str) -> None:
    counts: dict[str, int] = client.get("/statistics").json()
    studies: list[dict[str, Any]] = client.get("/v2/studies", params={"includefield": "ModalitiesInStudy"}).json()
    table = Table(title=f"{counts['studies']} studies, {counts['instances']} instances", title_justify="left")
    for heading in ("Patient", "Date", "Modalities", "Study Instance UID"):
        table.add_column(heading, overflow="fold")
    for study in studies[:10]:
        # As they are: brackets in a name are no markup.
        table.add_row(*(Text(_value(study, tag)) for tag in ("00100010", "00080020", "00080061", "0020000D")))
    console.print(table)
    uid = _value(studies[0], "0020000D") if studies else ""
    imaging_study = f"{root}/fhir/ImagingStudy?identifier=urn:dicom:uid%7Curn:oid:{uid}"
    viewer = client.get("/viewer/")
    if viewer.status_code == 200:
        console.print(f"Viewer          {root}/viewer/")
        console.print(f"  one study     {root}/viewer/{uid}")
    elif viewer.text:  # switched on, but without its files
        console.print("Viewer          not here; this fetches it: .venv/bin/hounsfield viewer install")
    console.print(f"Study list      {root}/v2/studies")
    console.print(f"FHIR            {root}/fhir/Patient   {root}/fhir/ImagingStudy")
    console.print(f"One study       {imaging_study}")
    console.print(f"Cast            {root}/cast/status")
    console.print(f"Health, API     {root}/health/check   {root}/v2/api.yaml")
    console.print()
    console.print("Try next, in another terminal:")
    console.print(f"  .venv/bin/hounsfield upload YOUR_FILES --to {root}/v2")
    console.print(f"  .venv/bin/hounsfield query studies PatientName=jane --fuzzy --from {root}/v2")
    console.print(f"  curl '{root}/fhir/ImagingStudy?_include=ImagingStudy:patient&_count=2'")
    console.print()
    console.print("Ctrl-C stops the server.")


def _value(dataset: dict[str, Any], tag: str) -> str:
    values = dataset.get(tag, {}).get("Value", [])
    texts = (str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value) for value in values)
    return printable(", ".join(texts))
