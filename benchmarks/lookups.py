"""Searches (QIDO-RS) in a population, and what a right answer to each is: the rows of ``python -m benchmarks.search``.

Values are drawn from the population as users' values are: a patient who comes often is asked for often. Every answer is
read whole and compared with what the population holds, after its time was taken.
"""

import json
import random
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlencode

from benchmarks import answers, clients
from benchmarks.clients import Question, exchange
from benchmarks.latency import NotOffered, Probe
from benchmarks.load import WrongAnswer
from benchmarks.population import Population, SeriesPlan, StudyPlan
from benchmarks.servers import Server
from benchmarks.wire import Answer, Connection
from benchmarks.workloads import Deal

PAGE = 100
"""Results a search answers with where nothing is asked for: the default of Hounsfield."""
IN_FLIGHT = 2_000
"""Instances that were under way together when the archive was loaded, so that studies may stand so far from where
their numbers would have them."""
STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
LAST = "\U0010ffff"
UNQUOTED = "*^'"
"""Written as they are, as Orthanc's plugin of version 1.7 does not undo percent-encoding. So nothing with spaces is
asked for, either."""
DEEP = (0.5, 0.9)
"""Shares of the archive between which deep pages begin."""


def fold(text: str) -> str:
    """Without case and accents."""
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return unicodedata.normalize("NFC", "".join(letters).casefold())


