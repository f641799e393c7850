"""How the store refuses: one class per condition, each rendering as an OperationOutcome (FHIR R4 §2.41).

Texts name elements, parameters and rules, never the values they hold: those are patient data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from hounsfield.errors import HounsfieldError


@dataclass(frozen=True, slots=True)
class Issue:
    """One problem: a code of the value set issue-type, a sentence, and the FHIRPath of the element concerned."""

    code: str
    text: str
    expression: str = ""
    severity: str = "error"

    def json(self) -> dict[str, Any]:
        """The issue as an element of OperationOutcome.issue."""
        issue: dict[str, Any] = {"severity": self.severity, "code": self.code, "diagnostics": self.text}
        if self.expression:
            issue["expression"] = [self.expression]
        return issue


def outcome(*issues: Issue) -> dict[str, Any]:
    """An OperationOutcome."""
    return {"resourceType": "OperationOutcome", "issue": [issue.json() for issue in issues]}


class FhirRefusal(HounsfieldError):
    """Root of the store's refusals; ``issues`` is never empty."""

    code: ClassVar[str] = "processing"

    def __init__(
        self, text: str = "", *, code: str = "", expression: str = "", issues: Sequence[Issue] = (), etag: str = ""
    ) -> None:
        self.issues = list(issues) or [Issue(code or self.code, text, expression)]
        self.etag = etag
        super().__init__(self.issues[0].text)

    def outcome(self) -> dict[str, Any]:
        """The OperationOutcome to send."""
        return outcome(*self.issues)

    def of_entry(self, index: int | None) -> "FhirRefusal":
        """The same refusal, naming the bundle entry that caused it, if it was one."""
        if index is None:
            return self
        entry = f"Bundle.entry[{index}]"
        issues = [
            replace(
                issue,
                text=f"{entry}: {issue.text}",
                expression=f"{entry}.resource.{tail}" if (tail := issue.expression.partition(".")[2]) else entry,
            )
            for issue in self.issues
        ]
        return type(self)(issues=issues, etag=self.etag)


class Invalid(FhirRefusal):
    """A request or resource that breaks a rule of FHIR (spec: 400 for content, too)."""

    status = 400
    code = "invalid"


class UnknownResource(FhirRefusal):
    """No such type, id, version or path."""

    status = 404
    code = "not-found"


class MethodNotAllowed(FhirRefusal):
    """The path exists, the interaction does not."""

    status = 405
    code = "not-supported"


class UnsupportedFormat(FhirRefusal):
    """The client accepts only formats other than JSON."""

    status = 406
    code = "not-supported"


class ResourceConflict(FhirRefusal):
    """The request contradicts other resources: one to be deleted is still referred to, one to be created exists."""

    status = 409
    code = "conflict"


class DeletedResource(FhirRefusal):
    """The resource was deleted."""

    status = 410
    code = "deleted"


class VersionMismatch(FhirRefusal):
    """If-Match names another version than the current one."""

    status = 412
    code = "conflict"


class MultipleMatches(FhirRefusal):
    """A conditional interaction found more than one resource."""

    status = 412
    code = "multiple-matches"


class TooLarge(FhirRefusal):
    """The body exceeds the limit."""

    status = 413
    code = "too-long"


class UnsupportedContent(FhirRefusal):
    """The body is not JSON."""

    status = 415
    code = "not-supported"
