"""The work that is measured: which data it needs, what a client does, what a right answer is.

One row of the report is one Workload. Store rows compare with the disk, retrieve and frame rows with nginx.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

from benchmarks import answers, clients, nginx, phantom
from benchmarks.clients import AskingClient, Question, StoringClient, ask
from benchmarks.load import Client
from benchmarks.servers import Server
from benchmarks.studies import CINE, CT, DEEP, LARGE, PICTURE, SMALL, Collection, Instance, Kind
from benchmarks.wire import Answer, Connection

ROW_STUDIES = 1_000_000
"""Study numbers are dealt out so that no two stores, whatever row, round and client, send the same."""
ROUND_STUDIES = 50_000
CLIENT_STUDIES = 2_000
LOADED_FROM = 80_000_000
"""Study numbers of collections; those of store rows lie below."""
PREPARED = 16_384
"""Questions kept, so that asking one again costs the machine no more than sending it."""
DEALT = 4_000
"""Questions dealt before there are clients, which are forked and so have what was kept: nearly all there are of 200
instances, each of which takes longer to make than a server takes to answer."""
PAGE = 50
PICTURES = 50

Deal = Callable[[random.Random], Question]


@dataclass(frozen=True)
class Profile:
    """How much is measured."""

    seed: int
    rounds: int
    seconds: float
    clients: tuple[int, ...]
    batch_clients: tuple[int, ...]
    study_clients: tuple[int, ...]
    search_clients: tuple[int, ...]
    studies: int
    slices: int
    long_series: int
    deep: bool


@dataclass(frozen=True)
class Workload:
    """One row: ``client(server, round, index)`` makes a client, ``scale`` turns items into the unit shown."""

    name: str
    group: str
    clients: int
    unit: str
    client: Callable[[Server, int, int], Client]
    collection: Collection | None = None
    checks: tuple[Deal, ...] = ()
    scale: float = 1.0
    beside_disk: Kind | None = None
    beside_nginx: bool = False

    def prepare(self, server: Server, loaded: set[tuple[str, Collection]]) -> None:
        """Brings the data the row needs to the server, and checks whole answers before anything is timed."""
        if self.collection is not None:
            provide(server, self.collection, loaded)
        for deal in self.checks[:1]:
            rng = random.Random(0)
            for _ in range(DEALT):
                deal(rng)
        self.verify(server)

    def verify(self, server: Server) -> None:
        """Whole answers, compared with what is stored."""
        with Connection(server.base) as connection:
            for number, deal in enumerate(self.checks):
                ask(connection, deal(random.Random(number)), whole=True)

    def runs_on(self, server: Server) -> bool:
        """Whether the row means something for this server."""
        return server.files is None or self.beside_nginx


def provide(server: Server, collection: Collection, loaded: set[tuple[str, Collection]]) -> None:
    """Brings a collection to the server unless it is there."""
    if (server.name, collection) not in loaded:
        if server.files is None:
            clients.load(server.base, collection)
        else:
            nginx.publish(collection, server.files)
        loaded.add((server.name, collection))


def workloads(profile: Profile, group: str) -> list[Workload]:
    """The rows of a group in the order they are run. Rows of the same data follow each other."""
    makers = {
        "store": _stores,
        "retrieve": _retrieves,
        "metadata": _metadata,
        "frames": _frames,
        "rendered": _rendered,
        "query": _queries,
    }
    return makers[group](profile) if group in makers else []


def _stores(profile: Profile) -> list[Workload]:
    rows: list[Workload] = []
    shapes = [("512 KB CT", CT, 1), ("512 KB CT", CT, 50), ("8 KB", SMALL, 1), ("8 KB", SMALL, 50)]
    if profile.deep:
        shapes.append(("30 MB", LARGE, 1))
    for title, kind, a_request in shapes:
        for count in profile.clients if a_request == 1 else profile.batch_clients:
            first = len(rows) * ROW_STUDIES
            rows.append(
                Workload(
                    f"Store {title}, {a_request} a request",
                    "store",
                    count,
                    "instances/s",
                    partial(_storing, profile.seed, kind, first, a_request, count),
                    beside_disk=kind if a_request == 1 else None,
                )
            )
    return rows


def _storing(
    seed: int, kind: Kind, first: int, a_request: int, count: int, server: Server, turn: int, index: int
) -> Client:
    study = first + turn * ROUND_STUDIES + index * CLIENT_STUDIES
    return StoringClient(server.base, kind, seed, study, a_request, count)


def _asking(deal: Deal, always_whole: bool, server: Server, turn: int, index: int) -> Client:
    return AskingClient(server.base, deal, turn * 1000 + index, always_whole)


def ct_study(profile: Profile) -> Collection:
    """The study that is retrieved: slices of 512 × 512."""
    return Collection(CT, profile.seed, LOADED_FROM, 1, profile.slices)


def _retrieves(profile: Profile) -> list[Workload]:
    study = ct_study(profile)
    payload = sum(instance.size for instance in study)
    whole = partial(study_question, study, payload)
    single = partial(instance_question, study)
    rows = [
        Workload(
            f"Study as stored, {len(study)} × 512 KB",
            "retrieve",
            count,
            "MB/s",
            partial(_asking, partial(glancing, whole), False),
            study,
            checks=(whole,),
            scale=payload / 1e6,
            beside_nginx=True,
        )
        for count in profile.study_clients
    ]
    return [
        *rows,
        Workload(
            "Single instances, 512 KB",
            "retrieve",
            8,
            "instances/s",
            partial(_asking, single, False),
            study,
            checks=(single,) * 3,
            beside_nginx=True,
        ),
    ]


def glancing(deal: Deal, rng: random.Random) -> Question:
    """The same question with its full check given up: hashing 100 MB would take the servers' processor."""
    question = deal(rng)
    return Question(question.path, question.accept, question.glance, question.glance)


