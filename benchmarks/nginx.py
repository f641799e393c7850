"""The limit of reading: nginx sending the same bytes as files.

The answers a DICOMweb server would give are written to disk once, ready to send, under the paths they are asked for;
nginx hands them to the kernel (sendfile). A server that also has to find, check and frame what it sends cannot be
faster on this machine.
"""

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.studies import Collection, Instance

BOUNDARY = b"limit-of-reading"

CONFIGURATION = """\
{user}
daemon off;
worker_processes auto;
pid {directory}/pid;
error_log {directory}/log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    open_file_cache max=4096 inactive=600s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/files;
        default_type 'multipart/related; type="application/dicom"; boundary={boundary}';
        location / {{ try_files $uri/body $uri =404; }}
        location ~ /metadata$ {{ default_type application/dicom+json; try_files $uri/body =404; }}
    }}
}}
"""


def binary() -> str | None:
    """Path of nginx, None where it is not installed."""
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def version() -> str:
    """As nginx tells it."""
    return subprocess.run([binary() or "nginx", "-v"], capture_output=True, text=True).stderr.strip()


def start(directory: Path, port: int) -> subprocess.Popen[bytes]:
    """Starts nginx on files below ``directory``."""
    (directory / "files").mkdir(parents=True)
    (directory / "files" / "ready").write_bytes(b"")
    settings = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    settings.write_text(
        CONFIGURATION.format(user=user, directory=directory, port=port, boundary=BOUNDARY.decode()), "utf-8"
    )
    command = [binary() or "nginx", "-p", str(directory), "-c", str(settings), "-e", str(directory / "log")]
    return subprocess.Popen(command, start_new_session=True)


def publish(collection: Collection, files: Path) -> None:
    """Writes the answers about every study, series, instance and frame of the collection."""
    for study in range(collection.studies):
        series = collection.series(study)
        instances = [series.instance(number) for number in range(collection.instances)]
        metadata = b",".join(series.metadata_text(number) for number in range(collection.instances))
        _write(files, f"{series.path}/metadata", [b"[", metadata, b"]"])
        _write(files, f"/studies/{series.study}", [*(part for each in instances for part in _part(each)), _end()])
        for each in instances:
            _write(files, each.path, [*_part(each), _end()])
            _write(files, f"{each.path}/metadata", [b"[", series.metadata_text(each.number), b"]"])
            for frame in range(1, each.series.kind.frames + 1):
                _write(
                    files, f"{each.path}/frames/{frame}", [_head(b"octet-stream"), each.frame(frame), b"\r\n", _end()]
                )


def _head(subtype: bytes) -> bytes:
    return b"--%s\r\nContent-Type: application/%s; transfer-syntax=1.2.840.10008.1.2.1\r\n\r\n" % (BOUNDARY, subtype)


def _part(instance: Instance) -> list[bytes]:
    return [_head(b"dicom"), instance.head, instance.pixels, b"\r\n"]


def _end() -> bytes:
    return b"--%s--\r\n" % BOUNDARY


def _write(files: Path, path: str, pieces: list[bytes]) -> None:
    directory = files / path.lstrip("/")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "body").open("wb") as file:
        file.writelines(pieces)