@dataclass(frozen=True)
class Truth:
    """A population by what it is asked for."""

    population: Population
    patients: dict[str, list[StudyPlan]]
    names: list[tuple[str, StudyPlan]]
    """Folded names, ascending."""
    words: list[tuple[str, StudyPlan]]
    """Every name from each of its words on, the words joined by a space; ascending."""
    days: list[tuple[str, StudyPlan]]
    descriptions: dict[str, list[StudyPlan]]
    referring: dict[str, list[StudyPlan]]
    births: dict[str, list[StudyPlan]]
    modalities: dict[str, list[SeriesPlan]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    """Numbers of studies by their UIDs."""

    @classmethod
    def of(cls, population: Population) -> "Truth":
        """Everything there is to know."""
        found: list[defaultdict[str, list[StudyPlan]]] = [defaultdict(list) for _ in range(4)]
        patients, descriptions, referring, births = found
        modalities: defaultdict[str, list[SeriesPlan]] = defaultdict(list)
        names, words = [], []
        for study in population.all:
            patients[study.patient.id].append(study)
            descriptions[study.description].append(study)
            referring[study.referring].append(study)
            births[study.patient.birth_date].append(study)
            for series in study.series:
                modalities[series.modality].append(series)
            folded = fold(study.patient.name)
            names.append((folded, study))
            parts = folded.replace("^", " ").replace("=", " ").split()
            words += [(" ".join(parts[start:]), study) for start in range(len(parts))]
        days = sorted(((study.day, study) for study in population.all), key=_order)
        places = {study.uid: study.number for study in population.all}
        return cls(
            population,
            patients,
            sorted(names, key=_order),
            sorted(words, key=_order),
            days,
            descriptions,
            referring,
            births,
            modalities,
            places,
        )

    def any(self, rng: random.Random) -> StudyPlan:
        """A study."""
        return rng.choice(self.population.all)

    def with_value(self, rng: random.Random, has: Callable[[StudyPlan], object]) -> StudyPlan:
        """A study that has something."""
        while not has(study := self.any(rng)):
            pass
        return study


def _order(pair: tuple[str, StudyPlan]) -> tuple[str, int]:
    return pair[0], pair[1].number


def between(ordered: Sequence[tuple[str, StudyPlan]], low: str, high: str) -> list[StudyPlan]:
    """Studies whose text lies in ``[low, high)``."""
    first, last = bisect_left(ordered, (low,)), bisect_left(ordered, (high,))
    return [study for _, study in ordered[first:last]]


def rows(truth: Truth) -> list[Probe]:
    """All rows in the order they are run."""
    by_identifier = [
        ("PatientID", partial(_by_patient, truth)),
        ("AccessionNumber", partial(_by_accession, truth)),
        ("StudyInstanceUID", partial(_by_study, truth)),
        ("SOPInstanceUID, all instances", partial(_by_instance, truth)),
        ("PatientID that nobody has", partial(_by_nobody, truth)),
    ]
    by_name = [
        ("PatientName, prefix `Smi*`", partial(_by_prefix, truth)),
        ("PatientName, whole", partial(_by_name, truth)),
    ]
    by_value = [
        ("week to quarter of StudyDate and modality, 50 a page", partial(_by_date, truth)),
        ("PatientBirthDate", partial(_by_birth, truth)),
        ("StudyDescription", partial(_by_description, truth)),
        ("ReferringPhysicianName", partial(_by_referring, truth)),
        ("Modality, all series", partial(_by_modality, truth)),
        ("instances of a series", partial(_of_series, truth)),
        ("series of a study", partial(_of_study, truth)),
    ]
    found = [
        Probe(f"Search: {name}", (), partial(_same, deal), whole=True) for name, deal in (*by_identifier, *by_name)
    ]
    found += [
        Probe("Search: PatientName, fuzzy, one word", (), partial(_fuzzy, truth, 1), whole=True),
        Probe("Search: PatientName, fuzzy, two words", (), partial(_fuzzy, truth, 2), whole=True),
    ]
    found += [Probe(f"Search: {name}", (), partial(_same, deal), whole=True) for name, deal in by_value]
    first = "Search: all studies, first page"
    return [
        *found,
        Probe(first, (), partial(_page, truth, (0.0, 0.0)), whole=True),
        Probe("Search: all studies, deep page by offset", (), partial(_page, truth, DEEP), whole=True, against=first),
        Probe("Search: all studies, deep page by cursor", (), partial(_cursor, truth), whole=True, against=first),
        Probe(
            "Search: all studies, first page, includefield=all",
            (),
            partial(_page, truth, (0.0, 0.0), more="&includefield=all"),
            whole=True,
            against=first,
        ),
    ]


def _row(name: str, begin: Callable[[Server, Connection], Deal]) -> Probe:
    return Probe(f"Search: {name}", (), begin, whole=True)


def _same(deal: Callable[[Server, random.Random], Question], server: Server, _: Connection) -> Deal:
    if server.tools_find and deal(server, random.Random(0)).path != "/tools/find":
        raise NotOffered("–")
    return partial(deal, server)


def _question(path: str, check: Callable[[Answer], None], **parameters: str) -> Question:
    asked = f"{path}?{urlencode(parameters, quote_via=quote, safe=UNQUOTED)}"
    return Question(asked, clients.JSON, check, check)


def _studies(
    truth: Truth, server: Server, wanted: Sequence[StudyPlan], limit: int = PAGE, **parameters: str
) -> Question:
    """Studies with these parameters; ``wanted`` are all there are."""
    check = partial(check_newest, truth, wanted=wanted, limit=limit, ordered=server.newest_first)
    if server.tools_find:
        return _find(check, parameters, limit, 0)
    return _question("/studies", check, limit=str(limit), **parameters)


def _find(check: Callable[[Answer], None], parameters: dict[str, str], limit: int, offset: int) -> Question:
    """Studies in Orthanc's own way."""
    asked = {"Level": "Study", "Query": parameters, "Expand": True, "Limit": limit, "Since": offset}
    return Question("/tools/find", "application/json", check, check, body=json.dumps(asked).encode())


def _by_patient(truth: Truth, server: Server, rng: random.Random) -> Question:
    patient = truth.any(rng).patient.id
    return _studies(truth, server, truth.patients[patient], PatientID=patient)


def _by_nobody(truth: Truth, server: Server, rng: random.Random) -> Question:
    return _studies(truth, server, [], PatientID=f"X{rng.randrange(10**8)}")


def _by_accession(truth: Truth, server: Server, rng: random.Random) -> Question:
    study = truth.with_value(rng, lambda study: study.accession)
    return _studies(truth, server, [study], AccessionNumber=study.accession)


def _by_study(truth: Truth, server: Server, rng: random.Random) -> Question:
    study = truth.any(rng)
    return _studies(truth, server, [study], StudyInstanceUID=study.uid)


def _by_instance(truth: Truth, _: Server, rng: random.Random) -> Question:
    series = rng.choice(truth.any(rng).series)
    sop = series.sop(rng.randrange(series.instances))
    check = partial(check_set, key=INSTANCE, wanted={sop}, limit=PAGE)
    return _question("/instances", check, SOPInstanceUID=sop, limit=str(PAGE))


def _by_name(truth: Truth, server: Server, rng: random.Random) -> Question:
    name = truth.with_value(rng, lambda study: study.patient.name.isascii()).patient.name
    return _studies(truth, server, between(truth.names, fold(name), fold(name) + "\0"), PatientName=name)


def _by_prefix(truth: Truth, server: Server, rng: random.Random) -> Question:
    family = truth.with_value(rng, lambda study: study.patient.name.isascii()).patient.name.partition("^")[0]
    prefix = family[: rng.randint(3, 5)]
    wanted = between(truth.names, fold(prefix), fold(prefix) + LAST)
    return _studies(truth, server, wanted, PatientName=f"{prefix}*")


def _fuzzy(truth: Truth, count: int, server: Server, _: Connection) -> Deal:
    if not server.newest_first:
        raise NotOffered("no fuzzy matching")
    return partial(_by_words, truth, count, server)


def _by_words(truth: Truth, count: int, server: Server, rng: random.Random) -> Question:
    name = truth.with_value(rng, lambda study: study.patient.name.isascii() and " " not in study.patient.name)
    family, given = fold(name.patient.name).split("^")[:2]
    start = given[: rng.randint(2, 4)]
    wanted = between(truth.words, family, family + LAST)
    if count == 2:
        wanted = [study for study in wanted if _consecutive(study.patient.name, family, start)]
    unique = list({study.number: study for study in wanted}.values())
    asked = family if count == 1 else f"{family} {start}"
    return _studies(truth, server, unique, PatientName=asked, fuzzymatching="true")


def _consecutive(name: str, first: str, second: str) -> bool:
    parts = fold(name).replace("^", " ").replace("=", " ").split()
    return any(one.startswith(first) and two.startswith(second) for one, two in pairwise(parts))


def _by_date(truth: Truth, server: Server, rng: random.Random) -> Question:
    low = truth.with_value(rng, lambda study: study.day).day
    days = rng.choice((7, 30, 90))
    year, month, day = int(low[:4]), int(low[4:6]), int(low[6:])
    # Months of 31 days make no wrong date: what is compared is text.
    last_month, high_day = month + days // 30, day + 6 if days == 7 else day
    high_day = min(high_day, 28)
    high = f"{year + (last_month - 1) // 12}{(last_month - 1) % 12 + 1:02d}{high_day:02d}"
    high = max(high, low)
    modality = rng.choice(("CT", "MR", "US", "DX", "PT"))
    wanted = [study for study in between(truth.days, low, high + "0") if modality in study.modalities]
    return _studies(truth, server, wanted, 50, StudyDate=f"{low}-{high}", ModalitiesInStudy=modality)


def _by_birth(truth: Truth, server: Server, rng: random.Random) -> Question:
    day = truth.with_value(rng, lambda study: study.patient.birth_date).patient.birth_date
    return _studies(truth, server, truth.births[day], PatientBirthDate=day)


def _by_description(truth: Truth, server: Server, rng: random.Random) -> Question:
    text = truth.with_value(rng, lambda study: study.description.isalpha() and study.description.isascii()).description
    return _studies(truth, server, truth.descriptions[text], StudyDescription=text)


def _by_referring(truth: Truth, server: Server, rng: random.Random) -> Question:
    text = truth.with_value(rng, lambda study: study.referring.isascii() and study.referring).referring
    return _studies(truth, server, truth.referring[text], ReferringPhysicianName=text)


def _by_modality(truth: Truth, _: Server, rng: random.Random) -> Question:
    modality = rng.choice(sorted(truth.modalities))
    wanted = {series.uid for series in truth.modalities[modality]}
    check = partial(check_set, key=SERIES, wanted=wanted, limit=PAGE)
    return _question("/series", check, Modality=modality, limit=str(PAGE))


def _of_series(truth: Truth, _: Server, rng: random.Random) -> Question:
    study = truth.any(rng)
    series = max(study.series, key=lambda series: series.instances)
    wanted = {series.sop(number) for number in range(series.instances)}
    check = partial(check_set, key=INSTANCE, wanted=wanted, limit=PAGE)
    return _question(f"/studies/{study.uid}/series/{series.uid}/instances", check, limit=str(PAGE))


def _of_study(truth: Truth, _: Server, rng: random.Random) -> Question:
    study = truth.any(rng)
    check = partial(check_set, key=SERIES, wanted={series.uid for series in study.series}, limit=PAGE)
    return _question(f"/studies/{study.uid}/series", check, limit=str(PAGE))


def _page(truth: Truth, share: tuple[float, float], server: Server, _: Connection, more: str = "") -> Deal:
    if server.tools_find and more:
        raise NotOffered("–")

    def deal(rng: random.Random) -> Question:
        offset = int(truth.population.studies * rng.uniform(*share))
        check = partial(check_page, truth, offset=offset, ordered=server.newest_first)
        if server.tools_find:
            return _find(check, {}, PAGE, offset)
        return Question(f"/studies?limit={PAGE}&offset={offset}{more}", clients.JSON, check, check)

    return deal


def _cursor(truth: Truth, server: Server, connection: Connection) -> Deal:
    """Pages by cursor, after walking there by cursors; each question is the page after some that was met on the way.

    Raises NotOffered where the server gives no cursor.
    """
    if not server.newest_first:
        raise NotOffered("no cursor")
    opening = Question(f"/studies?limit=200&{CURSOR}", clients.JSON, answers.check_status, answers.check_status)
    following: list[tuple[str, int]] = []
    path, at = opening.path, 0
    while at + 200 < truth.population.studies * DEEP[1]:
        answer = exchange(connection, Question(path, clients.JSON, opening.glance, opening.check), whole=True)
        after = next_page(answer)
        if after is None:
            if at:
                raise WrongAnswer(f"the last of {truth.population.studies} studies came after {at}")
            raise NotOffered("no cursor")
        at += 200
        path = after
        if at >= truth.population.studies * DEEP[0]:
            following.append((path.replace("limit=200", f"limit={PAGE}"), at))

    def deal(rng: random.Random) -> Question:
        page, offset = rng.choice(following)
        check = partial(check_page, truth, offset=offset, ordered=True)
        return Question(page, clients.JSON, check, check)

    return deal


CURSOR = "cursor=first"
"""Asks for pages by cursor."""


def next_page(answer: Answer) -> str | None:
    """Path and query of the page after this one, below the base; None where the answer names none (RFC 8288)."""
    for link in answer.headers.get("link", "").split(","):
        target, _, parameters = link.partition(">")
        if 'rel="next"' in parameters.replace("rel=next", 'rel="next"'):
            return target[target.index("/studies") :]
    return None


def found(answer: Answer, key: str) -> list[str]:
    """The UIDs of an answer, each once."""
    answers.check_status(answer, (200, 204))
    uids = [_uid(item, key) for item in json.loads(answer.body or b"[]")]
    if len(uids) != len(set(uids)):
        raise WrongAnswer(f"{len(uids) - len(set(uids))} of {len(uids)} results come twice")
    return uids


def _uid(item: dict[str, Any], key: str) -> str:
    own = item.get("MainDicomTags")
    return str(item[key]["Value"][0] if own is None else own["StudyInstanceUID"])


def check_set(answer: Answer, key: str, wanted: set[str], limit: int) -> None:
    """All that is wanted, or as much as a page holds, and nothing else."""
    uids = found(answer, key)
    if len(uids) != min(len(wanted), limit) or not wanted.issuperset(uids):
        wrong = len(set(uids) - wanted)
        raise WrongAnswer(f"{len(uids)} results, {wrong} of them wrong, where {len(wanted)} are right and {limit} fit")


def check_newest(truth: Truth, answer: Answer, wanted: Sequence[StudyPlan], limit: int, ordered: bool) -> None:
    """The first page of these studies; where they come ``ordered``, it is those that were stored last."""
    check_set(answer, STUDY, {study.uid for study in wanted}, limit)
    if ordered and len(wanted) > limit:
        least = sorted((study.number for study in wanted), reverse=True)[limit - 1] - IN_FLIGHT
        if older := [uid for uid in found(answer, STUDY) if truth.places[uid] < least]:
            raise WrongAnswer(f"{len(older)} of {limit} results are not among the newest")


def check_page(truth: Truth, answer: Answer, offset: int, ordered: bool) -> None:
    """A page full of studies, or those left; where they come ``ordered``, the right ones for ``offset``."""
    uids = found(answer, STUDY)
    left = min(PAGE, truth.population.studies - offset)
    if len(uids) != left or not truth.places.keys() >= set(uids):
        raise WrongAnswer(f"{len(uids)} studies, not the {left} of the page")
    last = truth.population.studies - 1 - offset
    if ordered and any(abs(truth.places[uid] - (last - place)) > IN_FLIGHT for place, uid in enumerate(uids)):
        raise WrongAnswer(f"the studies are not those {offset} after the newest")
