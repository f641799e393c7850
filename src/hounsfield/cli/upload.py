"""``hounsfield upload``: sends files, folders and zip files by STOW-RS, in parallel, resumable, in flat memory.

One thread finds files and groups small ones into requests; some threads, each with its own connection, send them. The
journal is written after the server's answer, so whatever is skipped next time was acknowledged.
"""

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from hounsfield.cli.connection import (
    DEFAULT_URL,
    Answer,
    Connection,
    ConnectionBroken,
    Patience,
    Server,
    Stopped,
)
from hounsfield.cli.journal import Journal, JournalUnusable, default_path
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.sources import Scan, Source, Unreadable
from hounsfield.cli.stow import Outcome, StowBody, Verdict, verdicts
from hounsfield.cli.terminal import ProgressLine, on_terminal
from hounsfield.cli.upload_report import ReportFile, Tally

BATCH_FILES: Final = 100
"""Files in one request at most: what has to be sent again when a connection breaks."""
GRACE_SECONDS: Final = 5.0
"""After Ctrl-C: for answers to requests that are completely sent, so that they reach the journal."""
_PATIENCE_WITH_BREAKS: Final = 3
"""Requests in a row that may end in a broken connection, retries included, before the run is given up."""
_RUN_STOPPING: Final = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Statuses that would meet every other file as well."""


def upload(
    paths: Annotated[
        list[Path],
        typer.Argument(exists=True, metavar="PATH...", help="Files, folders (with all below) and zip files."),
    ],
    to: Annotated[str, server_url("--to", "send to")] = DEFAULT_URL,
    token: Token = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Requests at the same time.")] = 4,
    batch_bytes: Annotated[
        int, typer.Option(min=0, help="Small files are sent together up to this size; 0 sends each alone.")
    ] = 4 * 1024 * 1024,
    journal: Annotated[
        Path | None,
        typer.Option(help="File that remembers what was acknowledged; default: one in your state folder."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Send everything, acknowledged earlier or not.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a JSON report with every problem to this file.")] = None,
    retries: Retries = 7,
    timeout: Timeout = 300,
) -> None:
    """Send DICOM files, folders and zip files to a DICOMweb server.

    What is not DICOM is counted and left alone. Zip files are read without
    unpacking them. An instance that the server already has is no error. When
    the run is interrupted, the same command goes on where it stopped.

    Exit code: 0 all files are on the server, 1 some were rejected or could
    not be sent, 2 the server cannot be used, 130 interrupted.

    [bold]Examples[/bold]

    hounsfield upload scan.dcm /data/ct-studies archive.zip
    hounsfield upload /data --to https://pacs.example.org/dicom-web --jobs 8
    hounsfield upload /data --report report.json
    """
    server = Server.at(to, token, timeout)
    with Connection(server) as connection:
        connection.connect()
    tally = Tally(ReportFile(report) if report is not None else None)
    scan = Scan(paths)
    with contextlib.ExitStack() as stack:
        memory = _open_journal(stack, journal, server.url)
        if memory is not None and restart:
            memory.forget()
        run = Upload(server, tally, memory, jobs=jobs, batch_bytes=batch_bytes, retries=retries)
        if on_terminal():
            threading.Thread(target=_count_ahead, args=(Scan(paths), tally), daemon=True).start()
        ended = run.run(scan)
    for line in tally.finish(server.url, scan.not_dicom, ended):
        print(line)
    if ended == "interrupted":
        print("\nInterrupted. The same command goes on where it stopped.")
        raise typer.Exit(130)
    if run.fatal is not None:
        raise run.fatal
    raise typer.Exit(1 if tally.problems else 0)


def _open_journal(stack: contextlib.ExitStack, path: Path | None, url: str) -> Journal | None:
    try:
        return stack.enter_context(Journal(path or default_path(), url))
    except JournalUnusable as problem:
        if path is not None:
            raise
        typer.echo(f"hounsfield: {problem.message} Going on without: an interrupted upload starts again.", err=True)
        return None


def _count_ahead(scan: Scan, tally: Tally) -> None:
    """Finds out how much there is, for the progress bar."""
    files = 0
    for source in scan.sources():
        files += 1
        tally.total_bytes += source.size
    tally.total_files = files


class Upload:
    """One run; ``fatal`` is the reason when it was given up."""

    def __init__(
        self, server: Server, tally: Tally, journal: Journal | None, *, jobs: int, batch_bytes: int, retries: int
    ) -> None:
        self.fatal: Exception | None = None
        self._tally = tally
        self._journal = journal
        self._batch_bytes = batch_bytes
        self._stop = threading.Event()
        self._progress = ProgressLine("upload", tally.standing)
        self._patience = Patience(retries, self._stop, self._progress.note)
        self._batches: queue.Queue[list[Source] | None] = queue.Queue(2 * jobs)
        self._connections = [Connection(server) for _ in range(jobs)]
        self._one_by_one = False  # set once the server finds a batch too large
        self._breaks = 0

    def run(self, scan: Scan) -> str:
        """Sends what the scan finds; returns ``finished``, ``aborted`` (see ``fatal``) or ``interrupted``."""
        threads = [threading.Thread(target=self._work, args=(c,), daemon=True) for c in self._connections]
        ended = "finished"
        with self._progress:
            for thread in threads:
                thread.start()
            try:
                for batch in itertools.chain(self._group(scan), [None] * len(threads)):
                    if not self._put(batch):
                        break
                for thread in threads:
                    while thread.is_alive() and not self._stop.is_set():
                        thread.join(0.2)  # with a timeout, so that Ctrl-C gets through on every system
            except KeyboardInterrupt:
                self._stop.set()
                ended = "interrupted"
            if self._stop.is_set():
                self._wind_up(threads)
        return ended if self.fatal is None else "aborted"

    def _wind_up(self, threads: Sequence[threading.Thread]) -> None:
        """Lets requests that are completely sent get their answers; breaks the others."""
        end = time.monotonic() + GRACE_SECONDS
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C once more means: at once
            for thread in threads:
                thread.join(max(end - time.monotonic(), 0))
        for connection in self._connections:
            connection.abort()

    def _put(self, batch: list[Source] | None) -> bool:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._batches.put(batch, timeout=0.5)
                return True
        return False

    def _group(self, scan: Scan) -> Iterator[list[Source]]:
        """Batches of sources that the server has not acknowledged yet."""
        batch: list[Source] = []
        size = 0
        for source in scan.sources():
            self._report_unreadable(scan)
            if self._journal is not None and self._journal.knows(source):
                self._tally.skip(source.size)
                continue
            if batch and (size + source.size > self._batch_bytes or len(batch) == BATCH_FILES):
                yield batch
                batch, size = [], 0
            batch.append(source)
            size += source.size
        self._report_unreadable(scan)
        if batch:
            yield batch

    def _report_unreadable(self, scan: Scan) -> None:
        while scan.unreadable:
            problem = scan.unreadable.pop()
            self._tally.fail(problem.label, problem.message)

    def _work(self, connection: Connection) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._send(connection, batch)
        except Stopped:
            pass
        except Exception as problem:
            self.fatal = self.fatal or problem
            self._stop.set()
        finally:
            connection.close()

    def _next_batch(self) -> list[Source] | None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                return self._batches.get(timeout=0.5)
        return None

    def _send(self, connection: Connection, batch: list[Source]) -> None:
        """Sends sources until each has its verdict. Raises Stopped, or the error that makes going on senseless."""
        if self._one_by_one and len(batch) > 1:
            return self._send_singly(connection, batch)
        body = StowBody(batch, self._stop, self._tally.sent)
        try:
            answer = self._patience.try_until_answered(
                lambda: connection.ask("POST", "/studies", body.headers, body.send)
            )
        except Unreadable as problem:
            self._tally.fail(problem.label, problem.message)
            rest = [source for source in batch if source.label != problem.label]
            return self._send(connection, rest) if rest else None
        except ConnectionBroken as problem:
            self._breaks += 1
            if self._breaks > _PATIENCE_WITH_BREAKS:
                raise
            if len(batch) > 1:
                return self._send_singly(connection, batch)
            return self._tally.fail(batch[0].label, problem.message)
        self._breaks = 0
        return self._settle(connection, answer, batch)

    def _send_singly(self, connection: Connection, batch: list[Source]) -> None:
        for source in batch:
            self._send(connection, [source])

    def _settle(self, connection: Connection, answer: Answer, batch: list[Source]) -> None:
        if answer.status in _RUN_STOPPING:
            raise answer.refusal("the upload")
        if answer.status in (200, 202, 409):
            found, doubtful = verdicts(answer, batch)
            if self._journal is not None:
                self._journal.acknowledge(v.source for v in found if v.outcome is not Outcome.REJECTED)
            self._tally.judge(found)
            return self._send_singly(connection, doubtful)
        if len(batch) > 1:  # the refusal is of the whole request: find out which file is the cause
            self._one_by_one = self._one_by_one or answer.status == 413
            return self._send_singly(connection, batch)
        reason = f"HTTP {answer.status}. {answer.sentence}".strip()
        if answer.status >= 500:
            return self._tally.fail(batch[0].label, reason)
        return self._tally.judge([Verdict(batch[0], Outcome.REJECTED, reason)])
