"""``hounsfield viewer``: what is fetched, from where, what becomes of it, and that nothing half done is left behind."""

import base64
import gzip
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from hounsfield.cli import viewer_package
from hounsfield.cli.viewer import viewer
from hounsfield.cli.viewer_package import ViewerUnavailable, adapted, registry
from hounsfield.web.viewer.files import LIST, read_list
from tests.cli.viewer_package import CONTENT, ICON, INSTALLED, MAIN, integrity, package

PACKED = package()


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The made-up package is the one to install; nobody's own npm configuration counts."""
    monkeypatch.setattr(viewer_package, "INTEGRITY", integrity(PACKED))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "app.tgz"
    path.write_bytes(PACKED)
    return path


@pytest.fixture
def served() -> Iterator[tuple[str, list[str]]]:
    """A registry that has the package, and what it was asked for."""
    asked: list[str] = []

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = self.path == f"/npm/{viewer_package.PACKAGE_PATH}"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(PACKED) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(PACKED)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(viewer)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_used_is_installed_and_nothing_else(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "some" / "viewer"
    done = run("install", "--from", source, "--to", folder)
    assert done.exit_code == 0, done.output
    assert f"{len(INSTALLED)} files" in done.output
    files = read_list(folder)
    assert files is not None
    assert files.version == viewer_package.VERSION
    assert files.files.keys() == INSTALLED
    assert (files.script, files.style) == (MAIN, "app.bundle.css")
    packed = {f"{name}.gz" for name, file in files.files.items() if file.packed}
    assert files_below(folder) == INSTALLED | packed | {LIST, "LICENSE"}
    assert {"codec.wasm.gz", f"{MAIN}.gz"} <= packed
    assert "a.woff2.gz" not in packed
    for name, file in files.files.items():
        assert file.size == (folder / name).stat().st_size
        if file.packed:
            assert file.packed == (folder / f"{name}.gz").stat().st_size
            assert gzip.decompress((folder / f"{name}.gz").read_bytes()) == (folder / name).read_bytes()
    assert (folder / "assets/favicon.ico").read_bytes() == ICON
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.tgz", "home", "some"]
    assert [path.name for path in folder.parent.iterdir()] == ["viewer"]


def test_addresses_from_the_root_become_relative() -> None:
    script = adapted(MAIN, CONTENT[f"package/dist/{MAIN}"]).decode()
    assert '__webpack_require__.p = "/"' not in script
    assert "currentScript?.src ?? self.location.href" in script
    assert script.startswith("var a = 1; ")
    style = adapted("app.bundle.css", CONTENT["package/dist/app.bundle.css"]).decode()
    assert style == "@font-face{src:url(a.woff2) url('b.woff2') url(//elsewhere) url(data:,x)}"
    asking = adapted("89.js", CONTENT["package/dist/89.bundle.0123456789abcdef.js"]).decode()
    assert asking == "const commaSeparatedFields = ['00081030', '00080061', '00201208',\n'00080060'];"
    assert adapted("x.wasm", b'__webpack_require__.p = "/"') == b'__webpack_require__.p = "/"'


def test_the_revision_is_of_the_content(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("install", "--from", source, "--to", tmp_path / "one").exit_code == 0
    assert run("install", "--from", source, "--to", tmp_path / "same").exit_code == 0
    other = package({**CONTENT, "package/dist/codec.wasm": bytes(5001)})
    monkeypatch.setattr(viewer_package, "INTEGRITY", integrity(other))
    source.write_bytes(other)
    assert run("install", "--from", source, "--to", tmp_path / "other").exit_code == 0
    one, same, another = (read_list(tmp_path / name) for name in ("one", "same", "other"))
    assert one and same and another
    assert one.revision == same.revision != another.revision


def test_what_is_there_is_not_fetched_again_unless_something_is_missing(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "viewer"
    assert run("status", "--to", folder).exit_code == 1
    assert run("install", "--from", source, "--to", folder).exit_code == 0
    assert run("status", "--to", folder).exit_code == 0
    before = (folder / LIST).stat().st_ino
    assert run("install", "--from", source, "--to", folder).exit_code == 0
    assert (folder / LIST).stat().st_ino == before
    (folder / "codec.wasm").unlink()
    status = run("status", "--to", folder)
    assert status.exit_code == 1
    assert "not whole" in status.output
    assert run("install", "--from", source, "--to", folder).exit_code == 0
    assert (folder / "codec.wasm").read_bytes() == bytes(5000)
    assert [path.name for path in tmp_path.glob("viewer*")] == ["viewer"]


def test_another_package_is_refused_and_changes_nothing(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "viewer"
    assert run("install", "--from", source, "--to", folder).exit_code == 0
    (folder / "codec.wasm").unlink()
    before = files_below(folder)
    source.write_bytes(PACKED[:-1] + bytes([PACKED[-1] ^ 1]))
    done = run("install", "--from", source, "--to", folder)
    assert isinstance(done.exception, ViewerUnavailable)
    assert "SHA-512" in str(done.exception)
    assert files_below(folder) == before


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path, source: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    done = run("install", "--from", source, "--to", tmp_path / "mine")
    assert isinstance(done.exception, ViewerUnavailable)
    assert files_below(tmp_path / "mine") == {"thesis.txt"}
    (tmp_path / "file").write_text("")
    assert isinstance(
        run("install", "--from", source, "--to", tmp_path / "file" / "viewer").exception, ViewerUnavailable
    )


def test_it_comes_from_the_registry_that_npm_would_ask(
    tmp_path: Path, served: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = served
    monkeypatch.setenv("npm_config_registry", f"{address}/npm/")
    done = run("install", "--to", tmp_path / "viewer")
    assert done.exit_code == 0, done.exception
    assert asked == [f"/npm/{viewer_package.PACKAGE_PATH}"]
    assert run("status", "--to", tmp_path / "viewer").exit_code == 0


@pytest.mark.parametrize("path", ["/other", "no-address"])
def test_a_registry_without_it_is_named(
    tmp_path: Path, served: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    name = served[0] + path if path.startswith("/") else path
    monkeypatch.setenv("npm_config_registry", name)
    done = run("install", "--to", tmp_path / "viewer")
    assert isinstance(done.exception, ViewerUnavailable)
    assert name in str(done.exception)
    assert "--from" in str(done.exception)
    assert not (tmp_path / "viewer").exists()


def test_which_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert registry() == "https://registry.npmjs.org"
    settings = Path(os.environ["HOME"]) / ".npmrc"
    settings.write_text("fund=false\n; registry=https://no.example\n@ours:registry=https://scoped.example\n")
    assert registry() == "https://registry.npmjs.org"
    settings.write_text('registry=https://first.example/\nregistry = "https://mirror.example/npm/"\n')
    assert registry() == "https://mirror.example/npm"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://environment.example/")
    assert registry() == "https://environment.example"
    monkeypatch.setenv("npm_config_registry", "https://small.example")
    assert registry() == "https://small.example"


def test_the_pinned_digest_is_a_sha_512() -> None:
    source = Path(viewer_package.__file__).read_text()
    (digest,) = [line.split('"')[1] for line in source.splitlines() if line.startswith("INTEGRITY")]
    assert len(base64.b64decode(digest)) == 64
