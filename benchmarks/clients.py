"""Clients of a DICOMweb service: one that stores, one that asks."""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice

from benchmarks.answers import check_part, check_stored
from benchmarks.load import WrongAnswer
from benchmarks.studies import Collection, Instance, Kind, Series
from benchmarks.wire import Answer, Base, Connection

DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
JSON = "application/dicom+json"
JPEG = "image/jpeg"
ONE_FILE = "application/dicom; transfer-syntax=*"
"""Not multipart: what a range of bytes is asked of."""
BOUNDARY = b"benchmark-7f3a91c4"
STUDY_SIZE = 200
"""Instances of a study that a storing client sends before it begins the next."""
PREPARED_INSTANCES = 4000
"""Instances built before the clock starts, all clients together."""
WHOLE_EVERY = 16
"""One answer in so many is read whole and compared byte for byte; of the others status and length are checked."""
LOADERS = 4
LOAD_BATCH = 50
LOAD_BATCH_BYTES = 64 << 20


def store(connection: Connection, instances: Sequence[Instance]) -> None:
    """Stores the instances with one request. Raises WrongAnswer unless all of them are acknowledged."""
    answer = connection.exchange(store_request(connection.base, instances), whole=True)
    check_stored(answer, [instance.sop for instance in instances])


def store_request(base: Base, instances: Sequence[Instance]) -> list[bytes]:
    """A STOW-RS request (PS3.18 §10.5) in the buffers it is sent in."""
    buffers = [b""]
    for instance in instances:
        buffers += (
            b"--%s\r\nContent-Type: application/dicom\r\n\r\n" % BOUNDARY,
            instance.head,
            instance.pixels,
            b"\r\n",
        )
    buffers.append(b"--%s--\r\n" % BOUNDARY)
    content_type = f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}'
    buffers[0] = base.post("/studies", content_type, JSON, sum(map(len, buffers)))
    return buffers


def load(base: Base, collection: Collection) -> None:
    """Stores a collection, unmeasured, as fast as the server takes it."""
    size = max(1, min(LOAD_BATCH, LOAD_BATCH_BYTES // collection.series().instance(0).size))
    waiting = iter(collection)
    batches = iter(lambda: list(islice(waiting, size)), [])
    connections = deque(Connection(base) for _ in range(LOADERS))

    def put(batch: list[Instance]) -> None:
        connection = connections.popleft()
        store(connection, batch)
        connections.append(connection)

    with ThreadPoolExecutor(LOADERS) as pool:
        for group in iter(lambda: list(islice(batches, 4 * LOADERS)), []):
            list(pool.map(put, group))
    for connection in connections:
        connection.close()


class StoringClient:
    """Stores new instances, a number a request, study after study."""

    def __init__(self, base: Base, kind: Kind, seed: int, first_study: int, a_request: int, clients: int) -> None:
        self._connection = Connection(base)
        self._connection.open()
        self._a_request = a_request
        self._endless = self._instances(kind, seed, first_study)
        ready = max(a_request, PREPARED_INSTANCES // clients // a_request * a_request)
        self._ready = deque(islice(self._endless, ready))
        self._stored: list[Instance] = []
        self._random = random.Random(first_study)

    @staticmethod
    def _instances(kind: Kind, seed: int, first_study: int) -> Iterator[Instance]:
        for study in count(first_study):
            series = Series(kind, seed, study)
            for number in range(STUDY_SIZE):
                yield series.instance(number)

    def step(self) -> int:
        """One store request."""
        batch = [self._ready.popleft() if self._ready else next(self._endless) for _ in range(self._a_request)]
        store(self._connection, batch)
        self._stored += batch
        return len(batch)

    def finish(self) -> None:
        """The last instance and some others must come back as they were sent."""
        for instance in [self._stored[-1], *self._random.choices(self._stored, k=3)]:
            answer = self._connection.exchange([self._connection.base.get(instance.path, DICOM)], whole=True)
            check_part(answer, instance.head, instance.pixels)
        self._connection.close()


@dataclass(frozen=True)
class Question:
    """A request, what its answer must look like from outside, and the full check of a whole answer."""

    path: str
    accept: str
    glance: Callable[[Answer], None]
    check: Callable[[Answer], None]
    header: str = ""
    """One more header line."""
    body: bytes = b""
    """JSON; a question that has one is a POST request."""


class AskingClient:
    """Sends the questions it is dealt, one after another, on one connection."""

    def __init__(self, base: Base, deal: Callable[[random.Random], Question], seed: int, always_whole: bool) -> None:
        self._connection = Connection(base)
        self._connection.open()
        self._deal = deal
        self._random = random.Random(seed)
        self._whole_every = 1 if always_whole else WHOLE_EVERY
        self._asked = seed % self._whole_every

    def step(self) -> int:
        """One question and its answer."""
        question = self._deal(self._random)
        # One whose full check was given up is not received whole for nothing.
        whole = self._asked % self._whole_every == 0 and question.check is not question.glance
        self._asked += 1
        ask(self._connection, question, whole)
        return 1

    def finish(self) -> None:
        """Nothing was changed, so nothing is left to check."""
        self._connection.close()


def ask(connection: Connection, question: Question, whole: bool) -> Answer:
    """Sends a question; a whole answer is checked fully, another by status and length. Raises WrongAnswer."""
    answer = exchange(connection, question, whole)
    judge(connection, question, answer, whole)
    return answer


def exchange(
    connection: Connection, question: Question, whole: bool, begun: Callable[[], None] | None = None
) -> Answer:
    """Sends a question and reads the answer; ``begun`` is told of the first byte of its body. Nothing is checked."""
    base = connection.base
    if question.body:
        head = base.post(question.path, "application/json", question.accept, len(question.body))
        return connection.exchange([head, question.body], whole=whole, begun=begun)
    return connection.exchange([base.get(question.path, question.accept, question.header)], whole=whole, begun=begun)


def judge(connection: Connection, question: Question, answer: Answer, whole: bool) -> None:
    """Checks an answer, fully if it was read whole. Raises WrongAnswer, which names the question."""
    try:
        (question.check if whole else question.glance)(answer)
    except WrongAnswer as error:
        raise WrongAnswer(f"GET {connection.base}{question.path}: {error}") from error
