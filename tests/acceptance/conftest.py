"""The server most acceptance tests share. Each test uses UIDs of its own, so none sees the data of another."""

from collections.abc import Iterator

import httpx
import pytest
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.server import Server

QUIET = ("--no-cast", "--no-fhir")
"""Arguments of a server whose FHIR side does not matter to the test."""


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server; it must stop cleanly and have logged no surprise."""
    server = Server(tmp_path_factory.mktemp("server") / "data", QUIET)
    try:
        server.start()
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()


@pytest.fixture(scope="package")
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of :func:`server`."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="package")
def tree(client: httpx.Client) -> list[Dataset]:
    """Two series of two instances each in one study, oldest first."""
    first = factories.dataset(
        PatientID=dicomweb.patient(),
        PerformedProcedureStepStartDate="20240203",
        ManufacturerModelName="Scan-O-Mat",
        SeriesDescription="first series",
    )
    same = {name: first.get(name) for name in ("PatientID", "PerformedProcedureStepStartDate", "ManufacturerModelName")}
    second = dicomweb.sibling(first, InstanceNumber=2, SeriesDescription="first series", **same)
    third = dicomweb.sibling(first, same_series=False, Modality="SR", **same)
    fourth = dicomweb.sibling(third, Modality="SR", InstanceNumber=2, **same)
    # Apart, as the new series of one request are made in order of their UIDs.
    dicomweb.store(client, first, second)
    dicomweb.store(client, third, fourth)
    return [first, second, third, fourth]
