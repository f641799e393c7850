"""Small Part 10 files of a population, written fast: about fifty attributes and eight bytes of pixel data.

Explicit VR little endian, UTF-8. What a series' instances share is encoded once.
"""

import struct

from benchmarks.population import BY_NAME, SeriesPlan, StudyPlan

TRANSFER_SYNTAX = b"1.2.840.10008.1.2.1"
IMPLEMENTATION = b"2.25.183478926347816349872"
PRIVATE_CREATOR, PRIVATE_TAG = "ACME BENCH 1.0", "00091001"
_PREAMBLE = bytes(128) + b"DICM"
_LONG = frozenset({b"OB", b"OW", b"SQ", b"UT", b"UN"})
_PADDED_BY_NULL = frozenset({b"UI", b"OB"})
_SOP_INSTANCE_UID, _INSTANCE_NUMBER, _POSITION = _OWN = 0x00080018, 0x00200013, 0x00200032
"""What tells an instance from the others of its series."""


def protocol(study: StudyPlan) -> str:
    """Value of the private attribute of every instance of the study."""
    return f"protocol {study.number % 500}"


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One data element (PS3.5 §7.1.2); ``value`` is padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr in _PADDED_BY_NULL else b" "
    if vr in _LONG:
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


class SeriesFiles:
    """The files of one series."""

    def __init__(self, study: StudyPlan, series: SeriesPlan) -> None:
        self.series = series
        sop_class = BY_NAME[series.modality].sop_class.encode()
        self._meta_head = element(0x00020001, b"OB", b"\0\1") + element(0x00020002, b"UI", sop_class)
        self._meta_tail = element(0x00020010, b"UI", TRANSFER_SYNTAX) + element(0x00020012, b"UI", IMPLEMENTATION)
        parts = [b"", b"", b"", b""]
        for tag, vr, value in sorted(_elements(study, series, sop_class)):
            parts[sum(tag > own for own in _OWN)] += element(tag, vr, value)
        self._parts = parts

    def file(self, number: int) -> bytearray:
        """Instance ``number`` (from 0), as a modality would send it."""
        sop = self.series.sop(number).encode()
        meta = self._meta_head + element(0x00020003, b"UI", sop) + self._meta_tail
        first, second, third, last = self._parts
        return bytearray(b"").join(
            (
                _PREAMBLE,
                element(0x00020000, b"UL", struct.pack("<L", len(meta))),
                meta,
                first,
                element(_SOP_INSTANCE_UID, b"UI", sop),
                second,
                element(_INSTANCE_NUMBER, b"IS", b"%d" % (number + 1)),
                third,
                element(_POSITION, b"DS", b"-125.5\\-110.0\\%.1f" % (number * 1.5)),
                last,
            )
        )


def _elements(study: StudyPlan, series: SeriesPlan, sop_class: bytes) -> list[tuple[int, bytes, bytes]]:
    day, time = study.day.encode(), study.time.encode()
    description = study.description.encode()
    request = (
        element(0x00400007, b"LO", description)
        + element(0x00400009, b"SH", b"SPS%08d" % study.number)
        + element(0x00401001, b"SH", b"RP%08d" % study.number)
    )
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(request)) + request
    found = [
        (0x00080005, b"CS", b"ISO_IR 192"),
        (0x00080008, b"CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
        (0x00080016, b"UI", sop_class),
        (0x00080020, b"DA", day),
        (0x00080021, b"DA", day),
        (0x00080022, b"DA", day),
        (0x00080023, b"DA", day),
        (0x00080030, b"TM", time),
        (0x00080031, b"TM", time),
        (0x00080032, b"TM", time),
        (0x00080033, b"TM", time),
        (0x00080050, b"SH", study.accession.encode()),
        (0x00080060, b"CS", series.modality.encode()),
        (0x00080070, b"LO", b"ACME Medical"),
        (0x00080080, b"LO", "Universitätsklinikum".encode()),
        (0x00080090, b"PN", study.referring.encode()),
        (0x00081010, b"SH", b"STATION%02d" % (study.number % 40)),
        (0x00081030, b"LO", description),
        (0x0008103E, b"LO", b"%s %d" % (series.modality.encode(), series.number)),
        (0x00081090, b"LO", series.model.encode()),
        (0x00090010, b"LO", PRIVATE_CREATOR.encode()),
        (int(PRIVATE_TAG, 16), b"LO", protocol(study).encode()),
        (0x00091002, b"CS", b"ROUTINE" if study.number % 9 else b"URGENT"),
        (0x00100010, b"PN", study.patient.name.encode()),
        (0x00100020, b"LO", study.patient.id.encode()),
        (0x00100030, b"DA", study.patient.birth_date.encode()),
        (0x00100040, b"CS", study.patient.sex.encode()),
        (0x00101010, b"AS", b"%03dY" % (study.number % 95)),
        (0x00104000, b"LT", b""),
        (0x00180015, b"CS", b"CHEST" if study.number % 3 else b"ABDOMEN"),
        (0x00180050, b"DS", b"1.5"),
        (0x00180060, b"DS", b"120"),
        (0x00181000, b"LO", b"SN-%06d" % (study.number % 40)),
        (0x00181030, b"LO", b"Routine"),
        (0x0020000D, b"UI", study.uid.encode()),
        (0x0020000E, b"UI", series.uid.encode()),
        (0x00200010, b"SH", b"%d" % (study.number % 100_000)),
        (0x00200011, b"IS", b"%d" % series.number),
        (0x00200012, b"IS", b"%d" % series.number),
        (0x00200020, b"CS", b""),
        (0x00280002, b"US", struct.pack("<H", 1)),
        (0x00280004, b"CS", b"MONOCHROME2"),
        (0x00280010, b"US", struct.pack("<H", 2)),
        (0x00280011, b"US", struct.pack("<H", 2)),
        (0x00280100, b"US", struct.pack("<H", 16)),
        (0x00280101, b"US", struct.pack("<H", 12)),
        (0x00280102, b"US", struct.pack("<H", 11)),
        (0x00280103, b"US", struct.pack("<H", 0)),
        (0x00400244, b"DA", day),
        (0x00400245, b"TM", time),
        (0x00400275, b"SQ", item),
    ]
    if series.modality != "SR":
        found.append((0x7FE00010, b"OW", bytes(8)))
    return found
