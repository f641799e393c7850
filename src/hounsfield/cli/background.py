"""The background process of ``hounsfield serve``: cleanup, operations and DICOM Cast."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from hounsfield.cli import processes
from hounsfield.cli.logs import configure_logging
from hounsfield.cli.process_options import ProcessOptions, published
from hounsfield.errors import HounsfieldError


async def run(options: ProcessOptions) -> None:
    """Work until SIGTERM."""
    settings = options.effective
    configure_logging(settings)
    stop = await processes.until_signalled(signal.SIGTERM)
    archive = processes.open_archive(settings, Path(options.data_dir))
    tasks = []
    if options.worker:
        tasks.append(processes.run_worker(archive, settings, Path(options.data_dir), stop))
    if options.cast:
        from hounsfield.cli import casting

        tasks.append(casting.run_embedded(options, archive.database, stop))
    await asyncio.gather(*tasks)
    await archive.codecs.close()
    await archive.files.close()
    await archive.database.close()


def main() -> None:
    """The whole life of the process; the options come from the parent's environment."""
    options = published()
    processes.die_with_supervisor(options.supervisor)
    # Casting never delays a DICOM request (dicom-cast.md §2): it gets the processor time those leave.
    os.nice(19)
    processes.calm_garbage_collector()
    try:
        asyncio.run(run(options))
    except HounsfieldError as error:
        print(f"hounsfield: {error.message}", file=sys.stderr)
        raise SystemExit(2) from error
