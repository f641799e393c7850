"""OHIF from ``/viewer`` in a real browser: studies are found, images and what belongs to them are seen.

Screenshots of what was seen stay in build/screenshots. The samples are those of the repository, but for a report that
comes with pydicom. Whatever the viewer asks for has to come from this server, and has to be answered.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file

from hounsfield.cli.viewer_package import VERSION
from hounsfield.web.viewer.files import default_directory, read_list
from tests.acceptance import dicomweb
from tests.acceptance.test_lifecycle import running
from tests.acceptance.test_security import security
from tests.peers.chromium import Browser, Page, chromium
from tests.peers.oidc_provider import OidcProvider
from tests.peers.process import unavailable
from tests.server import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.peer, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
SCREENSHOTS = ROOT / "build" / "screenshots"
ON = {"DicomServer__Features__EnableOhifViewer": "true"}

INTRODUCED = """
sessionStorage.setItem('investigationalUseDialog', 'hidden');
localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));
"""
"""The viewer has said what it is for, and how to use it."""

CANVAS = """
(() => {
  const canvas = document.querySelector('canvas.cornerstone-canvas');
  if (!canvas) return null;
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const shades = new Set();
  let coloured = 0, dark = 0;
  for (let i = 0; i < data.length; i += 4 * 7) {
    const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
    shades.add(r << 16 | g << 8 | b);
    coloured += Math.max(r, g, b) - Math.min(r, g, b) > 40;
    dark += Math.max(r, g, b) < 16;
  }
  const pixels = data.length / 4 / 7;
  return {shades: shades.size, coloured: coloured / pixels, dark: dark / pixels};
})()
"""
"""What is on the canvas, by every seventh pixel: how many colours, and the shares of coloured and of dark pixels."""


@pytest.fixture(scope="module")
def viewing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the viewer and the samples."""
    installed = read_list(default_directory())
    if installed is None or installed.version != VERSION:
        unavailable("The viewer is not installed")
    with running(tmp_path_factory.mktemp("viewing") / "data", environment=ON) as server, server.client() as client:
        report = get_testdata_file("reportsi.dcm", download=False)
        assert isinstance(report, str)
        for file in [*sorted(SAMPLES.glob("*/*.dcm")), Path(report)]:
            assert dicomweb.post(client, [file.read_bytes()]).status_code in (200, 202), file
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, and an empty folder for what is seen in it."""
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@contextlib.contextmanager
def looking(browser: Browser, server: Server, path: str, name: str) -> Iterator[Page]:
    """A page of the viewer. In the end its picture is kept, and everything must have gone well on the network."""
    with browser.page() as page:
        page.before_each_document(INTRODUCED)
        page.open(f"{server.root}{path}")
        try:
            yield page
        finally:
            (SCREENSHOTS / f"{name}.png").write_bytes(page.screenshot())
        remote = [exchange for exchange in page.exchanges if not exchange.is_local]
        assert [one.url for one in remote if not one.url.startswith(f"{server.root}/")] == []
        assert [(one.url, one.status, one.failure) for one in remote if one.status >= 400 or one.failure] == []
        # The page itself stands in for every unknown address; nothing else may be what the viewer takes for a file.
        assert [one.url for one in remote if one.media_type == "text/html" and one.kind != "Document"] == []
        assert page.violations == []


def study_of(sample: str) -> str:
    """The Study Instance UID of a folder of the samples."""
    path = next((SAMPLES / sample).glob("*.dcm"))
    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def canvas(page: Page, condition: str = "found.shades > 50") -> Mapping[str, Any]:
    """What is on the canvas once ``condition`` holds of it."""
    found: Mapping[str, Any] = page.wait_for(
        f"(() => {{ const found = {CANVAS.strip()}; return found && {condition} && found }})()"
    )
    return found


def open_series(page: Page, text: str) -> None:
    """Double-click the series in the list at the left whose entry has the text."""
    entry = "[data-cy=study-browser-thumbnail-no-image]"
    page.wait_for(
        f"(() => {{ const found = [...document.querySelectorAll('{entry}')].find(one =>"
        f" one.innerText.includes({json.dumps(text)})); if (found) found.id = 'wanted'; return Boolean(found) }})()"
    )
    page.click("#wanted", times=2)


def test_the_study_list(browser: Browser, viewing: Server) -> None:
    with looking(browser, viewing, "/viewer/", "study-list") as page:
        page.shows("Jane_Doe")
        text = page.text()
        with viewing.client() as client:
            count = len(client.get("/v2/studies").json())
        assert count > 5
        assert f"1-{count} of {count}" in text
        assert "SEG\\CT" in text or "CT\\SEG" in text
        assert "17-Jul-2013" in text
        page.click("input")
        page.type("jane")
        page.shows("1-1 of 1")
        assert "Jane_Doe" in page.text()
        assert "JANCT000" not in page.text()


def test_the_address_of_the_reference_opens_ct(browser: Browser, viewing: Server) -> None:
    uid = study_of("ct-liver")
    with looking(browser, viewing, f"/viewer/{uid}", "ct") as page:
        seen = canvas(page)
        assert seen["shades"] > 100
        assert 0.2 < seen["dark"] < 0.9
        assert seen["coloured"] == 0
        assert page.evaluate("location.pathname + location.search") == f"/viewer/viewer?StudyInstanceUIDs={uid}"


def test_mr(browser: Browser, viewing: Server) -> None:
    address = f"/viewer/viewer?StudyInstanceUIDs={study_of('mr-head')}"
    with looking(browser, viewing, address, "mr") as page:
        assert canvas(page)["coloured"] == 0
        page.shows("(1/8)")


def test_multi_frame_ultrasound_plays(browser: Browser, viewing: Server) -> None:
    with looking(browser, viewing, f"/viewer/{study_of('us-heart')}", "us") as page:
        canvas(page)
        page.shows("(1/30)")
        first = page.evaluate("document.querySelector('canvas.cornerstone-canvas').toDataURL()")
        for _ in range(60):  # keys count once the viewer listens to them
            page.key("ArrowDown")
            time.sleep(0.5)
            if "(1/30)" not in page.text():
                break
        page.wait_for(f"document.querySelector('canvas.cornerstone-canvas').toDataURL() !== {json.dumps(first)}")
        assert canvas(page)["shades"] > 50


def test_a_segmentation_is_drawn_over_its_ct(browser: Browser, viewing: Server) -> None:
    with looking(browser, viewing, f"/viewer/{study_of('ct-liver')}", "seg") as page:
        assert canvas(page)["coloured"] == 0
        open_series(page, "Liver Segmentation")
        page.shows("Do you want to open this Segmentation?")
        # The liver takes up about a tenth of the picture.
        assert canvas(page, "found.coloured > 0.05")["coloured"] < 0.5


def test_measurements_of_a_report_are_drawn_over_their_image(browser: Browser, viewing: Server) -> None:
    with looking(browser, viewing, f"/viewer/{study_of('ct-report')}", "sr-measurement") as page:
        canvas(page)
        open_series(page, "SR")
        page.shows("Area of defined region: 1.70 cm2")
        assert canvas(page)["shades"] > 50
        assert page.evaluate("document.querySelectorAll('svg.svg-layer :is(circle, ellipse, path, polyline)').length")


def test_a_report_in_words_is_shown(browser: Browser, viewing: Server) -> None:
    with viewing.client() as client:
        (study,) = client.get("/v2/studies", params={"StudyDescription": "OFFIS Structured Reporting Templates"}).json()
    uid = study["0020000D"]["Value"][0]
    with looking(browser, viewing, f"/viewer/{uid}", "sr-text") as page:
        page.shows("Recording Observer")


def test_a_picture_with_a_palette_has_its_colours(browser: Browser, viewing: Server) -> None:
    path = get_testdata_file("examples_palette.dcm", download=False)
    assert isinstance(path, str)
    with viewing.client() as client:
        assert dicomweb.post(client, [Path(path).read_bytes()]).status_code in (200, 202)
    uid = pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID
    with looking(browser, viewing, f"/viewer/{uid}", "palette") as page:
        assert canvas(page, "found.coloured > 0.05")["shades"] > 50


def test_a_tile_of_a_slide(browser: Browser, viewing: Server) -> None:
    with looking(browser, viewing, f"/viewer/{study_of('sm-slide')}", "sm") as page:
        page.wait_for("document.querySelector('[data-cy=viewport-pane] canvas:not(.cornerstone-canvas)') !== null")
        page.shows("μm")


def test_each_partition_has_a_viewer_of_its_own(browser: Browser, tmp_path: Path) -> None:
    environment = {**ON, "DicomServer__Features__EnableDataPartitions": "true"}
    uid = study_of("mr-head")
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        files = [file.read_bytes() for file in sorted((SAMPLES / "mr-head").glob("*.dcm"))]
        assert dicomweb.post(client, files, "/v2/partitions/ward-7/studies").status_code == 202
        with looking(browser, server, f"/viewer/partitions/ward-7/{uid}", "partition") as page:
            canvas(page)
            asked = [one.url for one in page.exchanges if "/v2/" in one.url]
            assert asked
            assert all(url.startswith(f"{server.root}/v2/partitions/ward-7/") for url in asked)
        with looking(browser, server, "/viewer/", "partition-default") as page:
            page.shows("Study List")
            page.asks("/v2/partitions/Microsoft.Default/studies")
            page.shows("0 of 0")
            assert "Jane_Doe" not in page.text()


def test_whoever_opens_it_signs_in_where_security_is_on(
    browser: Browser, tmp_path: Path, oidc_provider_process: OidcProvider
) -> None:
    provider = oidc_provider_process
    environment = {**ON, **security(provider.authority, roles=True), "Viewer__ClientId": "viewer"}
    uid = study_of("us-heart")
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        client.headers["authorization"] = f"Bearer {provider.token('admin')}"
        (file,) = (SAMPLES / "us-heart").glob("*.dcm")
        assert dicomweb.post(client, [file.read_bytes()]).status_code in (200, 202)
        with browser.page() as page:
            page.before_each_document(INTRODUCED)
            page.open(f"{server.root}/viewer/{uid}")
            page.click("input[name=login]")
            page.type("ann")
            page.click("input[name=password]")
            page.type("secret")
            page.click("button[type=submit]")
            page.shows("Authorize")
            page.click("button[type=submit]")
            canvas(page)
            (SCREENSHOTS / "signed-in.png").write_bytes(page.screenshot())
            answers = [one for one in page.exchanges if one.url.startswith(f"{server.root}/v2/")]
            assert any("/frames/1" in one.url for one in answers)
            assert {one.status for one in answers} - {0} == {200}  # 0: still under way
            assert page.violations == []
