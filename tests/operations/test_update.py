"""Bulk update as a job (operations.md §2): versions, switch, index, feed, failures, races; both database engines."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hounsfield import __version__
from hounsfield.archive import update as archive_update
from hounsfield.archive.admission import StoreRequest
from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import delete
from hounsfield.archive.store import store
from hounsfield.archive.version_files import UpdateOptions
from hounsfield.database.engine import Database
from hounsfield.errors import StoreUnavailable
from hounsfield.index import deleted_files, feed, instances, metadata, reindexing
from hounsfield.index.feed import Action, State
from hounsfield.index.instances import InstancePath
from hounsfield.index.levels import Level
from hounsfield.index.partitions import DEFAULT, DEFAULT_KEY
from hounsfield.index.query_tags import NewTag
from hounsfield.operations import engine, records, reindex
from hounsfield.operations.cleanup import CleanupOptions, clean_up
from hounsfield.operations.engine import AlreadyRunning
from hounsfield.operations.job import Operation, Retry, Status
from hounsfield.operations.orphans import sweep_orphans
from hounsfield.operations.runner import OperationRunner, Pace
from hounsfield.operations.update import results_of, start_update, update_job
from hounsfield.storage.local import LocalStore
from hounsfield.storage.spool import Spool
from tests import factories

JANE = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}}
CLEANUP = CleanupOptions(0, timedelta(0), timedelta(0), 1000)


@pytest.fixture
async def archive(database: Database, tmp_path: Path) -> AsyncIterator[Archive]:
    files = LocalStore(tmp_path / "files")
    spool = Spool(tmp_path / "spool")
    archive = Archive(database, files, timedelta(0), 1 << 20, spool=spool)
    yield archive
    await archive.codecs.close()
    spool.close()
    await files.close()


async def stored(archive: Archive, study: str, **attributes: Any) -> InstancePath:
    assert archive.spool is not None
    upload = archive.spool.receive()
    await upload.write(bytearray(factories.instance(StudyInstanceUID=study, **attributes)))
    await upload.finish()
    (outcome,) = await store(archive, [upload], StoreRequest(DEFAULT, 2, None))
    assert outcome.path is not None
    return outcome.path


def path(study: str) -> InstancePath:
    return InstancePath(DEFAULT_KEY, study)


async def run(archive: Archive, operation_id: str, retry: Retry | None = None, **more: Any) -> Operation:
    """The operation, once a worker has worked it off."""
    job = replace(update_job(archive, UpdateOptions()), retry=retry or Retry(2, 0.0), **more)
    runner = OperationRunner(archive.database, [job, reindex.reindex_job(archive.database)], Pace(look=0.01))
    while True:
        while await runner._round(NEVER):
            pass
        found = await records.find(archive.database, operation_id)
        assert found is not None
        if not found.status.is_active:
            return found


class _Never:
    """An event that nothing sets."""

    def is_set(self) -> bool:
        return False

    async def wait(self) -> bool:
        await asyncio.sleep(3600)
        return True


NEVER: Any = _Never()


async def update(archive: Archive, *studies: str, dataset: Mapping[str, Any] = JANE, **more: Any) -> Operation:
    return await run(archive, await start_update(archive.database, DEFAULT, studies, dataset), **more)


def counts(operation: Operation) -> tuple[int, ...]:
    found = results_of(operation)
    return tuple(found[name] for name in ("studyProcessed", "studyUpdated", "studyFailed", "instanceUpdated"))


async def names(database: Database, study: str, *, original: bool = False) -> list[str]:
    """The patient's name in the metadata of every instance."""
    pieces = [piece async for piece in metadata.stream(database, path(study), original=original)]
    found = json.loads(b"[" + b",".join(pieces) + b"]")
    return [(one["00100010"].get("Value") or [{"Alphabetic": ""}])[0]["Alphabetic"] for one in found]


async def feed_of(database: Database, study: str) -> list[tuple[Action, State]]:
    entries = await feed.after(database, 0, 1 << 40, include_metadata=False)
    return [(entry.action, entry.state) for entry in entries if entry.study_uid == study]


async def files_of(archive: Archive, study: str) -> set[str]:
    return {found.key async for found in archive.files.list(f"{study}/")}


