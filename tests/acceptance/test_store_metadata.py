"""STOW-RS of metadata with bulk data (PS3.18 §10.5.2): what is made of them is the file they were taken from."""

import base64
import copy
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames, parse_basic_offsets

from tests import factories, stow_json
from tests.acceptance import dicomweb
from tests.dicom.samples import HERE, pydicom_read
from tests.server import Server
from tests.stow_json import OCTETS, Bulk, Json

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # pydicom has an opinion on what is in the samples
]

EXPLICIT = "1.2.840.10008.1.2.1"
SMALL = {
    "00080016": {"vr": "UI", "Value": [factories.SECONDARY_CAPTURE]},
    "00100020": {"vr": "LO", "Value": ["P-1"]},
}


def post(
    client: httpx.Client, metadata: Any, parts: list[Bulk] | None = None, path: str = "/v2/studies"
) -> httpx.Response:
    body, headers = stow_json.body(metadata, parts or [])
    return client.post(path, content=body, headers=headers)


def small(**attributes: Any) -> Json:
    """Metadata of a new instance; keys are names like x00280010."""
    uids = {key: {"vr": "UI", "Value": [factories.uid()]} for key in ("00080018", "0020000D", "0020000E")}
    return SMALL | uids | {name.removeprefix("x"): value for name, value in attributes.items()}


def url(metadata: Json, version: str = "v2") -> str:
    study, series, sop = (metadata[key]["Value"][0] for key in ("0020000D", "0020000E", "00080018"))
    return f"/{version}/studies/{study}/series/{series}/instances/{sop}"


def file_of(client: httpx.Client, metadata: Json) -> Dataset:
    response = client.get(url(metadata), headers={"accept": dicomweb.ORIGINAL})
    assert response.status_code == 200, response.text
    return dcmread(io.BytesIO(response.content))


def same(back: Dataset, original: Dataset) -> None:
    """The datasets have equal elements; but for group lengths, the character set, and the padding of frames."""
    left_out = {0x00080005, 0x7FE00010}
    tags = [{element.tag for element in ds if element.tag.element} - left_out for ds in (back, original)]
    assert tags[0] == tags[1]
    for tag in sorted(tags[0]):
        assert back[tag].VR == original[tag].VR, tag
        if back[tag].VR == "SQ":
            assert len(back[tag].value) == len(original[tag].value)
            for item, other in zip(back[tag].value, original[tag].value, strict=True):
                same(item, other)
        else:
            assert back[tag] == original[tag], (back[tag], original[tag])
    if "PixelData" not in original:
        return
    assert hasattr(back, "PixelData") == hasattr(original, "PixelData")
    if not hasattr(original, "file_meta") or not original.file_meta.TransferSyntaxUID.is_encapsulated:
        assert back.PixelData == original.PixelData
        return
    count = int(original.get("NumberOfFrames") or 1)
    frames, others = (list(generate_frames(ds.PixelData, number_of_frames=count)) for ds in (back, original))
    assert [frame.rstrip(b"\0") for frame in frames] == [frame.rstrip(b"\0") for frame in others]


NATIVE = ["CT_small.dcm", "MR_small.dcm", "SC_rgb_small_odd.dcm", "examples_palette.dcm", "examples_overlay.dcm"]
NATIVE += ["liver_1frame.dcm", "reportsi.dcm", "test-SR.dcm", "waveform_ecg.dcm", "SC_ybr_full_422_uncompressed.dcm"]
COMPRESSED = [
    "MR_small_RLE.dcm",
    "SC_rgb_rle_2frame.dcm",
    "rtdose_rle.dcm",
    "examples_ybr_color.dcm",
    "JPGExtended.dcm",
]
COMPRESSED += ["SC_rgb_jpeg_gdcm.dcm", "MR_small_jp2klossless.dcm", "JPEG2000.dcm", "JPEGLSNearLossless_16.dcm"]
COMPRESSED += ["MR_small_jpeg_ls_lossless.dcm", "SC_rgb_small_odd_jpeg.dcm"]
OWN = ["encapsulated-pdf.dcm", "sr_document.dcm", "wsi-layer1.dcm"]
OWN += ["liver_nonbyte_aligned_rle.dcm", "sm_image_jpegls_nobot.dcm", "legacy-converted-ct.dcm"]


