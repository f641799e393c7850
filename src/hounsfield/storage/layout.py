"""Where an instance lies: a path a person can read, and from which the index can be built again.

``{study}/{series}/{sop}_{token}.dcm`` in the default partition, below ``partitions/{name}/`` in any other. The token
is new with every store, so a file is never overwritten, and sorts by time. Where a file was recompressed, the one that
was received may lie beside it as ``{sop}_{token}.original.dcm``.
"""

import re
import secrets
import time
from typing import NamedTuple

from hounsfield.storage.errors import InvalidKey

DEFAULT_PARTITION = "Microsoft.Default"
"""The partition whose files lie at the top (server.md §4)."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS = 10
_RANDOM_DIGITS = 6

_UID = r"[0-9.]{0,63}[0-9]"
_PARTITION = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY = re.compile(
    rf"(?:partitions/(?P<partition>[A-Za-z0-9_.~-]{{1,64}})/)?"
    rf"(?P<study>{_UID})/(?P<series>{_UID})/(?P<sop>{_UID})_(?P<token>[{_ALPHABET}]+)(?P<original>\.original)?\.dcm"
)
_INSTANCE = re.compile(rf"{_UID}/{_UID}/{_UID}")

# Names the file system keeps for itself; "~" occurs in no partition name.
_ESCAPED = {".": "~", "..": "~~"}
_UNESCAPED = {folder: name for name, folder in _ESCAPED.items()}


class FileKey(NamedTuple):
    """A key taken apart."""

    partition: str
    study: str
    series: str
    sop: str
    token: str
    original: bool
    """Whether this is the file as it was received, beside the one that serves."""


def new_token() -> str:
    """A short string that is unique and sorts by the time it was made: milliseconds, then 30 random bits."""
    return _digits(time.time_ns() // 1_000_000, _TIME_DIGITS) + _digits(secrets.randbits(30), _RANDOM_DIGITS)


def file_key(partition: str, study: str, series: str, sop: str) -> str:
    """A new key for an instance. UIDs as store.md §3.3 lets them through, without padding. Raises InvalidKey."""
    instance = f"{study}/{series}/{sop}"
    if not _INSTANCE.fullmatch(instance) or not _PARTITION.fullmatch(partition):
        raise InvalidKey
    folder = "" if partition == DEFAULT_PARTITION else f"partitions/{_ESCAPED.get(partition, partition)}/"
    return f"{folder}{instance}_{new_token()}.dcm"


def study_key_parts(partition: str, study: str) -> tuple[str, str]:
    """What stands before and behind ``{series}/{sop}`` in new keys of the instances of a study. Raises InvalidKey."""
    before, _, behind = file_key(partition, study, "0", "0").rpartition("0/0")
    return before, behind


def original_key(key: str) -> str:
    """The key of the file as it was received, beside the instance's own."""
    return f"{key.removesuffix('.dcm')}.original.dcm"


def parse_key(key: str) -> FileKey | None:
    """What a key says about its instance; None for anything that is not the key of an instance."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    folder = found["partition"]
    partition = DEFAULT_PARTITION if folder is None else _UNESCAPED.get(folder, folder)
    return FileKey(partition, found["study"], found["series"], found["sop"], found["token"], bool(found["original"]))


def _digits(number: int, count: int) -> str:
    text = ""
    for _ in range(count):
        number, digit = divmod(number, 32)
        text = _ALPHABET[digit] + text
    return text