def study_question(study: Collection, payload: int, _: random.Random) -> Question:
    """The whole study as it is stored."""
    return Question(
        f"/studies/{study.series().study}",
        clients.DICOM,
        partial(answers.check_length, payload=payload, parts=len(study)),
        partial(answers.check_files, instances=study),
    )


def instance_question(study: Collection, rng: random.Random) -> Question:
    """One instance of the study as it is stored."""
    return _instance_question(study, rng.randrange(study.instances))


@lru_cache(maxsize=PREPARED)
def _instance_question(study: Collection, number: int) -> Question:
    instance = study.instance(number)
    return Question(
        instance.path,
        clients.DICOM,
        partial(answers.check_length, payload=instance.size, parts=1),
        partial(_is_file, instance),
    )


def _is_file(instance: Instance, answer: Answer) -> None:
    answers.check_part(answer, instance.head, instance.pixels)


def _metadata(profile: Profile) -> list[Workload]:
    study = ct_study(profile)
    shapes = [study]
    if profile.long_series:
        shapes.append(Collection(SMALL, profile.seed, LOADED_FROM, 1, profile.long_series))
    rows = [
        Workload(
            f"Metadata of a series of {series.instances}",
            "metadata",
            1,
            "answers/s",
            partial(_asking_metadata, series),
            series,
            beside_nginx=True,
        )
        for series in shapes
    ]
    single = partial(_asking_metadata_of_one, study)
    return [*rows, Workload("Metadata of one instance", "metadata", 8, "answers/s", single, study, beside_nginx=True)]


def _asking_metadata(series: Collection, server: Server, turn: int, index: int) -> Client:
    """Checks one whole answer, then that every other has its length."""
    check = partial(is_metadata, series, server.whole_metadata)
    path = f"{series.series().path}/metadata"
    with Connection(server.base) as connection:
        first = ask(connection, Question(path, clients.JSON, check, check), whole=True)
    same = partial(same_length, first.length)
    return AskingClient(server.base, lambda _: Question(path, clients.JSON, same, same), turn * 1000 + index, False)


def _asking_metadata_of_one(study: Collection, server: Server, turn: int, index: int) -> Client:
    """Of instances chosen at random. Checks two whole answers, then that every other has the length of one of these.

    Positions are the only values of different lengths, as servers leave out the fraction of every other.
    """
    instances = list(study)

    def question(number: int, glance: Callable[[Answer], None] | None = None) -> Question:
        instance = instances[number]
        check = partial(is_metadata, [instance], server.whole_metadata)
        return Question(f"{instance.path}/metadata", clients.JSON, glance or check, check)

    with Connection(server.base) as connection:
        lengths = [ask(connection, question(number), whole=True).length for number in range(min(2, study.instances))]

    def deal(rng: random.Random) -> Question:
        number = rng.randrange(study.instances)
        return question(number, partial(same_length, lengths[number % 2]))

    return AskingClient(server.base, deal, turn * 1000 + index, False)


def is_metadata(instances: Iterable[Instance], whole: bool, answer: Answer) -> None:
    """Metadata of exactly these instances; with ``whole`` all standard attributes of each."""
    answers.check_metadata(answer, [instance.metadata() for instance in instances], whole)


def same_length(length: int, answer: Answer) -> None:
    """Status 200 and as long as an answer that was compared whole."""
    answers.check_status(answer)
    answers.check_same_length(answer, length)


