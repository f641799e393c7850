import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import populate
from benchmarks.headers import SeriesFiles
from benchmarks.population import Population
from benchmarks.progress import Progress, Stretch, kept, tell

ROOT = Path(__file__).parents[2]
PEOPLE = Population(1, 40, 400)


def stored(path: Path) -> list[tuple[str, str, str]]:
    with sqlite3.connect(path) as connection:
        return sorted(
            connection.execute(
                "SELECT s.study_uid, e.series_uid, i.sop_uid FROM instance i JOIN series e ON e.id = i.series_id "
                "JOIN study s ON s.id = i.study_id"
            )
        )


def test_a_load_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/index.db"
    populate.load(url, PEOPLE, Progress(tmp_path / "state", PEOPLE), processes=1, until=200)
    assert len(stored(tmp_path / "index.db")) == 200
    stretches = populate.load(url, PEOPLE, Progress(tmp_path / "state", PEOPLE), processes=2)
    wanted = sorted((study.uid, series.uid, series.sop(number)) for study, series, number in PEOPLE.slice(0, 400))
    assert stored(tmp_path / "index.db") == wanted
    assert [(each.first, each.last) for each in stretches] == [(0, 100), (100, 200), (200, 300), (300, 400)]
    with sqlite3.connect(tmp_path / "index.db") as connection:
        found = connection.execute("SELECT patient_id, accession_number, study_date FROM study ORDER BY study_uid")
        assert found.fetchall() == [
            (study.patient.id, study.accession or None, study.day or None)
            for study in sorted(PEOPLE.all, key=lambda study: study.uid)
        ]


def test_what_was_stored_before_a_crash_is_no_trouble(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/index.db"
    populate.load(url, PEOPLE, Progress(tmp_path / "state", PEOPLE), processes=1, until=200)
    Progress(tmp_path / "state", PEOPLE).save(100)  # as far as it had got to be told
    populate.load(url, PEOPLE, Progress(tmp_path / "state", PEOPLE), processes=1)
    assert len(stored(tmp_path / "index.db")) == 400


def test_another_population_is_refused(tmp_path: Path) -> None:
    Progress(tmp_path / "state", PEOPLE).save(100)
    assert Progress(tmp_path / "state", PEOPLE).done == 100
    with pytest.raises(RuntimeError, match="another population"):
        Progress(tmp_path / "state", Population(2, 40, 400))


def test_a_refused_instance_ends_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeriesFiles, "file", lambda self, number: bytearray(b"no DICOM"))
    with pytest.raises(RuntimeError, match="before its time"):
        populate.load(f"sqlite:///{tmp_path}/index.db", PEOPLE, Progress(tmp_path / "state", PEOPLE), processes=1)
    assert Progress(tmp_path / "state", PEOPLE).done == 0


def test_rates_are_told() -> None:
    first, last = Stretch(0, 1_000, 2.0, 1.0), Stretch(1_000, 2_000, 4.0, 1.5)
    assert tell(first) == "instances 0 to 1,000: 500 a second, 1.00 processor milliseconds each"
    assert "50% of the first stretch's" in kept([first, last])


@pytest.mark.acceptance
def test_a_loaded_archive_is_searched(tmp_path: Path) -> None:
    size = ["--instances", "400", "--studies", "40"]
    command = [sys.executable, "-m", "benchmarks.populate", "--data-dir", str(tmp_path / "data"), *size]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert loaded.returncode == 0, loaded.stderr
    assert "40 studies" in loaded.stdout
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.search", "--data-dir", str(tmp_path / "data"), *size]
    less = ["--rounds", "1", "--seconds", "0.1", "--only", "fuzzy", "--json", str(report)]
    found = subprocess.run([*command, *less], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert [row["name"] for row in json.loads(report.read_text())["latencies"]] == [
        "Search: PatientName, fuzzy, one word",
        "Search: PatientName, fuzzy, two words",
    ]


def test_an_archive_that_is_not_loaded_is_not_searched(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.search", "--data-dir", str(tmp_path), "--instances", "100"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert "holds 0 of 100 instances" in found.stderr
