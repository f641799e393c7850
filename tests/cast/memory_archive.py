"""An archive that exists only as a change feed, with the feed's rules for states and metadata (change-feed.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from hounsfield.cast.feed import Action, FeedEntry, FeedPage, State

Uids = tuple[str, str, str]
"""Study, series, instance."""
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
A, B, C = ("1.1", "1.1.1", "1.1.1.1"), ("1.1", "1.1.1", "1.1.1.2"), ("1.1", "1.1.2", "1.1.2.1")
"""Study, series and instance: two of one series, and one of another of the same study."""
OTHER_STUDY = ("1.2", "1.2.1", "1.2.1.1")


def dicom_json(**attributes: Any) -> dict[str, Any]:
    """DICOM JSON of attributes by keyword; a list is several values, None or "" an empty attribute."""
    dataset = {}
    for keyword, value in attributes.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        vr = dictionary_VR(tag)
        element: dict[str, Any] = {"vr": vr}
        if value not in (None, ""):
            values = value if isinstance(value, list) else [value]
            element["Value"] = [{"Alphabetic": one} if vr == "PN" and isinstance(one, str) else one for one in values]
        dataset[f"{tag:08X}"] = element
    return dataset


def ct(**attributes: Any) -> dict[str, Any]:
    """Metadata of a plain CT image; ``None`` leaves an attribute out."""
    defaults = {
        "SOPClassUID": CT_IMAGE,
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientSex": "F",
        "PatientBirthDate": "19700102",
        "Modality": "CT",
        "StudyDate": "20240131",
        "StudyTime": "101112",
        "StudyDescription": "Chest",
        "AccessionNumber": "A1",
        "SeriesDate": "20240131",
        "SeriesTime": "101213",
        "SeriesDescription": "Axial",
        "SeriesNumber": 3,
        "InstanceNumber": 7,
    }
    return dicom_json(**{keyword: value for keyword, value in (defaults | attributes).items() if value is not None})


@dataclass(frozen=True, slots=True)
class _Event:
    sequence: int
    uids: Uids
    action: Action
    version: int
    partition: str


class MemoryArchive:
    """A :class:`~hounsfield.cast.feed.FeedReader` that also stores, updates and deletes."""

    def __init__(self) -> None:
        self._events: list[_Event] = []
        self._live: dict[Uids, tuple[int, Mapping[str, Any]]] = {}
        self._sequence = 0

    def store(self, uids: Uids, metadata: Mapping[str, Any], partition: str = "Microsoft.Default") -> int:
        """A new instance; the sequence of its entry."""
        return self._change(uids, Action.CREATE, metadata, partition)

    def update(self, uids: Uids, metadata: Mapping[str, Any]) -> int:
        """A new version of an instance."""
        return self._change(uids, Action.UPDATE, metadata, "Microsoft.Default")

    def delete(self, uids: Uids) -> int:
        """Remove an instance."""
        version, _ = self._live.pop(uids)
        return self._append(uids, Action.DELETE, version, "Microsoft.Default")

    def lose_metadata(self, uids: Uids) -> None:
        """As if a deletion went on while the page is read."""
        version, _ = self._live[uids]
        self._live[uids] = (version, {})

    def skip(self, numbers: int) -> None:
        """Sequence numbers that will never be (a transaction that was rolled back)."""
        self._sequence += numbers

    def entries(self) -> list[FeedEntry]:
        """The whole feed as it reads now."""
        return [self._entry(event) for event in self._events]

    async def latest(self) -> int:
        return self._events[-1].sequence if self._events else 0

    async def page(self, after: int, limit: int) -> FeedPage:
        window = [event for event in self._events if after < event.sequence <= after + limit]
        return FeedPage([self._entry(event) for event in window], after + limit)

    async def close(self) -> None:
        """Nothing to release."""

    def _change(self, uids: Uids, action: Action, metadata: Mapping[str, Any], partition: str) -> int:
        version = self._sequence + 1
        self._live[uids] = (version, metadata)
        return self._append(uids, action, version, partition)

    def _append(self, uids: Uids, action: Action, version: int, partition: str) -> int:
        self._sequence += 1
        self._events.append(_Event(self._sequence, uids, action, version, partition))
        return self._sequence

    def _entry(self, event: _Event) -> FeedEntry:
        live = self._live.get(event.uids)
        if live is None:
            return FeedEntry(event.sequence, *event.uids, event.action, State.DELETED, event.partition, None)
        version, metadata = live
        state = State.CURRENT if version == event.version else State.REPLACED
        return FeedEntry(event.sequence, *event.uids, event.action, state, event.partition, metadata or None)
