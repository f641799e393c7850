"""The files of new versions of instances (operations.md §2), and what the index keeps of them.

Of a file only the header is read. What stays is copied by the file system, or streamed where objects are not files.
Where they are, one file is made after another, and all are synced together: threads, each with its own syncs, wait
longer and take more of the processor. What the interpreter does is as much as the copying, so that many files are made
by processes (archive.codec_processes).
"""

import pickle
from collections.abc import Mapping, Sequence
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
from hounsfield.storage.local import LocalStore, Put
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


def make_files(files: LocalStore, making: Making, sources: Sequence[Source]) -> list[Filled | str]:
    """Write the files of versions, one after another; durable when this returns.

    A sentence for one that cannot be made, however often one tries. Raises StoreUnavailable.
    """
    made: list[Filled | str] = []
    with files.batch() as put:
        for source in sources:
            try:
                made.append(_make(files, put, making, source))
            except (UnreadableInstance, InternalError) as error:
                made.append(error.message)
            codec_process.still_alive()
    return made


def make_files_apart(root: str, making: Making, sources: Sequence[Source]) -> bytes:
    """``make_files`` below ``root`` in a codec process, pickled."""
    files = _stores.get(root)
    if files is None:
        files = _stores[root] = LocalStore(Path(root))
    return pickle.dumps(make_files(files, making, sources))


def _make(files: LocalStore, put: Put, making: Making, source: Source) -> Filled:
    try:
        file = FileSource(f"{files.root}/{source.file_key}")
    except FileNotFoundError:
        raise ObjectMissing from None
    with file:
        filled, new = prepared(making, file, source)
    put(source.new_key, new)
    return filled


def _metadata(packed: bytes, changes: Sequence[Change], *, utf8: bool) -> bytes:
    """The stored metadata with the new values. Made of these, as they lack what the file has that is invalid."""
    dataset: Mapping[str, object] = _decode(unpack([packed]))
    new: dict[str, object] = {change.key: change.element for change in changes}
    if utf8:
        new[_CHARACTER_SET] = {"vr": "CS", "Value": [UTF8_TERM]}
    changed = {**dataset, **new}
    return pack(_encode(changed if len(changed) == len(dataset) else dict(sorted(changed.items()))))
