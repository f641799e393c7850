"""``hounsfield status``: how a Hounsfield server is doing, from the addresses it offers for that."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer

from hounsfield.cli.connection import DEFAULT_URL, Answer, Connection, Patience, Server, split_version
from hounsfield.cli.operation_progress import ACTIVE
from hounsfield.cli.options import Timeout, Token
from hounsfield.cli.terminal import print_table, size_text

_UNKNOWN: Final = "unknown"


def status(
    url: Annotated[
        str, typer.Argument(envvar="HOUNSFIELD_URL", metavar="URL", help="The server's root, with or without /v2.")
    ] = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    token: Token = None,
    timeout: Timeout = 30,
) -> None:
    """Show how a Hounsfield server is doing.

    That is: the health of each dependency, how much is stored, where the
    change feed is, operations under way, and whether FHIR is in step.

    Exit code: 0 healthy, 1 degraded, unhealthy, not known, or FHIR
    synchronisation faulted, 2 the server cannot be reached.

    [bold]Examples[/bold]

    hounsfield status
    hounsfield status https://dicom.example.org --json
    """
    root, version = split_version(url)
    found = ask(Server.at(root, token, timeout), version or "v2")
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        print_table(("", ""), found.rows())
    raise typer.Exit(0 if found.well else 1)


@dataclass(slots=True)
class Status:
    """What the server told; None (or an empty health) where it told nothing."""

    url: str
    health: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] | None = None
    latest_sequence: int | None = None
    """0 while the feed is empty."""
    cast: dict[str, Any] | None = None
    operations: list[dict[str, Any]] | None = None
    """Those that have not ended."""
    denied: bool = False
    """Something was not told because the token is missing or does not suffice."""

    @property
    def well(self) -> bool:
        """Healthy, and FHIR synchronisation not faulted."""
        return self.health.get("overallStatus") == "Healthy" and (self.cast or {}).get("state") != "faulted"

    def as_json(self) -> dict[str, Any]:
        """For programs: the server's own objects under fixed names."""
        return {
            "url": self.url,
            "healthy": self.well,
            "health": self.health or None,
            "statistics": self.statistics,
            "latestSequence": self.latest_sequence,
            "cast": self.cast,
            "operations": self.operations,
        }

    def rows(self) -> list[tuple[str, str]]:
        """For people: name and value."""
        rows = [("server", self.url), ("health", str(self.health.get("overallStatus", _UNKNOWN)))]
        for check in self.health.get("details") or []:
            words = [str(check.get("status", _UNKNOWN)), str(check.get("description") or "")]
            rows.append((f"  {check.get('name', '?')}", " ".join(word for word in words if word)))
        counts = self.statistics or {}
        rows += [(name, str(counts.get(name, _UNKNOWN))) for name in ("studies", "series", "instances")]
        size = counts.get("bytes")
        rows.append(("stored", size_text(size) if isinstance(size, int | float) else _UNKNOWN))
        rows += self._recompression_rows(counts)
        rows.append(("change feed", _UNKNOWN if self.latest_sequence is None else f"sequence {self.latest_sequence}"))
        rows += self._operation_rows()
        rows += self._cast_rows()
        if self.denied:
            rows.append(("", "Some of this needs a token: --token or HOUNSFIELD_TOKEN."))
        return rows

    def _recompression_rows(self, counts: dict[str, Any]) -> list[tuple[str, str]]:
        number, *sizes = (counts.get(name) for name in ("recompressedInstances", "receivedBytes", "originalBytes"))
        received, originals, stored = (
            size if isinstance(size, int | float) else 0 for size in (*sizes, counts.get("bytes"))
        )
        if not number or not received:
            return []
        rows = [("  received", f"{size_text(received)}, {number} instances recompressed")]
        if originals:
            rows.append(("  originals kept", size_text(originals)))
        saved = received - stored - originals
        what = f"{size_text(abs(saved))}, {abs(saved) / received:.0%}"
        rows.append(("  saved", what) if saved >= 0 else ("  extra", what))
        return rows

    def _operation_rows(self) -> list[tuple[str, str]]:
        rows = []
        for operation in self.operations or ():
            words = [str(operation.get("type", "?")), str(operation.get("status", _UNKNOWN))]
            percent = operation.get("percentComplete")
            rows.append(("operation", " ".join(words) + ("" if percent is None else f", {percent} %")))
        return rows

    def _cast_rows(self) -> list[tuple[str, str]]:
        if self.cast is None:
            return [("FHIR", _UNKNOWN)]
        if not self.cast.get("enabled", True):
            return [("FHIR", "off")]
        lag = self.cast.get("lag")
        rows = [("FHIR", str(self.cast.get("state", _UNKNOWN)) + (f", {lag} behind" if lag else ""))]
        if self.cast.get("fhirEndpoint"):
            rows.append(("  endpoint", str(self.cast["fhirEndpoint"])))
        error = self.cast.get("lastError")
        if isinstance(error, dict):
            rows.append(
                ("  last error", " ".join(str(error[key]) for key in ("date", "type", "message") if error.get(key)))
            )
        errors = self.cast.get("errorCounts")
        if isinstance(errors, dict):
            rows += [(f"  {name}", str(number)) for name, number in errors.items() if number]
        return rows


def ask(server: Server, version: str) -> Status:
    """Asks the server everything; what it does not offer stays unknown. Raises ServerUnreachable, ConnectionBroken."""
    found = Status(server.url)
    with Connection(server) as connection:
        found.health = _told(connection, found, "/health/check", 200, 503) or {}
        found.statistics = _told(connection, found, "/statistics", 200)
        latest = _told(connection, found, f"/{version}/changefeed/latest?includeMetadata=false", 200)
        found.latest_sequence = latest.get("sequence", 0) if latest is not None else None
        found.cast = _told(connection, found, "/cast/status", 200)
        found.operations = _active(_answer(connection, found, f"/{version}/operations?limit=200", 200))
    return found


def _active(listed: Any) -> list[dict[str, Any]] | None:
    """Of the answer to a list of operations those that have not ended."""
    if not isinstance(listed, list):
        return None
    return [each for each in listed if isinstance(each, dict) and each.get("status") in ACTIVE]


def _told(connection: Connection, found: Status, target: str, *statuses: int) -> dict[str, Any] | None:
    """The JSON object at an address, as :func:`_answer` has it; None if it is no object."""
    content = _answer(connection, found, target, *statuses)
    return content if isinstance(content, dict) else None


def _answer(connection: Connection, found: Status, target: str, *statuses: int) -> Any:
    """The JSON at an address if the status is one of these, an empty object for 204; None otherwise."""
    answer: Answer = Patience(0).try_until_answered(
        lambda: connection.ask("GET", target, {"Accept": "application/json"})
    )
    found.denied = found.denied or answer.status in (401, 403)
    if answer.status == 204:
        return {}
    if answer.status not in statuses:
        return None
    try:
        return json.loads(answer.body)
    except ValueError:
        return None