@pytest.mark.parametrize("name", NATIVE + COMPRESSED + OWN)
def test_a_file_taken_apart_and_put_together_is_the_same(client: httpx.Client, name: str) -> None:
    from pydicom.data import get_testdata_file

    path = HERE / name if name in OWN else Path(str(get_testdata_file(name, download=False)))
    original = pydicom_read(path)
    # Other tests store the same samples; v2 leaves invalid attributes out of the metadata, so it is v1 first.
    original.StudyInstanceUID = factories.uid()
    original.SeriesInstanceUID = factories.uid()
    original.PatientID = original.get("PatientID") or "P-1"
    buffer = io.BytesIO()
    original.save_as(buffer)
    stored = dicomweb.post(client, [buffer.getvalue()], "/v1/studies")
    assert stored.status_code == 200, stored.text
    resource = dicomweb.instance_path(original, "v1")
    (metadata,) = client.get(resource + "/metadata").json()
    assert client.delete(resource).status_code == 204
    plain = copy.deepcopy(metadata)
    parts = stow_json.add_bulk(metadata, original)
    response = post(client, [metadata], parts, "/v1/studies")
    assert response.status_code == 200, response.text
    back = file_of(client, metadata)
    assert back.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert back.file_meta.MediaStorageSOPInstanceUID == original.SOPInstanceUID
    assert back.file_meta.MediaStorageSOPClassUID == original.SOPClassUID
    assert back.file_meta.FileMetaInformationVersion == b"\0\1"
    assert back.file_meta.ImplementationClassUID.startswith("2.25.")
    same(back, original)
    # To the server, too, it is the same.
    (again,) = client.get(resource + "/metadata").json()
    assert {**again, "00080005": None} == {**plain, "00080005": None}
    assert client.delete(resource).status_code == 204


def _native(**more: Any) -> Json:
    """The description of a 2 × 2 image of 16 bits."""
    image = {"x00280002": 1, "x00280010": 2, "x00280011": 2, "x00280100": 16, "x00280101": 16, "x00280102": 15}
    numbers = {name: {"vr": "US", "Value": [value]} for name, value in {**image, "x00280103": 0}.items()}
    return small(**numbers, x00280004={"vr": "CS", "Value": ["MONOCHROME2"]}, **more)


def _pixels(vr: str = "OW", uri: str = "pixels") -> Json:
    return {"vr": vr, "BulkDataURI": uri}


def test_several_instances_are_stored_one_by_one(client: httpx.Client) -> None:
    study = {"vr": "UI", "Value": [factories.uid()]}
    first, bad, second, third = (_native(x0020000D=study, x7FE00010=_pixels(uri=f"{n}")) for n in range(4))
    bad["00080020"] = {"vr": "DA", "Value": [20240101]}
    third["00080018"] = first["00080018"]
    third["0020000E"] = first["0020000E"]
    parts = [Bulk(str(n), bytes([n] * 8)) for n in range(4)]
    path = f"/v2/studies/{study['Value'][0]}"
    response = post(client, [first, bad, second, third], parts, path)
    assert response.status_code == 202, response.text
    assert [dicomweb.value(item, "00081155") for item in dicomweb.referenced(response)] == [
        first["00080018"]["Value"][0],
        second["00080018"]["Value"][0],
    ]
    refused, duplicate = dicomweb.failed(response)
    assert dicomweb.value(refused, "00081155") == bad["00080018"]["Value"][0]
    assert dicomweb.value(refused, "00081150") == factories.SECONDARY_CAPTURE
    assert dicomweb.value(refused, "00081197") == 43264
    (comment,) = dicomweb.comments(refused)
    assert comment == (
        "DICOM100: (0008,0020) - The attribute holds what the DICOM JSON Model does not allow for VR DA."
    )
    assert dicomweb.value(duplicate, "00081197") == 45070
    for metadata, content in ((first, 0), (second, 2)):
        assert file_of(client, metadata).PixelData == bytes([content] * 8)
        frame = client.get(url(metadata) + "/frames/1", headers={"accept": dicomweb.FRAMES})
        assert dicomweb.parts(frame)[0].body == bytes([content] * 8)
    assert client.get(path + "/metadata").status_code == 200


