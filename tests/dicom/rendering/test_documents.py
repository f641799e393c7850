"""Reports as HTML, text and pictures; encapsulated documents; waveforms; the signs that thumbnails show."""

import html
import io
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from hounsfield.dicom.rendering.header import CannotRender, lenient
from hounsfield.dicom.rendering.options import GIF, HTML, JPEG, PDF, PNG, TEXT, Options, Viewport
from hounsfield.dicom.rendering.render import render
from hounsfield.dicom.rendering.report import content_lines
from hounsfield.errors import NotFound
from tests import factories
from tests.dicom.rendering.sources import drawn, pixels_of, source_of

BASIC_TEXT = "1.2.840.10008.5.1.4.1.1.88.11"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def code(meaning: str, value: str = "1") -> list[Dataset]:
    found = Dataset()
    found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning = value, "99TEST", meaning
    return [found]


def content(kind: str, name: str, *children: Dataset, **attributes: Any) -> Dataset:
    item = Dataset()
    item.ValueType = kind
    if name:
        item.ConceptNameCodeSequence = code(name)
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    if children:
        item.ContentSequence = list(children)
    return item


def without_pixels(**attributes: Any) -> Dataset:
    return factories.dataset(PixelData=None, Rows=None, Columns=None, **attributes)


def report(*items: Dataset, **attributes: Any) -> Dataset:
    given = {"SOPClassUID": BASIC_TEXT, "Modality": "SR", "ConceptNameCodeSequence": code("Chest CT report")}
    return without_pixels(**{**given, "ContentSequence": list(items), **attributes})


def measured(value: str, unit: str) -> Dataset:
    item = Dataset()
    item.NumericValue = value
    item.MeasurementUnitsCodeSequence = code("unit", unit)
    return item


