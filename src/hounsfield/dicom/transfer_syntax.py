"""The transfer syntaxes of DICOM (PS3.5 Annex A, PS3.6 Annex A), retired ones included, as one table.

A file in a syntax that is not in this table cannot be stored (store.md §2): nobody could say how to read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """How a dataset and its pixel data are encoded."""

    uid: str
    name: str
    implicit: bool = False
    """Elements carry no VR; it comes from the dictionary."""
    little_endian: bool = True
    encapsulated: bool = False
    """Pixel data is a sequence of fragments, normally of compressed frames."""
    deflated: bool = False
    """The dataset as a whole, after the file meta, is a deflate stream (PS3.5 A.5)."""
    lossless: bool = True
    """The syntax itself guarantees the samples survive encoding; false where it merely allows loss."""
    frame_media_type: str | None = None
    """Media type of one frame's bytes as stored (PS3.18 Tables 8.7.3-4 and 8.7.3-5); None where none is defined or no
    pixel data is in the file."""

    @property
    def native(self) -> bool:
        """Whether pixel data is uncompressed samples, one frame after another, in the file itself."""
        return self.uid in _NATIVE


def find(uid: str) -> TransferSyntax | None:
    """The syntax of that UID (trailing padding ignored), or None if DICOM knows none."""
    return TRANSFER_SYNTAXES.get(uid.rstrip(" \0"))


def _compressed(media_type: str | None, *, lossless: bool, syntaxes: dict[str, str]) -> list[TransferSyntax]:
    return [
        TransferSyntax(
            f"1.2.840.10008.1.2.{suffix}", name, encapsulated=True, lossless=lossless, frame_media_type=media_type
        )
        for suffix, name in syntaxes.items()
    ]


_OCTETS = "application/octet-stream"

_SYNTAXES = [
    TransferSyntax(IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian", implicit=True, frame_media_type=_OCTETS),
    TransferSyntax(EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian", frame_media_type=_OCTETS),
    TransferSyntax(
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        "Deflated Explicit VR Little Endian",
        deflated=True,
        frame_media_type=_OCTETS,
    ),
    TransferSyntax(EXPLICIT_VR_BIG_ENDIAN, "Explicit VR Big Endian", little_endian=False, frame_media_type=_OCTETS),
    *_compressed(_OCTETS, lossless=True, syntaxes={"1.98": "Encapsulated Uncompressed Explicit VR Little Endian"}),
    *_compressed(
        "image/jpeg",
        lossless=False,
        syntaxes={"4.50": "JPEG Baseline (Process 1)", "4.51": "JPEG Extended (Process 2 and 4)"},
    ),
    *_compressed(
        None,
        lossless=False,
        syntaxes={
            "4.52": "JPEG Extended (Process 3 and 5)",
            "4.53": "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)",
            "4.54": "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)",
            "4.55": "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)",
            "4.56": "JPEG Full Progression, Non-Hierarchical (Process 11 and 13)",
            "4.59": "JPEG Extended, Hierarchical (Process 16 and 18)",
            "4.60": "JPEG Extended, Hierarchical (Process 17 and 19)",
            "4.61": "JPEG Spectral Selection, Hierarchical (Process 20 and 22)",
            "4.62": "JPEG Spectral Selection, Hierarchical (Process 21 and 23)",
            "4.63": "JPEG Full Progression, Hierarchical (Process 24 and 26)",
            "4.64": "JPEG Full Progression, Hierarchical (Process 25 and 27)",
        },
    ),
    *_compressed(
        "image/jpeg",
        lossless=True,
        syntaxes={
            "4.57": "JPEG Lossless, Non-Hierarchical (Process 14)",
            "4.70": "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        },
    ),
    *_compressed(
        None,
        lossless=True,
        syntaxes={
            "4.58": "JPEG Lossless, Non-Hierarchical (Process 15)",
            "4.65": "JPEG Lossless, Hierarchical (Process 28)",
            "4.66": "JPEG Lossless, Hierarchical (Process 29)",
        },
    ),
    *_compressed("image/jls", lossless=True, syntaxes={"4.80": "JPEG-LS Lossless Image Compression"}),
    *_compressed("image/jls", lossless=False, syntaxes={"4.81": "JPEG-LS Lossy (Near-Lossless) Image Compression"}),
    *_compressed("image/jp2", lossless=True, syntaxes={"4.90": "JPEG 2000 Image Compression (Lossless Only)"}),
    *_compressed("image/jp2", lossless=False, syntaxes={"4.91": "JPEG 2000 Image Compression"}),
    *_compressed(
        "image/jpx",
        lossless=True,
        syntaxes={"4.92": "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)"},
    ),
    *_compressed("image/jpx", lossless=False, syntaxes={"4.93": "JPEG 2000 Part 2 Multi-component Image Compression"}),
    # JPIP: the file holds the address of a server that has the pixel data
    TransferSyntax("1.2.840.10008.1.2.4.94", "JPIP Referenced", lossless=False),
    TransferSyntax("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate", deflated=True, lossless=False),
    *_compressed(
        "video/mpeg",
        lossless=False,
        syntaxes={
            "4.100": "MPEG2 Main Profile / Main Level",
            "4.100.1": "Fragmentable MPEG2 Main Profile / Main Level",
            "4.101": "MPEG2 Main Profile / High Level",
            "4.101.1": "Fragmentable MPEG2 Main Profile / High Level",
        },
    ),
    *_compressed(
        "video/mp4",
        lossless=False,
        syntaxes={
            "4.102": "MPEG-4 AVC/H.264 High Profile / Level 4.1",
            "4.102.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1",
            "4.103": "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
            "4.103.1": "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
            "4.104": "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
            "4.104.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
            "4.105": "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
            "4.105.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
            "4.106": "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
            "4.106.1": "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
            "4.107": "HEVC/H.265 Main Profile / Level 5.1",
            "4.108": "HEVC/H.265 Main 10 Profile / Level 5.1",
        },
    ),
    *_compressed("image/jxl", lossless=True, syntaxes={"4.110": "JPEG XL Lossless"}),
    *_compressed("image/jxl", lossless=False, syntaxes={"4.111": "JPEG XL JPEG Recompression", "4.112": "JPEG XL"}),
    *_compressed(
        "image/jphc",
        lossless=True,
        syntaxes={
            "4.201": "High-Throughput JPEG 2000 Image Compression (Lossless Only)",
            "4.202": "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)",
        },
    ),
    *_compressed("image/jphc", lossless=False, syntaxes={"4.203": "High-Throughput JPEG 2000 Image Compression"}),
    TransferSyntax("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced", lossless=False),
    TransferSyntax("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate", deflated=True, lossless=False),
    *_compressed("image/dicom-rle", lossless=True, syntaxes={"5": "RLE Lossless"}),
    TransferSyntax("1.2.840.10008.1.2.6.1", "RFC 2557 MIME encapsulation"),
    TransferSyntax("1.2.840.10008.1.2.6.2", "XML Encoding"),
    # SMPTE ST 2110: samples travel in a real-time stream beside the dataset (PS3.22)
    TransferSyntax("1.2.840.10008.1.2.7.1", "SMPTE ST 2110-20 Uncompressed Progressive Active Video"),
    TransferSyntax("1.2.840.10008.1.2.7.2", "SMPTE ST 2110-20 Uncompressed Interlaced Active Video"),
    TransferSyntax("1.2.840.10008.1.2.7.3", "SMPTE ST 2110-30 PCM Digital Audio"),
    *_compressed("application/x-deflate", lossless=True, syntaxes={"8.1": "Deflated Image Frame Compression"}),
    TransferSyntax("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian", implicit=True),
]

TRANSFER_SYNTAXES: Mapping[str, TransferSyntax] = MappingProxyType({syntax.uid: syntax for syntax in _SYNTAXES})
"""Every known transfer syntax by its UID."""

_NATIVE = frozenset(
    (
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    )
)