def test_validation_is_that_of_files(client: httpx.Client) -> None:
    without = small()
    del without["00080018"]
    assert dicomweb.reason(post(client, [without])) == 43264
    assert dicomweb.reason(post(client, [small()], path=f"/v2/studies/{factories.uid()}")) == 43264
    warned = small(x00080050={"vr": "SH", "Value": ["much longer than a short string"]})
    response = post(client, [warned])
    assert response.status_code == 202
    (item,) = dicomweb.referenced(response)
    assert "(0008,0050)" in dicomweb.comments(item)[0]
    assert file_of(client, warned).AccessionNumber == "much longer than a short string"
    assert dicomweb.reason(post(client, [warned])) == 45070
    strict = post(client, [small(x00080050=warned["00080050"])], path="/v1/studies")
    assert dicomweb.reason(strict) == 43264


def test_text_in_many_scripts(client: httpx.Client) -> None:
    name = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    metadata = small(
        x00080005={"vr": "CS", "Value": ["ISO_IR 100"]},
        x00081030={"vr": "LO", "Value": ["Größe", None, "размер"]},
        x00100010={"vr": "PN", "Value": [name]},
        x00081140={"vr": "SQ", "Value": [{"00080005": {"vr": "CS", "Value": ["ISO_IR 101"]}, "00100010": {
            "vr": "PN", "Value": [{"Ideographic": "洪^吉洞"}]}}, {}]},
        x00204000={"vr": "LT", "BulkDataURI": "text"},
    )  # fmt: skip
    assert post(client, [metadata], [Bulk("text", "Ärger\\".encode())]).status_code == 202  # multiplicity of 0008,1030
    back = file_of(client, metadata)
    assert back.SpecificCharacterSet == "ISO_IR 192"
    assert back.PatientName == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert list(back.StudyDescription) == ["Größe", "", "размер"]
    assert back.ImageComments == "Ärger\\"
    items = back.ReferencedImageSequence
    assert items[0].PatientName == "=洪^吉洞"
    assert items[0].SpecificCharacterSet == "ISO_IR 192"
    assert len(items[1]) == 0
    plain = small(x00080005={"vr": "CS", "Value": ["ISO_IR 100"]})
    assert post(client, [plain]).status_code == 200
    assert file_of(client, plain).SpecificCharacterSet == "ISO_IR 100"


def test_text_in_a_part_is_utf8_whatever_the_metadata_name(client: httpx.Client) -> None:
    metadata = small(
        x00080005={"vr": "CS", "Value": ["ISO_IR 100"]}, x00204000={"vr": "LT", "BulkDataURI": "text"}
    )  # fmt: skip
    assert post(client, [metadata], [Bulk("text", "größer".encode())]).status_code == 200
    back = file_of(client, metadata)
    assert (back.SpecificCharacterSet, back.ImageComments) == ("ISO_IR 192", "größer")


def test_inline_binary_and_values_of_binary_numbers(client: httpx.Client) -> None:
    metadata = _native(
        x00189219={"vr": "SS", "Value": [-5]},
        x00280106={"vr": "US", "Value": [65535]},
        x00281201={"vr": "OW", "InlineBinary": base64.b64encode(b"12345").decode()},
        x00540081={"vr": "US", "BulkDataURI": "number"},
        x7FE00010={"vr": "OW", "InlineBinary": base64.b64encode(bytes(range(8))).decode()},
        x00090010={"vr": "LO", "Value": ["ME"]},
        x00091001={"vr": "UN", "BulkDataURI": "private"},
        x00091002={"vr": "FD", "Value": [1.5, "NaN", "-Infinity"]},
        x00091003={"vr": "UV", "Value": [1, "18446744073709551615"]},
        x00091004={"vr": "AT", "Value": ["00100010", "7fe00010"]},
    )
    response = post(client, [metadata], [Bulk("number", b"\x39\x30"), Bulk("private", b"odd")])
    assert response.status_code == 200, response.text
    back = file_of(client, metadata)
    assert back.PixelData == bytes(range(8))
    assert back.RedPaletteColorLookupTableData == b"12345\0"
    assert back.NumberOfSlices == 12345
    assert back[0x00189219].value == -5
    assert back[0x00091001].value == b"odd\0"
    assert np.array_equal(back[0x00091002].value, [1.5, np.nan, -np.inf], equal_nan=True)
    assert list(back[0x00091003].value) == [1, 2**64 - 1]
    assert list(back[0x00091004].value) == [0x00100010, 0x7FE00010]


