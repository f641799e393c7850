"""Searchable attributes and response attribute sets, as tables (query.md §§3, 5; PS3.18 §10.6)."""

from dataclasses import dataclass
from enum import Enum

from hounsfield.index.levels import Level
from hounsfield.index.studies import NAME_GROUPS, PERSON_NAMES


class Matching(Enum):
    """How a value of the attribute is compared (query.md §4, PS3.4 §C.2.2.2)."""

    UID = "uid"
    TEXT = "text"
    CODES = "codes"
    """Text that may be asked for as a list."""
    DATE = "date"
    TIME = "time"
    NAME = "name"
    INTEGER = "integer"
    TAG_KEY = "tag key"
    """By the keys of index.tag_keys."""


@dataclass(frozen=True, slots=True)
class Values:
    """Where values are that a search compares: rows of ``table`` that belong to a study, series or instance.

    The table has a ``partition_key`` and an index of (partition_key, columns of ``fixed``, compared column, ``owner``),
    by which a search finds the owners of a value. If it is not the level's own table, another index or primary key
    begins with (``owner``, columns of ``fixed``), by which a search looks at the values of one owner.
    """

    level: Level
    table: str
    owner: str
    """Column that holds the id of the study, series or instance; in the level's own table ``id``."""
    fixed: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Columns with the numbers that tell the attribute's rows from those of others in the same table."""

    @property
    def own(self) -> bool:
        """Whether this is the level's own table, with one row for each owner."""
        return self.table == TABLE[self.level]


TABLE = {Level.STUDY: "study", Level.SERIES: "series", Level.INSTANCE: "instance"}
_ROWS = {level: Values(level, table, "id") for level, table in TABLE.items()}


@dataclass(frozen=True, slots=True)
class Attribute:
    """A searchable attribute. One inside a sequence has a path of tags and keywords, joined by dots."""

    tag: str
    keyword: str
    vr: str
    matching: Matching
    values: Values
    key: str
    """Column that is compared."""
    column: str = ""
    """Column of the level's own table with the value that answers show; empty where there is none."""
    identifies: bool = False
    """Whether few studies, series or instances have the same value: then a search begins with it."""
    words: Values | None = None
    """Of a name: its word sequences (dicom.person_name.suffixes), in column ``suffix``."""
    groups: Values | None = None
    """Of a name: its groups (dicom.person_name.group_keys), in column ``suffix``, by the numbers of ``fixed``."""

    @property
    def level(self) -> Level:
        """The level the attribute belongs to."""
        return self.values.level


def _own(
    level: Level, tag: str, keyword: str, vr: str, matching: Matching, column: str, identifies: bool = False
) -> Attribute:
    key = column + "_key" if matching in (Matching.TEXT, Matching.NAME, Matching.TIME) else column
    return Attribute(tag, keyword, vr, matching, _ROWS[level], key, column, identifies)


def _name(tag: str, keyword: str, column: str) -> Attribute:
    def rows(numbers: tuple[int, ...]) -> Values:
        return Values(Level.STUDY, "person_name", "study_id", (("attribute", numbers),))

    words, groups = rows((PERSON_NAMES[column],)), rows(NAME_GROUPS[column])
    return Attribute(
        tag, keyword, "PN", Matching.NAME, _ROWS[Level.STUDY], column + "_key", column, True, words, groups
    )


def _requested(tag: str, keyword: str, key: str) -> Attribute:
    rows = Values(Level.SERIES, "request_attribute", "series_id")
    return Attribute(
        f"{REQUEST_ATTRIBUTES}.{tag}",
        f"RequestAttributesSequence.{keyword}",
        "SH",
        Matching.TEXT,
        rows,
        key,
        identifies=True,
    )


