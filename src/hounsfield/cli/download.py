"""``hounsfield download``: WADO-RS into files named by their identifiers, resumable, in flat memory.

First the server is asked which instances there are (QIDO-RS), then for those that are not on disk yet: the whole
study or series in one answer where nothing of it is there; else, or if that is refused, instance by instance. Every
part goes to a temporary file, gets its name from the identifiers in its own header, and appears under it only when it
is complete.
"""

import contextlib
import http.client
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from hounsfield.cli.connection import (
    DEFAULT_URL,
    Answer,
    Connection,
    ConnectionBroken,
    Patience,
    RequestRefused,
    Server,
)
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.received_files import ReceivedFiles
from hounsfield.cli.search import list_instances
from hounsfield.cli.terminal import ProgressLine, Standing, printable, size_text, time_text
from hounsfield.dicom import uid
from hounsfield.web.content_type import MalformedMediaType, boundary_of, parse_content_type
from hounsfield.web.multipart import MalformedMultipart, MultipartReader, PartData, PartEnd, PartStart

CHUNK: Final = 256 * 1024
MAX_REFUSALS: Final = 10
"""Requests refused in a row before the server is taken to refuse everything."""
REFUSAL_BYTES: Final = 65536
"""Bytes of an error's body that are read."""
SHOWN_MISSING: Final = 20
"""Missing instances named on the screen."""


def download(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID.")],
    from_: Annotated[str, server_url("--from", "load from")] = DEFAULT_URL,
    to: Annotated[Path, typer.Option("--to", file_okay=False, help="Folder for the files; made if absent.")] = Path(),
    series: Annotated[str | None, typer.Option(help="Only this series: its Series Instance UID.")] = None,
    instance: Annotated[str | None, typer.Option(help="Only this instance of --series: its SOP Instance UID.")] = None,
    transfer_syntax: Annotated[str, typer.Option(help="UID of the transfer syntax wanted; * means as stored.")] = "*",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Load files again that are there already.")] = False,
    token: Token = None,
    retries: Retries = 7,
    timeout: Timeout = 300,
) -> None:
    """Save a study, a series or an instance as DICOM files.

    Every instance becomes DIR/STUDY/SERIES/INSTANCE.dcm, complete or not at
    all. Files that are there already are not loaded again, so the same
    command goes on after an interruption.

    Exit code: 0 every instance the server lists is there, 1 some are missing,
    2 the server cannot be used, 130 interrupted.

    [bold]Examples[/bold]

    hounsfield download 1.2.840.113619.2.1 --to studies
    hounsfield download 1.2.3 --series 1.2.3.4 --from https://pacs.example.org/dicom-web
    hounsfield download 1.2.3 --transfer-syntax 1.2.840.10008.1.2.1
    """
    for name, value in (("STUDY", study), ("--series", series), ("--instance", instance)):
        if value is not None and not uid.is_valid(value):
            raise typer.BadParameter(f"{name} {printable(value)!r} is no UID: digits and dots, at most 64 characters.")
    if instance is not None and series is None:
        raise typer.BadParameter("--instance needs --series: the server finds an instance only through its series.")
    if transfer_syntax != "*" and not uid.is_valid(transfer_syntax):
        raise typer.BadParameter("--transfer-syntax wants * or a UID such as 1.2.840.10008.1.2.1.")
    study = uid.normalise(study)
    files = ReceivedFiles(to, study, overwrite)
    with Connection(Server.at(from_, token, timeout)) as connection, files:
        run = Download(connection, files, study, transfer_syntax, retries)
        try:
            run.run(series and uid.normalise(series), instance and uid.normalise(instance))
        except KeyboardInterrupt:
            print("Interrupted. Complete files are kept; the same command goes on where it stopped.")
            raise typer.Exit(130) from None
    for line in run.report():
        print(line)
    raise typer.Exit(0 if run.complete else 1)


