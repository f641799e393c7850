"""A hospital's archive: which studies of which patients it holds, and every file of them. The seed decides everything.

Shares of modalities, series a study and instances a series are those of a general hospital, with the large ones (CT,
MR) scaled down so that the number of instances asked for comes out. Study numbers follow the study date, as an archive
grows; the last of the fifteen years holds seven times the studies of the first.
"""

import random
import statistics
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

from benchmarks.people import Patient, patient, physicians

FIRST_DAY = date(2010, 11, 1)
YEARS = 15
DAYS = 365 * YEARS
PATIENTS_A_STUDY = 0.55
PHYSICIANS = 400
LARGEST_SERIES = 2_000


class Modality(NamedTuple):
    """What a modality makes: its share of the studies in per cent, the series a study, the instances a series."""

    name: str
    sop_class: str
    share: float
    series: tuple[int, int]
    instances: float
    """Median; the spread is log-normal, as long as it is not 1."""
    models: tuple[str, ...]
    descriptions: tuple[str, ...]


MODALITIES = (
    Modality(
        "DX",
        "1.2.840.10008.5.1.4.1.1.1.1",
        25,
        (1, 2),
        1,
        ("DigitalDiagnost", "Ysio Max", "DRX-Evolution"),
        ("XR Chest PA and lateral", "XR Knee left", "XR Knee right", "XR Hand", "XR Pelvis", "Röntgen Thorax"),
    ),
    Modality(
        "CR",
        "1.2.840.10008.5.1.4.1.1.1",
        18,
        (1, 2),
        1,
        ("FCR 5000", "DX-G", "CR 975"),
        ("Chest AP portable", "Abdomen", "Wrist 2 views", "Ankle 3 views", "Foot", "Spine lumbar"),
    ),
    Modality(
        "US",
        "1.2.840.10008.5.1.4.1.1.6.1",
        17,
        (1, 1),
        12,
        ("LOGIQ E9", "EPIQ 7", "Aplio 500"),
        ("US Abdomen complete", "US Thyroid", "US Renal", "US OB 2nd trimester", "Duplex carotid"),
    ),
    Modality(
        "CT",
        "1.2.840.10008.5.1.4.1.1.2",
        14,
        (2, 5),
        50,
        ("SOMATOM Force", "Revolution CT", "Aquilion ONE", "Brilliance 64"),
        (
            "CT Chest with contrast",
            "CT Abdomen and pelvis",
            "CT Head without contrast",
            "CT Angio pulmonary",
            "CT Lung",
        ),
    ),
    Modality(
        "MR",
        "1.2.840.10008.5.1.4.1.1.4",
        9,
        (4, 9),
        24,
        ("MAGNETOM Skyra", "SIGNA Premier", "Ingenia 3.0T"),
        ("MRI Brain with and without", "MR Knee left", "MR Lumbar spine", "MR Schädel", "MRI Prostate"),
    ),
    Modality(
        "MG",
        "1.2.840.10008.5.1.4.1.1.1.2",
        8,
        (1, 4),
        1,
        ("Selenia Dimensions", "Senographe Pristina"),
        ("Mammo screening bilateral", "Mammo diagnostic left"),
    ),
    Modality(
        "XA",
        "1.2.840.10008.5.1.4.1.1.12.1",
        3,
        (1, 8),
        2,
        ("Artis Q", "Azurion 7"),
        ("Coronary angiography", "PTA iliac", "Cerebral angiography"),
    ),
    Modality(
        "PT",
        "1.2.840.10008.5.1.4.1.1.128",
        2,
        (1, 2),
        60,
        ("Biograph mCT", "Discovery MI"),
        ("PET/CT skull base to mid-thigh", "PET Brain FDG"),
    ),
    Modality(
        "NM",
        "1.2.840.10008.5.1.4.1.1.20",
        2,
        (1, 3),
        1,
        ("Symbia Intevo", "Discovery NM630"),
        ("Bone scan whole body", "Thyroid uptake", "Myocardial perfusion"),
    ),
    Modality(
        "OT",
        "1.2.840.10008.5.1.4.1.1.7",
        2,
        (1, 1),
        1,
        ("Film Digitizer",),
        ("Outside films", "Photo", "Scanned document"),
    ),
)
SR = Modality("SR", "1.2.840.10008.5.1.4.1.1.88.33", 0, (1, 1), 1, ("Report Server",), ("Structured report",))
BY_NAME = {modality.name: modality for modality in (*MODALITIES, SR)}
REPORTED = 0.12
"""Share of the studies with a report beside their images."""
_SHARES = list(accumulate(modality.share for modality in MODALITIES))


class SeriesPlan(NamedTuple):
    """A series and how many instances it has. Its instances are numbered from 0 here, from 1 in their files."""

    uid: str
    modality: str
    number: int
    model: str
    instances: int

    def sop(self, number: int) -> str:
        """SOP Instance UID of instance ``number``."""
        if self.uid.startswith("2.25."):
            return f"2.25.{_hash(f'{self.uid}/{number}')}"
        return f"{self.uid}.{number + 1}"


class StudyPlan(NamedTuple):
    """A study; empty text where an attribute has no value."""

    number: int
    uid: str
    patient: Patient
    day: str
    time: str
    accession: str
    description: str
    referring: str
    series: tuple[SeriesPlan, ...]

    @property
    def modalities(self) -> set[str]:
        """Of its series."""
        return {series.modality for series in self.series}

    @property
    def instances(self) -> int:
        """How many there are."""
        return sum(series.instances for series in self.series)


