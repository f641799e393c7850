"""The identifiers in a DICOM file's header, read tolerantly: a file need not be whole or valid to be named by them."""

import contextlib
import io
import zlib
from typing import IO, Any, Final, NamedTuple

from pydicom.filereader import read_dataset, read_partial

from hounsfield.dicom import uid

_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
_DEFLATED_HEADER_BYTES: Final = 4 * 1024 * 1024
"""How much of a deflated dataset is inflated in search of identifiers; the whole may be a thousand times as big."""
_STUDY, _SERIES, _SOP = 0x0020000D, 0x0020000E, 0x00080018


class Identifiers(NamedTuple):
    """Study, Series and SOP Instance UID without padding; empty where absent or no valid UID."""

    study: str
    series: str
    instance: str


def read_identifiers(file: IO[bytes]) -> Identifiers:
    """Reads the header from the start of the file up to the Series Instance UID; never raises for its content."""
    with contextlib.suppress(Exception):  # pydicom raises all kinds of errors on damaged files
        dataset = _header(file)
        return Identifiers(*(_uid(dataset, tag) for tag in (_STUDY, _SERIES, _SOP)))
    return Identifiers("", "", "")


def _header(file: IO[bytes]) -> Any:
    head = file.read(1024)
    wanted: list[Any] = [_STUDY, _SERIES, _SOP]
    if head[128:132] == b"DICM" and _DEFLATED in head:
        start = 144 + int.from_bytes(head[140:144], "little")  # behind the file meta group, PS3.10 §7.1
        file.seek(start)
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(_DEFLATED_HEADER_BYTES), _DEFLATED_HEADER_BYTES)
        return read_dataset(io.BytesIO(data), False, True, stop_when=_behind, specific_tags=wanted)
    file.seek(0)
    return read_partial(file, stop_when=_behind, force=True, specific_tags=wanted)  # type: ignore[arg-type]


def _behind(tag: int, vr: str | None, length: int) -> bool:
    return tag > _SERIES


def _uid(dataset: Any, tag: int) -> str:
    raw = dataset.get_item(tag)  # not the element: making one warns about values, and prints them
    value = uid.normalise(raw.value.decode("latin-1")) if raw is not None and raw.value else ""
    return value if uid.is_valid(value) else ""
