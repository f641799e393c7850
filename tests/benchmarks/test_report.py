import json
from dataclasses import replace

import pytest

from benchmarks import report
from benchmarks.__main__ import MOST_ROUNDS, SESSIONS, arguments, profile
from benchmarks.cast import CastSample
from benchmarks.latency import LatencyRow, LatencySample, probes
from benchmarks.load import Sample
from benchmarks.report import Results, Row
from benchmarks.stages import STAGES, Cost, Stages
from benchmarks.workloads import LOADED_FROM, ROW_STUDIES, workloads


def sample(rate: float) -> Sample:
    return Sample(rate, 100, 50, 0.002, 0.004, 1.5, 0.2, 64_000_000, 2.0, 0.04)


def results() -> Results:
    row = Row(
        "Store", "store", 16, "instances/s", 1.0,
        {
            "mine": [sample(30), sample(20), sample(25)],
            "peer": [sample(10), sample(4), sample(5)],
            "write+fsync": [sample(50), sample(50), sample(40)],
        },
    )  # fmt: skip
    cast = {"mine": [CastSample(100, 50.0, 20, 3.0), CastSample(100, 50.0, 10, 8.0)]}
    return Results({"mine": "version 1", "run": "3 rounds"}, ["mine", "peer"], [row], cast)


def test_tables_have_medians_ratios_and_limits() -> None:
    text = report.markdown(results())
    assert "| Store | 16 | instances/s | 25.0 (20.0–30.0) | 5.00 (4.00–10.0) | **5.00** (3.00–5.00) |" in text
    assert "| 50.0 (write+fsync) | 50% |" in text
    assert "2.00 / 4.00 | 2.00 / 4.00 | 15.0 | 15.0 | 64 | 64 |" in text
    assert "| mine | 200 | 50.0 (50.0–50.0) | 15.0 (10.0–20.0) | 5.50 (3.00–8.00) | 15.0 (10.0–20.0) |" in text


def test_a_wrong_answer_takes_the_place_of_a_figure() -> None:
    found = results()
    row = found.rows[0]
    found.rows = [replace(row, samples={"peer": row.samples["peer"]}, wrong={"mine": "status 500"})]
    assert "| instances/s | wrong answer | 5.00 (4.00–10.0) | – |" in report.markdown(found)
    assert found.wrong() == ["mine answered wrongly: Store, 16 clients: status 500"]
    assert not results().wrong()


def waits() -> list[LatencyRow]:
    alone = [LatencySample(0.001 * number, 0.004, 100) for number in (1, 3, 2)]
    return [
        LatencyRow("Alone", {"mine": alone, "nginx": [LatencySample(0.0005, 0.0006, 9)]}, missing={"peer": "no ETag"}),
        LatencyRow("In a storm", {"mine": [LatencySample(0.004, 0.006, 50, 25.0)]}, "Alone", {"peer": "status 500"}),
    ]


def test_waits_have_medians_and_how_much_longer_they_are() -> None:
    found = results()
    found.latencies = waits()
    text = report.markdown(found)
    assert "| One client waits for |  | mine: p50 / p95 | peer: p50 / p95 | nginx: p50 / p95 |" in text
    assert "| Alone | ms | 2.00 / 4.00 | no ETag | 0.50 / 0.60 |" in text
    assert "| In a storm | ms | 4.00 / 6.00 (25.0 pictures/s) | wrong answer | – |" in text
    assert "| … ÷ Alone |  | **2.00** / **1.50** | – | – |" in text
    assert found.wrong() == ["peer answered wrongly: In a storm: status 500"]
    assert report.wait_progress(waits()[0]) == "Alone, p50 / p95 ms: mine 2.00 / 4.00; nginx 0.50 / 0.60; peer no ETag"


def test_every_row_that_a_wait_is_compared_with_is_there() -> None:
    for options in ([], ["--quick"]):
        names = [probe.name for probe in probes(profile(arguments([*options, "--slices", "3"])))]
        assert len(set(names)) == len(names)
        compared = {probe.against for probe in probes(profile(arguments([*options, "--slices", "3"])))}
        assert len(compared) > 1
        assert compared - {None} <= set(names)


def test_other_work_on_the_machine_is_admitted() -> None:
    assert "- other work on the machine: " in report.markdown(results())


def test_stages_of_a_store() -> None:
    found = results()
    costs = {stage: Cost(number + 0.25, 10.0 * number) for number, stage in enumerate(STAGES, 1)}
    found.stages = [Stages("8 KB", costs), Stages("30 MB", costs)]
    text = report.markdown(found)
    assert "| Stage of one store |  | 8 KB: CPU ms (elapsed ms) | 30 MB: CPU ms (elapsed ms) |" in text
    assert "| commit |  | 5.25 (50.0) | 5.25 (50.0) |" in text


def test_every_row_of_a_table_is_as_wide_as_its_head() -> None:
    widths: list[set[int]] = [set()]
    found = results()
    found.latencies = waits()
    for line in report.markdown(found).splitlines():
        if line.startswith("|"):
            widths[-1].add(line.count("|"))
        else:
            widths.append(set())
    assert all(len(width) <= 1 for width in widths)


def test_all_samples_survive_in_json() -> None:
    found = json.loads(json.dumps(results().as_json()))
    assert [each["rate"] for each in found["rows"][0]["samples"]["peer"]] == [10, 4, 5]
    assert found["casts"]["mine"][0]["catch_up"] == 3.0


def test_hounsfield_takes_part_unless_servers_are_named() -> None:
    assert arguments([]).hounsfield
    assert not arguments(["--server", "a=http://localhost:1"]).hounsfield
    assert arguments(["--server", "a=http://localhost:1", "--hounsfield"]).hounsfield


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--workload", "store,strore"], "unknown workload: strore"),
        (["--server", "http://localhost:1"], "NAME=URL"),
        (["--no-hounsfield"], "no server is left"),
        (["--rounds", str(MOST_ROUNDS + 1)], "--rounds"),
        (["--clients", "1,0"], "--clients"),
    ],
)
def test_wrong_options(wrong: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(wrong)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_rows_of_a_full_run_are_all_different_and_below_the_loaded_studies() -> None:
    setting = profile(arguments(["--studies", "50"]))
    groups = [group for session in SESSIONS for group in session]
    rows = [row for group in groups for row in workloads(setting, group)]
    assert len({(row.name, row.clients) for row in rows}) == len(rows)
    assert sum(row.group == "store" for row in rows) * ROW_STUDIES <= LOADED_FROM
    assert {row.group for row in rows} == set(groups) - {"latency", "cast"}
