"""OHIF's npm package: fetched, checked, and made into the folder that ``/viewer`` is served from.

``@ohif/app`` (MIT) holds OHIF ready built, for the root of a server. What is done to it here: files nobody asks for are
left out, addresses that begin at the root become relative to the files, and everything that gains by it is compressed
once, instead of for every request.
"""

import base64
import gzip
import hashlib
import os
import re
import secrets
import shutil
import ssl
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from hounsfield.errors import HounsfieldError
from hounsfield.web.viewer.files import CONTENT_TYPES, LIST, PACKED, ViewerFile, ViewerFiles

VERSION = "3.13.2"
INTEGRITY = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""SHA-512 of the package, as npm writes it in a lock file."""
PACKAGE_PATH = f"@ohif/app/-/app-{VERSION}.tgz"
REGISTRY = "https://registry.npmjs.org"

CONNECT_SECONDS = 10
"""``make run`` on a machine without a way out should not wait long."""
READ_SECONDS = 60
CHUNK = 1024 * 1024
WORTH_PACKING = 0.9
"""Files that compression does not make smaller than this share of their size stay as they are."""

_LEFT_OUT = re.compile(
    r"(ort|customizations)/"  # machine learning, and customisations by URL, which are off
    r"|assets/(?!images/|favicon)"  # icons of telephones
    r"|([^/]*\.min|google|init-service-worker|sw|app-config)\.js$"
    r"|(manifest|serve)\.json$"
)
_ROOT_OF_SCRIPTS = '__webpack_require__.p = "/"'
_OWN_ADDRESS = (
    "__webpack_require__.p = (self.document?.currentScript?.src ?? self.location.href)"
    '.replace(/[?#].*$/, "").replace(/[^/]*$/, "")'
)
_ROOT_OF_STYLES = re.compile(r"url\((['\"]?)/(?!/)")
_ASKED_OF_STUDIES = "const commaSeparatedFields = ['00081030',"
_ASKED_BEYOND = f"{_ASKED_OF_STUDIES} '00080061', '00201208',"
"""Modalities in Study and Number of Study Related Instances are on the study list, but OHIF asks for neither."""
_MAIN_SCRIPT = re.compile(r"app\.bundle\.[0-9a-f]+\.js")
_MAIN_STYLE = "app.bundle.css"


class ViewerUnavailable(HounsfieldError):
    """The viewer could not be fetched, or is not what it should be; the message says what to do."""


def registry() -> str:
    """The npm registry as npm itself would choose it: environment, ``~/.npmrc``, the public one."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    try:
        lines = (Path.home() / ".npmrc").read_text().splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError):
        return REGISTRY
    for line in reversed(lines):
        key, _, value = line.partition("=")
        if key.strip() == "registry" and value.strip():
            return value.strip().strip("\"'").rstrip("/")
    return REGISTRY


@contextmanager
def fetched(source: Path | None) -> Iterator[IO[bytes]]:
    """The package, from ``source`` or the registry, once its digest has been found right.

    Raises ViewerUnavailable.
    """
    with tempfile.TemporaryFile() as copy:
        if source is None:
            digest = _download(f"{registry()}/{PACKAGE_PATH}", copy)
        else:
            with source.open("rb") as file:
                digest = _copied(iter(lambda: file.read(CHUNK), b""), copy)
        if base64.b64encode(digest).decode() != INTEGRITY:
            raise ViewerUnavailable(f"That is not OHIF {VERSION} as published: its SHA-512 is another.")
        copy.seek(0)
        yield copy


def _download(url: str, copy: IO[bytes]) -> bytes:
    import certifi
    import httpx

    # The machine's authorities as well: registries inside a company are often signed by their own.
    trusted = ssl.create_default_context()
    trusted.load_verify_locations(certifi.where())
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        with httpx.stream("GET", url, timeout=timeout, verify=trusted, follow_redirects=True) as answer:
            answer.raise_for_status()
            return _copied(answer.iter_raw(CHUNK), copy)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ViewerUnavailable(
            f"The viewer could not be fetched from {url} ({type(error).__name__}). Try `hounsfield viewer install` "
            "again; npm_config_registry names another registry. Or fetch the file elsewhere, and give it as --from."
        ) from error


