"""The OpenAPI 3.0 documents ``v1-prerelease``, ``v1`` and ``v2`` (server.md §6), from one description of the surface.

Only what the server answers is described: operations in ``paths``, shapes and examples in ``schemas``. Operation names
that the reference's documents have are the same here, so that its users can generate their clients anew.
"""

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hounsfield.web.openapi.components import ANNOUNCED, HEADERS, PARAMETERS, PARTITION_PARAMETERS
from hounsfield.web.openapi.export import EXPORT_SCHEMAS
from hounsfield.web.openapi.extended_query_tags import TAG_SCHEMAS
from hounsfield.web.openapi.operations import OPERATION_SCHEMAS
from hounsfield.web.openapi.paths import PARTITION_TAGS, TAGS, is_since_1, partitioned_paths, versioned_paths
from hounsfield.web.openapi.rendered import RENDERED_HEADERS, RENDERED_PARAMETERS
from hounsfield.web.openapi.schemas import PARTITION_SCHEMAS, SCHEMAS, Json
from hounsfield.web.openapi.tokens import SCHEME, with_tokens
from hounsfield.web.openapi.unversioned import unversioned_paths
from hounsfield.web.openapi.update import UPDATE_SCHEMAS
from hounsfield.web.openapi.workitem_subscriptions import SUBSCRIPTION_HEADERS
from hounsfield.web.openapi.workitems import WORKITEM_HEADERS
from hounsfield.web.openapi.yaml import to_yaml

__all__ = ["VERSIONS", "document", "openapi_route", "to_yaml"]

VERSIONS: Mapping[str, str] = {"v1-prerelease": "1.0-prerelease", "v1": "1", "v2": "2"}
"""``info.version`` of each document, by its name, which is also the version segment of its paths."""


def openapi_route(
    *,
    title: str,
    license_name: str,
    license_url: str,
    server_uri: str,
    partitioned: bool = False,
    secured: bool = False,
) -> Route:
    """``GET /{document}/api.json`` and ``api.yaml``; another document or extension is 404."""

    async def handle(request: Request) -> Response:
        name, form = request.path_params["document"], request.path_params["form"]
        if name not in VERSIONS or form not in ("json", "yaml"):
            return Response(status_code=404)
        content = document(
            name,
            title=title,
            license_name=license_name,
            license_url=license_url,
            server_uri=server_uri,
            partitioned=partitioned,
            secured=secured,
        )
        if form == "json":
            return Response(msgspec.json.encode(content), headers={"content-type": "application/json; charset=utf-8"})
        return Response(to_yaml(content), headers={"content-type": "text/yaml; charset=utf-8"})

    return Route("/{document}/api.{form}", handle, methods=["GET"], name="OpenAPI")


def document(
    doc: str,
    *,
    title: str,
    license_name: str,
    license_url: str,
    server_uri: str,
    partitioned: bool = False,
    secured: bool = False,
) -> Json:
    """The document of that name, one of VERSIONS. Empty licence and server values are left out.

    ``partitioned``: of a server with data partitions. ``secured``: of one that asks for tokens.
    """
    info: Json = {"title": title, "version": VERSIONS[doc]}
    if license_name:
        info["license"] = {"name": license_name} | ({"url": license_url} if license_url else {})
    major = 2 if doc == "v2" else 1
    paths = partitioned_paths(major) if partitioned else versioned_paths(major)
    prerelease = doc == "v1-prerelease"
    versioned = {f"/{doc}{path}": item for path, item in paths.items() if not prerelease or not is_since_1(path)}
    tags = TAGS | PARTITION_TAGS if partitioned else TAGS
    parameters = PARAMETERS | RENDERED_PARAMETERS | (PARTITION_PARAMETERS if partitioned else {})
    described = {**versioned, **unversioned_paths()}
    if secured:
        described = with_tokens(described, ANNOUNCED)
    schemas = SCHEMAS | OPERATION_SCHEMAS | TAG_SCHEMAS | UPDATE_SCHEMAS | EXPORT_SCHEMAS
    schemas |= PARTITION_SCHEMAS if partitioned else {}
    return {
        "openapi": "3.0.1",
        "info": info,
        **({"servers": [{"url": server_uri}]} if server_uri else {}),
        "tags": [{"name": name, "description": description} for name, description in tags.items()],
        "paths": described,
        "components": {
            "schemas": schemas,
            "parameters": parameters,
            "headers": HEADERS | RENDERED_HEADERS | WORKITEM_HEADERS | SUBSCRIPTION_HEADERS,
            **({"securitySchemes": SCHEME} if secured else {}),
        },
    }
