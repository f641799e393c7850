"""What kind of JPEG a stream is: the transfer syntax that its frame header announces (ITU-T T.81 annex B)."""

from hounsfield.dicom.source import ByteSource

_START, _SCAN = 0xD8, 0xDA
_BASELINE, _EXTENDED, _LOSSLESS = 0xC0, 0xC1, 0xC3
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a segment
_MAX_SEGMENTS = 1_000
"""Segments before the first scan; with a large colour profile they are some dozen."""


def transfer_syntax_of(stream: ByteSource) -> str | None:
    """The UID for a JPEG stream of the processes DICOM sends as image/jpeg (PS3.18 table 8.7.3-5); None for others."""
    pos, process = 0, 0
    for _ in range(_MAX_SEGMENTS):
        segment = stream.read_at(pos, 4)
        if len(segment) < 4 or segment[0] != 0xFF or (pos == 0 and segment[1] != _START):
            return None
        code = segment[1]
        if code == 0xFF:  # fill byte
            pos += 1
        elif code in _STANDALONE:
            pos += 2
        elif code == _SCAN:
            return _of_scan(stream, pos, process)
        else:
            if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
                process = code
            pos += 2 + int.from_bytes(segment[2:])
    return None


def _of_scan(stream: ByteSource, pos: int, process: int) -> str | None:
    if process == _LOSSLESS:
        # Ss, the predictor, stands behind two bytes a component.
        header = stream.read_at(pos + 4, 10)
        predictor = header[1 + 2 * header[0]] if header and len(header) > 1 + 2 * header[0] else 0
        return "1.2.840.10008.1.2.4.70" if predictor == 1 else "1.2.840.10008.1.2.4.57"
    return {_BASELINE: "1.2.840.10008.1.2.4.50", _EXTENDED: "1.2.840.10008.1.2.4.51"}.get(process)
