"""The peer: Debian's Orthanc with its DICOMweb plugin, in its best configuration that gives whole answers.

``orthanc`` keeps what Hounsfield promises as far as Orthanc can: files are synced before the answer
(``SyncStorageArea``, Debian's default), and metadata is complete. Its index is SQLite in WAL mode with
``synchronous=NORMAL``, which cannot be set otherwise: the last commits may be lost with the power.
``orthanc-fast`` gives both up (no file sync; metadata from the few attributes in its database) to show what they cost.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("orthanc", "orthanc-dicomweb")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
BINARY = "/usr/sbin/Orthanc"
PEERS = ("orthanc", "orthanc-fast")


def install() -> None:
    """Installs the Debian packages unless they are there, without leaving a service of theirs running or enabled.

    Raises RuntimeError when that is not possible here.
    """
    if Path(BINARY).exists() and PLUGIN.exists():
        return
    if shutil.which("apt-get") is None:
        raise RuntimeError(f"{' and '.join(PACKAGES)} are not installed and this is no Debian system")
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    # RUNLEVEL=1 keeps invoke-rc.d from starting the service the package brings.
    quiet = ("env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive")
    for command in (
        [*prefix, "apt-get", "update", "-q"],
        [*prefix, *quiet, "apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES],
    ):
        if subprocess.run(command, stdout=sys.stderr).returncode:
            raise RuntimeError(f"failed: {' '.join(command)}")
    if shutil.which("systemctl"):
        subprocess.run([*prefix, "systemctl", "disable", "--now", "orthanc"], capture_output=True)


def version() -> str:
    """Versions of the installed packages."""
    command = ["dpkg-query", "-W", "-f", "${Package} ${Version}, ", *PACKAGES]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip(", ") or "unknown version"


def configuration(peer: str, directory: Path, port: int) -> dict[str, object]:
    """Orthanc's settings; everything not named keeps Orthanc's own default."""
    fast = peer == "orthanc-fast"
    metadata = "MainDicomTags" if fast else "Full"
    return {
        "Name": peer,
        "StorageDirectory": str(directory / "storage"),
        "IndexDirectory": str(directory / "storage"),
        "TemporaryDirectory": str(directory),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "HttpThreadsCount": 50,
        "KeepAlive": True,
        "TcpNoDelay": True,
        "HttpCompressionEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "WebDavEnabled": False,
        "DicomServerEnabled": False,
        "StorageCompression": False,
        "MaximumStorageCacheSize": 128,
        "SyncStorageArea": not fast,
        "StoreMD5ForAttachments": False,
        "OverwriteInstances": False,
        "SaveJobs": False,
        "MetricsEnabled": False,
        "StorageAccessOnFind": "Never",
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": False,
            "StudiesMetadata": metadata,
            "SeriesMetadata": metadata,
        },
    }


def start(peer: str, directory: Path, port: int) -> subprocess.Popen[bytes]:
    """Starts the server in ``directory``, with what is in it; its DICOMweb root is ``/dicom-web``."""
    (directory / "storage").mkdir(parents=True, exist_ok=True)
    settings = directory / "orthanc.json"
    settings.write_text(json.dumps(configuration(peer, directory, port), indent=2))
    with (directory / "log").open("wb") as log:
        return subprocess.Popen([BINARY, str(settings)], stdout=log, stderr=log, cwd=directory, start_new_session=True)
