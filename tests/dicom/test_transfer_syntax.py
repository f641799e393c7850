import pytest
from pydicom import uid as pydicom_uid
from pydicom._uid_dict import UID_dictionary

from hounsfield.dicom import transfer_syntax
from hounsfield.dicom.transfer_syntax import TRANSFER_SYNTAXES, find

NEWER_THAN_PYDICOM = {f"1.2.840.10008.1.2.{end}" for end in ("4.110", "4.111", "4.112", "8.1")}


def test_knows_every_syntax_of_the_dictionary() -> None:
    known = {uid for uid, row in UID_dictionary.items() if row[1] == "Transfer Syntax"}
    assert known <= TRANSFER_SYNTAXES.keys()
    assert TRANSFER_SYNTAXES.keys() - known <= NEWER_THAN_PYDICOM


@pytest.mark.parametrize("uid", sorted(TRANSFER_SYNTAXES.keys() - NEWER_THAN_PYDICOM))
def test_agrees_with_pydicom(uid: str) -> None:
    ours, theirs = TRANSFER_SYNTAXES[uid], pydicom_uid.UID(uid)
    assert ours.uid == uid
    assert ours.name == theirs.name
    assert ours.little_endian == theirs.is_little_endian
    if uid == "1.2.840.10008.1.20":  # pydicom calls Papyrus explicit and compressed, its own name says implicit
        assert (ours.implicit, ours.encapsulated) == (True, False)
        return
    assert ours.implicit == theirs.is_implicit_VR
    no_pixel_data_inside = any(word in ours.name for word in ("JPIP", "MIME", "XML", "SMPTE"))
    assert ours.encapsulated == (theirs.is_encapsulated and not no_pixel_data_inside)
    assert ours.deflated == (theirs.is_deflated or uid.endswith((".4.95", ".4.205")))


def test_native_syntaxes() -> None:
    native = {uid for uid, syntax in TRANSFER_SYNTAXES.items() if syntax.native}
    assert native == {f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2")}
    assert all(TRANSFER_SYNTAXES[uid].frame_media_type == "application/octet-stream" for uid in native)


@pytest.mark.parametrize(
    ("suffix", "media_type", "lossless"),
    [
        ("4.50", "image/jpeg", False),
        ("4.51", "image/jpeg", False),
        ("4.57", "image/jpeg", True),
        ("4.70", "image/jpeg", True),
        ("4.80", "image/jls", True),
        ("4.81", "image/jls", False),
        ("4.90", "image/jp2", True),
        ("4.91", "image/jp2", False),
        ("4.92", "image/jpx", True),
        ("4.110", "image/jxl", True),
        ("4.201", "image/jphc", True),
        ("4.203", "image/jphc", False),
        ("5", "image/dicom-rle", True),
        ("4.106.1", "video/mp4", False),
        ("4.100", "video/mpeg", False),
        ("1.98", "application/octet-stream", True),
    ],
)
def test_media_types_of_compressed_frames(suffix: str, media_type: str, lossless: bool) -> None:
    syntax = find(f"1.2.840.10008.1.2.{suffix}")
    assert syntax is not None
    assert (syntax.encapsulated, syntax.frame_media_type, syntax.lossless) == (True, media_type, lossless)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.999", "1.2.840.10008.1.1", "", "1.2.840.10008.1.2.1.1", "*"])
def test_unknown(uid: str) -> None:
    assert find(uid) is None


def test_padding_is_ignored() -> None:
    assert find("1.2.840.10008.1.2.1 \0") is TRANSFER_SYNTAXES[transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN]
