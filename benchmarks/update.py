"""What a bulk update of one large study costs: ``python -m benchmarks.update``.

The study's files are copied durably first, by as many threads as the update writes at a time: what the disk allows.
While the update runs one client stores small instances, one a request, and another reads the metadata of the study,
which must be wholly old or wholly new.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isal import isal_zlib

from benchmarks import servers
from benchmarks.answers import check_status
from benchmarks.clients import JSON, load, store
from benchmarks.load import WrongAnswer, percentile
from benchmarks.processes import MemoryWatch
from benchmarks.servers import Server
from benchmarks.studies import CT, SMALL, Collection, Series
from benchmarks.wire import Connection

NAME = "Updated^By Benchmark"
THREADS = 8
"""As many files as the update writes at a time (archive/update.py)."""
ALONE_SECONDS = 10.0
STORE_SECONDS = 0.05
"""Pause between two stores, which are to be delayed and not to delay."""
READ_SECONDS = 1.0
"""Pause between two looks at the study."""
POLL_SECONDS = 0.2
LIMIT_SECONDS = 3_600.0
PIECE = 1 << 18
"""Of metadata that are looked at, in bytes."""
_STORING_STUDY = 10_000_000
"""Far from the study that is updated."""


@dataclass(frozen=True)
class Update:
    """What was seen. Times in seconds."""

    instances: int
    bytes: int
    copied: float
    updated: float
    memory: int
    """Most of all processes of the server together, in bytes."""
    alone: list[float]
    beside: list[float]
    looks: int


@contextmanager
def _again_and_again(act: Any) -> Iterator[list[float]]:
    """Calls ``act`` in a thread until the end; how long each call took. Raises what it raised."""
    stop, took, trouble = threading.Event(), [], []

    def run() -> None:
        try:
            while not stop.is_set():
                start = time.perf_counter()
                pause = act() or 0.0
                took.append(time.perf_counter() - start)
                stop.wait(pause)
        except Exception as error:  # told below
            trouble.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()
    if trouble:
        raise WrongAnswer(f"a client beside the update failed: {trouble[0]}")


def _storing(server: Server, seed: int, study: int) -> Any:
    connection, series, numbers = Connection(server.base), Series(SMALL, seed, study), iter(range(10_000_000))

    def act() -> float:
        store(connection, [series.instance(next(numbers))])
        return STORE_SECONDS

    return act


def _counted(packed: bytes | bytearray, *words: bytes) -> list[int]:
    """How often each word is in a gzip file. Quickly, and a piece at a time: who looks is not to take what is measured.

    A word is counted where it ends: what is left of the piece before is shorter than the word.
    """
    inflate, counts, before = isal_zlib.decompressobj(31), [0] * len(words), b""
    while packed and not inflate.eof:
        text = before + inflate.decompress(packed, PIECE)
        packed = inflate.unconsumed_tail
        for number, word in enumerate(words):
            counts[number] += text.count(word, max(0, len(before) - len(word) + 1))
        before = text[-max(map(len, words)) :]
    return counts


def _looking(server: Server, study: Collection) -> Any:
    connection, path = Connection(server.base), f"/studies/{study.series().study}/metadata"

    def act() -> float:
        lines = [f"Accept: {JSON}", "Accept-Encoding: gzip"]
        request = connection.base.get(path, JSON).replace(b"\r\n\r\n", b"\r\n%s\r\n\r\n" % lines[1].encode())
        answer = connection.exchange([request], whole=True)
        check_status(answer)
        new, all_ = _counted(answer.body, NAME.encode(), b'"00080018"')
        if new not in (0, len(study)) or all_ != len(study):
            raise WrongAnswer(f"{new} of {len(study)} instances had the new name")
        return READ_SECONDS

    return act


def _json(connection: Connection, path: str) -> dict[str, Any]:
    answer = connection.exchange([connection.base.get(path, "application/json")], whole=True)
    check_status(answer, (200, 202))
    found: dict[str, Any] = json.loads(answer.body)
    return found


def _update(connection: Connection, study: Collection) -> dict[str, Any]:
    """The operation once it has ended."""
    dataset = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": NAME}]}}
    body = json.dumps({"studyInstanceUids": [study.series().study], "changeDataset": dataset}).encode()
    request = connection.base.post("/studies/$bulkUpdate", "application/json", "application/json", len(body))
    answer = connection.exchange([request, body], whole=True)
    check_status(answer, (202,))
    path = f"/operations/{json.loads(answer.body)['id']}"
    until = time.monotonic() + LIMIT_SECONDS
    while (state := _json(connection, path))["status"] in ("notStarted", "running"):
        if time.monotonic() > until:
            raise WrongAnswer("the update takes too long")
        time.sleep(POLL_SECONDS)
    return state


def copy_durably(files: Sequence[Path], target: Path) -> float:
    """Copies files, each synced; how many seconds that took."""

    def one(numbered: tuple[int, Path]) -> None:
        number, file = numbered
        with file.open("rb") as source, (target / str(number)).open("wb") as made:
            left = os.fstat(source.fileno()).st_size
            while left:
                left -= os.copy_file_range(source.fileno(), made.fileno(), left)
            os.fsync(made.fileno())

    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, enumerate(files)))
    return time.perf_counter() - start


def measure(server: Server, data_dir: Path, study: Collection, alone_seconds: float = ALONE_SECONDS) -> Update:
    """Raises WrongAnswer when the update does not succeed, or a reader sees something between."""
    load(server.base, study)
    files = sorted((data_dir / "dicom" / study.series().study).rglob("*.dcm"))
    size = sum(file.stat().st_size for file in files)
    copies = data_dir / "copies"
    copies.mkdir()
    copied = copy_durably(files, copies)
    shutil.rmtree(copies)
    with _again_and_again(_storing(server, study.seed, _STORING_STUDY)) as alone:
        time.sleep(alone_seconds)
    with (
        Connection(server.base) as connection,
        MemoryWatch(server.roots) as memory,
        _again_and_again(_storing(server, study.seed, _STORING_STUDY + 1)) as beside,
        _again_and_again(_looking(server, study)) as looks,
    ):
        start = time.perf_counter()
        state = _update(connection, study)
        updated = time.perf_counter() - start
    if state["status"] != "succeeded" or state["results"]["instanceUpdated"] != len(study):
        raise WrongAnswer(f"the update is {state['status']}: {state['results']}")
    return Update(len(study), size, copied, updated, memory.peak, alone, beside, len(looks))


def tell(found: Update) -> str:
    """The figures."""
    speed = found.bytes / found.updated / 1e6
    limit = found.bytes / found.copied / 1e6
    lines = [
        f"{found.instances:,} instances, {found.bytes / 1e9:.2f} GB: **{found.updated:.1f} s**, {speed:,.0f} MB/s; "
        f"copying them durably takes {found.copied:.1f} s, {limit:,.0f} MB/s: **{speed / limit:.2f}** of that",
        f"memory of the whole server: {found.memory / 1e6:,.0f} MB at most; {found.looks} looks at the study",
        "",
        "| Store beside it | p50 ms | p95 ms | longest ms |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, latencies in (("alone", found.alone), ("while the study is updated", found.beside)):
        ordered = sorted(latencies)
        values = [1e3 * value for value in (percentile(ordered, 0.5), percentile(ordered, 0.95), ordered[-1])]
        lines.append(f"| {name}, {len(ordered):,} | {' | '.join(f'{value:.1f}' for value in values)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; 1 when an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.update", description=__doc__)
    parser.add_argument("--instances", type=int, default=10_000, help="CT slices of 512 KB (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--alone", type=float, default=ALONE_SECONDS, help="seconds of stores before (%(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("/var/tmp"), help="where all is kept (%(default)s)")
    options = parser.parse_args(argv)
    study = Collection(CT, options.seed, 1, 1, options.instances)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.work_dir)))
            server = servers.start_archive("hounsfield", folder / "data", folder)
            stack.callback(server.stop)
            print(tell(measure(server, folder / "data", study, options.alone)))
    except (RuntimeError, OSError, WrongAnswer) as error:
        print(f"The run failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
