import copy
import io
import json
from typing import Any

import pytest
from PIL import Image

from benchmarks import answers, phantom
from benchmarks.load import WrongAnswer
from benchmarks.studies import PICTURE, SMALL, Series
from benchmarks.wire import Answer

SERIES = Series(SMALL, 1, 1)
INSTANCES = [SERIES.instance(number) for number in range(3)]
FILES = [instance.file() for instance in INSTANCES]


def line(name: str, value: str) -> bytes:
    return f"\r\n{name}: {value}".encode()


def multipart(*contents: bytes, boundary: str = "b1") -> Answer:
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + content + b"\r\n" for content in contents) + f"--{boundary}--\r\n".encode()
    return Answer(200, line("content-type", f'multipart/related; boundary="{boundary}"'), body, len(body))


def as_json(value: object, status: int = 200) -> Answer:
    body = json.dumps(value).encode()
    return Answer(status, line("content-type", "application/dicom+json"), body, len(body))


def test_parts_may_hold_line_ends_and_dashes() -> None:
    contents = [b"\r\n--\r\n", b"", b"--b\r\n"]
    assert [bytes(part) for part in answers.parts(multipart(*contents))] == contents


def test_files_in_any_order_are_right() -> None:
    answers.check_files(multipart(*reversed(FILES)), INSTANCES)


@pytest.mark.parametrize(
    "wrong",
    [
        multipart(*FILES[:2]),
        multipart(*FILES, FILES[0]),
        multipart(FILES[0], FILES[0], FILES[2]),
        multipart(*FILES[:2], FILES[2][:-1] + b"\xff"),
        Answer(404, b"", b"", 0),
        Answer(200, line("content-type", "application/dicom"), FILES[0], len(FILES[0])),
        Answer(200, line("content-type", "multipart/related; boundary=b1"), multipart(*FILES).body[:-20], 0),
    ],
)
def test_wrong_files_are_noticed(wrong: Answer) -> None:
    with pytest.raises(WrongAnswer):
        answers.check_files(wrong, INSTANCES)


def test_one_part() -> None:
    answers.check_part(multipart(b"frame"), b"frame")
    answers.check_part(multipart(b"frame"), b"fra", b"me")
    right = multipart(b"frame")
    early = Answer(200, right.head, b"\r\n" + right.body, 0)
    answers.check_part(early, b"frame")
    unfinished = Answer(200, right.head, right.body[:-4], 0)
    other_boundary = Answer(200, right.head, multipart(b"frame", boundary="b2").body, 0)
    wrong = multipart(b"frane"), multipart(b"frame!"), multipart(b"fram"), multipart(b"frame", b"frame"), multipart()
    for each in (*wrong, unfinished, other_boundary):
        with pytest.raises(WrongAnswer):
            answers.check_part(each, b"frame")
        with pytest.raises(WrongAnswer):
            answers.check_part(each, b"fra", b"me")


def test_lengths() -> None:
    answers.check_length(Answer(200, b"", b"", 1100), payload=1000, parts=1)
    for status, length in ((200, 0), (200, 1000), (200, 9000), (500, 1100)):
        with pytest.raises(WrongAnswer):
            answers.check_length(Answer(status, b"", b"", length), payload=1000, parts=1)


def metadata(change: dict[str, Any] | None = None, drop: str | None = None) -> Answer:
    found = copy.deepcopy([instance.metadata() for instance in INSTANCES])
    found[1] |= change or {}
    if drop:
        del found[1][drop]
    return as_json(found)


def test_metadata_may_write_numbers_as_text_and_add_attributes() -> None:
    expected = [instance.metadata() for instance in INSTANCES]
    answers.check_metadata(metadata(), expected, whole=True)
    answers.check_metadata(metadata({"00180060": {"vr": "DS", "Value": ["120"]}}), expected, whole=True)
    answers.check_metadata(metadata({"7FE00010": {"vr": "OW", "BulkDataURI": "x"}}), expected, whole=True)
    answers.check_metadata(metadata(drop="00191013"), expected, whole=True)  # private


@pytest.mark.parametrize(
    "wrong",
    [
        metadata({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Other^Name"}]}}),
        metadata({"00180060": {"vr": "DS", "Value": [121]}}),
        metadata({"00080018": {"vr": "UI", "Value": ["1.2.3"]}}),
        metadata({"00081032": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["other"]}}]}}),
        metadata(drop="00080090"),
        metadata(drop="00081032"),
        as_json([instance.metadata() for instance in INSTANCES[:2]]),
    ],
)
def test_wrong_metadata_is_noticed(wrong: Answer) -> None:
    with pytest.raises(WrongAnswer):
        answers.check_metadata(wrong, [instance.metadata() for instance in INSTANCES], whole=True)


