"""Query parameters of lists: which piece of one is wanted (server.md §3)."""

import re
from collections.abc import Mapping

from starlette.requests import Request

from hounsfield.errors import BadRequest


def parameters_of(request: Request) -> dict[str, str]:
    """The query parameters of a request by their names in lower case; of several alike the last counts."""
    return {name.lower(): value.strip() for name, value in request.query_params.multi_items()}


def integer(parameters: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """The value of a parameter, ``default`` where it is missing. Raises BadRequest."""
    text = parameters.get(name)
    if text is None:
        return default
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text) is None or not low <= int(text) <= high:
        raise BadRequest(f"The query parameter '{name}' is invalid. It must be an integer from {low} to {high}.")
    return int(text)