def test_frames_come_as_parts_and_get_an_offset_table(client: httpx.Client) -> None:
    with_frames = {"vr": "IS", "Value": [3]}
    frames = [b"\xff\xd8" + bytes([n]) * (n + 1) for n in range(3)]
    metadata = _native(x00280008=with_frames, x7FE00010=_pixels("OB"))
    media_type = "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"
    parts = [Bulk(f"pixels/frames/{n}", frames[n - 1], media_type) for n in (3, 1, 2)]  # in any order
    assert post(client, [metadata], parts).status_code == 200
    back = file_of(client, metadata)
    assert back.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert parse_basic_offsets(back.PixelData) == [0, 12, 24]
    for number, frame in enumerate(frames, 1):
        got = client.get(f"{url(metadata)}/frames/{number}", headers={"accept": dicomweb.FRAMES})
        assert dicomweb.parts(got)[0].body.rstrip(b"\0") == frame.rstrip(b"\0")
    native = _native(x00280008=with_frames, x7FE00010=_pixels())
    pieces = [bytes([n] * 8) for n in range(3)]
    assert post(client, [native], [Bulk(f"pixels/frames/{n}", pieces[n - 1]) for n in (1, 2, 3)]).status_code == 200
    assert file_of(client, native).PixelData == b"".join(pieces)


def test_a_video_is_one_part(client: httpx.Client) -> None:
    metadata = _native(x00280008={"vr": "IS", "Value": ["250"]}, x7FE00010=_pixels("OB", "https://elsewhere/video"))
    part = Bulk("https://elsewhere/video", b"video" * 500_001, "video/mp4")
    assert post(client, [metadata], [part]).status_code == 200
    back = file_of(client, metadata)
    assert back.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.102"
    assert back.PixelData == encapsulate([part.content], has_bot=False)


def _sample(name: str) -> bytes:
    from pydicom.data import get_testdata_file

    ds = pydicom_read(Path(str(get_testdata_file(name, download=False))))
    return next(generate_frames(ds.PixelData, number_of_frames=1))


@pytest.mark.parametrize(
    ("media_type", "sample", "described", "syntax"),
    [
        ("image/jpeg", "SC_rgb_jpeg_dcmtk.dcm", {}, "1.2.840.10008.1.2.4.50"),
        ("image/jpeg", "JPGExtended.dcm", {}, "1.2.840.10008.1.2.4.51"),
        ("image/jpeg", "SC_rgb_jpeg_gdcm.dcm", {}, "1.2.840.10008.1.2.4.70"),
        ("image/jp2", "JPEG2000.dcm", {}, "1.2.840.10008.1.2.4.90"),
        ("image/jp2", "JPEG2000.dcm", {"x00083002": "1.2.840.10008.1.2.4.91"}, "1.2.840.10008.1.2.4.91"),
        ("image/jp2", "JPEG2000.dcm", {"x00020010": "1.2.840.10008.1.2.4.91"}, "1.2.840.10008.1.2.4.91"),
        ("image/jp2", "JPEG2000.dcm", {"x00083002": "1.2.840.10008.1.2.4.50"}, "1.2.840.10008.1.2.4.90"),
        ("image/x-dicom-rle", "MR_small_RLE.dcm", {}, "1.2.840.10008.1.2.5"),
        ("IMAGE/JLS", "JPEGLSNearLossless_16.dcm", {}, "1.2.840.10008.1.2.4.80"),
        ("image/jphc; transfer-syntax=1.2.840.10008.1.2.4.203", "JPEG2000.dcm", {}, "1.2.840.10008.1.2.4.203"),
        (f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.1.98", "JPEG2000.dcm", {},
         "1.2.840.10008.1.2.1.98"),
    ],
)  # fmt: skip
def test_the_transfer_syntax_follows_from_part_metadata_and_stream(
    client: httpx.Client, media_type: str, sample: str, described: dict[str, str], syntax: str
) -> None:
    named = {key: {"vr": "UI", "Value": [value]} for key, value in described.items()}
    metadata = _native(x7FE00010=_pixels("OB"), **named)
    frame = _sample(sample)
    assert post(client, [metadata], [Bulk("pixels", frame, media_type)]).status_code == 200
    back = file_of(client, metadata)
    assert back.file_meta.TransferSyntaxUID == syntax
    assert "00083002" not in back
    assert next(generate_frames(back.PixelData, number_of_frames=1)).rstrip(b"\0") == frame.rstrip(b"\0")


