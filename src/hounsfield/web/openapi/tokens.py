"""What a server that asks for tokens adds to the OpenAPI documents (server.md §9)."""

from collections.abc import Mapping
from typing import Any

from hounsfield.web.openapi.schemas import Json

SCHEME: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "Of the configured authority."}
}
"""For ``components.securitySchemes``."""

_ANONYMOUS = ("/health/check",)

_REFUSALS: Json = {
    "401": {
        "description": "There is no token, or it is not accepted. The body is empty.",
        "headers": {"WWW-Authenticate": {"description": "What token is wanted.", "schema": {"type": "string"}}},
    },
    "403": {
        "description": "The caller's roles do not permit it. The body is one sentence.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
}


def with_tokens(paths: Json, versions: Json) -> Json:
    """``paths`` with what asking for a token means. ``versions``: headers of the answers below a version, 401 apart."""
    return {path: item if path in _ANONYMOUS else _guarded(path, item, versions) for path, item in paths.items()}


def _guarded(path: str, item: Mapping[str, Any], versions: Json) -> Json:
    refusals = _REFUSALS
    if path.startswith("/v"):
        refusals = {**_REFUSALS, "403": {**_REFUSALS["403"], "headers": versions}}
    return {
        name: {**part, "security": [{"bearer": []}], "responses": {**part["responses"], **refusals}}
        if isinstance(part, dict) and "responses" in part
        else part
        for name, part in item.items()
    }
