"""Promise 4: whatever kills the worker, and whenever, FHIR ends as one clean pass would have left it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from hounsfield.cast.failure import Table
from hounsfield.cast.state import CastState
from hounsfield.database.connect import open_database
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirTarget, Resource
from tests.cast.conftest import Cast
from tests.cast.crash_worker import BASE, archive
from tests.cast.fhir_content import content
from tests.peers.fhir_server import FhirServer

ROOT = Path(__file__).parents[2]
Rows = set[tuple[Table, int, str, str]]


async def work_and_be_killed(url: str, target: str, seed: int, length: int, seconds: float) -> int:
    """How many workers it took; see crash_worker."""
    arguments = [url, target, str(seed), str(length), str(seconds)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cast.crash_worker", *arguments, cwd=ROOT, stdout=subprocess.PIPE
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return int(output)


async def filed(state: CastState) -> Rows:
    """The rows of everything but retries, each once."""
    found: list[tuple[Table, int, str, str]] = []
    for table in Table:
        if table is not Table.TRANSIENT_RETRY:
            rows, _ = await state.errors(table, 1000, None)
            found += [(table, row.sequence, row.partition_key, row.exception) for row in rows]
    assert len(found) == len(set(found))
    return set(found)


def normal(found: dict[str, Resource]) -> dict[str, Resource]:
    return {name: found[name] for name in sorted(found)}


async def clean_pass(seed: int, length: int, target: EmbeddedTarget, cast: Cast) -> tuple[dict[str, Resource], Rows]:
    state = await cast(archive(seed, length), target)
    return normal(await content(target)), await filed(state)


@pytest.mark.parametrize("seed", [1, 2, 4])
async def test_kills_with_the_embedded_store(
    seed: int, target: EmbeddedTarget, cast: Cast, sqlite_template: Path, tmp_path: Path
) -> None:
    expected, rows = await clean_pass(seed, 300, target, cast)
    path = tmp_path / "killed.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    assert await work_and_be_killed(url, "embedded", seed, 300, 0.12) > 5
    database = open_database(url)
    killed: FhirTarget = EmbeddedTarget(FhirStore(database, BASE), BASE)
    assert normal(await content(killed)) == expected
    assert await filed(CastState(database)) == rows
    await database.close()


@pytest.mark.peer
async def test_kills_with_another_fhir_server(
    target: EmbeddedTarget, cast: Cast, sqlite_template: Path, tmp_path: Path, fhir_peer: FhirServer
) -> None:
    seed = 3
    expected, rows = await clean_pass(seed, 80, target, cast)
    path = tmp_path / "killed.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    assert await work_and_be_killed(url, fhir_peer.url, seed, 80, 0.5) > 5
    peer = HttpFhirTarget(fhir_peer.url)
    assert normal(await content(peer)) == expected
    await peer.close()
    database = open_database(url)
    assert await filed(CastState(database)) == rows
    await database.close()
