"""The viewer's files on disk: which there are, as ``hounsfield viewer install`` wrote it down.

They are OHIF's (npm ``@ohif/app``, MIT) and come with neither the repository nor the wheel. A folder of them holds
LIST, and beside it the files it names, each that gains by it with a compressed twin, ``NAME.gz``. Only what is in LIST
is ever served, so a request cannot reach beyond the folder.
"""

import sys
from pathlib import Path

import msgspec

LIST = "files.json"
PACKED = ".gz"

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
"""By the end of a name; nothing else is installed."""


class ViewerFile(msgspec.Struct, frozen=True):
    """One file: its size in bytes, and that of its compressed twin, 0 where there is none."""

    size: int
    packed: int = 0


class ViewerFiles(msgspec.Struct, frozen=True):
    """All files of one version.

    ``revision`` is the version with a digest of all their contents, so what stands at an address with it never changes.
    ``script`` and ``style`` are the names of those a page begins with.
    """

    version: str
    revision: str
    script: str
    style: str
    files: dict[str, ViewerFile]


def default_directory() -> Path:
    """Where the viewer is unless ``Viewer:Directory`` says otherwise: in the Python environment of this program."""
    return Path(sys.prefix) / "share" / "hounsfield" / "viewer"


def read_list(directory: Path) -> ViewerFiles | None:
    """What is installed in ``directory``; None where nothing is, or nothing that can be read."""
    try:
        return msgspec.json.decode((directory / LIST).read_bytes(), type=ViewerFiles)
    except (OSError, msgspec.DecodeError):
        return None


class InstalledViewer:
    """The viewer in a folder, also after another version has been put there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._seen: tuple[int, int] | None = None
        self._files: ViewerFiles | None = None

    def current(self) -> ViewerFiles | None:
        """What is there at the moment, or None. Costs one look at the list's date."""
        try:
            status = (self.directory / LIST).stat()
            seen = (status.st_ino, status.st_mtime_ns)
        except OSError:
            seen = None
        if seen != self._seen:
            self._files = read_list(self.directory) if seen else None
            self._seen = seen
        return self._files
