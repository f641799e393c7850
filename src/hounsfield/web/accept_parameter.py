"""What a client accepts where a link cannot say it in a header: the query parameter ``accept`` (PS3.18 §8.3.3.1)."""

from starlette.requests import Request


def accepted(request: Request) -> list[str]:
    """The values of ``accept`` in the query, which goes first, or of the Accept headers."""
    if b"accept" in request.scope["query_string"]:
        given = request.query_params.getlist("accept")
        if given:
            return given
    return [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"accept"]