def _copied(chunks: Iterator[bytes], copy: IO[bytes]) -> bytes:
    """Writes ``chunks``; their SHA-512."""
    digest = hashlib.sha512()
    for chunk in chunks:
        digest.update(chunk)
        copy.write(chunk)
    return digest.digest()


def install(package: IO[bytes], directory: Path) -> ViewerFiles:
    """Make ``directory`` the viewer of ``package``, at once or not at all; what was there before is replaced.

    Raises ViewerUnavailable where ``directory`` holds something else, or cannot be written.
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / LIST).exists():
        raise ViewerUnavailable(f"{directory} holds other files; choose an empty or a new folder.")
    mark = secrets.token_hex(4)
    new, old = (directory.with_name(f"{directory.name}.{mark}.{name}") for name in ("new", "old"))
    try:
        new.mkdir(parents=True)
        files = _unpack(package, new)
        (new / LIST).write_bytes(msgspec.json.encode(files))
        if directory.exists():
            directory.rename(old)
        new.rename(directory)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise ViewerUnavailable(f"{directory} could not be written: {reason}. --to chooses another folder.") from error
    finally:
        for rest in (new, old):
            shutil.rmtree(rest, ignore_errors=True)
    return files


def _unpack(package: IO[bytes], folder: Path) -> ViewerFiles:
    files: dict[str, ViewerFile] = {}
    digests: dict[str, str] = {}
    with tarfile.open(fileobj=package, mode="r:gz") as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isreg() else None
            if opened is None:
                continue
            if member.name == "package/LICENSE":
                (folder / "LICENSE").write_bytes(opened.read())
            name = _wanted(member.name)
            if name is not None:
                content = adapted(name, opened.read())
                files[name] = _write(folder / name, content)
                digests[name] = hashlib.sha256(content).hexdigest()
    scripts = [name for name in files if _MAIN_SCRIPT.fullmatch(name)]
    if len(scripts) != 1 or _MAIN_STYLE not in files:
        raise ViewerUnavailable("The package holds no viewer of the expected form.")
    whole = hashlib.sha256(msgspec.json.encode(sorted(digests.items()))).hexdigest()
    return ViewerFiles(VERSION, f"{VERSION}-{whole[:12]}", scripts[0], _MAIN_STYLE, files)


def _wanted(member: str) -> str | None:
    """The name a file of the package is to have; None for those left out."""
    if not member.startswith("package/dist/"):
        return None
    path = PurePosixPath(member.removeprefix("package/dist/"))
    if ".." in path.parts or path.is_absolute() or path.suffix not in CONTENT_TYPES:
        return None
    return None if path.parts[0] != "dicom-microscopy-viewer" and _LEFT_OUT.match(str(path)) else str(path)


def adapted(name: str, content: bytes) -> bytes:
    """A script or style sheet that finds its neighbours wherever it lies, instead of at the root of the server."""
    if name.endswith(".js"):
        content = content.replace(_ROOT_OF_SCRIPTS.encode(), _OWN_ADDRESS.encode())
        return content.replace(_ASKED_OF_STUDIES.encode(), _ASKED_BEYOND.encode())
    if name.endswith(".css"):
        # All style sheets are at the top, as are the fonts they name.
        return _ROOT_OF_STYLES.sub(r"url(\1", content.decode()).encode()
    return content


def _write(path: Path, content: bytes) -> ViewerFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    packed = gzip.compress(content, 9, mtime=0)
    if len(packed) > WORTH_PACKING * len(content):
        return ViewerFile(len(content))
    path.with_name(path.name + PACKED).write_bytes(packed)
    return ViewerFile(len(content), len(packed))
