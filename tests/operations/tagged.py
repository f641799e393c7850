"""Instances with values of extended query tags, and what a re-index must make of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.database.engine import Database
from hounsfield.index import query_tags
from hounsfield.index.instances import InstancePath, Level
from hounsfield.index.query_tags import NewTag, QueryTag, TagStatus
from hounsfield.operations import records, reindex
from hounsfield.operations.runner import OperationRunner, Pace
from tests.index import make, tagging

PACE = Pace(look=0.01, turn=0.02, beat=0.2, lease=2.0, grace=1.0)
"""Of impatient workers."""
PATHS = iter(f"{number:08X}" for number in range(0x12051000, 0x1205F000))
LEVELS = (Level.STUDY, Level.SERIES, Level.INSTANCE)


def new_tags(vr: str, levels: Sequence[Level] = LEVELS) -> list[NewTag]:
    """Tags no other test uses."""
    return [NewTag(next(PATHS), vr, None, level) for level in levels]


async def add(database: Database, tags: Sequence[NewTag]) -> str:
    """Add tags; returns their operation."""
    return await reindex.add_tags(database, tags, maximum=100_000)


async def found(database: Database, tags: Sequence[NewTag]) -> list[QueryTag]:
    """The tags as they are now."""
    known = [await query_tags.find(database, tag.path) for tag in tags]
    return [tag for tag in known if tag is not None]


def runner(database: Database) -> OperationRunner:
    """A worker that knows the re-index only."""
    return OperationRunner(database, [reindex.reindex_job(database)], PACE)


def dataset(tags: Sequence[NewTag], value: Any) -> Mapping[str, Any]:
    """Metadata with one value for all of them; None for none."""
    return {} if value is None else {tag.path: tagging.element(tag.vr, value) for tag in tags}


async def values(database: Database, tags: Sequence[NewTag]) -> list[list[tuple[Any, ...]]]:
    """What the index holds for each tag, in terms that are the same for every tag."""
    return [[row[1:] for row in await tagging.values(database, tag.id)] for tag in await found(database, tags)]


async def is_ready(database: Database, tags: Sequence[NewTag]) -> bool:
    """Whether they can be searched, and no operation is left to them."""
    known = await found(database, tags)
    return all(tag.status is TagStatus.READY and tag.operation_id is None for tag in known)


async def status(database: Database, operation_id: str) -> str:
    """Of the operation."""
    operation = await records.find(database, operation_id)
    assert operation is not None
    return operation.status.value


def paths(count: int) -> list[InstancePath]:
    """Instances of some studies and series."""
    study, other = make.path(), make.path()
    choices = [
        lambda: make.path(study.study_uid, study.series_uid),
        lambda: make.path(study.study_uid),
        lambda: make.path(other.study_uid, other.series_uid),
    ]
    return [choices[number % 3]() for number in range(count)]
