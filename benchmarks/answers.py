"""What a right answer looks like. Every check raises WrongAnswer with the first difference it finds."""

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import phantom
from benchmarks.load import WrongAnswer
from benchmarks.studies import Instance, Metadata
from benchmarks.wire import Answer

PART_OVERHEAD_BYTES = 1024
"""More than any server needs for the boundary and headers of a part."""
JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_status(answer: Answer, allowed: Sequence[int] = (200,)) -> None:
    """The status must be one of ``allowed``."""
    if answer.status not in allowed:
        raise WrongAnswer(f"status {answer.status}: {answer.body[:300].decode(errors='replace')}")


def check_length(answer: Answer, payload: int, parts: int) -> None:
    """A multipart body of that many parts must be as long as its payload and a little more."""
    check_status(answer)
    if not payload < answer.length <= payload + (parts + 1) * PART_OVERHEAD_BYTES:
        raise WrongAnswer(f"a body of {answer.length} bytes for {parts} parts of {payload} bytes together")


def parts(answer: Answer) -> list[memoryview]:
    """Contents of the parts of a multipart answer that was read whole."""
    mark = _mark(answer)
    body, contents = answer.body, []
    at = body.find(mark)
    while at >= 0 and not body.startswith(b"--", at + len(mark)):
        start = body.find(b"\r\n\r\n", at) + 4
        at = body.find(b"\r\n" + mark, start)
        if start < 4 or at < 0:
            raise WrongAnswer("the last part has no end")
        contents.append(memoryview(body)[start:at])
        at += 2
    return contents


def _mark(answer: Answer) -> bytes:
    """What every boundary of a multipart answer begins with."""
    content_type = answer.headers.get("content-type", "")
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if not content_type.startswith("multipart/related") or found is None:
        raise WrongAnswer(f"no multipart answer but {content_type!r}")
    return b"--" + found.group(1).encode()


def check_files(answer: Answer, instances: Iterable[Instance]) -> None:
    """The parts must be exactly these instances, in any order, byte for byte."""
    check_status(answer)
    wanted = sorted(hashlib.sha256(instance.file()).digest() for instance in instances)
    found = sorted(hashlib.sha256(part).digest() for part in parts(answer))
    if wanted != found:
        right = len(set(wanted) & set(found))
        raise WrongAnswer(f"{len(found)} files came back where {len(wanted)} are stored, {right} of them as stored")


def check_part(answer: Answer, *content: bytes) -> None:
    """The only part must be ``content``, piece by piece.

    Looked at where it lies: copies of it, and a search for its end, would cost more than the servers do.
    """
    check_status(answer)
    mark, body = _mark(answer), answer.body
    begin = body.find(mark, 0, PART_OVERHEAD_BYTES)
    at = start = body.find(b"\r\n\r\n", begin, PART_OVERHEAD_BYTES) + 4
    for piece in content:
        at += len(piece) if body.startswith(piece, at) else len(body)
    if begin < 0 or start < 4 or not body.startswith(b"\r\n%b--" % mark, at):
        found = [len(part) for part in parts(answer)]
        raise WrongAnswer(f"{len(found)} parts of {found} bytes, not the {sum(map(len, content))} stored")


def check_metadata(answer: Answer, expected: Iterable[Metadata], whole: bool) -> None:
    """One object an instance; with ``whole`` each has every standard attribute of the instance, with its value."""
    check_status(answer)
    found = {item["00080018"]["Value"][0]: item for item in json.loads(answer.body)}
    wanted = {item["00080018"]["Value"][0]: item for item in expected}
    if found.keys() != wanted.keys():
        raise WrongAnswer(f"metadata of {len(found)} instances, {len(found.keys() & wanted.keys())} of {len(wanted)}")
    for uid, item in wanted.items() if whole else ():
        for tag, element in item.items():
            if int(tag[:4], 16) % 2 == 0 and not _same(found[uid].get(tag), element):
                raise WrongAnswer(f"attribute {tag} is {found[uid].get(tag)} in the metadata, not {element}")


