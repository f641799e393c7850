"""Bulk update: attributes of whole studies set anew (operations.md §2).

One part, as studies come one after another. A study takes three kinds of steps: its versions are drawn, they are made
batch by batch, and one transaction switches it to them. The cursor says which study, and up to which version it is
made; before the versions are drawn it has no second number.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from hounsfield import faults
from hounsfield.archive.archive import Archive
from hounsfield.archive.update import changes_of, make_versions, new_values
from hounsfield.archive.version_files import UpdateOptions
from hounsfield.database.engine import Database, Transaction, Unit
from hounsfield.errors import HounsfieldError
from hounsfield.index import instance_versions
from hounsfield.index.instance_versions import Drawn, Source
from hounsfield.index.partitions import Partition
from hounsfield.operations import engine
from hounsfield.operations.job import Job, Json, Operation, Part, Plan, Retry, Status, Step
from hounsfield.storage.layout import study_key_parts

KIND = "update"
BATCH = 512
"""Instances made in one step."""
BATCH_BYTES = 512 << 20
"""Of their files, so that a step takes seconds whatever their size: more begin a step of their own."""
NAMED = 5
"""Failed instances that are named in the results."""

_COUNTS = ("studyProcessed", "studyUpdated", "studyFailed", "instanceUpdated")


class _Changed(HounsfieldError):
    """Instances went while their study was to be switched: what it would count is not true any more."""

    def __init__(self) -> None:
        super().__init__("Instances of the study were deleted meanwhile.")


async def start_update(
    database: Database, partition: Partition, studies: Sequence[str], dataset: Mapping[str, Any]
) -> str:
    """Start an update of studies with a dataset that is valid; returns the operation's id. Raises AlreadyRunning."""
    arguments = {"partition": partition.name, "partitionKey": partition.key, "studies": studies, "dataset": dataset}

    async def unit(tx: Transaction) -> str:
        return await engine.start(tx, KIND, arguments, alone=True)

    return await database.write(unit)


def results_of(operation: Operation) -> Json:
    """The results as the resource shows them: the counts always, errors where there are any."""
    found = operation.results or {}
    return {**dict.fromkeys(_COUNTS, 0), **found}


def update_job(archive: Archive, options: UpdateOptions) -> Job:
    """The job that updates studies."""
    return Job(
        KIND,
        partial(_step, archive, options),
        split=_split,
        finish=_finish,
        give_up=partial(_give_up, archive),
        retry=Retry(attempts=5, first_seconds=2.0, factor=4.0),
        step_seconds=3600.0,
    )


async def _split(operation: Operation) -> Sequence[Plan]:
    return [Plan(len(operation.arguments["studies"]))]


async def _step(archive: Archive, options: UpdateOptions, operation: Operation, part: Part) -> Step:
    number, after = _position(part)
    if after is None:
        return _draw(operation, number)
    drawn = await instance_versions.drawn(archive.database, operation.id)
    if drawn is None:
        # There is no such study, which is no failure.
        return _next(operation, part, number, {})
    batch = await instance_versions.unfilled(archive.database, drawn, after, BATCH)
    if batch:
        return await _fill(archive, options, operation, part, batch)
    return await _switch(archive, operation, part, drawn)


def _position(part: Part) -> tuple[int, int | None]:
    """Which study it is at, and the version up to which that is made; None if none is drawn."""
    if part.cursor is None:
        return 0, None
    number, _, after = part.cursor.partition(":")
    return int(number), int(after) if after else None


def _draw(operation: Operation, number: int) -> Step:
    arguments = operation.arguments
    study = arguments["studies"][number]
    key_parts = study_key_parts(arguments["partition"], study)

    async def unit(tx: Transaction) -> None:
        await instance_versions.draw(tx, operation.id, arguments["partitionKey"], study, key_parts)
        faults.point("update: drawn")

    return Step(f"{number}:0", unit=unit)


async def _fill(
    archive: Archive, options: UpdateOptions, operation: Operation, part: Part, batch: Sequence[Source]
) -> Step:
    number, _ = _position(part)
    changes = changes_of(operation.arguments["dataset"])
    batch = _some(batch)
    made = await make_versions(archive, batch, changes, options)
    failed = [source for source, filled in zip(batch, made, strict=True) if filled is None]
    if failed:
        return _failure(operation, part, failed)
    faults.point("update: files written")

    async def unit(tx: Transaction) -> None:
        await instance_versions.fill(tx, [filled for filled in made if filled is not None])
        faults.point("update: filled")

    return Step(f"{number}:{batch[-1].version}", unit=unit)


def _some(batch: Sequence[Source]) -> Sequence[Source]:
    """As many as are not too much for one step, but one."""
    size = 0
    for count, source in enumerate(batch):
        size += source.file_size
        if count and size > BATCH_BYTES:
            return batch[:count]
    return batch


async def _switch(archive: Archive, operation: Operation, part: Part, drawn: Drawn) -> Step:
    number, _ = _position(part)
    expected = await instance_versions.alive(archive.database, drawn)
    if not expected:
        return _failure(operation, part, [])
    values = new_values(changes_of(operation.arguments["dataset"]))
    # As files of deleted instances: for answers that began before, and backups whose index is older than their files.
    delay = archive.delete_delay // timedelta(microseconds=1)

    async def unit(tx: Transaction) -> None:
        now = time.time_ns() // 1000
        if await instance_versions.switch(tx, operation.id, values, now, now + delay) != expected:
            raise _Changed
        faults.point("update: switched")

    return _next(operation, part, number, {"studyUpdated": 1, "instanceUpdated": expected}, unit)


def _next(
    operation: Operation, part: Part, number: int, more: Mapping[str, int | list[str]], unit: Unit[None] | None = None
) -> Step:
    """The step that ends a study."""
    results: dict[str, Any] = {**dict.fromkeys(_COUNTS, 0), **(part.results or {})}
    for name, value in {"studyProcessed": 1, **more}.items():
        results[name] = results[name] + value if name in results else value
    is_last = number + 1 == len(operation.arguments["studies"])
    return Step(str(number + 1), done=1, is_last=is_last, unit=unit, results=results)


def _failure(operation: Operation, part: Part, failed: Sequence[Source]) -> Step:
    """The step that leaves a study as it is; ``failed`` are the instances that could not be made."""
    number, _ = _position(part)
    study, partition = operation.arguments["studies"][number], operation.arguments["partition"]
    errors = [f"Failed to update instances for study {study}"]
    errors += [
        f"Failed to update the instance of partition {partition}: study {study}, series {source.series_uid}, "
        f"instance {source.sop_uid}"
        for source in failed[:NAMED]
    ]
    if len(failed) > NAMED:
        errors.append("There are more instances that failed to update")

    async def unit(tx: Transaction) -> None:
        await instance_versions.discard(tx, operation.id, time.time_ns() // 1000)

    return _next(operation, part, number, {"studyFailed": 1, "errors": errors}, unit)


async def _give_up(archive: Archive, operation: Operation, part: Part, _error: str) -> Step | None:
    if part.number == 0:
        return None
    _, after = _position(part)
    drawn = await instance_versions.drawn(archive.database, operation.id)
    failed: Sequence[Source] = []
    if drawn is not None:
        failed = await instance_versions.unfilled(archive.database, drawn, after or 0, NAMED + 1)
    return _failure(operation, part, failed)


async def _finish(tx: Transaction, operation: Operation, _status: Status) -> str | None:
    await instance_versions.discard(tx, operation.id, time.time_ns() // 1000)
    failed = results_of(operation)["studyFailed"]
    return f"{failed} of the studies could not be updated." if failed else None
