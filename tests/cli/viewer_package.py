"""A package of the form of npm's ``@ohif/app``, small and made up."""

import base64
import hashlib
import io
import tarfile
from collections.abc import Mapping

MAIN = "app.bundle.0123456789abcdef.js"
RUNTIME = b'var a = 1; __webpack_require__.p = "/"; more();'
ICON = bytes(range(256))  # nothing that compression makes smaller

CONTENT: Mapping[str, bytes] = {
    "package/LICENSE": b"MIT License",
    "package/package.json": b"{}",
    f"package/dist/{MAIN}": RUNTIME + b" " * 1000,
    "package/dist/8097.bundle.0123456789abcdef.js": RUNTIME,
    "package/dist/89.bundle.0123456789abcdef.js": b"const commaSeparatedFields = ['00081030',\n'00080060'];",
    "package/dist/app.bundle.css": b"@font-face{src:url(/a.woff2) url('/b.woff2') url(//elsewhere) url(data:,x)}",
    "package/dist/a.woff2": ICON,
    "package/dist/codec.wasm": bytes(5000),
    "package/dist/assets/favicon.ico": ICON,
    "package/dist/assets/images/CT.png": ICON,
    "package/dist/assets/apple-touch-icon.png": ICON,
    "package/dist/dicom-microscopy-viewer/dicomMicroscopyViewer.min.js": b"slides",
    "package/dist/dicom-microscopy-viewer/dicomMicroscopyViewer.min.js.map": b"{}",
    "package/dist/index.html": b"<html>",
    "package/dist/app-config.js": b"window.config = {}",
    "package/dist/google.js": b"window.config = {}",
    "package/dist/init-service-worker.js": b"importScripts('https://elsewhere')",
    "package/dist/sw.js": b"importScripts('https://elsewhere')",
    "package/dist/oidc-client.min.js": b"old",
    "package/dist/manifest.json": b"{}",
    "package/dist/serve.json": b"{}",
    "package/dist/customizations/tools/ct.json": b"{}",
    "package/dist/ort/ort.min.js": b"large",
    "package/dist/../../escaped.js": b"nowhere",
    "/package/dist/absolute.js": b"nowhere",
}

INSTALLED = {
    MAIN,
    "8097.bundle.0123456789abcdef.js",
    "89.bundle.0123456789abcdef.js",
    "app.bundle.css",
    "a.woff2",
    "codec.wasm",
    "assets/favicon.ico",
    "assets/images/CT.png",
    "dicom-microscopy-viewer/dicomMicroscopyViewer.min.js",
}
"""What of it is to be served."""


def package(content: Mapping[str, bytes] = CONTENT) -> bytes:
    """The package as npm packs it, with a link in it that leads out."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("package/dist/link.js")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return packed.getvalue()


def integrity(packed: bytes) -> str:
    """Its digest as a lock file has it, without the name of the algorithm."""
    return base64.b64encode(hashlib.sha512(packed).digest()).decode()
