import time
from collections.abc import Callable
from functools import partial

import pytest

from benchmarks import answers, latency
from benchmarks.clients import Question, ask
from benchmarks.latency import NotOffered, Probe, Storm
from benchmarks.load import WrongAnswer
from benchmarks.servers import Server
from benchmarks.studies import DEEP, PLAIN, Collection
from benchmarks.wire import Base, Connection
from benchmarks.workloads import Deal
from tests.benchmarks.conftest import Answering, Reply, http

SERIES = Collection(PLAIN, 1, 1, 1, 2)
METADATA = b"[" + b",".join(SERIES.series().metadata_text(number) for number in range(2)) + b"]"

forks_beside_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
"""Of this process only, in which the server of these tests runs."""


def deal(
    glance: Callable[..., None] = answers.check_status,
    check: Callable[..., None] = answers.check_status,
    path: str = "/x",
) -> Deal:
    return lambda _: Question(path, "*/*", glance, check)


def test_the_time_of_an_answer_is_not_that_of_its_check(answering: Answering) -> None:
    def reply(*_: object) -> bytes:
        time.sleep(0.02)
        return http(200, b"abc")

    slow_check = partial(time.sleep, 0.05)
    probe = Probe("x", (), lambda *_: deal(glance=lambda _: slow_check()))
    found = latency.measure(probe, answering(reply), 0, 0.1)
    assert 0.02 <= found.median <= found.p95
    assert found.median < 0.05
    assert found.answers == latency.LEAST_ANSWERS
    assert found.pictures is None


def test_every_sixteenth_answer_is_checked_whole_and_not_timed(answering: Answering) -> None:
    glanced: list[bytes] = []
    checked: list[bytes] = []
    probe = Probe(
        "x", (), lambda *_: deal(lambda answer: glanced.append(answer.body), lambda answer: checked.append(answer.body))
    )
    found = latency.measure(probe, answering(lambda *_: http(200, b"x" * 100_000)), 0, 0.3)
    assert found.answers == len(glanced)
    assert {len(body) for body in checked} == {100_000}
    whole = len(checked) - latency.WARM_UP_ANSWERS
    assert whole == (whole + len(glanced)) // 16


@pytest.mark.parametrize(("first_byte", "least", "most"), [(True, 0, 0.04), (False, 0.05, 1)])
def test_the_clock_stops_with_the_first_byte_where_that_is_asked(
    first_byte: bool, least: float, most: float, answering: Answering
) -> None:
    body = b"y" * 400_000

    server = answering(lambda *_: http(200, body))
    original = Connection._take

    def take(self: Connection, count: int, found: object) -> None:
        time.sleep(0.05)
        original(self, count, found)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "_take", take)
        found = latency.measure(Probe("x", (), lambda *_: deal(), first_byte=first_byte), server, 0, 0.1)
    assert least <= found.median < most


def test_a_wrong_answer_is_no_time(answering: Answering) -> None:
    probe = Probe("x", (), lambda *_: deal())
    with pytest.raises(WrongAnswer, match="status 500"):
        latency.measure(probe, answering(lambda *_: http(500, b"")), 0, 0.1)


def unchanged(tag: str | None) -> Reply:
    def reply(path: str, headers: dict[str, str]) -> bytes:
        assert path == f"{SERIES.series().path}/metadata"
        if tag is not None and headers.get("if-none-match") == tag:
            return http(304, b"", f"ETag: {tag}")
        return http(200, METADATA, *([f"ETag: {tag}"] if tag else []))

    return reply


def begin(name: str, server: Server) -> Deal:
    probe = {"metadata": latency._metadata, "unchanged": latency._unchanged}[name]
    with Connection(server.base) as connection:
        return probe(SERIES, server, connection)


