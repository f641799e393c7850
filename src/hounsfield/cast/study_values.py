"""Which values of the study its instances have, and which of them an Update has ended (dicom-cast.md §4.3)."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstanceValues:
    """The values of one instance that ImagingStudy collects; None where it has none."""

    accession_number: str | None
    description: str | None


class KnownValues:
    """What is known of the instances of a study. Only Updates make it known, so for most studies nothing is.

    While the values of one instance are unknown, it may have any value the study shows, and none can be dropped.
    """

    def __init__(self, known: Mapping[str, InstanceValues], instance_uids: Collection[str]) -> None:
        self.known = dict(known)
        self._unknown = set(instance_uids) - known.keys()
        self._counts = Counter(known.values())
        self._may_have_ended = True

    def record(self, sop_uid: str, values: InstanceValues, *, is_update: bool) -> None:
        """An instance is stored or updated. Stored ones are only worth remembering in studies that were updated."""
        if not is_update and not self.known:
            self._unknown.add(sop_uid)
            return
        self.forget(sop_uid)
        self.known[sop_uid] = values
        self._counts[values] += 1

    def forget(self, sop_uid: str) -> None:
        """An instance is gone, or its values are about to be replaced."""
        if sop_uid in self._unknown:
            self._unknown.discard(sop_uid)
            self._may_have_ended = True
        values = self.known.pop(sop_uid, None)
        if values is not None:
            self._counts[values] -= 1
            if not self._counts[values]:
                del self._counts[values]
                self._may_have_ended = True

    def ended(self) -> tuple[set[str], set[str]] | None:
        """All accession numbers and descriptions that instances still have; None if nothing can have ended.

        Asked after an Update. What the study shows beyond these was replaced.
        """
        if self._unknown or not self._may_have_ended:
            return None
        self._may_have_ended = False
        return (
            {values.accession_number for values in self._counts if values.accession_number},
            {values.description for values in self._counts if values.description},
        )
