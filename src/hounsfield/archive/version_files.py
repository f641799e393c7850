"""The files of new versions of instances (operations.md §2), and what the index keeps of them.

Of a file only the header is read. What stays is copied by the file system, or streamed where objects are not files.
Where they are, all of it is done by a few threads, each of which makes one file after another; what these take of the
interpreter is as much as the copying, so that many files at once are made by processes (archive.codec_processes).
"""

import pickle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hounsfield.archive import codec_process
from hounsfield.dicom.attribute_changes import Change
from hounsfield.dicom.frames import FrameIndex
from hounsfield.dicom.rewriting import UTF8_TERM, rewrite
from hounsfield.dicom.source import ByteSource, FileSource, UnreadableInstance
from hounsfield.errors import InternalError
from hounsfield.index.fragments import pack, unpack
from hounsfield.index.instance_versions import Filled, Source
from hounsfield.storage.errors import ObjectMissing
from hounsfield.storage.local import LocalStore
from hounsfield.storage.object_store import Splice

_CHARACTER_SET = "00080005"

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_stores: dict[str, LocalStore] = {}
"""Of a codec process, which works for one server: directories stay open, and are known to be durable."""


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """DicomServer:Services:UpdateServiceSettings: objects in a cloud below ``small`` bytes are held in memory;
    of larger ones, ``window`` bytes at a time are."""

    small: int = 1 << 20
    window: int = 4 << 20


@dataclass(frozen=True, slots=True)
class Making:
    """How files are made anew."""

    changes: Sequence[Change]
    largest_deflated: int
    """Bytes of a deflated file, which has to be written as a whole."""
    options: UpdateOptions


def prepared(making: Making, file: ByteSource, source: Source) -> tuple[Filled, Splice | list[bytes]]:
    """What a version is, and what its file is to be made of. Raises UnreadableInstance, InternalError."""
    made = rewrite(file, making.changes, source.transfer_syntax)
    frames = source.frames
    if frames is not None:
        frames = FrameIndex.from_bytes(frames).moved(made.moved, made.stream_start).to_bytes()
    metadata = _metadata(source.metadata, making.changes, utf8=made.utf8)
    if not made.compressed:
        splice = Splice(source.file_key, made.pieces, making.options.small, making.options.window)
        return Filled(source.version, splice.size, metadata, frames), splice
    # A deflated dataset is one stream: no part of it can be kept.
    if source.file_size > making.largest_deflated:
        raise InternalError("A deflated file is larger than this server rewrites.")
    pieces = list(made.read())
    return Filled(source.version, sum(map(len, pieces)), metadata, frames), pieces


def make_files(files: LocalStore, making: Making, sources: Sequence[Source], together: int) -> list[Filled | str]:
    """Write the files of versions, ``together`` at a time; durable when this returns.

    A sentence for one that cannot be made, however often one tries. Raises StoreUnavailable.
    """
    filled: list[Filled | str] = [""] * len(sources)
    waiting = deque(enumerate(sources))
    settling: dict[str, Callable[[], None]] = {}

    def work() -> None:
        while waiting:
            try:
                number, source = waiting.popleft()
            except IndexError:
                return
            try:
                filled[number], settle = _make(files, making, source)
            except (UnreadableInstance, InternalError) as error:
                filled[number] = error.message
                continue
            settling[source.new_key.rpartition("/")[0]] = settle
            codec_process.still_alive()

    with ThreadPoolExecutor(together) as threads:
        working = [threads.submit(work) for _ in range(together)]
        try:
            for each in working:
                each.result()
        finally:
            waiting.clear()
    # The names of all files of a folder become durable with it.
    for settle in settling.values():
        settle()
    return filled


def make_files_apart(root: str, making: Making, sources: Sequence[Source], together: int) -> bytes:
    """``make_files`` below ``root`` in a codec process, pickled."""
    files = _stores.get(root)
    if files is None:
        files = _stores[root] = LocalStore(Path(root))
    return pickle.dumps(make_files(files, making, sources, together))


def _make(files: LocalStore, making: Making, source: Source) -> tuple[Filled, Callable[[], None]]:
    try:
        file = FileSource(f"{files.root}/{source.file_key}")
    except FileNotFoundError:
        raise ObjectMissing from None
    with file:
        filled, new = prepared(making, file, source)
        return filled, files.place_here(source.new_key, new)


def _metadata(packed: bytes, changes: Sequence[Change], *, utf8: bool) -> bytes:
    """The stored metadata with the new values. Made of these, as they lack what the file has that is invalid."""
    dataset: Mapping[str, object] = _decode(unpack([packed]))
    new: dict[str, object] = {change.key: change.element for change in changes}
    if utf8:
        new[_CHARACTER_SET] = {"vr": "CS", "Value": [UTF8_TERM]}
    changed = {**dataset, **new}
    return pack(_encode(changed if len(changed) == len(dataset) else dict(sorted(changed.items()))))
