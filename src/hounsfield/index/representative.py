"""Which instance stands for a study or series in one picture."""

from hounsfield.database.engine import Database, Value
from hounsfield.index.instances import InstancePath, StoredInstance

_DERIVED = ("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "SR", "PR", "KO", "DOC", "REG", "RWV", "ANN", "ECG")
"""Modalities that show a study only where it has nothing else."""
_OTHERS = 20
"""Series without images that are offered."""
_COLUMNS = "coalesce(i.version, i.id), s.study_uid, e.series_uid, i.sop_uid, i.transfer_syntax, i.file_key, i.file_size"
_FROM = "FROM study s JOIN series e ON e.study_id = s.id JOIN instance i ON i.series_id = e.id"


async def candidates(database: Database, path: InstancePath) -> list[StoredInstance]:
    """Instances that may stand for the study or series, best first; empty where nothing is visible.

    That is the one in the middle of the first series with images, in the order they came. Where there are no images,
    the first instance of each series: a report or a waveform can be among them.
    """
    series = await _series(database, path)
    for key in series:
        row = await database.fetch_one(
            "SELECT count(*) FROM instance i JOIN instance_content c ON c.instance_id = i.id "
            "WHERE i.series_id = ? AND c.frames IS NOT NULL",
            key,
        )
        if row is not None and row[0]:
            rows = await database.fetch(
                f"SELECT {_COLUMNS} {_FROM} JOIN instance_content c ON c.instance_id = i.id "
                "WHERE e.id = ? AND c.frames IS NOT NULL ORDER BY i.id LIMIT 1 OFFSET ?",
                key,
                row[0] // 2,
            )
            # An instance may be deleted between the two: then the next series does.
            if rows:
                return [StoredInstance(*rows[0])]
    found = []
    for key in series[:_OTHERS]:
        rows = await database.fetch(f"SELECT {_COLUMNS} {_FROM} WHERE e.id = ? ORDER BY i.id LIMIT 1", key)
        found += [StoredInstance(*row) for row in rows]
    return found


async def _series(database: Database, path: InstancePath) -> list[int]:
    """Keys of the series under ``path``, those of images first, older before newer."""
    condition = "s.partition_key = ? AND s.study_uid = ?"
    values: list[Value] = [path.partition_key, path.study_uid]
    if path.series_uid is not None:
        condition += " AND e.series_uid = ?"
        values.append(path.series_uid)
    rows = await database.fetch(
        f"SELECT e.id, e.modality FROM study s JOIN series e ON e.study_id = s.id WHERE {condition} ORDER BY e.id",
        *values,
    )
    return [int(row[0]) for row in sorted(rows, key=lambda row: row[1] in _DERIVED)]