def _same(found: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    """Equal but for an empty Value that is left out, and numbers written as text (PS3.18 F.2.3 allows both)."""
    if found is None or found["vr"] != wanted["vr"]:
        return False
    mine, theirs = wanted.get("Value") or [], found.get("Value") or []
    if wanted["vr"] == "SQ":
        return len(mine) == len(theirs) and all(
            all(_same(there.get(tag), element) for tag, element in here.items())
            for here, there in zip(mine, theirs, strict=True)
        )
    if wanted["vr"] in ("DS", "IS"):
        return [float(value) for value in mine] == [float(value) for value in theirs]
    return bool(mine == theirs)


def check_stored(answer: Answer, uids: Sequence[str]) -> None:
    """All instances stored, none refused, no warning (status 200)."""
    check_status(answer)
    response = json.loads(answer.body)
    stored = {item["00081155"]["Value"][0] for item in response.get("00081199", {}).get("Value", ())}
    failed = response.get("00081198", {}).get("Value") or []
    if stored != set(uids) or failed:
        raise WrongAnswer(f"{len(stored)} of {len(uids)} instances were reported as stored, {len(failed)} as failed")


def check_study(answer: Answer, study: str, patient_id: str) -> None:
    """Exactly this study."""
    check_status(answer)
    found = [(item["0020000D"]["Value"][0], item["00100020"]["Value"][0]) for item in json.loads(answer.body)]
    if found != [(study, patient_id)]:
        raise WrongAnswer(f"{len(found)} studies found, not the one asked for")


def check_dates(answer: Answer, first: str, last: str, least: int, most: int) -> None:
    """Between ``least`` and ``most`` studies, all with a study date from ``first`` to ``last``."""
    check_status(answer, (200, 204))
    dates = [item["00080020"]["Value"][0] for item in json.loads(answer.body or b"[]")]
    if not least <= len(dates) <= most or not all(first <= date <= last for date in dates):
        raise WrongAnswer(f"{len(dates)} studies, of {least} to {most} with dates from {first} to {last}")


def check_same_length(answer: Answer, length: int) -> None:
    """As long as an answer that was compared whole."""
    if answer.length != length:
        raise WrongAnswer(f"{answer.length} bytes where the same question got {length} before")


def check_picture(answer: Answer, rows: int, columns: int) -> None:
    """A JPEG picture of that size, as far as its first bytes say."""
    check_status(answer)
    content_type = answer.headers.get("content-type", "")
    if content_type != "image/jpeg":
        raise WrongAnswer(f"no JPEG but {content_type!r}")
    if (found := jpeg_size(answer.body)) != (rows, columns):
        raise WrongAnswer(f"a picture of (rows, columns) {found}, not of {rows, columns}")


def check_same_picture(answer: Answer, instance: Instance) -> None:
    """The picture of the instance in the window asked for; grey values may differ by what JPEG costs."""
    kind = instance.series.kind
    check_picture(answer, kind.rows, kind.columns)
    try:
        difference = phantom.difference(answer.body, instance.pixels, kind.rows, kind.columns)
    except OSError as error:
        raise WrongAnswer(f"the picture cannot be decoded: {error}") from error
    if difference > phantom.TOLERANCE:
        raise WrongAnswer(f"grey values differ by {difference:.1f} of 255 on average from those of the instance")


def jpeg_size(body: bytes | bytearray) -> tuple[int, int] | None:
    """Rows and columns in the frame header of a JPEG stream (ITU-T T.81 B.2.2); None where there is none."""
    at = 2
    while body.startswith(b"\xff\xd8") and len(body) >= at + 9 and body[at] == 0xFF:
        marker, length = body[at + 1], int.from_bytes(body[at + 2 : at + 4], "big")
        if marker in JPEG_FRAME_HEADERS:
            rows, columns = struct.unpack_from(">HH", body, at + 5)
            return rows, columns
        at += 2 + length
    return None


def check_range(answer: Answer, content: bytes, start: int, size: int) -> None:
    """``content``, and said to be the bytes of the resource from ``start`` on (RFC 9110 §14.4)."""
    check_status(answer, (206,))
    wanted = f"bytes {start}-{start + len(content) - 1}/{size}"
    if (stated := answer.headers.get("content-range")) != wanted:
        raise WrongAnswer(f"Content-Range is {stated!r}, not {wanted!r}")
    if answer.body != content:
        raise WrongAnswer(f"{len(answer.body)} bytes, not the {len(content)} asked for")


def check_unchanged(answer: Answer) -> None:
    """Not Modified, and nothing else."""
    check_status(answer, (304,))
    if answer.length:
        raise WrongAnswer(f"a body of {answer.length} bytes with status 304")
