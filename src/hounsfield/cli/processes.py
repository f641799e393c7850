"""What each process of a server is made of, put together from the settings."""

import asyncio
import ctypes
import gc
import os
import signal
import sys
from pathlib import Path

from hounsfield.archive.archive import Archive, Recompression
from hounsfield.archive.codec_processes import Limits
from hounsfield.archive.version_files import UpdateOptions
from hounsfield.cli.process_options import database_url
from hounsfield.cli.store_settings import delete_delay, object_store
from hounsfield.database.connect import open_database
from hounsfield.errors import SettingsError, StoreUnavailable
from hounsfield.operations.cleanup import CleanupOptions
from hounsfield.operations.export.opening import Opener, Sinks
from hounsfield.operations.job import Job
from hounsfield.operations.reindex import reindex_job
from hounsfield.operations.runner import OperationRunner
from hounsfield.operations.update import update_job
from hounsfield.operations.worker import BackgroundWorker
from hounsfield.security.sealing import Seal
from hounsfield.settings import Settings
from hounsfield.storage.object_store import ObjectStore
from hounsfield.storage.spool import Spool
from hounsfield.storage.urls import open_store

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def die_with_supervisor(supervisor: int) -> None:
    """Have the kernel end this process when the supervisor, its parent, dies: a killed server leaves no port taken.

    By force: SIGTERM would be lost in the moment between two runs of the event loop, and nobody would send another.
    """
    if sys.platform == "linux":
        # A forked process has the supervisor's handler, which would do nothing here. The server sets its own later.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            # It died before it could be asked for.
            os.kill(os.getpid(), signal.SIGKILL)


def calm_garbage_collector() -> None:
    """Look for reference cycles seldom: reading a header makes tens of thousands of objects and hardly a cycle.

    Measured on an object with 10,000 frames, whose header takes half the time this way.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def keep_freed_memory() -> None:
    """Have the C library keep up to 8 MiB it frees for the next file, rather than give it back at once (glibc).

    Getting it back costs one page fault for every 4 KiB: measured, half the processor time of sending a 512 KB file.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
            library.mallopt(_M_TRIM_THRESHOLD, 8 << 20)


def open_object_store(settings: Settings, data_dir: Path) -> ObjectStore:
    """The object store the settings mean, or files in the data directory. Raises SettingsError."""
    url, options = object_store(settings)
    try:
        return open_store(url, options, data_dir / "dicom")
    except StoreUnavailable as error:
        place = url or data_dir / "dicom"
        raise SettingsError(f"Files cannot be kept in {place} (ObjectStore:Url): {_reason(error)}.") from error


def spool_directory(settings: Settings, data_dir: Path) -> Path:
    """Where large uploads wait: below ASPNETCORE_TEMP, or in the data directory."""
    temporary = settings.text("ASPNETCORE_TEMP")
    return Path(temporary) / "hounsfield-spool" if temporary else data_dir / "spool"


def open_spool(settings: Settings, data_dir: Path) -> Spool:
    """The spool in that folder. Raises SettingsError."""
    directory = spool_directory(settings, data_dir)
    try:
        return Spool(directory)
    except StoreUnavailable as error:
        raise SettingsError(f"Uploads cannot wait in {directory} (ASPNETCORE_TEMP): {_reason(error)}.") from error


def _reason(error: StoreUnavailable) -> str:
    """What the system said about a folder."""
    cause = error.__cause__
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else error.message.rstrip(".")


def open_archive(settings: Settings, data_dir: Path, spool: Spool | None = None) -> Archive:
    """Index and object store of this process; ``spool`` if it answers requests."""
    return Archive(
        database=open_database(database_url(settings, data_dir)),
        files=open_object_store(settings, data_dir),
        delete_delay=delete_delay(settings),
        max_transcoded_bytes=settings.number("DicomServer:Services:Retrieve:MaxDicomFileSize"),
        spool=spool,
        full_validation=settings.flag("DicomServer:Features:EnableFullDicomItemValidation"),
        recompression=recompression(settings),
    )


def recompression(settings: Settings) -> Recompression | None:
    """DicomServer:Services:Recompression; None where it is off."""
    section = "DicomServer:Services:Recompression"
    if not settings.flag(f"{section}:Enabled"):
        return None
    return Recompression(
        keep_original=settings.flag(f"{section}:KeepOriginal"),
        minimum_bytes=settings.number(f"{section}:MinimumBytes"),
        turns=asyncio.Semaphore(max(1, Limits().processes - 1)),
    )


def cleanup_options(settings: Settings) -> CleanupOptions:
    """DicomServer:Services:DeletedInstanceCleanup."""
    section = "DicomServer:Services:DeletedInstanceCleanup"
    return CleanupOptions(
        max_retries=settings.number(f"{section}:MaxRetries"),
        retry_back_off=settings.duration(f"{section}:RetryBackOff"),
        polling_interval=settings.duration(f"{section}:PollingInterval"),
        batch_size=settings.number(f"{section}:BatchSize"),
    )


def operation_jobs(archive: Archive, settings: Settings, data_dir: Path) -> list[Job]:
    """The kinds of long-running operations this program can do."""
    # Its formats and destinations are of no use to processes that answer requests.
    from hounsfield.operations.export.job import Batching, Exporter

    section = "DicomServer:Services:UpdateServiceSettings"
    options = UpdateOptions(
        small=settings.number(f"{section}:LargeDicomItemsizeInBytes"),
        window=settings.number(f"{section}:StageBlockSizeInBytes"),
    )
    section = "DicomFunctions:Export:Batching"
    work = spool_directory(settings, data_dir).with_name("export-work")
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    exporter = Exporter(
        archive,
        seal(settings, data_dir),
        export_opener(settings).open,
        work,
        Batching(settings.number(f"{section}:Size"), settings.number(f"{section}:MaxParallelCount")),
    )
    return [reindex_job(archive.database), update_job(archive, options), exporter.job()]


def seal(settings: Settings, data_dir: Path) -> Seal:
    """What encrypts the secrets of operations. Raises SettingsError."""
    return Seal(settings.text("Operations:EncryptionKey"), data_dir)


def export_opener(settings: Settings) -> Opener:
    """``Export:Sinks``."""
    section = "Export:Sinks"
    return Opener(
        Sinks(
            allow_sas=settings.flag(f"{section}:AzureBlob:AllowSasTokens"),
            allow_public=settings.flag(f"{section}:AzureBlob:AllowPublicAccess"),
            s3=settings.flag(f"{section}:S3:Enabled"),
            s3_environment=settings.flag(f"{section}:S3:AllowServerCredentials"),
            folders=tuple(Path(each) for each in settings.strings(f"{section}:Folder:AllowedDirectories")),
        )
    )


async def run_worker(archive: Archive, settings: Settings, data_dir: Path, stop: asyncio.Event) -> None:
    """Cleanup and sweeps, where no other process does them, and operations, until ``stop`` is set."""
    jobs = operation_jobs(archive, settings, data_dir)
    kinds = [job.kind for job in jobs]
    await asyncio.gather(
        BackgroundWorker(archive.database, archive.files, cleanup_options(settings), kinds).run(stop),
        OperationRunner(archive.database, jobs).run(stop),
    )


async def until_signalled(*signals: signal.Signals) -> asyncio.Event:
    """An event that any of ``signals`` sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    return stop