class _Target(NamedTuple):
    """One request: the path below the base URL, and whom it names if it is for a single instance."""

    resource: str
    instance: tuple[str, str] | None = None


@dataclass(slots=True)
class Download:
    """One run: what is wanted, what has arrived, what went wrong."""

    connection: Connection
    files: ReceivedFiles
    study: str
    transfer_syntax: str
    retries: int
    wanted: set[tuple[str, str]] | None = None
    """(series, instance) the server lists; None when it does not tell."""
    problems: list[str] = field(default_factory=list)
    _there_before: int = 0
    _singly: bool = False
    _refused: set[tuple[str, str]] = field(default_factory=set)
    _refusals_in_a_row: int = 0
    _patience: Patience = field(init=False)
    _started: float = field(default_factory=time.monotonic)

    @property
    def complete(self) -> bool:
        """Whether everything that the server lists is on disk, and nothing went wrong."""
        return not self.problems and not self.files.problems and not self.files.missing(self.wanted or ())

    def run(self, series: str | None, instance: str | None) -> None:
        """Loads what is missing of the study, the series or the instance.

        Raises CannotSave, RequestRefused, ServerUnreachable.
        """
        with ProgressLine("download", self._standing) as progress:
            self._patience = Patience(self.retries, note=progress.note)
            self.files.clear_left_overs()
            self.wanted = {(series, instance)} if series and instance else self._listed(series)
            missing = self.files.missing(self.wanted or ())
            self._there_before = len(self.wanted or ()) - len(missing)
            if self.wanted is None or missing:
                self._retrieve_missing(series)
            elif not self.wanted:
                self.problems.append(f"The server has no such {'series' if series else 'study'}; query finds the UIDs.")

    def report(self) -> list[str]:
        """The lines that say what happened."""
        seconds = max(time.monotonic() - self._started, 0.001)
        saved, size = len(self.files.saved), self.files.saved_bytes
        lines = [
            f"saved:            {saved} in {printable(str(self.files.folder / self.study))}",
            f"received:         {size_text(size)} in {time_text(seconds)}, "
            f"{saved / seconds:.1f} files/s, {size_text(size / seconds)}/s",
        ]
        if self._there_before:
            lines.append(f"there before:     {self._there_before} (--overwrite loads them again)")
        if self.wanted is None:
            lines.append("The server lists no instances, so that nobody can tell whether these are all.")
        elif missing := sorted(self.files.missing(self.wanted)):
            lines.append(f"missing:          {len(missing)} of {len(self.wanted)}; run the same command again")
            lines += [f"  {series}/{instance}" for series, instance in missing[:SHOWN_MISSING]]
        elif self.wanted:
            lines.append(f"complete:         all {len(self.wanted)} instances that the server lists are there")
        return lines + self.problems + sorted(set(self.files.problems))[:SHOWN_MISSING]

    def _standing(self) -> Standing:
        saved = len(self.files.saved)
        total = None if self.wanted is None else len(self.wanted)
        done = saved + self._there_before
        part = None if not total else done / total
        return Standing(done, total, part, self.files.saved_bytes, saved, len(self.problems) + len(self.files.problems))

    def _listed(self, series: str | None) -> set[tuple[str, str]] | None:
        answer, listed = list_instances(self.connection, self._patience, self.study, series)
        if answer.status in (200, 204):
            return listed
        if answer.status in (404, 405, 406, 501):  # not every server offers searches
            return None
        raise answer.refusal("the search for instances")

    def _retrieve_missing(self, series: str | None) -> None:
        """Asks until nothing is missing; again after a broken connection, as long as that brings anything."""
        fruitless = 0
        while True:
            saved = len(self.files.saved)
            try:
                for target in self._targets(series):
                    if not self._retrieve(target):
                        break
                else:
                    return
            except ConnectionBroken as problem:
                fruitless = fruitless + 1 if len(self.files.saved) == saved else 0
                if fruitless > self.retries:
                    self.problems.append(problem.message)
                    return
                self._patience.pause(problem.message, fruitless)

    def _targets(self, series: str | None) -> Iterator[_Target]:
        whole = f"/studies/{self.study}" + (f"/series/{series}" if series else "")
        missing = sorted(self.files.missing(self.wanted or ()) - self._refused)
        if self.wanted is None or (len(missing) == len(self.wanted) > 1 and not self._singly):
            yield _Target(whole)
            return
        listed = Counter(found for found, _ in self.wanted)
        for one, group in itertools.groupby(missing, lambda pair: pair[0]):
            pairs = list(group)
            if len(pairs) == listed[one] > 1 and not self._singly:
                yield _Target(f"/studies/{self.study}/series/{one}")
            else:
                yield from (_Target(f"/studies/{self.study}/series/{one}/instances/{pair[1]}", pair) for pair in pairs)

    def _retrieve(self, target: _Target) -> bool:
        """Loads a target; false if from now on instances have to be asked for singly."""
        answer, response = self._open(target.resource)
        if answer.status != 200:
            return self._note_refusal(target, answer)
        try:
            media_type, parameters = parse_content_type(answer.headers.get("content-type", ""))
            reader = MultipartReader(boundary_of(parameters)) if media_type == "multipart/related" else None
        except MalformedMediaType as problem:
            media_type, reader = problem.message, None
        if reader is None and media_type != "application/dicom":
            self.connection.close()
            raise RequestRefused(f"The server did not answer with DICOM files ({printable(media_type)}).")
        try:
            self._receive(response, reader, target.instance)
        except (OSError, http.client.HTTPException, MalformedMultipart) as problem:
            self.connection.close()
            raise ConnectionBroken(f"The connection to {self.connection.server.url} broke during a file.") from problem
        finally:
            self.files.abandon()
        self._refusals_in_a_row = 0
        return True

    def _note_refusal(self, target: _Target, answer: Answer) -> bool:
        """Goes on with single instances where a whole is refused, e.g. because one of them cannot be transcoded."""
        refusal = answer.refusal(f"{target.resource} in transfer syntax {self.transfer_syntax}")
        self._refusals_in_a_row += 1
        hopeless = answer.status < 400 or answer.status in (401, 403) or self._refusals_in_a_row > MAX_REFUSALS
        if self.wanted is None or hopeless:
            raise refusal
        if target.instance is None:
            self._singly = True
            return False
        self._refused.add(target.instance)
        if answer.status != 404:  # that one was deleted meanwhile: missing says it all
            self.files.problems.append(refusal.message)
        return True

    def _open(self, resource: str) -> tuple[Answer, http.client.HTTPResponse]:
        wanted = f'multipart/related; type="application/dicom"; transfer-syntax={self.transfer_syntax}'
        opened: list[http.client.HTTPResponse] = []

        def attempt() -> Answer:
            answer, response = self.connection.open(resource, {"Accept": wanted})
            if answer.status != 200:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    answer = Answer(answer.status, answer.headers, response.read(REFUSAL_BYTES))
                self.connection.close()
            opened[:] = [response]
            return answer

        return self._patience.try_until_answered(attempt), opened[0]

    def _receive(
        self, response: http.client.HTTPResponse, reader: MultipartReader | None, instance: tuple[str, str] | None
    ) -> None:
        if reader is None:
            self.files.begin()
        # A body of known length is not bounded by read1 in all versions of Python; a chunked one loses with read, when
        # the connection breaks, what had arrived.
        read = response.read1 if response.length is None else response.read
        while chunk := read(CHUNK):
            if reader is None:
                self.files.write(chunk)
                continue
            for event in reader.feed(chunk):
                if isinstance(event, PartData):
                    self.files.write(event.data)
                elif isinstance(event, PartStart):
                    self.files.begin()
                elif isinstance(event, PartEnd):
                    self.files.end(instance)
        if reader is not None:
            reader.finish()
            return
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        self.files.end(instance)
