"""Query parameters of rendered resources and of WADO-URI (PS3.18 §8.3.5.1, §9.1.2; retrieve.md §2, §8)."""

import codecs
import math
import re
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from hounsfield.dicom.rendering.options import MAX_VIEWPORT, Options, Viewport, Window, WindowFunction
from hounsfield.errors import BadRequest

_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,3})?")
_FUNCTIONS = {function.value: function for function in WindowFunction}
_ANNOTATIONS = frozenset(("patient", "technique"))
_PROFILES = {"no", "yes", "srgb"}
_OTHER_PROFILES = {"adobergb", "rommrgb", "displayp3"}
_CHARSET = re.compile(r"utf-8|us-ascii|iso-8859-[0-9]{1,2}|windows-125[0-8]")


def parameter(request: Request, name: str) -> str | None:
    """The first value of a query parameter, whatever its case; None where it is absent."""
    for key, value in request.query_params.multi_items():
        if key.lower() == name.lower():
            return value.strip()
    return None


def integer(name: str, text: str) -> int:
    """Raises BadRequest naming the parameter if it is none."""
    if _INTEGER.fullmatch(text) is None:
        raise invalid(name, "It must be an integer.")
    return int(text)


def quality(name: str, value: int) -> int:
    """Raises BadRequest unless it is from 1 to 100 (retrieve.md §8)."""
    if not 1 <= value <= 100:
        raise invalid(name, "It must be from 1 to 100.")
    return value


def options(request: Request, quality_percent: int) -> Options:
    """What the parameters of a rendered resource ask for, but for its quality. Raises BadRequest for an invalid one."""

    return Options(
        quality=quality_percent,
        window=_parsed(request, "window", window),
        viewport=_parsed(request, "viewport", viewport),
        annotation=_parsed(request, "annotation", annotation) or frozenset(),
        icc_profile=_parsed(request, "iccprofile", _icc_profile),
        charset=_parsed(request, "charset", charset) or "utf-8",
    )


_Parsed = TypeVar("_Parsed")


def _parsed(request: Request, name: str, parse: Callable[[str, str], _Parsed]) -> _Parsed | None:
    text = parameter(request, name)
    return None if text is None else parse(name, text)


def window(name: str, text: str) -> Window:
    """``center,width`` or ``center,width,function``. Raises BadRequest."""
    fields = [field.strip() for field in text.split(",")]
    if len(fields) not in (2, 3):
        raise invalid(name, "It must be a center, a width and, if wanted, a function, separated by commas.")
    function = _FUNCTIONS.get(fields[2].lower()) if len(fields) == 3 else WindowFunction.LINEAR
    if function is None:
        raise invalid(name, f"The function must be {', '.join(_FUNCTIONS)}.")
    return windowed(name, _decimal(name, fields[0]), _decimal(name, fields[1]), function)


def windowed(name: str, center: float, width: float, function: WindowFunction = WindowFunction.LINEAR) -> Window:
    """Raises BadRequest for a width that is too small for the function (PS3.3 C.11.2.1.2)."""
    if function is WindowFunction.LINEAR and width < 1:
        raise invalid(name, "The width must be at least 1.")
    if width <= 0:
        raise invalid(name, "The width must be above 0.")
    return Window(center, width, function)


def viewport(name: str, text: str) -> Viewport:
    """``vw,vh`` or ``vw,vh,sx,sy,sw,sh``, of which the last four may be left empty. Raises BadRequest."""
    fields = [field.strip() for field in text.split(",")]
    if len(fields) not in (2, 6):
        raise invalid(name, "It must be a width and a height, and if wanted left, top, width and height of the part.")
    source = [_decimal(name, field) if field else None for field in fields[2:]] or [None] * 4
    left, top, width, height = source
    if width == 0 or height == 0:
        raise invalid(name, "A part of the image without width or height cannot be shown.")
    if (left or 0) < 0 or (top or 0) < 0:
        raise invalid(name, "The part cannot begin outside the image.")
    return Viewport(side(name, fields[0]), side(name, fields[1]), left or 0, top or 0, width, height)


def side(name: str, text: str) -> int:
    """Width or height of a picture in pixels. Raises BadRequest."""
    pixels = integer(name, text)
    if not 1 <= pixels <= MAX_VIEWPORT:
        raise invalid(name, f"Width and height must be from 1 to {MAX_VIEWPORT} pixels.")
    return pixels


def annotation(name: str, text: str) -> frozenset[str]:
    """``patient``, ``technique`` or both; any other wish is ignored, as the standard allows."""
    return frozenset(field.strip().lower() for field in text.split(",")) & _ANNOTATIONS


def _icc_profile(name: str, text: str) -> str:
    if text.lower() in _OTHER_PROFILES:
        raise invalid(name, "Of the color spaces of the standard, this server has srgb only.")
    if text.lower() not in _PROFILES:
        raise invalid(name, "It must be no, yes or srgb.")
    return text.lower()


def charset(name: str, text: str) -> str:
    """The first character set of a list, as Python names it; its quality does not matter. Raises BadRequest."""
    wanted = text.split(",")[0].split(";")[0].strip().lower()
    wanted = {"utf8": "utf-8", "ascii": "us-ascii", "*": "utf-8"}.get(wanted, wanted)
    try:
        codecs.lookup(wanted)
    except LookupError:
        wanted = ""
    if _CHARSET.fullmatch(wanted) is None:
        raise invalid(name, "It must be utf-8 or another character set for texts that this server can write.")
    return wanted


def decimals(name: str, text: str, count: int) -> list[float]:
    """So many decimal numbers, separated by commas. Raises BadRequest."""
    fields = text.split(",")
    if len(fields) != count:
        raise invalid(name, f"It must be {count} numbers separated by commas.")
    return [_decimal(name, field.strip()) for field in fields]


def _decimal(name: str, text: str) -> float:
    value = float(text) if _DECIMAL.fullmatch(text) else math.inf
    if not math.isfinite(value):
        raise invalid(name, "A number in it cannot be read.")
    return value


def invalid(name: str, reason: str) -> BadRequest:
    """The refusal of a parameter."""
    return BadRequest(f"The query parameter '{name}' is not valid. {reason}")