def test_a_document_may_be_of_any_type(client: httpx.Client) -> None:
    metadata = small(x00420011={"vr": "OB", "BulkDataURI": "document"})
    assert post(client, [metadata], [Bulk("document", b"%PDF-1.7", "application/pdf")]).status_code == 200
    assert file_of(client, metadata).EncapsulatedDocument == b"%PDF-1.7"


def test_one_part_may_serve_several_instances(client: httpx.Client) -> None:
    sets = [_native(x7FE00010=_pixels()) for _ in range(3)]
    assert post(client, sets, [Bulk("pixels", b"12345678")]).status_code == 200
    for metadata in sets:
        assert file_of(client, metadata).PixelData == b"12345678"


def test_a_large_part_goes_through(client: httpx.Client) -> None:
    metadata = _native(x00280008={"vr": "IS", "Value": [1_000_000]}, x7FE00010=_pixels())
    content = bytes(range(256)) * 31_250 + b"12345678"
    assert post(client, [metadata], [Bulk("pixels", content)]).status_code == 200
    assert file_of(client, metadata).PixelData == content


@pytest.mark.parametrize("frames", ["9" * 5000, "-1", "٣", " ", "1.0"])
def test_a_number_of_frames_that_is_none_is_for_validation_to_say(client: httpx.Client, frames: str) -> None:
    metadata = _native(x00280008={"vr": "UC", "Value": [frames]}, x7FE00010=_pixels())
    response = post(client, [metadata], [Bulk("pixels", b"12345678")])
    assert response.status_code in (200, 202), response.text
    assert file_of(client, metadata).PixelData == b"12345678"


SMALL_JPEG = Bulk("pixels", b"\xff\xd8\xff\xd9", "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50")
EIGHT = Bulk("pixels", b"12345678")
HERE_IT_IS = "is not the Content-Location of a part"
"""What is said of a reference to nowhere."""


