"""One creation of a Patient at a time, as the feed and the worklist may both be about to make the same one.

A conditional create finds what has been created before, but of two at the same time some FHIR servers let both through.
"""

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from weakref import WeakValueDictionary

from hounsfield.cast.transaction import Written


class Creations:
    """Shared by all that write to one FHIR server."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def alone(self, written: Iterable[Written]) -> AbstractAsyncContextManager[None]:
        """Held while a transaction is under way that may create a Patient."""
        for one in written:
            if one.method == "POST" and one.resource_type == "Patient":
                # What tells that there is such a Patient is what tells two of them apart.
                return self._locks.setdefault(one.entry["request"]["ifNoneExist"], asyncio.Lock())
        return nullcontext()
