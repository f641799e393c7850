"""Retrieve Capabilities: what a resource, or the whole service, can do (PS3.18 §8.9 and Annex H).

``GET`` and ``OPTIONS`` of ``/{version}/`` describe everything, ``OPTIONS`` of a resource describes that and what is
below it. The description is a WADL document, or the same tree as JSON, made from the paths of the OpenAPI documents;
which resources there are, and their methods, comes from the routes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.errors import NotAcceptable
from hounsfield.security.roles import DataAction
from hounsfield.web.api_route import ApiRoute, Handler
from hounsfield.web.negotiation import ANY, parse_accept
from hounsfield.web.openapi.components import PARAMETERS, PARTITION_PARAMETERS
from hounsfield.web.openapi.paths import is_since_1, partitioned_paths, versioned_paths
from hounsfield.web.openapi.rendered import RENDERED_PARAMETERS
from hounsfield.web.versions import api_version, service_root

WADL = "application/vnd.sun.wadl+xml"
JSON = "application/json"
NAMESPACE = "http://wadl.dev.java.net/2009/02"

_FORMS = {WADL: WADL, JSON: JSON, ANY: WADL, "application/*": WADL, "application/xml": WADL, "text/xml": WADL}
_TYPES = {"integer": "xsd:long", "boolean": "xsd:boolean"}
_DATA_PARTITIONS = "/partitions"
_PARTITION = f"{_DATA_PARTITIONS}/{{partitionName}}"
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")

Node = tuple[str, Mapping[str, str], Sequence["Node"]]
"""An element: name, attributes, children."""


def capability_routes(routes: Iterable[ApiRoute], *, partitioned: bool) -> list[ApiRoute]:
    """The root, and ``OPTIONS`` for every path of ``routes``. ``partitioned``: data partitions are on."""
    methods: dict[str, set[str]] = {}
    below_partitions: dict[str, bool] = {}
    since: dict[str, int] = {}
    in_prerelease: dict[str, bool] = {}
    for known in routes:
        if known.path != _DATA_PARTITIONS or partitioned:
            methods.setdefault(known.path, {"OPTIONS"}).update(known.methods or ())
            below_partitions[known.path] = known.partitioned
            since[known.path] = known.since
            in_prerelease[known.path] = known.in_prerelease

    async def root(request: Request) -> Response:
        return _answer(request, _service(_version(request), partitioned))

    async def root_options(request: Request) -> Response:
        response = await root(request)
        response.headers["Allow"] = "GET, HEAD, OPTIONS"
        return response

    def options(path: str) -> ApiRoute:
        allowed = ", ".join(sorted(methods[path]))

        async def handle(request: Request) -> Response:
            in_partition = request.scope["hounsfield.partition_name"] is not None
            described = _target(_version(request), path, partitioned, in_partition)
            response = _answer(request, described)
            response.headers["Allow"] = allowed
            return response

        return route(
            "OPTIONS",
            path,
            handle,
            partitioned=below_partitions[path],
            since=since[path],
            prerelease=in_prerelease[path],
        )

    def route(
        method: str,
        path: str,
        handle: Handler,
        *,
        partitioned: bool = False,
        since: int = 1,
        prerelease: bool = True,
    ) -> ApiRoute:
        return ApiRoute(
            path,
            handle,
            method,
            f"capabilities {path}",
            data_action=DataAction.READ,
            audit_action="retrieve-capabilities",
            partitioned=partitioned,
            since=since,
            in_prerelease=prerelease,
        )

    return [
        route("GET", "/", root),
        route("OPTIONS", "/", root_options),
        *(options(path) for path in methods),
    ]


def _answer(request: Request, resources: Sequence[Node]) -> Response:
    form = _form(request.headers.getlist("accept"))
    attributes = {"xmlns": NAMESPACE, "xmlns:xsd": "http://www.w3.org/2001/XMLSchema"}
    tree: Node = ("application", attributes, [("resources", {"base": service_root(request)}, resources)])
    if form == WADL:
        body = "".join(['<?xml version="1.0" encoding="UTF-8"?>\n', *_xml(tree, "")]).encode()
    else:
        body = msgspec.json.encode({"application": _json(tree)})
    return Response(body, media_type=form)


def _form(accept: Sequence[str]) -> str:
    """The media type to answer with. Raises NotAcceptable with an empty body."""
    for entry in parse_accept(accept):
        if entry.media_type in _FORMS and not entry.multipart:
            return _FORMS[entry.media_type]
    raise NotAcceptable("")


Version = tuple[int, bool]
"""Major version, and whether it is the prerelease."""


def _version(request: Request) -> Version:
    version = api_version(request)
    return version.major, "-" in version.segment


Paths = Mapping[tuple[str, ...], Mapping[str, Any]]
"""Path items of the OpenAPI documents by the segments of their paths."""


@lru_cache(maxsize=6)
def _service(version: Version, partitioned: bool) -> Sequence[Node]:
    """All resources."""
    return _level(_paths(version, partitioned, ""), ())


@lru_cache(maxsize=256)
def _target(version: Version, path: str, partitioned: bool, in_partition: bool) -> Sequence[Node]:
    """The resource at ``path`` of a route, with everything below it."""
    listed = _paths(version, partitioned, _PARTITION if in_partition else "")
    wanted = [_PARAMETER.sub("{}", segment) for segment in path.strip("/").split("/")]
    (names,) = [names for names in listed if [_PARAMETER.sub("{}", name) for name in names] == wanted]
    return [_resource(listed, names, "/".join(names))]


def _paths(version: Version, partitioned: bool, prefix: str) -> Paths:
    major, prerelease = version
    described = partitioned_paths(major) if partitioned else versioned_paths(major)
    return {
        tuple(path.removeprefix(prefix).strip("/").split("/")): item
        for path, item in described.items()
        if path.startswith(f"{prefix}/") and path != "/" and not (prerelease and is_since_1(path))
    }


def _level(listed: Paths, above: tuple[str, ...]) -> list[Node]:
    """The resources right below ``above``."""
    depth = len(above)
    names = dict.fromkeys(names[: depth + 1] for names in listed if names[:depth] == above and len(names) > depth)
    return [_resource(listed, name, name[-1]) for name in names]


def _resource(listed: Paths, names: tuple[str, ...], path: str) -> Node:
    item = listed.get(names, {})
    templates: list[Node] = [
        ("param", {"name": name, "style": "template", "type": "xsd:string", "required": "true"}, ())
        for name in _PARAMETER.findall(path)
    ]
    methods = [
        _method(name.upper(), operation)
        for name, operation in item.items()
        if name in ("get", "post", "put", "delete", "patch")
    ]
    return "resource", {"path": path}, [*templates, *methods, *_level(listed, names)]


def _method(name: str, operation: Mapping[str, Any]) -> Node:
    responses = operation["responses"]
    accepted = [
        media_type
        for status, answer in responses.items()
        if status.startswith("2")
        for media_type in answer.get("content", ())
    ]
    parameters = [_parameter(parameter) for parameter in operation.get("parameters", ())]
    if accepted:
        options: list[Node] = [("option", {"value": media_type}, ()) for media_type in dict.fromkeys(accepted)]
        parameters.insert(0, ("param", {"name": "Accept", "style": "header", "type": "xsd:string"}, options))
    sent = _representations(operation.get("requestBody", {}))
    request: list[Node] = [("request", {}, [*parameters, *sent])] if parameters or sent else []
    answers: list[Node] = [
        ("response", {"status": status}, _representations(answer)) for status, answer in responses.items()
    ]
    return "method", {"name": name, "id": operation["operationId"]}, [*request, *answers]


def _parameter(parameter: Mapping[str, Any]) -> Node:
    if "$ref" in parameter:
        known = PARAMETERS | RENDERED_PARAMETERS | PARTITION_PARAMETERS
        parameter = known[parameter["$ref"].rpartition("/")[2]]
    schema = parameter["schema"]
    repeated = schema["type"] == "array"
    attributes = {
        "name": parameter["name"],
        "style": parameter["in"],
        "type": _TYPES.get(schema["type"], "xsd:string"),
        **({"default": str(schema["default"]).lower()} if "default" in schema else {}),
        **({"repeating": "true"} if repeated else {}),
        **({"required": "true"} if parameter.get("required") else {}),
    }
    return "param", attributes, [("option", {"value": value}, ()) for value in schema.get("enum", ())]


def _representations(described: Mapping[str, Any]) -> list[Node]:
    return [("representation", {"mediaType": media_type}, ()) for media_type in described.get("content", ())]


def _xml(node: Node, indent: str) -> Iterator[str]:
    name, attributes, children = node
    head = "".join([name, *(f" {key}={quoteattr(value)}" for key, value in attributes.items())])
    if not children:
        yield f"{indent}<{head}/>\n"
        return
    yield f"{indent}<{head}>\n"
    for child in children:
        yield from _xml(child, indent + "  ")
    yield f"{indent}</{escape(name)}>\n"


def _json(node: Node) -> dict[str, Any]:
    """Attributes as members, children in arrays by their name; there is but one ``resources``."""
    _, attributes, children = node
    found: dict[str, Any] = {key: value for key, value in attributes.items() if not key.startswith("xmlns")}
    for child in children:
        if child[0] == "resources":
            found["resources"] = _json(child)
        else:
            found.setdefault(child[0], []).append(_json(child))
    return found