@pytest.mark.parametrize(
    ("status", "text", "pixels", "parts"),
    [
        (400, HERE_IT_IS, _pixels(), []),
        (400, HERE_IT_IS, _pixels(uri="http://127.0.0.1:1/secret"), []),
        (400, HERE_IT_IS, _pixels(uri="http://169.254.169.254/latest/meta-data"), [EIGHT]),
        (400, HERE_IT_IS, _pixels(uri="file:///etc/passwd"), [EIGHT]),
        (400, HERE_IT_IS, _pixels(uri="/etc/passwd"), [EIGHT]),
        (400, HERE_IT_IS, _pixels(uri=""), [EIGHT]),
        (400, HERE_IT_IS, _pixels(uri="PIXELS"), [EIGHT]),
        (400, HERE_IT_IS, _pixels(uri="pixels?offset=2&length=4"), [EIGHT]),
        (400, "all but 1 of the bulk data parts", _pixels(), [EIGHT, Bulk("more", b"")]),
        (400, "all but 1 of the bulk data parts", _pixels(), [EIGHT, Bulk("pixels/frames/1", b"12345678")]),
        (400, "all but 2 of the bulk data parts", {"vr": "OW"}, [EIGHT, Bulk("more", b"")]),
        (400, "same Content-Location", _pixels(), [EIGHT, EIGHT]),
        (400, "no Content-Location", _pixels(), [Bulk("", b"12345678")]),
        (415, "content type ''", _pixels(), [Bulk("pixels", b"12345678", "")]),
        (415, "type/subtype", _pixels(), [Bulk("pixels", b"12345678", "nonsense")]),
        (415, "'text/plain' is not supported for (7fe0,0010)", _pixels(), [Bulk("pixels", b"12345678", "text/plain")]),
        (415, "(7fe0,0010)", _pixels(), [Bulk("pixels", b"12345678", "application/dicom")]),
        (415, "(7fe0,0010)", _pixels(), [Bulk("pixels", b"12345678", "image/jpeg; transfer-syntax=1.2.840.10008.1.2")]),
        (415, "(7fe0,0010)", _pixels(), [Bulk("pixels", b"1", f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.2")]),
        (415, "is encoded", _pixels(), [Bulk("pixels", b"12345678", headers={"Content-Transfer-Encoding": "base64"})]),
        (415, "is encoded", _pixels(), [Bulk("pixels", b"12345678", headers={"Content-Encoding": "gzip"})]),
    ],
)  # fmt: skip
def test_parts_and_references_that_do_not_fit_refuse_the_request(
    client: httpx.Client, status: int, text: str, pixels: Json, parts: list[Bulk]
) -> None:
    metadata, innocent = _native(x7FE00010=pixels), small()
    response = post(client, [innocent, metadata], parts)
    assert response.status_code == status, response.text
    assert text in response.text
    assert client.get(url(innocent)).status_code == 404


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (b"", "not valid JSON"),
        (b"[", "not valid JSON"),
        (b"[{}", "not valid JSON"),
        (b"[] []", "not valid JSON"),
        (b'[{"00100010": {"vr": "PN", "Value": [{"Alphabetic": "\xff"}]}}]', "UTF-8"),
        (b'[{"00100010": {"vr": "LO", "Value": ["\\ud800"]}}]', "not valid JSON"),
        (b"\xff\xfe[\0]\0", "not valid JSON"),
        (b"{}", "not an array"),
        (b"null", "not an array"),
        (b'"dataset"', "not an array"),
        (b"[]", "no dataset"),
        (b"[" * 100_000 + b"]" * 100_000, "not an array of datasets"),
        (b'[{"00081140":{"vr":"SQ","Value":' * 50_000, "nested too deep"),
        (b"[{}, 5]", "not an array of datasets"),
        (b"[" + b"{}," * 1_000_001 + b"{}]", "more than 1000000"),
    ],
    ids=range(15),
)
def test_metadata_that_are_none_refuse_the_request(client: httpx.Client, metadata: bytes, text: str) -> None:
    response = post(client, metadata)
    assert response.status_code == 400, response.text
    assert text in response.text


@pytest.mark.parametrize(
    ("attributes", "comment"),
    [
        ({"x00100010": {"vr": "PN", "Value": ["Doe^John"]}}, "(0010,0010) - The attribute holds what"),
        ({"x00100010": {"vr": "PN", "Value": [{"alphabetic": "Doe"}]}}, "(0010,0010) - The attribute holds what"),
        ({"x00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe=Do"}]}}, "equals sign"),
        ({"x00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe\\Do"}]}}, "backslash"),
        ({"x00100010": {"Value": []}}, "not as the DICOM JSON Model has it"),
        ({"x00100010": {"vr": "PN", "value": []}}, "not as the DICOM JSON Model has it"),
        ({"x00100010": {"vr": 5}}, "not as the DICOM JSON Model has it"),
        ({"x00100010": []}, "not as the DICOM JSON Model has it"),
        ({"x00100010": {"vr": "XX"}}, "VR that DICOM does not know"),
        ({"x00100010": {"vr": "pn"}}, "VR that DICOM does not know"),
        ({"PatientName": {"vr": "PN"}}, "eight hexadecimal digits"),
        ({"x0010001": {"vr": "PN"}}, "eight hexadecimal digits"),
        ({"x0010001a": {"vr": "LO"}, "x0010001A": {"vr": "LO"}}, "appears twice"),
        ({"x00081030": {"vr": "LO", "Value": [5]}}, "(0008,1030)"),
        ({"x00081030": {"vr": "LO", "Value": "text"}}, "(0008,1030)"),
        ({"x00081030": {"vr": "LO", "Value": None}}, "(0008,1030)"),
        ({"x00081030": {"vr": "LO", "Value": [], "BulkDataURI": "x"}}, "more than one of"),
        ({"x00081030": {"vr": "LO", "BulkDataURI": "x"}}, "BulkDataURI, which VR LO"),
        ({"x00081140": {"vr": "SQ", "BulkDataURI": "x"}}, "BulkDataURI, which VR SQ"),
        ({"x00081140": {"vr": "SQ", "Value": [None]}}, "not as the DICOM JSON Model"),
        ({"x00081140": {"vr": "SQ", "Value": {}}}, "not as the DICOM JSON Model"),
        ({"x00081140": {"vr": "SQ", "Value": [{"00081150": {"vr": "UI", "Value": [1]}}]}}, "(0008,1150)"),
        ({"x00081140": {"vr": "SQ", "InlineBinary": "AAAA"}}, "InlineBinary, which VR SQ"),
        ({"x00080008": {"vr": "CS", "Value": ["x" * 65_535]}}, "longer than VR CS can be"),
        ({"x00080008": {"vr": "CS", "Value": ["\u4e00"]}}, "characters that VR CS does not allow"),
        ({"x00204000": {"vr": "LT", "Value": ["a", "b"]}}, "several values"),
        ({"x00280010": {"vr": "US", "Value": [65536]}}, "number that VR US cannot hold"),
        ({"x00280010": {"vr": "US", "Value": [-1]}}, "number that VR US cannot hold"),
        ({"x00280010": {"vr": "US", "Value": [1.5]}}, "fraction"),
        ({"x00280010": {"vr": "US", "Value": ["5"]}}, "for VR US"),
        ({"x00280010": {"vr": "US", "Value": [5, None]}}, "empty value among others"),
        ({"x00189219": {"vr": "FL", "Value": [1e39]}}, "number that VR FL cannot hold"),
        ({"x00189219": {"vr": "FD", "Value": ["one"]}}, "number that VR FD cannot hold"),
        ({"x00189219": {"vr": "SV", "Value": ["one"]}}, "number that VR SV cannot hold"),
        ({"x00200013": {"vr": "IS", "Value": [1.5]}}, "fraction"),
        ({"x00189219": {"vr": "DS", "Value": [int("9" * 400)]}}, "number that VR DS cannot hold"),
        ({"x00189219": {"vr": "AT", "Value": ["0010001"]}}, "eight hexadecimal digits"),
        ({"x00189219": {"vr": "OB", "Value": [1]}}, "InlineBinary or BulkDataURI"),
        ({"x00189219": {"vr": "OB", "InlineBinary": "AAA"}}, "not base64"),
        ({"x00189219": {"vr": "OB", "InlineBinary": "AA==\n"}}, "not base64"),
        ({"x00189219": {"vr": "OB", "InlineBinary": ["AA=="]}}, "not as the DICOM JSON Model"),
        ({"x00189219": {"vr": "OF", "InlineBinary": "AA=="}}, "ends inside a number of VR OF"),
        ({"x00000010": {"vr": "LO"}}, "does not belong into a dataset"),
        ({"xFFFEE000": {"vr": "OB"}}, "does not belong into a dataset"),
        ({"x7FE00010": {"vr": "OW", "InlineBinary": "AAAA"},
          "x00020010": {"vr": "UI", "Value": ["1.2.840.10008.1.2.4.50"]}}, "name a compressed transfer syntax"),
    ],
)  # fmt: skip
def test_a_dataset_that_is_wrong_fails_by_itself(
    client: httpx.Client, attributes: dict[str, Any], comment: str
) -> None:
    bad, good = small(**attributes), small()
    response = post(client, [bad, good])
    assert response.status_code == 202, response.text
    (item,) = dicomweb.failed(response)
    assert dicomweb.value(item, "00081197") == 43264
    assert any(comment in text for text in dicomweb.comments(item)), dicomweb.comments(item)
    assert client.get(url(good)).status_code == 200
    assert client.get(url(bad)).status_code == 404