class _Shape(NamedTuple):
    """Modality and instances, series by series."""

    series: list[tuple[str, int]]


class Population:
    """``studies`` studies of ``instances`` instances together; at least one each.

    ``all`` are the studies in the order they are stored. Raises ValueError for fewer instances than studies.
    """

    def __init__(self, seed: int, studies: int, instances: int) -> None:
        if not 0 < studies <= instances:
            raise ValueError("a population needs studies, and at least as many instances")
        self.seed, self.studies, self.instances = seed, studies, instances
        rng = random.Random(f"population {seed} {studies} {instances}")
        patients = [patient(rng, number) for number in range(max(1, round(studies * PATIENTS_A_STUDY)))]
        referring = physicians(rng, min(PHYSICIANS, studies))
        days = sorted(int(DAYS * rng.random() ** 0.65) for _ in range(studies))
        shapes = _shapes(rng, studies, instances)
        self.all = [
            _study(rng, seed, number, days[number], shape, patients, referring) for number, shape in enumerate(shapes)
        ]
        self._ends = list(accumulate(study.instances for study in self.all))

    def slice(self, first: int, last: int) -> Iterator[tuple[StudyPlan, SeriesPlan, int]]:
        """Instances ``first`` up to ``last`` (exclusive) of all, with their studies, series, and numbers in these."""
        number = bisect_right(self._ends, first)
        at = self._ends[number - 1] if number else 0
        while at < min(last, self.instances):
            study = self.all[number]
            for series in study.series:
                if at + series.instances > first:
                    for instance in range(max(0, first - at), min(series.instances, last - at)):
                        yield study, series, instance
                at += series.instances
                if at >= last:
                    return
            number += 1


def _shapes(rng: random.Random, studies: int, instances: int) -> list[_Shape]:
    """Series of every study; the instances beyond one a study are scaled to the number asked for."""
    drawn = [_drawn(rng) for _ in range(studies)]
    # One instance a series where there is room for that, else one series a study.
    if sum(len(shape.series) for shape in drawn) > instances:
        drawn = [_Shape([shape.series[0]]) for shape in drawn]
    least = sum(len(shape.series) for shape in drawn)
    more = sum(count - 1 for shape in drawn for _, count in shape.series)
    factor = min(1.0, (instances - least) / more) if more else 0.0
    scaled = [
        _Shape([(modality, 1 + int((count - 1) * factor)) for modality, count in shape.series]) for shape in drawn
    ]
    missing = instances - sum(count for shape in scaled for _, count in shape.series)
    while missing:
        for shape in scaled[:: max(1, studies // missing)][:missing]:
            modality, count = shape.series[-1]
            shape.series[-1] = modality, count + 1
            missing -= 1
    return scaled


def _drawn(rng: random.Random) -> _Shape:
    (modality,) = rng.choices(MODALITIES, cum_weights=_SHARES)
    series = [(modality.name, _count(rng, modality.instances)) for _ in range(rng.randint(*modality.series))]
    if modality.name == "PT":
        series.append(("CT", _count(rng, BY_NAME["CT"].instances)))
    if rng.random() < REPORTED:
        series.append(("SR", 1))
    return _Shape(series)


def _count(rng: random.Random, median: float) -> int:
    if median == 1:
        return 1 if rng.random() < 0.8 else 2
    return min(LARGEST_SERIES, max(1, round(median * rng.lognormvariate(0, 0.9))))


def _study(
    rng: random.Random,
    seed: int,
    number: int,
    day: int,
    shape: _Shape,
    patients: Sequence[Patient],
    referring: Sequence[str],
) -> StudyPlan:
    modality = BY_NAME[shape.series[0][0]]
    # Random UIDs and those of a device that counts: an index grows in one place with these, everywhere with those.
    if rng.random() < 0.5:
        uid = f"2.25.{_hash(f'{seed}/{number}')}"
    else:
        uid = f"1.2.840.113619.2.{rng.randint(5, 400)}.{rng.randint(10**8, 10**9 - 1)}.{number}"
    model = rng.choice(modality.models)
    # Few patients come often, most once or twice.
    who = patients[int(len(patients) * rng.random() ** 1.5)]
    when = FIRST_DAY + timedelta(days=day)
    return StudyPlan(
        number,
        uid,
        who,
        "" if rng.random() < 0.003 else when.strftime("%Y%m%d"),
        f"{rng.randint(6, 21):02d}{rng.randint(0, 59):02d}{rng.randint(0, 59):02d}",
        "" if rng.random() < 0.03 else f"{when.year % 100}{modality.name}{seed % 100:02d}{number:08d}",
        "" if rng.random() < 0.08 else rng.choice(modality.descriptions),
        "" if rng.random() < 0.15 else rng.choice(referring),
        tuple(
            SeriesPlan(
                f"2.25.{_hash(f'{uid}/{place}')}" if uid.startswith("2.25.") else f"{uid}.{place + 1}",
                name,
                place + 1,
                model if name == modality.name else BY_NAME[name].models[0],
                count,
            )
            for place, (name, count) in enumerate(shape.series)
        ),
    )


def _hash(text: str) -> int:
    """As random as a UUID, the same every time."""
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest())


def describe(population: Population) -> str:
    """The population in a sentence."""
    sizes = [study.instances for study in population.all]
    series = sum(len(study.series) for study in population.all)
    return (
        f"{population.studies:,} studies, {series:,} series, {population.instances:,} instances of "
        f"{len({study.patient.id for study in population.all}):,} patients; instances a study: median "
        f"{statistics.median(sizes):g}, most {max(sizes):,}; seed {population.seed}"
    )