async def rows(database: Database, table: str) -> int:
    row = await database.fetch_one(f"SELECT count(*) FROM {table}")
    assert row is not None
    return int(row[0])


def versions_of(study: str) -> str:
    return f"instance_version WHERE file_key LIKE '{study}/%'"


async def test_a_study_and_its_versions(archive: Archive) -> None:
    database, study = archive.database, factories.uid()
    for _ in range(3):
        await stored(archive, study)
    before = await instances.find(database, path(study))
    old_tag = await metadata.validator(database, path(study))
    assert counts(await update(archive, study, factories.uid())) == (2, 1, 0, 3)

    assert await names(database, study) == ["Doe^Jane"] * 3
    assert await names(database, study, original=True) == ["Doe^John"] * 3
    now = await instances.find(database, path(study))
    assert {one.file_key for one in now}.isdisjoint(one.file_key for one in before)
    assert await instances.find(database, path(study), original=True) == before
    tags = [await metadata.validator(database, path(study), original=original) for original in (False, True)]
    assert tags[1] == old_tag != tags[0]
    assert (
        await feed_of(database, study) == [(Action.CREATE, State.REPLACED)] * 3 + [(Action.UPDATE, State.CURRENT)] * 3
    )

    # Again: the version between goes, with its file, the first stays.
    assert counts(await update(archive, study, dataset={})) == (1, 1, 0, 3)
    assert await rows(database, versions_of(study)) == 6
    assert await clean_up(database, archive.files, CLEANUP) == 3
    assert await rows(database, versions_of(study)) == 3
    latest = await instances.find(database, path(study))
    assert await files_of(archive, study) == {one.file_key for one in (*before, *latest)}
    assert await names(database, study) == ["Doe^Jane"] * 3
    assert await instances.find(database, path(study), original=True) == before
    assert await sweep_orphans(database, archive.files, timedelta(0)) == 0

    await delete(archive, path(study))
    assert {action for action, state in await feed_of(database, study) if state is State.DELETED} == set(Action)
    await clean_up(database, archive.files, CLEANUP)
    assert await files_of(archive, study) == set()
    assert await rows(database, versions_of(study)) == 0


async def test_validators_tell_an_update_whatever_else_came(archive: Archive) -> None:
    database, study = archive.database, factories.uid()
    await stored(archive, study)
    await update(archive, study)
    await stored(archive, study)
    seen = [await metadata.validator(database, path(study), original=original) for original in (False, True)]
    await update(archive, study)
    seen.append(await metadata.validator(database, path(study)))
    assert len(set(seen)) == 3


async def test_one_at_a_time(archive: Archive) -> None:
    first = await start_update(archive.database, DEFAULT, ["1.2"], JANE)
    with pytest.raises(AlreadyRunning) as refused:
        await start_update(archive.database, DEFAULT, ["1.3"], JANE)
    assert refused.value.message == f"There is already an active update operation with ID '{first}'."
    assert counts(await run(archive, first)) == (1, 0, 0, 0)
    await run(archive, await start_update(archive.database, DEFAULT, ["1.3"], JANE))


# --- index ---


async def study_row(database: Database, study: str, *columns: str) -> tuple[Any, ...]:
    row = await database.fetch_one(f"SELECT {', '.join(columns)} FROM study WHERE study_uid = ?", study)
    assert row is not None
    return row


async def test_the_index_follows_and_blanks(archive: Archive) -> None:
    database, study = archive.database, factories.uid()
    await stored(archive, study)
    dataset = {**JANE, "00100020": {"vr": "LO"}, "00100040": {"vr": "CS", "Value": ["F"]}}
    await update(archive, study, dataset=dataset)
    columns = ("patient_name", "patient_id", "patient_id_key", "patient_sex", "study_description")
    assert await study_row(database, study, *columns) == ("Doe^Jane", None, None, "F", "Chest")
    suffixes = {
        row[0]
        for row in await database.fetch(
            "SELECT n.suffix FROM person_name n JOIN study s ON s.id = n.study_id WHERE n.attribute = 0 "
            "AND s.study_uid = ?",
            study,
        )
    }
    assert suffixes == {"doe jane", "jane"}
    await update(archive, study, dataset={"00100010": {"vr": "PN"}})
    assert await study_row(database, study, "patient_name", "patient_name_key") == (None, None)
    (key,) = await study_row(database, study, "id")
    assert await rows(database, f"person_name WHERE attribute IN (0, 2, 3, 4) AND study_id = {key}") == 0


