"""Promise 4: whatever kills the worker, and whenever, FHIR ends as one clean pass would have left it."""

import asyncio
import random
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


def work_and_be_killed(url: str, target: str, seed: int, rng: random.Random, kills: int) -> None:
    """Start workers and kill each after a moment. They overlap: the next one starts before the last has died."""
    for _ in range(kills):
        command = [sys.executable, "-m", "tests.cast.crash_worker", url, target, str(seed)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            process.wait(0.4 + rng.random() * 0.5)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        process.stdout.close()


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


async def clean_pass(seed: int, target: EmbeddedTarget, cast: Cast) -> tuple[dict[str, Resource], Rows]:
    state = await cast(archive(seed), target)
    return normal(await content(target)), await filed(state)


async def finish(url: str, target_name: str, seed: int) -> None:
    """Let a last worker come to the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cast.crash_worker", url, target_name, str(seed), cwd=ROOT
    )
    database = open_database(url)
    state, latest = CastState(database), await archive(seed).latest()
    async with asyncio.timeout(60):
        while await state.position() < latest:
            await asyncio.sleep(0.1)
    process.kill()
    await process.wait()
    await database.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_kills_with_the_embedded_store(
    seed: int, target: EmbeddedTarget, cast: Cast, sqlite_template: Path, tmp_path: Path
) -> None:
    expected, rows = await clean_pass(seed, target, cast)
    path = tmp_path / "killed.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    await asyncio.to_thread(work_and_be_killed, url, "embedded", seed, random.Random(seed), 8)
    await finish(url, "embedded", seed)
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
    expected, rows = await clean_pass(seed, target, cast)
    path = tmp_path / "killed.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    await asyncio.to_thread(work_and_be_killed, url, fhir_peer.url, seed, random.Random(seed), 6)
    await finish(url, fhir_peer.url, seed)
    peer = HttpFhirTarget(fhir_peer.url)
    assert normal(await content(peer)) == expected
    await peer.close()
    database = open_database(url)
    assert await filed(CastState(database)) == rows
    await database.close()
