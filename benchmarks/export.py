"""How fast export writes, beside a writer that does nothing else to the same place: ``python -m benchmarks.export``.

Destinations are a local folder, and with ``--azure URL`` a container whose address has a signature (Azurite's will do).
Both write the same files, eight at a time, round by round in turns: the raw writer from memory, each file synced and
renamed in a folder, one request a file to a container. An export counts from the moment it is running.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks import servers
from benchmarks.studies import CT, Instance, Series

AT_A_TIME = 8
FILES_A_REQUEST = 50
LOOK_SECONDS = 0.01
MEGABYTE = 1e6


def store(client: httpx.Client, instances: Sequence[Instance]) -> None:
    """Have the server keep what will be exported."""
    headers = {
        "content-type": 'multipart/related; type="application/dicom"; boundary=b',
        "accept": "application/dicom+json",
    }
    for start in range(0, len(instances), FILES_A_REQUEST):
        parts = [instance.file() for instance in instances[start : start + FILES_A_REQUEST]]
        body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts) + b"--b--"
        client.post("/v2/studies", content=body, headers=headers).raise_for_status()


def exported(client: httpx.Client, study: str, destination: dict[str, Any], count: int) -> tuple[str, float]:
    """Export the study; its operation's id and the seconds it ran."""
    source = {"type": "identifiers", "settings": {"values": [study]}}
    answer = client.post("/v2/export", json={"source": source, "destination": destination}).raise_for_status()
    started: float | None = None
    while True:
        operation = client.get(answer.json()["href"]).json()
        if operation["status"] != "notStarted" and started is None:
            started = time.perf_counter()
        if operation["status"] not in ("notStarted", "running"):
            break
        time.sleep(LOOK_SECONDS)
    assert started is not None and operation["status"] == "succeeded", operation
    assert (operation["results"]["exported"], operation["results"]["skipped"]) == (count, 0), operation
    return operation["operationId"], time.perf_counter() - started


def raw_folder(root: Path, files: Sequence[bytes]) -> float:
    """Seconds to write, sync and rename the files."""
    target = root / secrets.token_hex(8)
    target.mkdir()

    def write(number: int) -> None:
        temporary = target / f"{number}.part"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(descriptor, files[number])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(target / f"{number}.dcm")

    begun = time.perf_counter()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(write, range(len(files))))
    return time.perf_counter() - begun


def raw_container(address: str, files: Sequence[bytes]) -> float:
    """Seconds to put the files as blobs."""

    async def run() -> float:
        place, _, signature = address.partition("?")
        folder = secrets.token_hex(8)
        gate = asyncio.Semaphore(AT_A_TIME)
        headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-08-06"}
        async with httpx.AsyncClient(timeout=60) as client:

            async def put(number: int) -> None:
                async with gate:
                    url = f"{place}/raw-{folder}/{number}.dcm?{signature}"
                    (await client.put(url, content=files[number], headers=headers)).raise_for_status()

            begun = time.perf_counter()
            await asyncio.gather(*(put(number) for number in range(len(files))))
            return time.perf_counter() - begun

    return asyncio.run(run())


def compare(name: str, size: int, rounds: int, raw: Callable[[], float], export: Callable[[], float]) -> None:
    """Both in turns; a line with the medians."""
    raws, exports = [], []
    for _ in range(rounds):
        raws.append(size / MEGABYTE / raw())
        exports.append(size / MEGABYTE / export())
    share = statistics.median(exports) / statistics.median(raws)
    print(
        f"| {name} | {statistics.median(raws):.0f} | {statistics.median(exports):.0f} | {share:.0%} | "
        f"{', '.join(f'{one / other:.0%}' for one, other in zip(exports, raws, strict=True))} |",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000, help="CT slices of 512 KB (1,000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--azure", help="address of a container with a signature")
    parser.add_argument("--work-dir", type=Path, default=Path("/var/tmp"), help="on the disk that matters")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.work_dir, prefix="hounsfield-export-") as name:
        work = Path(name)
        (work / "target").mkdir()
        # One spelling is as good as the other.
        os.environ["EXPORT__SINKS__FOLDER__ALLOWEDDIRECTORIES__0"] = str(work / "target")
        server = servers.start_archive("hounsfield", work / "data", work)
        try:
            _measure(options, f"http://{server.base.host}:{server.base.port}", work / "target")
        finally:
            server.stop()
    return 0


def _measure(options: argparse.Namespace, root: str, target: Path) -> None:
    series = Series(CT, int(time.time()), 0)
    instances = [series.instance(number) for number in range(options.files)]
    with httpx.Client(base_url=root, timeout=120) as client:
        store(client, instances)
        files = [instance.file() for instance in instances]
        size = sum(map(len, files))
        print("| Destination | Raw MB/s | Export MB/s | Share | Each round |\n|---|---|---|---|---|")

        def to(destination: dict[str, Any]) -> Callable[[], float]:
            return lambda: exported(client, series.study, destination, len(files))[1]

        folder = {"type": "folder", "settings": {"path": str(target)}}
        operation_id, _ = exported(client, series.study, folder, len(files))
        last = target / operation_id / "results" / series.study / series.uid / f"{instances[-1].sop}.dcm"
        assert last.read_bytes() == files[-1]
        compare("a folder", size, options.rounds, lambda: raw_folder(target, files), to(folder))
        if options.azure:
            container = {"type": "azureBlob", "settings": {"blobContainerUri": options.azure}}
            compare("a container", size, options.rounds, lambda: raw_container(options.azure, files), to(container))


if __name__ == "__main__":
    sys.exit(main())
