"""Series as NIfTI volumes, by dcm2niix, the converter neuroimaging has settled on.

It is a program of its own, which comes with the extra ``nifti`` or as a package of the system; it runs on a copy of the
files of one series, as a process that can do nothing to ours but fail.
"""

import asyncio
import contextlib
import fcntl
import functools
import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hounsfield.operations.export.destinations import Content, Destination
from hounsfield.operations.export.folder import read_chunks
from hounsfield.operations.export.formats import Pages
from hounsfield.operations.export.sources import ItemSkipped, Sources

SECONDS = 1800.0
"""How long one series may take."""
PREFIX = "nifti-"
"""Directories of files under way begin so."""
KEPT = (".nii.gz", ".bval", ".bvec")


def converter() -> str | None:
    """The path of dcm2niix, None where there is none."""
    package = importlib.util.find_spec("dcm2niix")
    for place in package.submodule_search_locations or () if package is not None else ():
        program = Path(place) / "dcm2niix"
        if program.is_file() and os.access(program, os.X_OK):
            return str(program)
    return shutil.which("dcm2niix")


async def put_volumes(destination: Destination, sources: Sources, name: str, pages: Pages) -> int:
    """Convert the series in ``pages`` and write its volumes as ``<name>.nii.gz``; returns how many files were written.

    Where it makes several, their names have what dcm2niix tells them apart by. Raises ItemSkipped for a series that
    cannot be converted, wholly or in part.
    """
    program = converter()
    if program is None:
        raise ItemSkipped("This server has no dcm2niix: install the extra, hounsfield[nifti].")
    with _directory(sources.work) as directory:
        given, made = directory / "in", directory / "out"
        given.mkdir()
        made.mkdir()
        number = 0
        async for page in pages():
            for instance in page:
                content = await sources.content(instance)
                await _copy(content, given / f"{number:06d}.dcm")
                number += 1
        await _run(program, made, given)
        files = sorted(path for path in made.iterdir() if path.name.endswith(KEPT))
        if not any(path.name.endswith(".nii.gz") for path in files):
            raise ItemSkipped("The series cannot be converted to NIfTI.")
        for path in files:
            content = Content(functools.partial(read_chunks, path), path.stat().st_size, path)
            await destination.put(f"{name}{path.name.removeprefix('volume')}", content)
        return len(files)


async def _copy(content: Content, target: Path) -> None:
    if content.path is not None:
        # A name beside it costs nothing; across file systems it is a copy.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(os.link, content.path, target)
            return
    with target.open("wb") as file:
        async for chunk in content.chunks():
            await asyncio.to_thread(file.write, chunk)


async def _run(program: str, made: Path, given: Path) -> None:
    """Raises ItemSkipped. What it prints may name patients, so nobody reads it."""
    command = [program, "-z", "y", "-b", "n", "-f", "volume", "-w", "1", "-o", str(made), str(given)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(SECONDS):
            code = await process.wait()
    except TimeoutError:
        raise ItemSkipped("The conversion of the series to NIfTI takes too long.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code != 0:
        raise ItemSkipped(f"The series cannot be converted to NIfTI (dcm2niix ended with {code}).")


@contextlib.contextmanager
def _directory(work: Path) -> Iterator[Path]:
    """A new directory in ``work``, gone afterwards; those of processes that were killed go, too."""
    for left in work.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=work))
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)
