"""Whatever files come, what cast writes of them is valid: every sample, in both versions, before independent judges."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hounsfield.cast.failure import Table
from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.source import FileSource, UnreadableInstance
from hounsfield.fhir.versions import speaking
from tests.cast.conftest import Cast
from tests.cast.dose_report import event, num, report
from tests.cast.memory_archive import MemoryArchive, dicom_json
from tests.cast.memory_fhir import MemoryFhir, check
from tests.dicom.samples import HERE, LARGE
from tests.peers.fhir_server import FhirServer

SHIPPED = Path(__file__).parents[2] / "samples"
REQUIRED = dicom_json(PatientID="P1", Modality="OT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
UIDS = ("0020000D", "0020000E", "00080018")


def _files() -> Iterator[Path]:
    for folder in (SHIPPED, HERE, LARGE):
        yield from sorted(folder.rglob("*.dcm"))


@cache
def _datasets() -> list[dict[str, Any]]:
    """DICOM JSON of every sample that can be read, of a copy made once a series: slices of one series are alike."""
    found: dict[str, dict[str, Any]] = {}
    for path in _files():
        try:
            with FileSource(path) as source:
                instance = read_instance(source)
        except UnreadableInstance:
            continue
        dataset = msgspec.json.decode(metadata_json(instance.dataset))
        found.setdefault(instance.first("0020000E") or str(path), REQUIRED | _with_values(dataset))
    return [*found.values(), report(event(num("113838", 3)), num("113813", 5))]


def _with_values(dataset: dict[str, Any]) -> dict[str, Any]:
    """Without empty attributes, in whose place those in REQUIRED come."""
    return {tag: element for tag, element in dataset.items() if tag not in REQUIRED or "Value" in element}


@pytest.fixture
def archive() -> MemoryArchive:
    """Every sample, each in a study of its own so that none hides behind another."""
    archive = MemoryArchive()
    for number, dataset in enumerate(_datasets()):
        uids = [f"1.{number}{'.1' * place}" for place in range(3)]
        archive.store((uids[0], uids[1], uids[2]), dataset)
    return archive


async def cast_all(cast: Cast, archive: MemoryArchive, target: Any, **changes: Any) -> None:
    """Cast everything; the only failures allowed are those of the input."""
    state = await cast(archive, target, **changes)
    for table in (Table.FHIR_FAIL, Table.TRANSIENT_FAILURE):
        refused, _ = await state.errors(table, 10, None)
        assert [(one.sequence, one.exception) for one in refused] == []


@pytest.mark.parametrize("extended", [False, True], ids=["reference", "extended"])
@pytest.mark.parametrize("version", ["R4", "R5"])
async def test_every_sample_becomes_valid_fhir(
    archive: MemoryArchive, cast: Cast, version: str, extended: bool
) -> None:
    server = MemoryFhir(version)
    await cast_all(cast, archive, speaking(server, version), extended_mapping=extended)
    assert len(server.all("ImagingStudy")) > 8
    assert {one["resourceType"] for one in server.resources.values()} >= {
        *("Patient", "Endpoint", "ImagingStudy", "Observation"),
        *(("Device", "DiagnosticReport") if extended else ()),
    }


@pytest.mark.peer
@pytest.mark.parametrize("extended", [False, True], ids=["reference", "extended"])
async def test_an_independent_validator_finds_nothing(
    archive: MemoryArchive, cast: Cast, fhir_peer: FhirServer, extended: bool
) -> None:
    """Medplum's, with the structure definitions of R4; of what is created and of what is updated."""
    server = MemoryFhir()
    await cast_all(cast, archive, server, extended_mapping=extended)
    for entry in archive.entries():
        changed = dict(entry.metadata or {}) | dicom_json(PatientID="P2", StudyDescription="Corrected")
        archive.update((entry.study_uid, entry.series_uid, entry.sop_uid), changed)
    await cast_all(cast, archive, server, extended_mapping=extended)
    assert len(server.written) > 2 * len(server.all("ImagingStudy"))
    assert fhir_peer.problems(server.written) == []
    assert len(fhir_peer.problems([{"resourceType": "Device", "status": "broken"}, {"resourceType": "Endpoint"}])) == 2


@pytest.mark.parametrize(
    ("version", "resource"),
    [
        ("R4", {"resourceType": "ImagingStudy", "status": "available", "subject": {}}),
        ("R4", {"resourceType": "Device", "name": [{"value": "x"}]}),
        ("R5", {"resourceType": "ImagingStudy", "status": "available", "subject": {"display": "x"}, "modality": []}),
        ("R5", {"resourceType": "Device", "deviceName": [{"name": "x", "type": "other"}]}),
    ],
)
def test_the_judges_refuse(version: str, resource: dict[str, Any]) -> None:
    with pytest.raises((ValueError, AssertionError)):
        check(resource, version)
