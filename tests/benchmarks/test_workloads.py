import io
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from benchmarks import phantom
from benchmarks.__main__ import arguments, profile
from benchmarks.load import Client, WrongAnswer
from benchmarks.servers import Server
from benchmarks.studies import PICTURE
from benchmarks.workloads import Workload, workloads
from tests.benchmarks.conftest import Answering, http

SETTING = profile(arguments(["--quick", "--slices", "6", "--seed", "1"]))


def row(group: str, name: str) -> Workload:
    (found,) = (each for each in workloads(SETTING, group) if each.name == name)
    return found


@contextmanager
def working(workload: Workload, server: Server) -> Iterator[Client]:
    """A client of the workload's first round."""
    client = workload.client(server, 0, 0)
    try:
        yield client
    finally:
        client.finish()


class Metadata:
    """A server of the metadata of single instances; ``late`` is what is wrong with its answers after the 20th."""

    def __init__(self, late: str = "right") -> None:
        study = row("metadata", "Metadata of one instance").collection
        assert study is not None
        self._texts = {f"{each.path}/metadata": each.metadata() for each in study}
        self._late = late
        self.answers = 0

    def __call__(self, path: str, _: dict[str, str]) -> bytes:
        self.answers += 1
        item = json.loads(json.dumps(self._texts[path]))
        position = item["00201041"]["Value"]
        item["00201041"]["Value"] = [int(each) if each == int(each) else each for each in position]
        if self.answers > 20 and self._late == "longer":
            item["00080070"]["Value"] = ["ACME Medical Systems"]
        if self.answers > 20 and self._late == "another":
            item["00080070"]["Value"] = ["ACNE Medical"]
        return http(200, json.dumps([item]).encode())


def test_metadata_of_single_instances_may_differ_by_a_fraction_of_the_position(answering: Answering) -> None:
    served = Metadata()
    with working(row("metadata", "Metadata of one instance"), answering(served)) as client:
        assert sum(client.step() for _ in range(40)) == 40
    assert served.answers == 42


@pytest.mark.parametrize(("late", "trouble"), [("longer", "bytes where"), ("another", "attribute 00080070")])
def test_metadata_of_single_instances_that_is_wrong_is_noticed(late: str, trouble: str, answering: Answering) -> None:
    with working(row("metadata", "Metadata of one instance"), answering(Metadata(late))) as client:
        for _ in range(18):
            client.step()
        with pytest.raises(WrongAnswer, match=trouble):
            for _ in range(16):
                client.step()


def picture(stored: bytes) -> bytes:
    file = io.BytesIO()
    grey = phantom.windowed(stored, PICTURE.rows, PICTURE.columns).round().astype("u1")
    Image.fromarray(grey).save(file, "JPEG", quality=phantom.QUALITY)
    return file.getvalue()


@pytest.mark.parametrize("right", [True, False])
def test_pictures_have_to_be_those_of_their_instance(right: bool, answering: Answering) -> None:
    rendered = row("rendered", "Rendered frame, 512 × 512 JPEG")
    assert rendered.collection is not None
    pixels = {each.path: each.pixels for each in rendered.collection}
    first = next(iter(pixels.values()))

    def reply(path: str, headers: dict[str, str]) -> bytes:
        assert headers["accept"] == "image/jpeg"
        instance, _, parameters = path.partition("/rendered?")
        assert parameters == "window=40,400,linear&quality=90"
        return http(200, picture(pixels[instance] if right else first), "Content-Type: image/jpeg")

    server = answering(reply)
    if right:
        rendered.verify(server)
        with working(rendered, server) as client:
            assert client.step() == 1
    else:
        with pytest.raises(WrongAnswer, match="grey values differ"):
            rendered.verify(server)
