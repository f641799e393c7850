import json
import random
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from benchmarks import lookups
from benchmarks.clients import Question
from benchmarks.latency import NotOffered
from benchmarks.load import WrongAnswer
from benchmarks.lookups import Truth, fold
from benchmarks.population import Population, StudyPlan
from benchmarks.servers import Server
from benchmarks.wire import Answer, Base, Connection

NOBODY = Base("127.0.0.1", 1, "")
OURS = Server("ours", NOBODY, list, "", newest_first=True)
OTHER = Server("other", NOBODY, list, "")


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(Population(1, 3_000, 9_000))


def answer(studies: Sequence[StudyPlan]) -> Answer:
    items = [{lookups.STUDY: {"vr": "UI", "Value": [study.uid]}} for study in studies]
    body = json.dumps(items).encode()
    return Answer(200 if items else 204, b"", body if items else b"", len(body))


def dealt(truth: Truth, name: str, number: int) -> Question:
    (row,) = (row for row in lookups.rows(truth) if row.name == f"Search: {name}")
    return row.begin(OURS, Connection(NOBODY))(random.Random(number))


def asked(question: Question) -> dict[str, str]:
    return {name: unquote(value[0]) for name, value in parse_qs(urlsplit(question.path).query).items()}


def _day(study: StudyPlan, values: dict[str, str]) -> bool:
    first, _, last = values["StudyDate"].partition("-")
    return first <= study.day <= last and values["ModalitiesInStudy"] in study.modalities


def _prefix(study: StudyPlan, values: dict[str, str]) -> bool:
    asked = values["PatientName"]
    return asked.endswith("*") and fold(study.patient.name).startswith(fold(asked[:-1]))


def _words(study: StudyPlan, values: dict[str, str]) -> bool:
    wanted = fold(values["PatientName"]).split()
    words = fold(study.patient.name).replace("^", " ").replace("=", " ").split()
    places = range(len(words) - len(wanted) + 1)
    return any(all(words[at + n].startswith(one) for n, one in enumerate(wanted)) for at in places)


@pytest.mark.parametrize(
    ("row", "matches"),
    [
        ("PatientID", lambda study, values: study.patient.id == values["PatientID"]),
        ("AccessionNumber", lambda study, values: study.accession == values["AccessionNumber"]),
        (
            "PatientName, prefix `Smi*`",
            lambda study, values: fold(study.patient.name).startswith(fold(values["PatientName"][:-1])),
        ),
        ("PatientName, whole", lambda study, values: fold(study.patient.name) == fold(values["PatientName"])),
        ("PatientName, fuzzy, one word", _words),
        ("PatientName, fuzzy, two words", _words),
        ("week to quarter of StudyDate and modality, 50 a page", _day),
        ("PatientBirthDate", lambda study, values: study.patient.birth_date == values["PatientBirthDate"]),
        ("StudyDescription", lambda study, values: study.description == values["StudyDescription"]),
        ("ReferringPhysicianName", lambda study, values: study.referring == values["ReferringPhysicianName"]),
    ],
)
def test_exactly_what_matches_is_right(
    truth: Truth, row: str, matches: Callable[[StudyPlan, dict[str, str]], bool]
) -> None:
    seen = 0
    for number in range(12):
        question = dealt(truth, row, number)
        values = asked(question)
        right = [study for study in reversed(truth.population.all) if matches(study, values)][: int(values["limit"])]
        question.check(answer(right))
        wrong = next(study for study in truth.population.all if not matches(study, values))
        with pytest.raises(WrongAnswer):
            question.check(answer([*right[1:], wrong]))
        if right:
            seen += 1
            with pytest.raises(WrongAnswer):
                question.check(answer(right[1:]))
    assert seen


def test_the_newest_come_first(truth: Truth) -> None:
    newest = truth.population.all[::-1]
    first = dealt(truth, "all studies, first page, includefield=all", 1)
    first.check(answer(newest[: lookups.PAGE]))
    with pytest.raises(WrongAnswer, match="0 after the newest"):
        first.check(answer(newest[-lookups.PAGE :]))
    deep = dealt(truth, "all studies, deep page by offset", 1)
    offset = int(asked(deep)["offset"])
    assert 1_500 <= offset < 2_700
    deep.check(answer(newest[offset : offset + lookups.PAGE]))
    with pytest.raises(WrongAnswer, match="99 studies"):
        deep.check(answer(newest[offset : offset + 99]))
    with pytest.raises(WrongAnswer, match="come twice"):
        deep.check(answer([newest[offset]] * 100))


def test_another_server_may_answer_in_any_order(truth: Truth) -> None:
    oldest = truth.population.all
    wanted = oldest[:2_900]
    lookups.check_newest(truth, answer(wanted[:100]), wanted, 100, ordered=False)
    with pytest.raises(WrongAnswer, match="not among the newest"):
        lookups.check_newest(truth, answer(wanted[:100]), wanted, 100, ordered=True)
    (fuzzy,) = (row for row in lookups.rows(truth) if "fuzzy, one" in row.name)
    with pytest.raises(NotOffered):
        fuzzy.begin(OTHER, Connection(NOBODY))


def test_the_next_page_is_that_of_the_link(truth: Truth) -> None:
    link = '<http://127.0.0.1:1/v2/studies?limit=200&cursor=abc>; rel="next"'
    assert lookups.next_page(Answer(200, b"\r\nLink: " + link.encode(), b"", 0)) == "/studies?limit=200&cursor=abc"
    assert lookups.next_page(Answer(200, b"", b"", 0)) is None
    assert lookups.next_page(Answer(200, b'\r\nLink: <http://x/studies>; rel="self"', b"", 0)) is None


def test_instances_and_series_are_checked(truth: Truth) -> None:
    for name, key in (("instances of a series", lookups.INSTANCE), ("series of a study", lookups.SERIES)):
        question = dealt(truth, name, 3)
        uid = urlsplit(question.path).path.split("/")[2]
        study = truth.population.all[truth.places[uid]]
        series = max(study.series, key=lambda each: each.instances)
        uids = [each.uid for each in study.series]
        if key == lookups.INSTANCE:
            uids = [series.sop(number) for number in range(series.instances)][: lookups.PAGE]
        body = json.dumps([{key: {"vr": "UI", "Value": [each]}} for each in uids]).encode()
        question.check(Answer(200, b"", body, len(body)))
        with pytest.raises(WrongAnswer):
            question.check(Answer(204, b"", b"", 0))
