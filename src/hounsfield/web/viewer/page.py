"""The page a viewer begins with, its configuration, and what a browser may let it do."""

import json
from importlib import resources
from urllib.parse import urlsplit

import msgspec

from hounsfield.web.viewer.files import ViewerFiles

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hounsfield</title>
<link rel="icon" href="{files}assets/favicon.ico">
<link rel="stylesheet" href="{files}{style}">
<script src="/viewer/app-config.js"></script>
<script defer src="{files}{script}"></script>
</head>
<body>
<noscript>The viewer needs JavaScript.</noscript>
<div id="react-portal"></div>
<div id="root"></div>
</body>
</html>
"""


class SignIn(msgspec.Struct, frozen=True):
    """How the viewer gets its token: the OpenID Connect provider, and the name it knows the viewer by."""

    authority: str
    client_id: str
    scope: str


def address_of_files(files: ViewerFiles) -> str:
    """Path below which the files of this revision are."""
    return f"/viewer/{files.revision}/"


def page(files: ViewerFiles) -> bytes:
    """``index.html``."""
    return PAGE.format(files=address_of_files(files), script=files.script, style=files.style).encode()


def configuration(files: ViewerFiles, *, partitioned: bool, sign_in: SignIn | None) -> bytes:
    """``app-config.js``. It holds nothing that anybody may not know: it is sent before anybody has signed in."""
    known = {
        "files": address_of_files(files),
        "partitioned": partitioned,
        "signIn": None if sign_in is None else msgspec.to_builtins(sign_in),
    }
    script = resources.files(__package__).joinpath("config.js").read_text()
    return f"const server = {json.dumps(known)};\n{script}".encode()


def content_security_policy(sign_in: SignIn | None) -> str:
    """What the page and its workers may load: nothing from elsewhere, but for the provider of tokens."""
    authority = urlsplit(sign_in.authority) if sign_in else None
    provider = f" {authority.scheme}://{authority.netloc}" if authority else ""
    # unsafe-eval: ndarray, with which OHIF reads segmentations, writes its own loops. All scripts are from here anyway.
    rules = {
        "default-src": "'none'",
        "script-src": "'self' 'unsafe-eval'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "media-src": "'self' blob:",
        "font-src": "'self'",
        "connect-src": f"'self' data: blob:{provider}",
        "worker-src": "'self' blob:",
        "object-src": "'self' blob:",
        "frame-src": f"'self'{provider}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
