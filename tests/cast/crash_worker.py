"""Cast processes that are killed: ``python -m tests.cast.crash_worker DATABASE_URL TARGET SEED LENGTH SECONDS``.

TARGET is ``embedded`` or the base of a FHIR server. The feed is made from SEED, the same in every process,
and about LENGTH entries long; a sixth argument is the Modality of all, a seventh switches the extended mapping on. No
worker but the last lives longer than SECONDS after its first request.
"""

import asyncio
import itertools
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hounsfield.cast import error_tables, rebuild_operation, replay, worker
from hounsfield.cast.options import CastOptions, RetryTiming
from hounsfield.cast.state import CastState
from hounsfield.cast.worker import CastWorker
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirTarget, Match
from hounsfield.operations import records
from hounsfield.operations.runner import Pace
from tests.cast.dose_report import event, num, report
from tests.cast.memory_archive import MemoryArchive, Uids, ct

BASE = "http://hospital.example/fhir"
OPTIONS = CastOptions(
    root_url="https://dicom.example.com/",
    poll_interval=timedelta(milliseconds=20),
    page_size=9,
    retry_timing=RetryTiming(base=0.02, longest=0.2, probe=0.05),
)


EXTENDED = replace(OPTIONS, extended_mapping=True)
DOCUMENT = "1.2.840.10008.5.1.4.1.1.104.1"


def archive(seed: int, length: int, modality: str = "") -> MemoryArchive:
    """Stores, updates, deletes, re-stores, bad values and dose reports in an order only ``seed`` knows."""
    rng = random.Random(seed)
    made = MemoryArchive()
    live: list[Uids] = []
    for number in range(length):
        if live and rng.random() < 0.12:
            made.delete(live.pop(rng.randrange(len(live))))
            continue
        study = rng.randrange(8)
        attributes: dict[str, Any] = {
            "PatientID": f"P{study % 3}" if rng.random() < 0.97 else None,
            "PatientName": f"Name^{number}",
            "PatientSex": rng.choice(["M", "F", "O", "", "X"]),
            "StudyDescription": rng.choice(["Chest", "Head", None]),
            "AccessionNumber": rng.choice(["A1", "A2", None]),
            "Modality": modality or rng.choice(["CT", "MR", None]),
            "StudyDate": rng.choice(["20200102", "2020", None]),
            # What only the extended mapping looks at.
            "StationName": f"S{number % 3}",
            "ReferringPhysicianName": f"Doctor^{number}",
            "BodyPartExamined": ["CHEST", "HEAD", None][number % 3],
            **({"SOPClassUID": DOCUMENT, "DocumentTitle": f"Letter {number}"} if number % 9 == 0 else {}),
        }
        series = rng.randrange(3)
        if live and rng.random() < 0.15:
            made.update(rng.choice(live), ct(**attributes))
            continue
        uids = (f"1.{study}", f"1.{study}.{series}", f"1.{study}.{series}.{rng.randrange(20)}")
        if uids in live:
            continue
        doses = [event(num("113838", value), uid=f"1.{value}") for value in range(rng.randrange(1, 9))]
        is_report = rng.random() < 0.08
        made.store(uids, report(*doses, **attributes) if is_report else ct(**attributes))
        live.append(uids)
    return made


class Starting:
    """A target that tells when it is first asked something."""

    def __init__(self, inner: FhirTarget, started: Callable[[], None]) -> None:
        self._inner = inner
        self._started = started
        self.endpoint = inner.endpoint
        self.capabilities = inner.capabilities
        self.pages = inner.pages
        self.transaction = inner.transaction
        self.close = inner.close

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        self._started()
        return await self._inner.search(resource_type, parameters)


def killer(seconds: float) -> Callable[[], None]:
    """Called for the first time, it lets this process die, without any warning, after so long."""
    armed = threading.Event()

    def arm() -> None:
        if not armed.is_set():
            armed.set()
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    return arm


async def is_asked_for_more(database: Database) -> bool:
    """Whether a retry or a rebuild has not come to its end."""
    return bool(await error_tables.retry_requests(database) or await records.active(database, rebuild_operation.KIND))


async def live(
    url: str, target_name: str, feed: MemoryArchive, started: Callable[[], None], options: CastOptions = OPTIONS
) -> None:
    """Cast until the feed is worked off, and whatever else is asked for."""
    database = open_database(url)
    target: FhirTarget
    if target_name == "embedded":
        target = EmbeddedTarget(FhirStore(database, BASE), BASE)
    else:
        target = HttpFhirTarget(target_name)
    state, stop = CastState(database), asyncio.Event()
    working = asyncio.create_task(CastWorker(feed, Starting(target, started), database, options).run(stop))
    latest = await feed.latest()
    while await state.position() < latest or await is_asked_for_more(database):
        await asyncio.sleep(0.01)
    stop.set()
    await working
    await target.close()
    await database.close()


def lives(
    url: str, target_name: str, seed: int, length: int, longest: float, modality: str = "", extended: str = ""
) -> int:
    """How many workers it took, each but the last killed at a moment of its work that only ``seed`` knows."""
    feed = archive(seed, length, modality)
    worker.LEASE_SECONDS, worker.BEAT_SECONDS = 0.2, 0.05
    replay.PAGE = 4
    worker.ONE_AT_A_TIME = Pace(slots=1, look=0.01, lease=0.2, beat=0.05)
    logging.disable()
    rng = random.Random(seed)
    for number in itertools.count(1):
        seconds = rng.random() * longest
        child = os.fork()
        if child == 0:
            asyncio.run(live(url, target_name, feed, killer(seconds), EXTENDED if extended else OPTIONS))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            return number
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    raise AssertionError("unreachable")


if __name__ == "__main__":
    print(lives(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), *sys.argv[6:]))
