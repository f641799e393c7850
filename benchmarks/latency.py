"""How long one user waits for an answer from a server that is warm and has nothing else to do, or a storm of renders.

Rates say what a server can do; these rows say what somebody sitting in front of a viewer notices.
"""

import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Barrier, Event

from benchmarks import answers, clients
from benchmarks.clients import WHOLE_EVERY, AskingClient, Question, ask, exchange, judge
from benchmarks.load import PATIENCE_SECONDS, WrongAnswer, percentile
from benchmarks.processes import cpu_seconds
from benchmarks.servers import Server
from benchmarks.studies import DEEP, FRAGMENTED, PLAIN, Collection, Instance
from benchmarks.wire import Base, Connection
from benchmarks.workloads import (
    LOADED_FROM,
    Deal,
    Profile,
    ct_study,
    frame_question,
    glancing,
    instance_question,
    is_metadata,
    pictures,
    rendered_question,
    same_length,
    study_question,
)

WARM_UP_ANSWERS = 3
LEAST_ANSWERS = 5
"""Even when they take longer than a round."""
STORM_CLIENTS = 8


class NotOffered(Exception):
    """The server has no such thing, and does not claim to."""


@dataclass(frozen=True)
class LatencySample:
    """One round: seconds, answers timed, and what the storm beside them got."""

    median: float
    p95: float
    answers: int
    pictures: float | None = None
    """Pictures a second all clients of the storm together got meanwhile; None without a storm."""
    processor: float | None = None
    """Processor seconds of the server's processes an answer, of searches; other work adds little to it."""


@dataclass(frozen=True)
class LatencyRow:
    """A probe and the samples of every server, round by round; a sentence for one that was wrong or had none."""

    name: str
    samples: dict[str, list[LatencySample]]
    against: str | None = None
    """Name of the row this one is compared with."""
    wrong: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """One row: ``begin`` asks what has to be known first, with whole answers, and returns what deals the questions."""

    name: str
    collections: tuple[Collection, ...]
    begin: Callable[[Server, Connection], Deal]
    first_byte: bool = False
    """Whether the clock stops with the first byte of the body."""
    storm: Deal | None = None
    """What other clients ask for meanwhile."""
    against: str | None = None
    beside_nginx: bool = False
    whole: bool = False
    """Whether every answer is read whole and checked fully after its time was taken."""

    def runs_on(self, server: Server) -> bool:
        """Whether the row means something for this server."""
        return server.files is None or self.beside_nginx


def probes(profile: Profile) -> list[Probe]:
    """The rows in the order they are run."""
    study = ct_study(profile)
    series = Collection(PLAIN, profile.seed, LOADED_FROM, 1, profile.long_series or profile.slices)
    attributes = len(series.series().instance(0).metadata())
    title = f"series of {series.instances}, {attributes} attributes each"
    rows = [
        Probe(
            f"First byte of a study of {study.instances} × 512 KB",
            (study,),
            partial(_study, study),
            first_byte=True,
            beside_nginx=True,
        ),
        Probe(f"Metadata of a {title}", (series,), partial(_metadata, series), beside_nginx=True),
        Probe(
            f"304 to If-None-Match: metadata of a {title}", (series,), partial(_unchanged, series), beside_nginx=True
        ),
    ]
    for kind, name in ((DEEP, "native"), (FRAGMENTED, "encapsulated")) if profile.deep else ():
        rows += _frames(Collection(kind, profile.seed, LOADED_FROM, 1, 1), name)
    alone = f"Single instance, 512 KB, of {study.instances}"
    deal = partial(instance_question, study)
    shown = pictures(profile)
    return [
        *rows,
        Probe(alone, (study, shown), lambda *_: deal),
        Probe(
            f"The same while {STORM_CLIENTS} clients ask for rendered pictures",
            (study, shown),
            lambda *_: deal,
            storm=partial(rendered_question, shown),
            against=alone,
        ),
    ]


