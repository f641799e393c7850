"""The command line tools of dcmtk and gdcm, independent judges of what we encode (Debian: dcmtk, libgdcm-tools).

As processes of their own, because they crash on some streams.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_PREFIX = "1.2.840.10008.1.2"
_DCMTK = {
    **{_PREFIX + suffix: "dcmdjpeg" for suffix in (".4.50", ".4.51", ".4.53", ".4.55", ".4.57", ".4.70")},
    **{_PREFIX + suffix: "dcmdjpls" for suffix in (".4.80", ".4.81")},
    **{_PREFIX + suffix: "dcmconv" for suffix in ("", ".1.99", ".2")},
    _PREFIX + ".5": "dcmdrle",
}
_GDCM = {_PREFIX + suffix for suffix in (".4.57", ".4.70", ".4.80", ".4.90", ".5")}
_OPTIONS = {"dcmdjpeg": ["+te", "--conv-never"], "gdcmconv": ["--raw", "--explicit"]}


def tools(transfer_syntax: str) -> list[str]:
    """The tools that turn files of that syntax into Explicit VR Little Endian.

    Skips the test if one is not installed, or fails it where all peers must be (CI).
    """
    names = [_DCMTK[transfer_syntax]] if transfer_syntax in _DCMTK else []
    names += ["gdcmconv"] if transfer_syntax in _GDCM else []
    for name in names:
        require_tool(name)
    return names


def require_tool(name: str) -> None:
    """Skip the test if a tool is not installed, or fail it where all peers must be (CI)."""
    if shutil.which(name) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing: run tests/peers/install.sh")
        pytest.skip(f"{name} is not installed (packages dcmtk, libgdcm-tools)")


def explicit(tool: str, file: bytes, folder: Path) -> bytes:
    """``file`` in Explicit VR Little Endian as ``tool`` makes it; colours stay as they are in the stream."""
    source, target = folder / "in.dcm", folder / "out.dcm"
    source.write_bytes(file)
    command = [tool, *_OPTIONS.get(tool, ["+te"]), str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (tool, done.stderr)
    return target.read_bytes()
