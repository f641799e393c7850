"""Searchable attributes and response attribute sets, as tables (query.md §§3, 5)."""

from dataclasses import dataclass
from enum import Enum

from hounsfield.index.instances import PERSON_NAMES, Level


class Matching(Enum):
    """How a value of the attribute is compared (query.md §4)."""

    UID = "uid"
    TEXT = "text"
    DATE = "date"
    NAME = "name"
    MODALITIES = "modalities"
    """ModalitiesInStudy: any series of the study."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A searchable attribute; ``column`` holds the value the response shows, ``key`` the one that is compared."""

    tag: str
    keyword: str
    vr: str
    level: Level
    matching: Matching
    column: str
    key: str

    @property
    def name_number(self) -> int:
        """The attribute's number in table person_name."""
        return PERSON_NAMES[self.column.partition(".")[2]]


def _study(tag: str, keyword: str, vr: str, matching: Matching, column: str) -> Attribute:
    key = f"s.{column}_key" if matching in (Matching.TEXT, Matching.NAME) else f"s.{column}"
    return Attribute(tag, keyword, vr, Level.STUDY, matching, f"s.{column}", key)


def _series(tag: str, keyword: str, vr: str, matching: Matching, column: str) -> Attribute:
    key = f"e.{column}_key" if matching is Matching.TEXT else f"e.{column}"
    return Attribute(tag, keyword, vr, Level.SERIES, matching, f"e.{column}", key)


SEARCHABLE: tuple[Attribute, ...] = (
    _study("0020000D", "StudyInstanceUID", "UI", Matching.UID, "study_uid"),
    _study("00100010", "PatientName", "PN", Matching.NAME, "patient_name"),
    _study("00100020", "PatientID", "LO", Matching.TEXT, "patient_id"),
    _study("00100030", "PatientBirthDate", "DA", Matching.DATE, "patient_birth_date"),
    _study("00080050", "AccessionNumber", "SH", Matching.TEXT, "accession_number"),
    _study("00080090", "ReferringPhysicianName", "PN", Matching.NAME, "referring_physician_name"),
    _study("00080020", "StudyDate", "DA", Matching.DATE, "study_date"),
    _study("00081030", "StudyDescription", "LO", Matching.TEXT, "study_description"),
    Attribute("00080061", "ModalitiesInStudy", "CS", Level.STUDY, Matching.MODALITIES, "", ""),
    _series("0020000E", "SeriesInstanceUID", "UI", Matching.UID, "series_uid"),
    _series("00080060", "Modality", "CS", Matching.TEXT, "modality"),
    _series("00400244", "PerformedProcedureStepStartDate", "DA", Matching.DATE, "performed_procedure_step_start_date"),
    _series("00081090", "ManufacturerModelName", "LO", Matching.TEXT, "manufacturer_model_name"),
    Attribute("00080018", "SOPInstanceUID", "UI", Level.INSTANCE, Matching.UID, "i.sop_uid", "i.sop_uid"),
)
BY_TAG = {attribute.tag: attribute for attribute in SEARCHABLE}

MODALITIES_IN_STUDY = "00080061"
NUMBER_OF_STUDY_RELATED_INSTANCES = "00201208"
NUMBER_OF_SERIES_RELATED_INSTANCES = "00201209"


def _tags(text: str) -> frozenset[str]:
    return frozenset(text.split())


V1_DEFAULT = {
    Level.STUDY: _tags(
        "00080005 00080020 00080030 00080050 00080056 00080090 00080201 00100010 00100020 00100030 00100040 0020000D "
        "00200010"
    ),
    Level.SERIES: _tags("00080005 00080060 00080201 0008103E 0020000E 00400244 00400245 00400275"),
    Level.INSTANCE: _tags("00080005 00080016 00080018 00080056 00080201 00200013 00280008 00280010 00280011 00280100"),
}
V2_DEFAULT = {
    Level.STUDY: _tags("00080020 00080050 00080090 00081030 00100010 00100020 00100030 0020000D"),
    Level.SERIES: _tags("00080060 00081090 0020000E 00400244"),
    Level.INSTANCE: _tags("00080018"),
}
_ALL_MORE = {
    Level.STUDY: _tags(
        "00081030 00080063 00081032 00081060 00081080 00081110 00101010 00101020 00101030 00102180 001021B0"
    ),
    Level.SERIES: _tags("00200011 00200060 00080021 00080031"),
    Level.INSTANCE: _tags(""),
}


def default_tags(level: Level, api_version: int) -> frozenset[str]:
    """What a search answers at ``level`` when nothing is asked for."""
    return (V1_DEFAULT if api_version == 1 else V2_DEFAULT)[level]


def all_tags(level: Level, api_version: int) -> frozenset[str]:
    """What ``includefield=all`` answers at ``level``; in v2 with its defaults (query.md §5, [H])."""
    tags = V1_DEFAULT[level] | _ALL_MORE[level]
    return tags | V2_DEFAULT[level] if api_version > 1 else tags