def _frames(collection: Collection, encoding: str) -> list[Probe]:
    instance = collection.series().instance(0)
    last = collection.kind.frames
    title = f"of a {last:,}-frame object, {encoding}"
    first = f"Frame 1 {title}"
    rows = [
        Probe(
            f"Frame {number:,} {title}",
            (collection,),
            partial(_frame, instance, number),
            against=None if number == 1 else first,
        )
        for number in (1, last // 2, last)
    ]
    if not collection.kind.encapsulated:
        rows.append(Probe(f"Range of the file: frame {last:,} {title}", (collection,), partial(_range, instance, last)))
    return rows


def _study(study: Collection, _: Server, connection: Connection) -> Deal:
    whole = partial(study_question, study, sum(instance.size for instance in study))
    ask(connection, whole(random.Random()), whole=True)
    return partial(glancing, whole)


def _metadata(series: Collection, server: Server, connection: Connection) -> Deal:
    question = _metadata_question(series, server)
    length = ask(connection, question, whole=True).length
    found = Question(question.path, question.accept, partial(same_length, length), question.check)
    return lambda _: found


def _metadata_question(series: Collection, server: Server) -> Question:
    check = partial(is_metadata, series, server.whole_metadata)
    return Question(f"{series.series().path}/metadata", clients.JSON, check, check)


def _unchanged(series: Collection, server: Server, connection: Connection) -> Deal:
    question = _metadata_question(series, server)
    tag = ask(connection, question, whole=True).headers.get("etag")
    if tag is None:
        raise NotOffered("no ETag")
    check = answers.check_unchanged
    found = Question(question.path, question.accept, check, check, f"If-None-Match: {tag}")
    return lambda _: found


def _frame(instance: Instance, number: int, *_: object) -> Deal:
    question = frame_question(instance, number)
    return lambda _: question


def _range(instance: Instance, number: int, _: Server, connection: Connection) -> Deal:
    """One part of the file, not of a multipart body: the bytes of a frame, wherever the server found them."""
    content, start = instance.frame(number), instance.frame_start(number)
    check = partial(answers.check_range, content=content, start=start, size=instance.size)
    header = f"Range: bytes={start}-{start + len(content) - 1}"
    question = Question(instance.path, clients.ONE_FILE, check, check, header)
    if exchange(connection, question, whole=False).status in (200, 400, 406):
        raise NotOffered("no Range")
    return lambda _: question


def measure(probe: Probe, server: Server, turn: int, seconds: float) -> LatencySample:
    """Asks for ``seconds``, one question after another on one connection.

    Every 16th answer is checked whole and not timed, as keeping it takes the client's time, unless the probe has all
    of them checked. Raises WrongAnswer, and NotOffered when the server has nothing to measure here.
    """
    rng = random.Random(turn)
    with Connection(server.base) as connection:
        deal = probe.begin(server, connection)
        for _ in range(WARM_UP_ANSWERS):
            ask(connection, deal(rng), whole=True)
        if probe.storm is None:
            used = cpu_seconds(server.roots())
            found = _sample(_latencies(connection, deal, rng, probe, seconds))
            if not probe.whole:
                return found
            return replace(found, processor=(cpu_seconds(server.roots()) - used) / found.answers)
        with Storm(server.base, probe.storm, turn) as storm:
            latencies = _latencies(connection, deal, rng, probe, seconds)
        return _sample(latencies, storm.rate)


def _sample(latencies: list[float], pictures_a_second: float | None = None) -> LatencySample:
    ordered = sorted(latencies)
    return LatencySample(percentile(ordered, 0.5), percentile(ordered, 0.95), len(ordered), pictures_a_second)


def _latencies(connection: Connection, deal: Deal, rng: random.Random, probe: Probe, seconds: float) -> list[float]:
    found: list[float] = []
    asked = 0
    end = time.perf_counter() + seconds
    while len(found) < LEAST_ANSWERS or time.perf_counter() < end:
        asked += 1
        if asked % WHOLE_EVERY == 0 and not probe.whole:
            ask(connection, deal(rng), whole=True)
        else:
            found.append(_timed(connection, deal(rng), probe))
    return found


def _timed(connection: Connection, question: Question, probe: Probe) -> float:
    """Seconds from the first byte sent to the last (or first) byte of the body; checking is not in them."""
    begun: list[float] = []
    start = time.perf_counter()
    tell = (lambda: begun.append(time.perf_counter())) if probe.first_byte else None
    answer = exchange(connection, question, whole=probe.whole, begun=tell)
    end = begun[0] if probe.first_byte else time.perf_counter()
    judge(connection, question, answer, whole=probe.whole)
    return end - start


class Storm:
    """Clients that ask, one process each; begins when it is made.

    As a context: all have an answer when it is entered, and end with it; then ``rate`` is known. Entering and
    leaving it raise WrongAnswer with the first client's trouble.
    """

    def __init__(self, base: Base, deal: Deal, turn: int, number: int = STORM_CLIENTS) -> None:
        self.rate = 0.0
        context = multiprocessing.get_context("fork")
        self._barrier, self._over = context.Barrier(number + 1), context.Event()
        self._pipes: list[Pipe] = []
        self._children: list[ForkProcess] = []
        for index in range(number):
            receiver, sender = context.Pipe(duplex=False)
            work = (base, deal, turn * 1000 + index, self._barrier, self._over, sender)
            self._children.append(context.Process(target=_rain, args=work, daemon=True))
            self._children[-1].start()
            sender.close()
            self._pipes.append(receiver)

    def __enter__(self) -> "Storm":
        try:
            self._barrier.wait(PATIENCE_SECONDS)
        except threading.BrokenBarrierError:
            self._end()  # a client says why
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._end()
        except WrongAnswer:
            if kind is None:  # else the one timed was wrong before
                raise

    def _end(self) -> None:
        self._over.set()
        results: list[float | str] = []
        for receiver in self._pipes:
            try:
                results.append(receiver.recv())
            except EOFError:
                results.append("a client process of the storm died")
        for child in self._children:
            child.join()
        troubles = [result for result in results if isinstance(result, str)]
        if troubles:
            raise WrongAnswer(next((trouble for trouble in troubles if trouble != _TOLD_TO_END), troubles[0]))
        self.rate = sum(result for result in results if isinstance(result, float))


_TOLD_TO_END = "a client of the storm was told to end"


def _rain(base: Base, deal: Deal, seed: int, barrier: Barrier, over: Event, pipe: Pipe) -> None:
    result: float | str = _TOLD_TO_END
    try:
        client = AskingClient(base, deal, seed, always_whole=False)
        client.step()
        barrier.wait(PATIENCE_SECONDS)
        start, done = time.perf_counter(), 0
        while not over.is_set():
            done += client.step()
        result = done / (time.perf_counter() - start)
    except threading.BrokenBarrierError:
        pass
    except Exception as error:  # whatever it is, the parent process must hear of it
        result = f"in the storm: {error or type(error).__name__}"
    finally:
        if isinstance(result, str):
            barrier.abort()
        pipe.send(result)