def reference(uid: str, *frames: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    if frames:
        item.ReferencedFrameNumber = list(frames)
    return item


FULL = report(
    content(
        "CONTAINER",
        "Findings",
        content("TEXT", "Finding", TextValue="A nodule & <b>more</b>"),
        content("NUM", "Diameter", MeasuredValueSequence=[measured("12.5", "mm")]),
        content("NUM", "Count", MeasuredValueSequence=[measured("3", "1")]),
        content("NUM", "Volume", NumericValueQualifierCodeSequence=code("Not a number")),
        content("CODE", "Site", ConceptCodeSequence=code("Right upper lobe")),
    ),
    content("PNAME", "Read by", PersonName="Reader^Rita^^Dr"),
    content("DATETIME", "At", DateTime="20240131101112"),
    content("IMAGE", "Seen in", ReferencedSOPSequence=[reference("1.2.3", 4, 5)]),
    content("SCOORD", "Outline", GraphicType="POLYLINE", GraphicData=[1.0, 2.0, 3.0, 4.0]),
)
LINES = [
    (0, "Findings"),
    (1, "Finding: A nodule & <b>more</b>"),
    (1, "Diameter: 12.5 mm"),
    (1, "Count: 3"),
    (1, "Volume: Not a number"),
    (1, "Site: Right upper lobe"),
    (0, "Read by: Reader, Rita Dr"),
    (0, "At: 20240131101112"),
    (0, "Seen in: image 1.2.3, frames 4, 5"),
    (0, "Outline: POLYLINE of 2 points"),
]


def test_the_content_tree_in_reading_order() -> None:
    assert [(line.level, line.text) for line in content_lines(FULL)] == LINES


def test_as_text() -> None:
    picture = render(source_of(FULL), [TEXT], Options())
    assert picture.content_type == "text/plain; charset=utf-8"
    text = picture.body.decode()
    assert text.startswith("Chest CT report\n===============\n")
    assert "Patient: Doe, John\n" in text
    for level, line in LINES:
        assert f"\n{'  ' * level}{line}\n" in text


class Reader(HTMLParser):
    """What a browser sees, and whether every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("accepted", [[HTML], ["*/*"], ["text/*"]])
def test_as_a_page(accepted: list[str]) -> None:
    picture = render(source_of(FULL), accepted, Options())
    assert picture.content_type == "text/html; charset=utf-8"
    reader = Reader()
    reader.feed(picture.body.decode())
    assert not reader.open
    assert not reader.tags & {"script", "b", "img", "link", "a", "iframe"}
    for _, line in LINES:
        assert line.split(": ")[-1] in reader.text
    assert "Doe, John" in reader.text


def test_nothing_in_a_report_becomes_markup() -> None:
    evil = "</span><script>alert(1)</script>"
    ds = report(content("TEXT", evil, TextValue=evil), PatientName=evil, ConceptNameCodeSequence=code(evil))
    page = render(source_of(ds), [HTML], Options()).body.decode()
    assert "<script" not in page
    assert page.count(html.escape(evil)) >= 4


@pytest.mark.parametrize(("charset", "expected"), [("utf-8", "Größe 漢"), ("iso-8859-1", "Größe &#28450;")])
def test_the_character_set_asked_for(charset: str, expected: str) -> None:
    ds = report(content("TEXT", "Note", TextValue="Größe 漢"), SpecificCharacterSet="ISO_IR 192")
    picture = render(source_of(ds), [HTML], Options(charset=charset))
    assert picture.content_type == f"text/html; charset={charset}"
    assert expected in picture.body.decode(charset)


def test_a_report_as_a_picture() -> None:
    shown = drawn(FULL)
    assert shown.shape[1] == 900
    assert shown.min() < 60
    assert shown.max() == 255
    longer = drawn(report(*(content("TEXT", "Line", TextValue=str(number)) for number in range(100))))
    assert longer.shape[0] > shown.shape[0] + 80 * 26


def test_a_report_of_any_length_becomes_a_picture_of_bounded_size() -> None:
    ds = report(*(content("TEXT", "Line", TextValue="word " * 300) for _ in range(400)))
    assert drawn(ds).shape[0] < 65500


def test_a_tree_of_any_depth_is_cut() -> None:
    item = content("TEXT", "Innermost", TextValue="x")
    for number in range(60):
        item = content("CONTAINER", f"Level {number}", item)
    assert len(content_lines(report(item))) == 40


def test_a_deflated_report() -> None:
    picture = render(source_of(factories.part10(FULL, DeflatedExplicitVRLittleEndian)), [TEXT], Options())
    assert "Diameter: 12.5 mm" in picture.body.decode()


def test_the_thumbnail_of_a_report_shows_nothing_of_it() -> None:
    options = Options(icon=True, viewport=Viewport(128, 128))
    signs = {render(source_of(ds), [PNG], options).body for ds in (FULL, report(content("TEXT", "A", TextValue="B")))}
    assert len(signs) == 1
    assert pixels_of(signs.pop()).shape == (128, 128)


def document(mime: str = "application/pdf", content: bytes = b"%PDF-1.4 something %%EOF", **attributes: Any) -> Dataset:
    padded = content + bytes(len(content) % 2)
    return without_pixels(
        SOPClassUID=ENCAPSULATED_PDF,
        Modality="DOC",
        MIMETypeOfEncapsulatedDocument=mime,
        EncapsulatedDocument=padded,
        **attributes,
    )


@pytest.mark.parametrize("accepted", [[PDF], ["*/*"], ["text/html", "image/webp", "*/*"]])
def test_an_encapsulated_document_is_sent_itself(accepted: list[str]) -> None:
    picture = render(source_of(document()), accepted, Options())
    assert (picture.content_type, picture.body) == (PDF, b"%PDF-1.4 something %%EOF")


def test_its_padding_is_left_out_where_its_length_is_known() -> None:
    odd = document(content=b"%PDF-1.4 odd", EncapsulatedDocumentLength=11)
    assert render(source_of(odd), [PDF], Options()).body == b"%PDF-1.4 od"


def test_a_document_is_no_picture_but_has_a_sign() -> None:
    with pytest.raises(CannotRender, match="application/pdf"):
        render(source_of(document()), [JPEG], Options())
    assert pixels_of(render(source_of(document()), ["image/*"], Options(icon=True)).body).std() > 20


@pytest.mark.parametrize("mime", ["text/html", "text/xml", "model/stl"])
def test_documents_a_browser_could_run_are_not_sent(mime: str) -> None:
    with pytest.raises(NotFound):
        render(source_of(document(mime)), ["*/*"], Options())


def ecg() -> Dataset:
    path = get_testdata_file("waveform_ecg.dcm", download=False)
    with lenient():
        return dcmread(str(path))


def test_a_waveform_is_drawn_to_scale() -> None:
    ds = ecg()
    shown = pixels_of(render(source_of(ds), [PNG], Options()).body)
    assert shown.shape == (1380, 1600, 3)
    ink = np.all(shown < 80, axis=2)
    # Ten seconds on 1490 pixels: a millimetre is 0.04 s and 0.1 mV, 5.96 pixels.
    millivolts = ds.waveform_array(0)[:10_000, 0] / 1000
    trace = ink[:110, 90:1580]
    highest = np.argmax(trace.any(axis=1))
    middle = 20 + 55
    assert (middle - highest) / 59.6 == pytest.approx(millivolts.max() - np.median(millivolts), abs=0.05)
    peak = 90 + np.argmax(trace[highest])
    assert (peak - 90) / 149 == pytest.approx(np.argmax(millivolts) / 1000, abs=0.05)


@pytest.mark.parametrize("form", [JPEG, GIF])
def test_a_waveform_in_other_formats_and_sizes(form: str) -> None:
    picture = render(source_of(ecg()), [form], Options(viewport=Viewport(128, 128)))
    with Image.open(io.BytesIO(picture.body)) as image:
        assert max(image.size) == 128


def spoilt(keyword: str, value: Any) -> Dataset:
    ds = ecg()
    setattr(ds.WaveformSequence[0], keyword, value)
    return ds


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SamplingFrequency", None),
        ("NumberOfWaveformChannels", 0),
        ("WaveformSampleInterpretation", "AB"),
        ("WaveformData", b"\0\0"),
        ("NumberOfWaveformSamples", 1),
    ],
)
def test_a_damaged_waveform_is_refused(keyword: str, value: Any) -> None:
    with pytest.raises(CannotRender):
        render(source_of(spoilt(keyword, value)), [PNG], Options())


def test_traces_in_other_units_fill_their_rows() -> None:
    ds = ecg()
    for channel in ds.WaveformSequence[0].ChannelDefinitionSequence:
        channel.ChannelSensitivityUnitsSequence = code("millimetre of mercury", "mm[Hg]")
    shown = pixels_of(render(source_of(ds), [PNG], Options()).body)
    ink = np.all(shown < 80, axis=2)[:, 90:]
    assert ink.any(axis=1).sum() > 0.6 * 12 * 110
    assert (shown[0, :] == shown[0, 0]).all()


def test_a_frame_of_what_has_no_frames_is_not_found() -> None:
    source = source_of(FULL)
    asked = type(source)(source.header, False, source.transfer_syntax, [], source.max_decoded_bytes, 1)
    with pytest.raises(NotFound):
        render(asked, ["*/*"], Options())
