"""Values of settings: as they are written, and as the program has them (server.md §14)."""

import re
from datetime import timedelta
from typing import Any

from hounsfield.errors import SettingsError

Value = str | bool | int | timedelta | list[str] | None

_TIME = re.compile(r"(?:(\d{1,8})\.)?(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,7}))?)?")


def parse(key: str, kind: type, minimum: int | None, value: Any) -> Value:
    """What is written for the setting ``key``, as its type; ``minimum`` is that of an integer. Raises SettingsError."""
    text = str(value).strip()
    if kind is str:
        return text
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is int and re.fullmatch(r"-?\d{1,18}", text):
        if minimum is not None and int(text) < minimum:
            raise SettingsError(f"The setting {key} must be at least {minimum}.")
        return int(text)
    if kind is timedelta:
        found = _TIME.fullmatch(text)
        if found:
            days, hours, minutes, seconds, fraction = found.groups(default="0")
            return timedelta(
                days=int(days),
                hours=int(hours),
                minutes=int(minutes),
                seconds=int(seconds),
                microseconds=int(fraction.ljust(7, "0")[:6]),
            )
    if kind is list:
        return [item.strip() for item in text.split(",") if item.strip()]
    wanted = {bool: "true or false", int: "an integer", timedelta: "a time such as 00:00:05 or 3.00:00:00"}[kind]
    raise SettingsError(f"The setting {key} must be {wanted}.")


def printed(value: Value) -> Any:
    """A value as a settings file has it."""
    if isinstance(value, timedelta):
        hours, rest = divmod(value.seconds, 3600)
        return f"{value.days}.{hours:02}:{rest // 60:02}:{rest % 60:02}.{value.microseconds:06}"
    return value
