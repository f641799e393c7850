"""A cast process to be killed: ``python -m tests.cast.crash_worker DATABASE_URL TARGET SEED``.

TARGET is ``embedded`` or the base of a FHIR server. The feed is made from SEED, the same in every process.
"""

import asyncio
import random
import sys
from datetime import timedelta
from typing import Any

from hounsfield.cast import worker
from hounsfield.cast.options import CastOptions, RetryTiming
from hounsfield.cast.worker import CastWorker
from hounsfield.database.connect import open_database
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirTarget
from tests.cast.dose_report import event, num, report
from tests.cast.memory_archive import MemoryArchive, Uids, ct

BASE = "http://hospital.example/fhir"
OPTIONS = CastOptions(
    root_url="https://dicom.example.com/",
    poll_interval=timedelta(milliseconds=20),
    page_size=9,
    retry_timing=RetryTiming(base=0.02, longest=0.2, probe=0.05),
)


def archive(seed: int, length: int = 300) -> MemoryArchive:
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
            "Modality": rng.choice(["CT", "MR", None]),
            "StudyDate": rng.choice(["20200102", "2020", None]),
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


async def main(url: str, target_name: str, seed: int) -> None:
    """Cast for ever."""
    database = open_database(url)
    target: FhirTarget
    if target_name == "embedded":
        target = EmbeddedTarget(FhirStore(database, BASE), BASE)
    else:
        target = HttpFhirTarget(target_name)
    worker.LEASE_SECONDS, worker.BEAT_SECONDS = 0.4, 0.1
    print("ready", flush=True)
    await CastWorker(archive(seed), target, database, OPTIONS).run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