async def tag_values(database: Database) -> set[tuple[int, str]]:
    return {
        (row[0], row[1])
        for row in await database.fetch(
            "SELECT t.level, v.value FROM query_tag_value v JOIN query_tag t ON t.id = v.tag_id"
        )
    }


async def test_extended_query_tags_of_every_level_follow(archive: Archive) -> None:
    database, study = archive.database, factories.uid()
    await stored(archive, study, PatientAge="030Y", OtherPatientNames="A^B", PatientComments="old")
    tags = [
        NewTag("00101010", "AS", None, Level.STUDY),
        NewTag("00101001", "PN", None, Level.SERIES),
        NewTag("00102180", "SH", None, Level.INSTANCE),
    ]
    await run(archive, await reindex.add_tags(database, tags, 128))
    assert await tag_values(database) == {(1, "030Y"), (2, "A^B")}
    dataset: dict[str, dict[str, Any]] = {
        "00101010": {"vr": "AS", "Value": ["031Y"]},
        "00101001": {"vr": "PN", "Value": [{"Alphabetic": "C^D"}]},
        "00102180": {"vr": "SH", "Value": ["Baker"]},
    }
    await update(archive, study, dataset=dataset)
    assert await tag_values(database) == {(1, "031Y"), (2, "C^D"), (3, "Baker")}
    assert await rows(database, "query_tag_name WHERE suffix = 'd'") == 1
    await update(archive, study, dataset={key: {"vr": element["vr"]} for key, element in dataset.items()})
    assert await tag_values(database) == set()
    assert await rows(database, "query_tag_name") == 0
    # What is stored afterwards counts again.
    await archive.tags.read(database)
    await stored(archive, study, PatientAge="032Y")
    assert await tag_values(database) == {(1, "032Y")}
    for tag in tags:
        await reindex.delete_tag(database, tag.path)