def test_not_modified_is_asked_with_the_tag_of_the_answer_before(answering: Answering) -> None:
    server = answering(unchanged('"7"'))
    probe = Probe("x", (), partial(latency._unchanged, SERIES))
    assert latency.measure(probe, server, 0, 0.05).answers >= latency.LEAST_ANSWERS
    with pytest.raises(NotOffered, match="no ETag"):
        begin("unchanged", answering(unchanged(None)))


def test_a_tag_that_does_not_help_is_a_wrong_answer(answering: Answering) -> None:
    server = answering(lambda *_: http(200, METADATA, "ETag: 1"))
    with pytest.raises(WrongAnswer, match="status 200"):
        latency.measure(Probe("x", (), partial(latency._unchanged, SERIES)), server, 0, 0.05)


def test_metadata_is_checked_whole_once_and_then_by_its_length(answering: Answering) -> None:
    replies = [METADATA, METADATA.replace(b"CT THORAX", b"MR THORAX"), METADATA + b" "]
    server = answering(lambda *_: http(200, replies.pop(0)))
    with Connection(server.base) as connection:
        dealt = latency._metadata(SERIES, server, connection)
        question = dealt(None)  # type: ignore[arg-type]
        with pytest.raises(WrongAnswer, match="attribute 00081030"):
            ask(connection, question, whole=True)
        with pytest.raises(WrongAnswer, match="bytes where"):
            ask(connection, question, whole=False)


def test_a_range_is_that_of_the_frame(answering: Answering) -> None:
    instance = Collection(DEEP, 1, 1, 1, 1).series().instance(0)
    file = instance.file()

    def reply(_: str, headers: dict[str, str]) -> bytes:
        first, last = (int(each) for each in headers["range"].removeprefix("bytes=").split("-"))
        return http(206, file[first : last + 1], f"Content-Range: bytes {first}-{last}/{len(file)}")

    probe = Probe("x", (), partial(latency._range, instance, 9_999))
    assert latency.measure(probe, answering(reply), 0, 0.05).answers >= latency.LEAST_ANSWERS
    with pytest.raises(NotOffered, match="no Range"):
        latency.measure(probe, answering(lambda *_: http(200, b"all of it")), 0, 0.05)
    with pytest.raises(WrongAnswer, match="status 404"):
        latency.measure(probe, answering(lambda *_: http(404, b"")), 0, 0.05)


@forks_beside_threads
def test_a_storm_rages_while_it_is_measured_and_not_after(answering: Answering) -> None:
    seen: list[str] = []

    def reply(path: str, _: object) -> bytes:
        seen.append(path)
        time.sleep(0.01)
        return http(200, b"")

    found = latency.measure(Probe("x", (), lambda *_: deal(), storm=deal(path="/storm")), answering(reply), 0, 0.3)
    assert found.pictures is not None
    assert found.pictures > 0
    first, last = seen.index("/storm"), len(seen) - seen[::-1].index("/x")
    assert seen[first:last].count("/storm") >= latency.STORM_CLIENTS
    assert seen[:first] == ["/x"] * latency.WARM_UP_ANSWERS
    seen.clear()
    time.sleep(0.05)
    assert not seen


@forks_beside_threads
@pytest.mark.parametrize("wrong_from", [0, 20])
def test_a_wrong_answer_in_the_storm_is_one_of_the_row(wrong_from: int, answering: Answering) -> None:
    asked: list[str] = []

    def reply(path: str, _: object) -> bytes:
        if path == "/storm":
            asked.append(path)
            if len(asked) > wrong_from:
                return http(503, b"too much")
        return http(200, b"")

    with pytest.raises(WrongAnswer, match=r"in the storm: .*status 503: too much"):
        latency.measure(Probe("x", (), lambda *_: deal(), storm=deal(path="/storm")), answering(reply), 0, 0.3)


def test_a_storm_of_nobody_has_no_rate() -> None:
    with Storm(Base("127.0.0.1", 1, ""), deal(), 0, number=0) as storm:
        pass
    assert storm.rate == 0