MODALITIES_IN_STUDY = "00080061"
SOP_CLASSES_IN_STUDY = "00080062"
NUMBER_OF_STUDY_RELATED_SERIES = "00201206"
NUMBER_OF_STUDY_RELATED_INSTANCES = "00201208"
NUMBER_OF_SERIES_RELATED_INSTANCES = "00201209"
INSTANCE_AVAILABILITY = "00080056"
RETRIEVE_URL = "00081190"
REQUEST_ATTRIBUTES = "00400275"

SEARCHABLE: tuple[Attribute, ...] = (
    _own(Level.STUDY, "0020000D", "StudyInstanceUID", "UI", Matching.UID, "study_uid", True),
    _name("00100010", "PatientName", "patient_name"),
    _own(Level.STUDY, "00100020", "PatientID", "LO", Matching.TEXT, "patient_id", True),
    _own(Level.STUDY, "00100030", "PatientBirthDate", "DA", Matching.DATE, "patient_birth_date"),
    _own(Level.STUDY, "00080050", "AccessionNumber", "SH", Matching.TEXT, "accession_number", True),
    _name("00080090", "ReferringPhysicianName", "referring_physician_name"),
    _own(Level.STUDY, "00080020", "StudyDate", "DA", Matching.DATE, "study_date"),
    _own(Level.STUDY, "00081030", "StudyDescription", "LO", Matching.TEXT, "study_description"),
    Attribute(
        MODALITIES_IN_STUDY,
        "ModalitiesInStudy",
        "CS",
        Matching.CODES,
        Values(Level.STUDY, "series", "study_id"),
        "modality_key",
    ),
    _own(Level.STUDY, "00080030", "StudyTime", "TM", Matching.TIME, "study_time"),
    _own(Level.STUDY, "00200010", "StudyID", "SH", Matching.TEXT, "study_id_text"),
    _own(Level.STUDY, "00100040", "PatientSex", "CS", Matching.TEXT, "patient_sex"),
    _own(Level.SERIES, "0020000E", "SeriesInstanceUID", "UI", Matching.UID, "series_uid", True),
    _own(Level.SERIES, "00080060", "Modality", "CS", Matching.TEXT, "modality"),
    _own(
        Level.SERIES,
        "00400244",
        "PerformedProcedureStepStartDate",
        "DA",
        Matching.DATE,
        "performed_procedure_step_start_date",
    ),
    _own(Level.SERIES, "00081090", "ManufacturerModelName", "LO", Matching.TEXT, "manufacturer_model_name"),
    _own(
        Level.SERIES,
        "00400245",
        "PerformedProcedureStepStartTime",
        "TM",
        Matching.TIME,
        "performed_procedure_step_start_time",
    ),
    _own(Level.SERIES, "00200011", "SeriesNumber", "IS", Matching.INTEGER, "series_number"),
    _own(Level.SERIES, "0008103E", "SeriesDescription", "LO", Matching.TEXT, "series_description"),
    _requested("00400009", "ScheduledProcedureStepID", "scheduled_procedure_step_id_key"),
    _requested("00401001", "RequestedProcedureID", "requested_procedure_id_key"),
    _own(Level.INSTANCE, "00080018", "SOPInstanceUID", "UI", Matching.UID, "sop_uid", True),
    _own(Level.INSTANCE, "00080016", "SOPClassUID", "UI", Matching.UID, "sop_class_uid"),
    _own(Level.INSTANCE, "00200013", "InstanceNumber", "IS", Matching.INTEGER, "instance_number"),
)
BY_TAG = {attribute.tag: attribute for attribute in SEARCHABLE}


def _tags(text: str) -> frozenset[str]:
    return frozenset(text.split())


REFERENCE_SEARCHABLE = _tags(
    "0020000D 00100010 00100020 00100030 00080050 00080090 00080020 00081030 00080061 0020000E 00080060 00400244 "
    "00081090 00080018"
)
"""What the reference can search (query.md §3), and so refuses as an extended query tag. What is searchable here beyond
that can still be made one, as it can there."""

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
