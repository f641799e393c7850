"""A file descriptor that threads can share."""

import os
from dataclasses import dataclass


class Descriptor:
    """An open descriptor that is closed when the last reference to this object is gone, never earlier.

    A task can be cancelled while its thread is still in a system call; closing the number then would let that call
    hit whichever file gets the number next. So nothing closes explicitly: owners drop their reference. Whoever uses
    ``number`` must hold the object in a variable meanwhile.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def sync(self) -> None:
        """fsync: what was written, or the entries of a directory, are on disk when this returns."""
        os.fsync(self.number)

    def __del__(self) -> None:
        os.close(self.number)


@dataclass(slots=True)
class FileRange:
    """``length`` bytes of an open file from ``offset``: something to send without reading it."""

    file: Descriptor
    offset: int
    length: int
