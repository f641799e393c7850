import functools
import io
import json
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.cli.connection import Answer, AnsweredEarly, Stopped
from hounsfield.cli.sources import Scan, Source
from hounsfield.cli.stow import Outcome, StowBody, verdicts
from hounsfield.web.content_type import boundary_of, parse_content_type
from hounsfield.web.multipart import MultipartReader, PartData, PartEnd
from tests.cli.dicom_files import folder_of


def received(body: StowBody) -> bytes:
    """What arrives at the other end of a real connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    arrived: list[bytes] = []

    def read() -> None:
        accepted, _ = listener.accept()
        with accepted:
            while data := accepted.recv(1 << 20):
                arrived.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    with socket.create_connection(listener.getsockname()) as sock:
        body.send(sock)
    reader.join()
    listener.close()
    return b"".join(arrived)


def parts(body: StowBody, content: bytes) -> list[bytes]:
    reader = MultipartReader(boundary_of(parse_content_type(body.headers["Content-Type"])[1]))
    found, pieces = [], []
    for event in reader.feed(content):
        if isinstance(event, PartData):
            pieces.append(bytes(event.data))
        elif isinstance(event, PartEnd):
            found.append(b"".join(pieces))
            pieces = []
    reader.finish()
    return found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 131, 262143, 262144, 262145, 600_000]), max_size=5), st.booleans())
def test_body_is_as_long_as_announced_and_holds_the_files(sizes: list[int], on_disk: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for number, size in enumerate(sizes):
            path = Path(folder, str(number))
            path.write_bytes(bytes([number]) * size)
            sources.append(Source(str(path), size, "", functools.partial(io.FileIO, path), on_disk))
        counted: list[int] = []
        body = StowBody(sources, threading.Event(), counted.append)
        content = received(body)
        assert len(content) == int(body.headers["Content-Length"]) == sum(counted)
        assert parts(body, content) == [Path(source.label).read_bytes() for source in sources]


def test_stop_and_early_answer_end_the_sending(tmp_path: Path) -> None:
    sources = list(Scan(folder_of(tmp_path, 1, pixels=1_000_000)).sources())
    stop = threading.Event()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 413 \r\n\r\n")
        with pytest.raises(AnsweredEarly):
            StowBody(sources, stop, lambda size: None).send(ours)
        stop.set()
        with pytest.raises(Stopped):
            StowBody(sources, stop, lambda size: None).send(ours)


def item(uid: str | None, reason: int | None = None, warning: int | None = None, comment: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    if uid is not None:
        found["00081155"] = {"vr": "UI", "Value": [uid]}
    if reason is not None:
        found["00081197"] = {"vr": "US", "Value": [reason]}
    if warning is not None:
        found["00081196"] = {"vr": "US", "Value": [warning]}
    if comment:
        found["00741048"] = {"vr": "SQ", "Value": [{"00000902": {"vr": "LO", "Value": [comment]}}]}
    return found


def answer(stored: list[Any], failed: list[Any], status: int = 202) -> Answer:
    dataset = {"00081198": {"vr": "SQ", "Value": failed}, "00081199": {"vr": "SQ", "Value": stored}}
    return Answer(status, {"content-type": "application/dicom+json"}, json.dumps(dataset).encode())


@pytest.fixture
def three(tmp_path: Path) -> list[Source]:
    """Instances 1.2.3.4.1 to 1.2.3.4.3."""
    return list(Scan(folder_of(tmp_path, 3)).sources())


def outcomes(found: Answer, sources: list[Source]) -> list[Outcome | None]:
    """For each source its outcome, None where the answer leaves doubt."""
    known, doubtful = verdicts(found, sources)
    assert len(known) + len(doubtful) == len(sources)
    by_source = {verdict.source.label: verdict.outcome for verdict in known}
    return [by_source.get(source.label) for source in sources]


def test_all_stored_needs_no_names(three: list[Source]) -> None:
    found = answer([item("?"), item("?", warning=1), item("?")], [], 200)
    assert outcomes(found, three).count(Outcome.STORED_WITH_WARNING) == 1


def test_mixed_fates_are_matched_by_uid(three: list[Source]) -> None:
    found = answer([item("1.2.3.4.3", warning=45063)], [item("1.2.3.4.2", 45070), item("1.2.3.4.1 ", 272)])
    assert outcomes(found, three) == [Outcome.REJECTED, Outcome.ALREADY_STORED, Outcome.STORED_WITH_WARNING]


def test_files_that_the_server_cannot_name_stay_in_doubt(three: list[Source], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(bytes(128) + b"DICM" + bytes(200))
    sources = [*three, *Scan([broken]).sources()]
    found = answer([item("1.2.3.4.1"), item("1.2.3.4.2")], [item(None, 43264), item(None, 43264)])
    assert outcomes(found, sources) == [Outcome.STORED, Outcome.STORED, None, None]


def test_copies_in_one_request(three: list[Source]) -> None:
    twice = [three[0], three[0]]
    found, doubtful = verdicts(answer([item("1.2.3.4.1")], [item("1.2.3.4.1", 45070)]), twice)
    assert sorted(verdict.outcome.name for verdict in found) == ["ALREADY_STORED", "STORED"]
    assert doubtful == []
    assert verdicts(answer([item("1.2.3.4.1")], [item("1.2.3.4.1", 272)]), twice) == ([], twice)


@pytest.mark.parametrize(
    ("found", "certain"),
    [
        (answer([item("1.2.3.4.1")], [item("1.2.3.4.2", 272)]), [Outcome.STORED, Outcome.REJECTED, None]),
        (answer([item("1.2.3.4.1"), item("1.2.3.4.2")], [item("9.9", 272)]), [Outcome.STORED, Outcome.STORED, None]),
        (answer([item("1.2.3.4.1"), item("1.2.3.4.1")], []), [None, None, None]),
        (answer([], [], 409), [None, None, None]),
        (Answer(409, {}, b"no JSON"), [None, None, None]),
    ],
)
def test_answers_that_leave_doubt_are_not_guessed_at(
    three: list[Source], found: Answer, certain: list[Outcome | None]
) -> None:
    assert outcomes(found, three) == certain


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        (item("1", 43264, comment="DICOM100: (0010,0020) - \x1bmissing"),
         "it cannot be read or breaks a rule of the server (43264): DICOM100: (0010,0020) - \ufffdmissing"),
        (item("1", 0x0122), "the server does not accept this SOP class (290)"),
        (item("1", 0xC001), "the server cannot make sense of it (49153)"),
        (item("1", 7), "refused (7)"),
        (item("1"), "the server gave no reason"),
    ],
)  # fmt: skip
def test_reasons(three: list[Source], failed: dict[str, Any], reason: str) -> None:
    ((verdict,), _) = verdicts(answer([], [failed], 409), three[:1])
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECTED, reason)


@pytest.mark.parametrize(
    "body", [b"", b"<xml/>", b"{}", b"[]", b"null", b"[{}]", b'{"00081199": 5}', b'{"00081199": []}']
)
def test_success_without_details_is_success(three: list[Source], body: bytes) -> None:
    assert outcomes(Answer(200, {}, body), three) == [Outcome.STORED] * 3


def test_conflict_without_details_is_a_rejection_with_the_sentence(three: list[Source]) -> None:
    ((verdict,), _) = verdicts(Answer(409, {}, b"Quota exceeded."), three[:1])
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECTED, "Quota exceeded.")