async def test_the_re_index_does_not_bring_back_old_values(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    database, study = archive.database, factories.uid()
    await stored(archive, study, PatientAge="029Y")
    operation_id = await reindex.add_tags(database, [NewTag("00101010", "AS", None, Level.INSTANCE)], 128)
    updating = await start_update(database, DEFAULT, [study], {"00101010": {"vr": "AS"}})
    real = reindexing.page
    state = {"first": True}

    async def page(*arguments: Any) -> Any:
        found = await real(*arguments)
        if state["first"]:
            # The study is switched between the reading of a batch and its writing.
            state["first"] = False
            await run(archive, updating)
        return found

    monkeypatch.setattr(reindexing, "page", page)
    job = replace(reindex.reindex_job(database), retry=Retry(3, 0.0))
    runner = OperationRunner(database, [job], Pace(look=0.01))
    while await runner._round(NEVER):
        pass
    found = await records.find(database, operation_id)
    assert found is not None and found.status is Status.SUCCEEDED
    assert state["first"] is False
    assert (3, "029Y") not in await tag_values(database)
    await reindex.delete_tag(database, "00101010")


# --- failures and races ---


async def test_a_damaged_file_fails_its_study_alone(archive: Archive) -> None:
    database = archive.database
    bad, good = factories.uid(), factories.uid()
    paths = [await stored(archive, bad) for _ in range(8)]
    await stored(archive, good)
    for one in await instances.find(database, path(bad)):
        await archive.files.put(one.file_key, b"\0" * 1000)
    before = await files_of(archive, bad)
    operation = await update(archive, bad, good)
    assert operation.status is Status.FAILED
    assert operation.percent == 100
    assert counts(operation) == (2, 1, 1, 1)
    errors = results_of(operation)["errors"]
    assert errors[0] == f"Failed to update instances for study {bad}"
    assert len(errors) == 7
    assert all(uid in errors[1] for uid in (DEFAULT.name, bad, paths[0].series_uid or "?", paths[0].sop_uid or "?"))
    assert await names(database, bad) == ["Doe^John"] * 8
    assert await names(database, good) == ["Doe^Jane"]
    assert [state for _, state in await feed_of(database, bad)] == [State.CURRENT] * 8
    await clean_up(database, archive.files, CLEANUP)
    assert await files_of(archive, bad) == before
    assert await rows(database, "study_update") == 0


async def test_an_object_store_that_is_away_is_tried_again(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    study = factories.uid()
    await stored(archive, study)
    real, fails = archive_update.make_versions, [True]

    async def sometimes(*arguments: Any) -> Any:
        if fails and fails.pop():
            raise StoreUnavailable("The object store does not answer.")
        return await real(*arguments)

    monkeypatch.setattr("hounsfield.operations.update.make_versions", sometimes)
    assert counts(await update(archive, study, retry=Retry(3, 0.0))) == (1, 1, 0, 1)
    fails += [True] * 9
    operation = await update(archive, study, retry=Retry(3, 0.0))
    assert counts(operation) == (1, 0, 1, 0)
    assert len(results_of(operation)["errors"]) == 2
    assert await rows(archive.database, "study_update") == 0


async def between(archive: Archive, study: str, act: Callable[[], Awaitable[object]]) -> Operation:
    """An update of a study; ``act`` happens when its files are there and nothing is switched."""
    state = {"acted": False}
    job = update_job(archive, UpdateOptions())

    async def step(operation: Operation, part: Any) -> Any:
        if not state["acted"] and part.cursor is not None and not part.cursor.endswith(":0") and ":" in part.cursor:
            state["acted"] = True
            await act()
        return await job.step(operation, part)

    operation = await update(archive, study, step=step)
    assert state["acted"]
    return operation


async def test_a_study_deleted_meanwhile_has_failed(archive: Archive) -> None:
    study = factories.uid()
    await stored(archive, study)
    operation = await between(archive, study, lambda: delete(archive, path(study)))
    assert counts(operation) == (1, 0, 1, 0)
    assert results_of(operation)["errors"] == [f"Failed to update instances for study {study}"]
    await clean_up(archive.database, archive.files, CLEANUP)
    assert await files_of(archive, study) == set()
    assert await rows(archive.database, versions_of(study)) == 0


async def test_an_instance_deleted_or_stored_meanwhile(archive: Archive) -> None:
    study = factories.uid()
    gone, kept = await stored(archive, study), await stored(archive, study)
    assert counts(await between(archive, study, lambda: delete(archive, gone))) == (1, 1, 0, 1)
    assert await names(archive.database, study) == ["Doe^Jane"]
    assert counts(await between(archive, study, lambda: stored(archive, study))) == (1, 1, 0, 1)
    assert await names(archive.database, study) == ["Doe^Jane", "Doe^John"]
    await delete(archive, kept)
    assert await names(archive.database, study) == ["Doe^John"]
    await clean_up(archive.database, archive.files, CLEANUP)
    assert len(await files_of(archive, study)) == 1


async def test_an_update_that_is_cancelled_leaves_nothing(archive: Archive) -> None:
    study = factories.uid()
    await stored(archive, study)
    before = await files_of(archive, study)
    identifier = await start_update(archive.database, DEFAULT, [study], JANE)
    job = update_job(archive, UpdateOptions())

    async def step(operation: Operation, part: Any) -> Any:
        made = await job.step(operation, part)
        if part.cursor is not None and not part.cursor.endswith(":0"):
            await engine.request_cancel(archive.database, identifier)
        return made

    assert (await run(archive, identifier, step=step)).status is Status.CANCELED
    assert await names(archive.database, study) == ["Doe^John"]
    await clean_up(archive.database, archive.files, CLEANUP)
    assert await files_of(archive, study) == before
    assert await rows(archive.database, "study_update") == 0
    backlog = await deleted_files.backlog(archive.database, 5)
    assert backlog.pending == 0


POINTS = (
    "operation: claimed",
    "update: drawn",
    "file: written",
    "file: named",
    "batch: synced",
    "update: files written",
    "operation: step guarded",
    "update: filled",
    "update: switched",
    "operation: step applied",
    "operation: step committed",
    "operation: ended",
)
THROUGH_A_NETWORK = ("file: named", "update: filled", "update: switched", "operation: step committed")
"""Those where it matters that the other end of a connection goes away: transactions, and what stands between them."""


@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_that_dies(url: str, archive: Archive, tmp_path: Path, point: str) -> None:
    """Before: the old study; resumed: the new one, of the files that belong to it and no others."""
    database, study = archive.database, factories.uid()
    if database.dialect != "sqlite" and point not in THROUGH_A_NETWORK:
        pytest.skip("of the engine, tests/operations/test_crashes.py has both")
    for _ in range(5):
        await stored(archive, study)
    before = await files_of(archive, study)
    identifier = await start_update(database, DEFAULT, [study], JANE)
    command = [sys.executable, "-m", "tests.operations.updating", url, str(tmp_path / "files")]

    async def work(**environment: str) -> int:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
        return await process.wait()

    assert await work(HOUNSFIELD_FAULT=point) == -signal.SIGKILL
    assert await names(database, study) == ["Doe^John"] * 5
    assert await feed_of(database, study) == [(Action.CREATE, State.CURRENT)] * 5
    assert await work() == 0
    found = await records.find(database, identifier)
    assert found is not None and found.status is Status.SUCCEEDED
    assert counts(found) == (1, 1, 0, 5)
    assert await names(database, study) == ["Doe^Jane"] * 5
    assert [action for action, _ in await feed_of(database, study)] == [Action.CREATE] * 5 + [Action.UPDATE] * 5
    now = {one.file_key for one in await instances.find(database, path(study))}
    assert await files_of(archive, study) == before | now
    assert await rows(database, versions_of(study)) == 5


def without_uids(content: bytes) -> str:
    """The file's attributes as JSON, but for those that tell one instance from another."""
    ds = pydicom.dcmread(io.BytesIO(content))
    assert ds.file_meta.ImplementationVersionName == __version__
    for element in [element for element in ds if element.VR == "UI" and element.keyword != "SOPClassUID"]:
        del ds[element.tag]
    return ds.to_json()


async def test_processes_make_what_one_thread_makes(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_update, "WORTH_PROCESSES", 4)
    monkeypatch.setattr(archive_update, "PIECE", 2)
    few, many = factories.uid(), factories.uid()
    for _ in range(3):
        await stored(archive, few)
    series = factories.uid()
    for _ in range(5):
        await stored(archive, many, SeriesInstanceUID=series)
    assert counts(await update(archive, few, many)) == (2, 2, 0, 8)
    assert len(archive.codecs.pids) >= 1
    assert await names(archive.database, many) == ["Doe^Jane"] * 5
    read = [
        await archive.files.get_many([one.file_key for one in await instances.find(archive.database, path(study))])
        for study in (few, many)
    ]
    for content in (*read[0], *read[1]):
        ds = pydicom.dcmread(io.BytesIO(content))
        assert ds.PatientName == "Doe^Jane"
    assert len({without_uids(content) for content in (*read[0], *read[1])}) == 1
    # One that is damaged fails its study from there, too.
    (one, *_) = await instances.find(archive.database, path(many))
    await archive.files.put(one.file_key, b"\0" * 1000)
    operation = await update(archive, many)
    assert counts(operation) == (1, 0, 1, 0)
    assert one.sop_uid in results_of(operation)["errors"][1]


async def test_a_process_that_dies_is_tried_again(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_update, "WORTH_PROCESSES", 1)
    study = factories.uid()
    await stored(archive, study)
    monkeypatch.setenv("HOUNSFIELD_FAULT", "file: named")
    operation = await update(archive, study)
    assert counts(operation) == (1, 0, 1, 0)
    assert await names(archive.database, study) == ["Doe^John"]
    monkeypatch.delenv("HOUNSFIELD_FAULT")
    assert counts(await update(archive, study)) == (1, 1, 0, 1)
    assert await names(archive.database, study) == ["Doe^Jane"]


async def test_an_answer_that_began_before_is_of_the_old_study(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = factories.uid()
    for _ in range(3):
        await stored(archive, study)
    monkeypatch.setattr(metadata, "PAGE", 1)
    answer = metadata.stream(archive.database, path(study))
    first = await anext(answer)
    await update(archive, study)
    rest = [piece async for piece in answer]
    assert all(b"Doe^John" in piece for piece in (first, *rest)) and len(rest) == 2