def test_metadata_of_a_few_attributes_is_enough_when_no_more_is_promised() -> None:
    few = as_json([{"00080018": instance.metadata()["00080018"]} for instance in INSTANCES])
    answers.check_metadata(few, [instance.metadata() for instance in INSTANCES], whole=False)


def stored(*uids: str) -> dict[str, Any]:
    return {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]}}


def test_store_answers() -> None:
    answers.check_stored(as_json(stored("1", "2")), ["1", "2"])
    answers.check_stored(as_json(stored("1") | {"00081198": {"vr": "SQ"}}), ["1"])
    failed = {"00081198": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["2"]}}]}}
    for wrong in (as_json(stored("1"), 202), as_json(stored("1")), as_json(stored("1", "2") | failed)):
        with pytest.raises(WrongAnswer):
            answers.check_stored(wrong, ["1", "2"])


def study(uid: str, patient: str = "P", date: str = "20200101") -> dict[str, Any]:
    return {
        "0020000D": {"vr": "UI", "Value": [uid]},
        "00100020": {"vr": "LO", "Value": [patient]},
        "00080020": {"vr": "DA", "Value": [date]},
    }


def test_searches() -> None:
    answers.check_study(as_json([study("1.2")]), "1.2", "P")
    for wrong in (as_json([]), as_json([study("1.3")]), as_json([study("1.2", "Q")]), as_json([study("1.2")] * 2)):
        with pytest.raises(WrongAnswer):
            answers.check_study(wrong, "1.2", "P")


def test_searches_by_date() -> None:
    page = as_json([study("1"), study("2", date="20200107")])
    answers.check_dates(page, "20200101", "20200107", 2, 50)
    answers.check_dates(Answer(204, b"", b"", 0), "20200101", "20200107", 0, 50)
    for first, least, most in (("20200102", 1, 50), ("20200101", 3, 50), ("20200101", 0, 1)):
        with pytest.raises(WrongAnswer):
            answers.check_dates(page, first, "20200107", least, most)


def picture(number: int, encoding: str = "JPEG", media_type: str = "image/jpeg", quality: int = 90) -> Answer:
    stored = Series(PICTURE, 1, 1).instance(number).pixels
    grey = phantom.windowed(stored, PICTURE.rows, PICTURE.columns).round().astype("u1")
    file = io.BytesIO()
    Image.fromarray(grey).save(file, encoding, quality=quality)
    return Answer(200, line("content-type", media_type), file.getvalue(), len(file.getvalue()))


def test_a_picture_of_the_instance_is_right() -> None:
    for number in range(4):
        answers.check_same_picture(picture(number), Series(PICTURE, 1, 1).instance(number))


@pytest.mark.parametrize(
    "wrong",
    [
        picture(1),
        picture(3),
        picture(0, encoding="PNG"),
        picture(0, media_type="image/png"),
        Answer(404, line("content-type", "image/jpeg"), picture(0).body, 1),
        Answer(200, line("content-type", "image/jpeg"), picture(0).body[:2000], 2000),
        Answer(200, line("content-type", "image/jpeg"), b"\xff\xd8\xff\xd9", 4),
    ],
)
def test_wrong_pictures_are_noticed(wrong: Answer) -> None:
    with pytest.raises(WrongAnswer):
        answers.check_same_picture(wrong, Series(PICTURE, 1, 1).instance(0))


def test_the_size_of_a_picture_is_in_its_first_bytes() -> None:
    file = io.BytesIO()
    Image.new("RGB", (300, 200)).save(file, "JPEG", progressive=True, comment=b"x" * 1000)
    assert answers.jpeg_size(file.getvalue()) == (200, 300)
    glanced = Answer(200, line("content-type", "image/jpeg"), file.getvalue(), len(file.getvalue()))
    answers.check_picture(glanced, 200, 300)
    with pytest.raises(WrongAnswer):
        answers.check_picture(glanced, 300, 200)
    for wrong in (b"", b"\xff\xd8", file.getvalue()[:1000], b"GIF89a" + bytes(40)):
        assert answers.jpeg_size(wrong) is None


def test_ranges() -> None:
    right = Answer(206, line("content-range", "bytes 100-104/900"), b"frame", 5)
    answers.check_range(right, b"frame", 100, 900)
    for wrong in (
        Answer(200, right.head, b"frame", 5),
        Answer(206, b"", b"frame", 5),
        Answer(206, line("content-range", "bytes 101-105/900"), b"frame", 5),
        Answer(206, right.head, b"frane", 5),
    ):
        with pytest.raises(WrongAnswer):
            answers.check_range(wrong, b"frame", 100, 900)


def test_not_modified() -> None:
    answers.check_unchanged(Answer(304, b"", b"", 0))
    for wrong in (Answer(200, b"", b"", 0), Answer(304, b"", b"[]", 2)):
        with pytest.raises(WrongAnswer):
            answers.check_unchanged(wrong)
