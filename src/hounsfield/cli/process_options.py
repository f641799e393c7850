"""What the command line decides, handed to every process of a server. Light: the supervisor imports nothing heavier."""

import os
from pathlib import Path

import msgspec

from hounsfield import settings as settings_table
from hounsfield.settings import Settings

ENVIRONMENT = "HOUNSFIELD_PROCESS"
"""Carries :class:`ProcessOptions` to child processes."""


class ProcessOptions(msgspec.Struct, frozen=True):
    """What the command line decides, for every process of a server."""

    data_dir: str
    host: str
    port: int
    fhir: bool
    worker: bool
    cast: bool
    settings: str
    """As Settings.to_environment prints them."""
    roles: str
    """Text of the roles file: every process has the roles the server was started with."""
    supervisor: int
    """Process id of the one that starts all others."""

    @property
    def effective(self) -> Settings:
        """The settings."""
        return settings_table.from_environment(self.settings)

    @property
    def own_root(self) -> str:
        """Root URL of this server as its own machine reaches it."""
        host = self.host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def publish(options: ProcessOptions) -> None:
    """Leave ``options`` for the processes started from here."""
    os.environ[ENVIRONMENT] = msgspec.json.encode(options).decode()


def published() -> ProcessOptions:
    """The options of this process."""
    return msgspec.json.decode(os.environ[ENVIRONMENT], type=ProcessOptions)


def database_url(settings: Settings, data_dir: Path) -> str:
    """``Database:Url``, or SQLite in the data directory."""
    return settings.text("Database:Url") or f"sqlite:///{data_dir.resolve() / 'index.db'}"


def audiences(settings: Settings) -> list[str]:
    """Audiences a token may be for: ``Audiences`` where there are some, else the single ``Audience``."""
    section = "DicomServer:Security:Authentication"
    single = settings.text(f"{section}:Audience")
    return settings.strings(f"{section}:Audiences") or ([single] if single else [])