@pytest.mark.parametrize(
    ("frames", "parts", "comment"),
    [
        (2, [SMALL_JPEG], "1 parts for 2 frames"),
        (2, [Bulk(f"pixels/frames/{n}", b"x", SMALL_JPEG.content_type) for n in (1, 2, 3)], "3 parts for 2 frames"),
        (2, [Bulk("pixels/frames/1", b"x" * 8), Bulk("pixels/frames/2", b"x", "image/jp2")], "different media types"),
        (1, [Bulk("pixels", b"not a JPEG", "image/jpeg")], "no JPEG"),
        (1, [Bulk("pixels", b"", "image/jpeg")], "no JPEG"),
    ],
    ids=range(5),
)
def test_pixel_data_that_do_not_fit_fail_by_themselves(
    client: httpx.Client, frames: int, parts: list[Bulk], comment: str
) -> None:
    metadata = _native(x00280008={"vr": "IS", "Value": [str(frames)]}, x7FE00010=_pixels("OB"))
    response = post(client, [metadata], parts)
    assert response.status_code == 409, response.text
    assert comment in dicomweb.comments(dicomweb.failed(response)[0])[0]


@pytest.mark.parametrize(
    ("content_type", "part_type", "status"),
    [
        ("multipart/related; type=application/dicom; boundary=B", "application/dicom+json", 415),
        ("multipart/related; boundary=B", "application/dicom+json", 415),
        ('multipart/related; type="application/dicom+json"; boundary=B', "application/dicom", 415),
        ('multipart/related; type="application/dicom+json"; boundary=B', "application/json", 415),
        ('multipart/related; type="application/dicom+xml"; boundary=B', "application/dicom+xml", 415),
        ('multipart/related; type="application/dicom+json"', "application/dicom+json", 415),
        ('multipart/related; type="application/dicom+json"; boundary=B; start=x', "application/dicom+json", 400),
        ("application/dicom+json", "application/dicom+json", 415),
        ('Multipart/Related; Type="Application/DICOM+JSON"; boundary=B', "Application/Dicom+JSON; charset=utf-8", 200),
        ('multipart/related; type="application/dicom+json"; boundary=B', "", 200),
    ],
)
def test_content_types(client: httpx.Client, content_type: str, part_type: str, status: int) -> None:
    head = f"Content-Type: {part_type}\r\n" if part_type else "X: y\r\n"
    body = b"--B\r\n" + head.encode() + b"\r\n" + json.dumps([small()]).encode() + b"\r\n--B--"
    headers = {"content-type": content_type, "accept": "application/dicom+json"}
    response = client.post("/v2/studies", content=body, headers=headers)
    assert response.status_code == status, response.text
    if status == 200:
        assert client.post("/v2/studies", content=b"--B--", headers=headers).status_code == 204
        assert client.post("/v2/studies", content=body, headers={**headers, "accept": "text/html"}).status_code == 406


def test_a_single_file_stays_one_whatever_its_parameters(client: httpx.Client) -> None:
    headers = {"content-type": 'application/dicom; type="application/dicom+json"', "accept": "*/*"}
    assert client.post("/v2/studies", content=factories.instance(), headers=headers).status_code == 200


def test_limits(tmp_path: Path) -> None:
    limit = {"DicomServer__Services__StoreServiceSettings__MaxAllowedDicomFileSize": "10000"}
    server = Server(tmp_path / "data", ["--no-cast", "--no-fhir"], environment=limit)
    try:
        with server.start().client() as client:
            fits, large = _native(x7FE00010=_pixels()), _native(x7FE00010=_pixels())
            assert post(client, [fits], [Bulk("pixels", bytes(9_000))]).status_code == 200
            assert post(client, [large], [Bulk("pixels", bytes(10_001))]).status_code == 413
            response = post(client, [large], [Bulk("pixels", bytes(9_999))])  # with its header it is too large
            assert response.status_code == 413
            assert "10000 bytes" in response.text
            assert client.get(url(large)).status_code == 404
        assert not list((server.data_dir / "spool").iterdir())
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()
