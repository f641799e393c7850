"""The background process of ``hounsfield serve``: cleanup, operations and DICOM Cast."""

import asyncio
import os
import signal
from pathlib import Path

from hounsfield.cli import casting, processes
from hounsfield.cli.logs import configure_logging
from hounsfield.cli.process_options import ProcessOptions, published


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
        tasks.append(casting.run_embedded(options, archive.database, stop))
    await asyncio.gather(*tasks)
    await archive.codecs.close()
    await archive.files.close()
    await archive.database.close()


if __name__ == "__main__":
    processes.die_with_supervisor(published().supervisor)
    # Ctrl-C reaches the whole process group; the supervisor then ends this process in its turn.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Casting never delays a DICOM request (dicom-cast.md §2): it gets the processor time those leave.
    os.nice(19)
    asyncio.run(run(published()))
