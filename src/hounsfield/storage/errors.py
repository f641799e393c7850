"""What can go wrong with an object, beyond the store being unavailable. Texts name no key: keys hold identifiers."""

import errno
import os

from hounsfield.errors import InternalError, StoreUnavailable


class ObjectMissing(InternalError):
    """There is no object under the key."""

    def __init__(self) -> None:
        super().__init__("A file is missing from the object store.")


class ObjectTruncated(InternalError):
    """The object is shorter than the range that was asked for."""

    def __init__(self) -> None:
        super().__init__("A file in the object store is shorter than expected.")


class InvalidKey(InternalError):
    """A key that could lead outside the store or cannot be a file name."""

    def __init__(self) -> None:
        super().__init__("A key of the object store is malformed.")


_SENTENCES = {
    errno.ENOSPC: "The object store is full.",
    errno.EDQUOT: "The object store is full: its quota is used up.",
    errno.EFBIG: "The object store takes no file of this size.",
    errno.EROFS: "The object store is mounted read-only.",
    errno.EACCES: "The object store may not be accessed by this process.",
    errno.EPERM: "The object store may not be accessed by this process.",
    errno.EMFILE: "The object store cannot be used: too many open files.",
}


def unavailable(error: OSError) -> StoreUnavailable:
    """What ``error`` of a file operation means to the client, without paths."""
    code = error.errno or 0
    return StoreUnavailable(_SENTENCES.get(code) or f"The object store does not answer: {os.strerror(code)}.")
