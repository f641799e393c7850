"""How long the FHIR side needs to catch up after a modality has stored: Hounsfield only, one storing client.

The clock for catching up starts with the last acknowledged store and stops when ``GET /cast/status`` says that
everything in the change feed is synced; then the FHIR resource of the first study must hold all its instances.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.answers import check_status
from benchmarks.clients import STUDY_SIZE, store
from benchmarks.load import WrongAnswer
from benchmarks.servers import Server
from benchmarks.studies import CT, Series
from benchmarks.wire import Base, Connection

POLL_SECONDS = 0.02
LIMIT_SECONDS = 600.0
CAST_STUDIES_FROM = 95_000_000
ROUND_STUDIES = 1_000


@dataclass(frozen=True)
class CastSample:
    """One round: instances stored, their rate, entries waiting when the last was stored, seconds to none waiting."""

    stored: int
    store_rate: float
    waiting: int
    catch_up: float

    @property
    def rate(self) -> float:
        """Instances a second from the first store to the last FHIR resource."""
        return self.stored / (self.stored / self.store_rate + self.catch_up)


def measure(server: Server, seed: int, turn: int, seconds: float) -> CastSample:
    """Stores 512 KB CT instances with one client for ``seconds``, one a request, and waits for FHIR to follow.

    Raises WrongAnswer when it does not, or when the ImagingStudy is not what was stored.
    """
    first = CAST_STUDIES_FROM + turn * ROUND_STUDIES
    root = Base(server.base.host, server.base.port, "")
    stored = 0
    with Connection(server.base) as storing, Connection(root) as watching:
        start = time.perf_counter()
        while (end := time.perf_counter()) - start < seconds:
            instance = Series(CT, seed, first + stored // STUDY_SIZE).instance(stored % STUDY_SIZE)
            store(storing, [instance])
            stored += 1
        waiting = _waiting(watching)
        while _waiting(watching):
            if time.perf_counter() - end > LIMIT_SECONDS:
                raise WrongAnswer(f"FHIR is still behind {LIMIT_SECONDS:.0f} s after the last store")
            time.sleep(POLL_SECONDS)
        done = time.perf_counter()
        _check_study(watching, Series(CT, seed, first).study, min(stored, STUDY_SIZE))
    return CastSample(stored, stored / (end - start), waiting, done - end)


def _waiting(connection: Connection) -> int:
    """Change feed entries FHIR does not show yet."""
    status = _json(connection, "/cast/status")
    if not status["enabled"]:
        raise WrongAnswer("this server does not cast: GET /cast/status says enabled is false")
    return int(status["latestSequence"] or 0) - int(status["syncedSequence"] or 0)


def _check_study(connection: Connection, study: str, instances: int) -> None:
    bundle = _json(connection, f"/fhir/ImagingStudy?identifier=urn:oid:{study}")
    found = [entry["resource"] for entry in bundle.get("entry", ())]
    counts = [sum(len(series["instance"]) for series in resource["series"]) for resource in found]
    if counts != [instances]:
        raise WrongAnswer(f"FHIR has {len(found)} ImagingStudy of {counts} instances for a study of {instances}")


def _json(connection: Connection, path: str) -> dict[str, Any]:
    answer = connection.exchange([connection.base.get(path, "application/json, application/fhir+json")], whole=True)
    check_status(answer)
    found: dict[str, Any] = json.loads(answer.body)
    return found
