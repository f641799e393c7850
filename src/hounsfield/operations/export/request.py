"""What an export is asked to do, as it is kept while it runs. What is secret is kept apart, encrypted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from hounsfield.index.instances import InstancePath

KIND = "export"


class Format(StrEnum):
    """What is written for an identifier."""

    FILES = "files"
    """Each instance as a file."""
    ZIP = "zip"
    """One zip file with all of its instances."""
    NIFTI = "nifti"
    """Its series as NIfTI volumes."""


@dataclass(frozen=True, slots=True)
class Deidentification:
    """PS3.15 Annex E: the Basic Application Level Confidentiality Profile, with the options named here."""

    retain_uids: bool = False
    """Retain UIDs Option: otherwise each becomes another, the same one throughout an export."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A valid request. ``destination`` is what may be read by everybody, ``secret`` the rest of it."""

    identifiers: Sequence[str]
    """``study[/series[/instance]]``, without padding."""
    partition_key: int
    destination: Mapping[str, Any]
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    format: Format = Format.FILES
    deidentification: Deidentification | None = None

    def arguments(self) -> dict[str, Any]:
        """What the operation's row has: no secrets."""
        return {
            "identifiers": list(self.identifiers),
            "partition": self.partition_key,
            "destination": dict(self.destination),
            "format": self.format.value,
            "deidentification": None if self.deidentification is None else msgspec.to_builtins(self.deidentification),
        }


def from_arguments(arguments: Mapping[str, Any]) -> ExportRequest:
    """The request without its secret."""
    asked = arguments["deidentification"]
    return ExportRequest(
        identifiers=arguments["identifiers"],
        partition_key=arguments["partition"],
        destination=arguments["destination"],
        format=Format(arguments["format"]),
        deidentification=None if asked is None else Deidentification(**asked),
    )


def path_of(partition_key: int, identifier: str) -> InstancePath:
    """The study, series or instance an identifier names."""
    return InstancePath(partition_key, *identifier.split("/"))