def _frames(profile: Profile) -> list[Workload]:
    study = ct_study(profile)
    cine = Collection(CINE, profile.seed, LOADED_FROM, 1, 1)
    shapes = [("Frame of a 100-frame object, 256 KB", cine, 8), ("Frame of single-frame objects, 512 KB", study, 8)]
    if profile.deep:
        shapes.append(("Frame of a 10,000-frame object, 4 KB", Collection(DEEP, profile.seed, LOADED_FROM, 1, 1), 1))
    rows = []
    for name, collection, count in shapes:
        deal = partial(_any_frame, collection)
        asking = partial(_asking, deal, False)
        published = collection.kind is not DEEP  # 10,000 files would say nothing new
        rows.append(
            Workload(name, "frames", count, "frames/s", asking, collection, (deal,) * 3, beside_nginx=published)
        )
    return rows


def _any_frame(collection: Collection, rng: random.Random) -> Question:
    return _frame_question(collection, rng.randrange(collection.instances), rng.randint(1, collection.kind.frames))


@lru_cache(maxsize=PREPARED)
def _frame_question(collection: Collection, instance: int, number: int) -> Question:
    return frame_question(collection.instance(instance), number)


def frame_question(instance: Instance, number: int) -> Question:
    """Frame ``number`` (from 1) as it is stored."""
    return Question(
        f"{instance.path}/frames/{number}",
        clients.FRAMES,
        partial(answers.check_length, payload=instance.series.kind.frame_bytes, parts=1),
        partial(_is_frame, instance, number),
    )


def _is_frame(instance: Instance, number: int, answer: Answer) -> None:
    answers.check_part(answer, instance.frame(number))


def _rendered(profile: Profile) -> list[Workload]:
    study = pictures(profile)
    deal = partial(rendered_question, study)
    return [
        Workload(
            "Rendered frame, 512 × 512 JPEG",
            "rendered",
            count,
            "pictures/s",
            partial(_asking, deal, False),
            study,
            checks=(deal,) * 5,
        )
        for count in profile.study_clients
    ]


def pictures(profile: Profile) -> Collection:
    """The study whose slices are rendered."""
    return Collection(PICTURE, profile.seed, LOADED_FROM, 1, min(profile.slices, PICTURES))


def rendered_question(study: Collection, rng: random.Random) -> Question:
    """One slice as JPEG; window and quality are said, as servers differ in what they choose (PS3.18 §8.3.5)."""
    instance = study.series().instance(rng.randrange(study.instances))
    kind = study.kind
    return Question(
        f"{instance.path}/rendered?window={phantom.CENTER},{phantom.WIDTH},linear&quality={phantom.QUALITY}",
        clients.JPEG,
        partial(answers.check_picture, rows=kind.rows, columns=kind.columns),
        partial(answers.check_same_picture, instance=instance),
    )


def _queries(profile: Profile) -> list[Workload]:
    many = Collection(SMALL, profile.seed, LOADED_FROM + 1000, profile.studies, 1)
    shapes: list[tuple[str, Deal]] = [
        ("StudyInstanceUID", partial(_study_query, many, "StudyInstanceUID")),
        ("PatientID", partial(_study_query, many, "PatientID")),
        (f"week of StudyDate, {PAGE} a page", partial(_date_query, many, study_dates(many))),
    ]
    return [
        Workload(
            f"Search by {name} in {profile.studies:,} studies",
            "query",
            count,
            "searches/s",
            partial(_asking, deal, True),
            many,
            checks=(deal,) * 5,
        )
        for name, deal in shapes
        for count in profile.search_clients
    ]


def study_dates(many: Collection) -> list[str]:
    """StudyDate of every study of the collection, ascending."""
    return sorted(many.series(study).study_date for study in range(many.studies))


def _study_query(many: Collection, attribute: str, rng: random.Random) -> Question:
    series = many.series(rng.randrange(many.studies))
    value = series.study if attribute == "StudyInstanceUID" else series.patient_id
    check = partial(answers.check_study, study=series.study, patient_id=series.patient_id)
    return Question(f"/studies?{attribute}={value}", clients.JSON, check, check)


def _date_query(many: Collection, dates: list[str], rng: random.Random) -> Question:
    first = f"{rng.randint(2015, 2024)}{rng.randint(1, 12):02d}{rng.randint(1, 21):02d}"
    last = f"{int(first) + 6}"
    there = bisect_right(dates, last) - bisect_left(dates, first)
    check = partial(answers.check_dates, first=first, last=last, least=min(there, PAGE), most=PAGE)
    return Question(f"/studies?StudyDate={first}-{last}&limit={PAGE}", clients.JSON, check, check)
